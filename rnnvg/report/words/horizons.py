"""Words under the figure of the memory horizons: who reaches farthest, by what factor, and how sure that is."""

from __future__ import annotations

import math
from itertools import combinations
from typing import Any

import numpy as np

from rnnvg.report import pairs, pooled
from rnnvg.report.results import Frame, Results
from rnnvg.report.style import AFTER, BEFORE
from rnnvg.report.wording import count, factor, horizon, listed, middle, steps, time_steps


def paragraphs(results: Results) -> list[str]:
    """Which network reaches farthest, by what factor, and whether the intervals keep them apart."""
    table = pooled.horizons(results)
    if table.empty or not table["n"].any():
        return ["No memory horizon was measured."]
    main = table[np.isclose(table["threshold"], pooled.THRESHOLD) & (table["wrt"] == "state")]
    said = [_ranked(results, main, problem) for problem in results.problems]
    return [
        *said,
        *pairs.sentences(results),
        *_censoring(main),
        *_missing(results, main),
        *_same_at_the_inputs(results, table),
        *_seeds(results),
    ]


def _ranked(results: Results, main: Frame, problem: str) -> str:
    rows = main[(main["problem"] == problem) & (main["n"] > 0)]
    after = _ordered(rows[rows["when"] == AFTER])
    before = {row.network: row for row in rows[rows["when"] == BEFORE].itertuples()}
    if not after:
        told = [f"{horizon(row)} for {network}" for network, row in before.items()]
        told_before = f"; before training it was, in time steps, {listed(told)}" if told else ""
        return f"{problem}: no horizon was measured after training{told_before}."
    best, others = after[0], after[1:]
    first = before.get(best.network)
    was = "" if first is None else f", from {middle(first)} before training"
    length = results.training_length(problem)
    within = ""
    if length is not None:
        beyond = reach(best) > length or (_open_ended(best) and reach(best) == length)
        within = f", beyond the training length of {length}" if beyond else ""
        within = within or ("" if _open_ended(best) else f", within the training length of {length}")
    tied = [row for row in others if _reach_key(row) == _reach_key(best)]
    rest = [row for row in others if row not in tied]
    if not others:
        first_words = f"{best.network}'s horizon is {_with_interval(best)}{was}"
    elif tied:
        how_far = "farther than could be measured" if _open_ended(best) else "equally far"
        first_words = f"{listed([row.network for row in (best, *tied)])} reach {how_far}, {_with_interval(best)}"
    else:
        reaches = "is known to reach" if any(_open_ended(row) for row in rest) else "reaches"
        first_words = f"{best.network} {reaches} farthest, {_with_interval(best)}{was}"
    return " ".join([f"{problem}: {first_words}{within}.", *_behind(best, rest)])


def _behind(best: Any, rest: list[Any]) -> list[str]:
    """The networks behind the best one, by whether their intervals keep them apart from it."""
    larger = [row for row in rest if _open_ended(row)]
    unknown = [row for row in rest if row not in larger and (math.isnan(best.low) or math.isnan(row.low))]
    apart = [row for row in rest if row not in larger and row not in unknown and row.high < best.low]
    overlap = [row for row in rest if row not in larger and row not in unknown and row not in apart]
    said = []
    if larger:
        said.append(f"What {listed(_distances(best, larger))} would reach is not known, so it may be farther.")
    if apart:
        said.append(f"Clear of it, without overlap of intervals, {_are(apart)} {listed(_distances(best, apart))}.")
    if overlap:
        said.append(
            f"The {'interval' if len(overlap) == 1 else 'intervals'} of {listed(_distances(best, overlap))} "
            f"{'overlaps' if len(overlap) == 1 else 'overlap'} with its own: these runs do not settle that order."
        )
    if unknown:
        said.append(f"Behind it {_are(unknown)} {listed(_distances(best, unknown))}.")
    return said


def _are(rows: list[Any]) -> str:
    return "is" if len(rows) == 1 else "are"


def _distances(best: Any, rows: list[Any]) -> list[str]:
    told = []
    for row in rows:
        said = middle(row).replace("> ", "more than ")
        if not math.isnan(row.low):
            said += f", {steps(row.low)} to {steps(row.high)}".replace("to ∞", "or more").replace(
                "to >", "to more than"
            )
        if not _open_ended(row) and reach(row) > 0:
            at_least = "at least " if _open_ended(best) else ""
            said += f"; shorter by a factor of {at_least}{factor(reach(best) / reach(row))}"
        told.append(f"{row.network} ({said})")
    return told


