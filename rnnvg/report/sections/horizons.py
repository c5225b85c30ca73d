"""Memory horizons at every threshold, and networks compared seed by seed; tables without a figure."""

from __future__ import annotations

import math
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from rnnvg.horizon import MemoryHorizon, compare_horizons, least_p, memory_horizon
from rnnvg.missing import number
from rnnvg.report import pooled, style, wording
from rnnvg.report.page import Table
from rnnvg.report.part import Part, by_network, each_row
from rnnvg.report.results import RUN, Results, moments
from rnnvg.report.style import AFTER, BEFORE

SHARED = {
    "input": "at the inputs, which all networks share",
    "state": "at each network's own state",
    "covariance": "in units of how much each network's state varies",
}
LEVEL = 0.05
_NUMBERS = {2: "Two", 3: "Three", 4: "Four", 5: "Five"}
MOST_PAIRS = 15  # of one problem; beyond it every network is compared with the first alone
PAIR_COLUMNS = ["problem", "first", "second", "n", "n_censored", "ratio", "low", "high", "coverage"]
PAIR_COLUMNS += ["longer", "shorter", "equal", "unknown", "sign_test", "sign_flip", "least_p", "spread"]


def frame(results: Results) -> pd.DataFrame:
    """Horizons of every seed before and after training: names, seed, id, wrt, threshold, when, last, censored.

    wrt "covariance" is the state in units of its own spread; `by` is the wrt that figures draw. A network without any
    measurement has a row of nan; runs is how many seeds each network has.
    """
    seen = moments(results.horizons)
    keys = [*RUN, "wrt", "threshold", "when", "last", "censored"]
    runs = results.runs[RUN]
    shared = covariance_horizons(results, pooled.THRESHOLD)
    shared = shared.merge(runs[["id", "cell", "seed"]], on="id").assign(
        wrt="covariance", threshold=pooled.THRESHOLD, when=AFTER
    )
    missing = runs[~runs["id"].isin(seen["id"])]
    parts = [each.reindex(columns=keys) for each in (seen, shared, missing) if len(each)]
    rows = (pd.concat(parts) if parts else runs.reindex(columns=keys)).assign(by=results.by)
    size = runs.groupby(["problem", "network"])["id"].size().rename("runs").reset_index()
    return rows.merge(size, on=["problem", "network"]) if seen["id"].nunique() else rows.head(0)


def covariance_horizons(results: Results, threshold: float) -> pd.DataFrame:
    """Horizons after training of the gradient in units of the state's spread: problem, network, id, last, censored."""
    rows = []
    frame = results.cause("covariance").astype({"distance": int})
    for (problem, network, run), own in frame.groupby(["problem", "network", "id"], sort=False):
        gain = np.full(own["distance"].max() + 1, math.nan)
        gain[own["distance"]] = own["value"]
        known = np.flatnonzero(~np.isnan(gain))
        filled = np.where(
            np.arange(len(gain)) >= known[0], np.interp(np.arange(len(gain)), known, gain[known]), math.nan
        )
        horizon = memory_horizon(filled, threshold)
        rows.append(
            {"problem": problem, "network": network, "id": run, "last": horizon.last, "censored": horizon.censored}
        )
    return pd.DataFrame(rows, columns=["problem", "network", "id", "last", "censored"])


def sentences(rows: pd.DataFrame) -> list[str]:
    """Whether so many seeds can settle an order of networks, and whether it depends on what the gradient is taken by."""
    return [*pair_sentences(rows), *_orders(rows)]


def _orders(rows: pd.DataFrame) -> list[str]:
    """Hidden coordinates belong to each network, inputs to all: does the order of the networks depend on the choice?"""
    reversals, compared, by = [], False, pooled.by(rows)
    for wrt, how in SHARED.items():
        if wrt == by:
            continue
        for problem, own in rows[rows["when"] == AFTER].groupby("problem", sort=False):
            state, other = (_spreads(pooled.at(own, each)) for each in (by, wrt))
            both = [network for network in state if network in other]
            compared = compared or len(both) > 1
            for one, two in combinations(both, 2):
                order = _compare(state[one], state[two])
                if order and order == -_compare(other[one], other[two]):
                    reversals.append(
                        f"measured {how}, that of {one} and {two} on {wording.problem(str(problem))} is reversed"
                    )
    if not compared:
        return []
    if not reversals:
        return ["No order of networks depends on whether the gradient is taken by the state or by what networks share."]
    more = f", and {len(reversals) - 1} more" if len(reversals) > 1 else ""
    return [f"An order of networks depends on the measure: {reversals[0]}{more}."]


def _spreads(rows: pd.DataFrame) -> dict[str, Any]:
    spreads = {str(network): pooled.over(own) for network, own in rows.groupby("network", sort=False)}
    return {network: each.median for network, each in spreads.items() if each is not None}


def _compare(one: Any, other: Any) -> int:
    """1 where the first is known to reach farther, -1 where the second is, 0 where neither is."""
    if one.seen > other.seen and not other.above:
        return 1
    return -1 if other.seen > one.seen and not one.above else 0


