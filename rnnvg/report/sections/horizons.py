"""Memory horizons at every threshold, and networks compared seed by seed; tables without a figure."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from rnnvg.report import pairs, pooled, style, wording
from rnnvg.report.causes import covariance_horizons
from rnnvg.report.page import Table
from rnnvg.report.part import Part
from rnnvg.report.results import Results, by_network, moments
from rnnvg.report.style import AFTER, BEFORE

SHARED = {
    "input": "at the inputs, which all networks share",
    "state": "at each network's own state",
    "covariance": "in units of how much each network's state varies",
}


def frame(results: Results) -> pd.DataFrame:
    """Horizons of every seed before and after training: names, seed, id, wrt, threshold, when, last, censored.

    wrt "covariance" is the state in units of its own spread; `by` is the wrt that figures draw. A network without any
    measurement has a row of nan; runs is how many seeds each network has.
    """
    seen = moments(results.horizons)
    keys = ["problem", "network", "cell", "seed", "id", "wrt", "threshold", "when", "last", "censored"]
    runs = results.runs[["problem", "network", "cell", "seed", "id"]]
    shared = covariance_horizons(results, pooled.THRESHOLD)
    shared = shared.merge(runs[["id", "cell", "seed"]], on="id").assign(
        wrt="covariance", threshold=pooled.THRESHOLD, when=AFTER
    )
    missing = runs[~runs["id"].isin(seen["id"])]
    parts = [each.reindex(columns=keys) for each in (seen, shared, missing) if len(each)]
    rows = (pd.concat(parts) if parts else runs.reindex(columns=keys)).assign(by=results.by)
    size = runs.groupby(["problem", "network"])["id"].size().rename("runs").reset_index()
    return rows.merge(size, on=["problem", "network"]) if seen["id"].nunique() else rows.head(0)


def sentences(rows: pd.DataFrame) -> list[str]:
    """Whether so many seeds can settle an order of networks, and whether it depends on what the gradient is taken by."""
    return [*pairs.sentences(rows), *_orders(rows)]


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
    found = {str(network): pooled.over(own) for network, own in rows.groupby("network", sort=False)}
    return {network: each.median for network, each in found.items() if each is not None}


def _compare(one: Any, other: Any) -> int:
    """1 where the first is known to reach farther, -1 where the second is, 0 where neither is."""
    if one.seen > other.seen and not other.above:
        return 1
    return -1 if other.seen > one.seen and not one.above else 0


def horizon_tables(rows: pd.DataFrame) -> list[Table]:
    """Horizons by what figures draw, and folded behind them those by whatever else was measured, and the pairs of networks."""
    known, by = rows[rows["last"].notna()], pooled.by(rows)
    found = []
    for wrt in sorted(known["wrt"].unique(), key=lambda each: each != by):
        if wrt == "covariance":
            continue
        caption = f"Memory horizons by the {wrt}, time steps: median (each seed), or [interval] from six seeds on."
        found.append(Table.of(_shown(rows, wrt), caption, folded=wrt != by))
    paired = pairs.shown(rows)
    if len(paired):
        caption = (
            "Networks compared seed by seed after training: horizon of the first over that of the second, median (each seed), "
            "with the exact sign-flip test."
        )
        found.append(Table.of(paired, caption, folded=True))
    return found


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


PART = Part(
    name="horizons",
    title="Memory horizons",
    frame=frame,
    lead="The memory horizon depends on what counts as left: 1/e (37 %), a tenth or a hundredth of the gradient one step "
    "back. A value after > is only known to be larger: at the end of the measured sequence that much was still left.",
    sentences=sentences,
    tables=horizon_tables,
)