def _with_interval(row: Any) -> str:
    said = time_steps(middle(row).replace("> ", "more than "))
    if math.isnan(row.low):
        return said
    if math.isinf(row.high):
        return f"{said} (interval from {steps(row.low)} up)"
    return f"{said} (interval {steps(row.low)} to {steps(row.high).replace('>', 'more than')})"


def reach(row: Any) -> float:
    """The length that stands for a pooled horizon, in steps; a lower bound of it where it is censored."""
    if not math.isnan(row.center):
        return row.center
    return row.bound if math.isinf(row.median) else row.median


def _open_ended(row: Any) -> bool:
    return math.isnan(row.center) and math.isinf(row.median)


def _reach_key(row: Any) -> tuple[float, bool]:
    return reach(row), _open_ended(row)


def _ordered(rows: Frame) -> list[Any]:
    return sorted(rows.itertuples(), key=_reach_key, reverse=True)


def _censoring(main: Frame) -> list[str]:
    rows = main[main["n_censored"] > 0]
    if rows.empty:
        return []
    told = [
        f"{row.network} ({row.problem.lower()}, {row.when}, {row.n_censored} of {row.n})"
        for row in rows.sort_values("problem", kind="stable").itertuples()
    ]
    names = listed(told) if len(told) <= 4 else f"{len(told)} of {len(main)} pooled horizons"
    covers = rows["coverage"].dropna()
    exact = f" Such an interval is made of order statistics; it covers {100 * covers.min():.0f} % at least." * len(
        covers[:1]
    )
    return [
        f'Marked ">", {names}: at the end of the measured sequence the gradient is still above 1/e, so the horizon is '
        f"only known to be larger.{exact}"
    ]


def _missing(results: Results, main: Frame) -> list[str]:
    rows = main[(main["when"] == AFTER) & (main["n"] < main["runs"])]
    told = [
        f"{row.runs - row.n} of {count(row.runs, 'run')} of {row.network} ({row.problem.lower()})"
        for row in rows.itertuples()
    ]
    return [f"Without a horizon after training: {listed(told)}."] if told else []


def _same_at_the_inputs(results: Results, table: Frame) -> list[str]:
    """Hidden coordinates belong to each network, inputs to all: does the order of the networks depend on the choice?"""
    main = table[np.isclose(table["threshold"], pooled.THRESHOLD) & (table["when"] == AFTER) & (table["n"] > 0)]
    state = main[main["wrt"] == "state"]
    others = {
        "at the inputs, which all networks share, instead of the state": main[main["wrt"] == "input"],
        "in units of how much each network's state varies": pairs.covariance(results),
    }
    said = []
    for how, rows in others.items():
        compared, flips = _reversed(results, state, rows)
        if flips:
            said.append(f"Measured {how}, the order of {listed(flips)} is reversed.")
        elif compared:
            said.append(f"Measured {how}, no order of networks is reversed.")
    return said


def _reversed(results: Results, state: Frame, other: Frame) -> tuple[bool, list[str]]:
    """Whether there was anything to compare, and the pairs of networks whose order two tables do not share."""
    flips, compared = [], False
    for problem in results.problems:
        by_state, by_other = (
            {row.network: row for row in rows[rows["problem"] == problem].itertuples()} for rows in (state, other)
        )
        both = [network for network in by_state if network in by_other]
        compared = compared or len(both) > 1
        for one, two in combinations(both, 2):
            order = _compare(by_state[one], by_state[two])
            if order and order == -_compare(by_other[one], by_other[two]):
                flips.append(f"{one} and {two} ({problem.lower()})")
    return compared, flips


def _compare(one: Any, other: Any) -> int:
    """1 where the first is known to reach farther, -1 where the second is, 0 where neither is."""
    if reach(one) > reach(other) and not _open_ended(other):
        return 1
    if reach(other) > reach(one) and not _open_ended(one):
        return -1
    return 0


def _seeds(results: Results) -> list[str]:
    """A warning where one model stands for a network: no interval exists then."""
    seeds = results.runs.groupby(["problem", "network"], sort=False)["id"].nunique()
    if (seeds > 1).all():
        return []
    some = "One seed a network" if (seeds == 1).all() else "Some networks have one seed only"
    differences = ", and a difference may be that of two models rather than of two networks" if len(seeds) > 1 else ""
    return [f"{some}: there is no interval over seeds{differences}."]