def horizon_tables(rows: pd.DataFrame) -> list[Table]:
    """Horizons by what figures draw, and folded behind them those by whatever else was measured, and the pairs of networks."""
    known, by = rows[rows["last"].notna()], pooled.by(rows)
    tables = []
    for wrt in sorted(known["wrt"].unique(), key=lambda each: each != by):
        if wrt == "covariance":
            continue
        caption = f"Memory horizons by the {wrt}, time steps: median (each seed), or [interval] from six seeds on."
        tables.append(Table(_shown(rows, wrt), caption, folded=wrt != by))
    paired = pairs_shown(rows)
    if len(paired):
        caption = (
            "Networks compared seed by seed after training: horizon of the first over that of the second, median (each seed), "
            "with the exact sign-flip test."
        )
        tables.append(Table(paired, caption, folded=True))
    return tables


def _shown(rows: pd.DataFrame, wrt: str) -> pd.DataFrame:
    """A row a problem and network, a column a threshold and moment."""
    thresholds = sorted(rows.loc[rows["wrt"] == wrt, "threshold"].dropna().unique(), reverse=True)
    # Before training the main threshold is enough.
    columns = [(BEFORE, each) for each in thresholds[:1]] + [(AFTER, each) for each in thresholds]

    def cells(own: pd.DataFrame) -> dict[str, str]:
        mine, runs = own[own["wrt"] == wrt], int(own["runs"].iloc[0])
        row = {}
        for when, measured in columns:
            seeds = mine[np.isclose(mine["threshold"].astype(float), measured) & (mine["when"] == when)]
            row[f"{when.split()[0]}, {style.threshold_name(measured)}"] = wording.over(pooled.over(seeds))
        ended = mine.loc[mine["when"] == AFTER, "id"].nunique()
        return {**row, "runs": str(runs) if ended == runs else f"{ended} of {runs}"}

    return by_network(rows, cells)


def pairs(seeds: pd.DataFrame, wrt: str | None = None, threshold: float = pooled.THRESHOLD) -> pd.DataFrame:
    """A row a problem and pair of networks with at least two seeds in common; columns as `compare_horizons` defines them.

    Args:
        seeds: problem, network, seed, wrt, threshold, when, last, censored, in the order of the legend.
        wrt: None takes what the column `by` of `seeds` says, the state where there is none.

    ratio is nan where censoring leaves it open.
    """
    rows = []
    known = pooled.at(seeds[seeds["last"].notna()], wrt or pooled.by(seeds), threshold, AFTER)
    for problem, own in known.groupby("problem", sort=False):
        models = _by_seed(own, threshold)
        networks = list(combinations(models, 2))
        if len(networks) > MOST_PAIRS:
            networks = [pair for pair in networks if pair[0] == networks[0][0]]
        for second, first in networks:  # the later in the legend against the earlier: LSTM against RNN
            shared = sorted(models[first].keys() & models[second].keys())
            if len(shared) < 2:
                continue
            compared = compare_horizons(*([models[network][seed] for seed in shared] for network in (first, second)))
            row = {"problem": problem, "first": first, "second": second, **vars(compared)}
            row["ratio"] = number(compared.ratio)
            rows.append(row)
    return pd.DataFrame(rows, columns=PAIR_COLUMNS)


def pairs_shown(seeds: pd.DataFrame) -> pd.DataFrame:
    """`pairs` for readers."""
    rows = [
        {
            "task": row.problem,
            "networks": f"{row.first} against {row.second}",
            "times as far": wording.spread(row.spread, wording.factor),
            "longer in": f"{row.longer} of {row.n}" + (f", {row.equal} tied" if row.equal else ""),
            "sign-flip test": _test(row),
        }
        for row in each_row(pairs(seeds))
    ]
    return pd.DataFrame(rows)


def pair_sentences(seeds: pd.DataFrame) -> list[str]:
    """Whether so many seeds can settle an order of networks at all."""
    frame = pairs(seeds)
    if frame.empty:
        return []
    n = int(frame["n"].max())
    if least_p(n) > LEVEL:
        return [
            f"{_NUMBERS.get(n, n)} seeds cannot settle which of two networks reaches farther: all of them the same way has "
            f"a probability of {least_p(n):.2g} by chance. Six are the fewest that can."
        ]
    surely = frame[frame["sign_flip"] <= LEVEL]
    return [f"{len(surely)} of {len(frame)} pairs of networks differ by the exact sign-flip test at 5 %."]


def _test(row: Any) -> str:
    if row.equal == row.n:
        return "identical"
    settled = "" if row.least_p <= LEVEL else f" (no less possible with {row.n - row.equal})"
    return f"p = {row.sign_flip:.2g}{settled}"


def _by_seed(rows: pd.DataFrame, threshold: float) -> dict[str, dict[int, MemoryHorizon]]:
    models: dict[str, dict[int, MemoryHorizon]] = {}
    for row in each_row(rows):
        models.setdefault(row.network, {})[int(row.seed)] = MemoryHorizon.from_row(row._asdict(), threshold)
    return models


PART = Part(
    name="horizons",
    title="Memory horizons",
    frame=frame,
    lead="The memory horizon depends on what counts as left: 1/e (37 %), a tenth or a hundredth of the gradient one step "
    "back. A value after > is only known to be larger: at the end of the measured sequence that much was still left.",
    sentences=sentences,
    tables=horizon_tables,
)
