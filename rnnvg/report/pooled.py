"""Statistics that the report draws and words: curves and horizons pooled over the seeds of each network.

Tidy frames in, tidy frames out; nothing is drawn here. The unit is an independently trained model, a seed.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import pandas as pd

from rnnvg.horizon import MemoryHorizon, pool_horizons
from rnnvg.report.results import Frame, Results, moments
from rnnvg.report.style import AFTER, BEFORE

THRESHOLD = math.exp(-1)
GROUP = ["problem", "network", "cell", "when"]
NUMBERS = ["median", "center", "low", "high", "coverage", "bound", "least", "most"]
COLUMNS = ["problem", "network", "cell", "wrt", "threshold", "when", "runs", "n", "n_censored", *NUMBERS]


@lru_cache(maxsize=2)  # a report asks for the same table in its figure, its words and its tables
def horizons(results: Results) -> Frame:
    """Memory horizons pooled over seeds, a row per problem, network, wrt, threshold and moment.

    Columns: problem, network, cell, wrt, threshold, when, runs (how many there should be), n (how many were measured),
    n_censored, median, center, low, high (steps; nan where they do not exist), coverage, bound (steps: the median with
    every censored horizon at the last distance seen, so that a median of inf can be read as "> bound"), least, most.
    """
    seen = moments(results.horizons)
    measures = results.horizons[["wrt", "threshold"]].dropna().drop_duplicates().sort_values(["wrt", "threshold"])
    rows = []
    for (problem, network, cell), runs in results.runs.groupby(["problem", "network", "cell"], sort=False):
        own = seen[(seen["problem"] == problem) & (seen["network"] == network)]
        for wrt, threshold in measures.itertuples(index=False):
            for when in (BEFORE, AFTER):
                group = own[(own["wrt"] == wrt) & np.isclose(own["threshold"], threshold) & (own["when"] == when)]
                keys = {"problem": problem, "network": network, "cell": cell, "wrt": wrt, "threshold": threshold}
                rows.append({**keys, "when": when, "runs": len(runs), **_pool(group)})
    return pd.DataFrame(rows, columns=COLUMNS)


def _pool(group: Frame) -> dict[str, float]:
    if group.empty:
        return {"n": 0, "n_censored": 0, **dict.fromkeys(NUMBERS, math.nan)}
    single = [
        MemoryHorizon(
            threshold=float(row.threshold),
            last=int(row.last),
            first_below=None if pd.isna(row.first_below) else int(row.first_below),
            censored=bool(row.censored),
            rate=float(row.rate),
            e_fold=None if pd.isna(row.e_fold) else float(row.e_fold),
        )
        for row in group.itertuples()
    ]
    pool = pool_horizons(single)
    return {
        "n": pool.n,
        "n_censored": pool.n_censored,
        "median": pool.median,
        "center": _or_nan(pool.center),
        "low": _or_nan(pool.low),
        "high": _or_nan(pool.high),
        "coverage": _or_nan(pool.coverage),
        "bound": float(group["last"].median()),
        "least": float(group["last"].min()),
        "most": float(group["last"].max()),
    }


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else float(value)


def curves(results: Results, wrt: str = "state") -> Frame:
    """Gain against distance of every seed before and after training: id, problem, network, cell, seed, when, distance,
    log10_gain (decades relative to one step back; -inf is an exact zero)."""
    frame = moments(results.curves[results.curves["wrt"] == wrt])
    columns = ["id", "problem", "network", "cell", "seed", "when", "distance", "log10_gain"]
    return frame.loc[frame["log10_gain"].notna(), columns].reset_index(drop=True)


def mean_curves(single: Frame) -> Frame:
    """The geometric mean over seeds of what `curves` gives: problem, network, cell, when, distance, log10_gain, n.

    Where a seed's gain is an exact zero the median stands for the mean. Distances that only some of the seeds reach are
    left out, so that the mean is of the same models all along.
    """
    grouped = single.groupby([*GROUP, "distance"], sort=False)["log10_gain"]
    with np.errstate(invalid="ignore"):
        frame = grouped.agg(["mean", "median", "min", "size"]).reset_index()
    seeds = single.groupby(GROUP, sort=False)["id"].nunique().rename("seeds").reset_index()
    frame = frame.merge(seeds, on=GROUP)
    frame["log10_gain"] = np.where(np.isfinite(frame["min"]), frame["mean"], frame["median"])
    kept = frame[frame["size"] == frame["seeds"]]
    return kept.rename(columns={"size": "n"})[[*GROUP, "distance", "log10_gain", "n"]].reset_index(drop=True)


def measured(results: Results, split: str, metric: str = "loss") -> Frame:
    """A metric against the training step, on "train" or "valid": the names of a run, id, step, value."""
    frame = results.training
    frame = frame[(frame["metric"] == metric) & (frame["split"] == split)]
    return frame.sort_values(["id", "step"], kind="stable").reset_index(drop=True)
