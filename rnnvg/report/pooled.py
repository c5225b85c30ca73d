"""What the seeds of each network say together: horizons, curves and losses as tidy frames.

The unit is an independently trained model, a seed; readers see medians with every seed's value (`rnnvg.horizon.spread`).
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from rnnvg.horizon import Spread, spread
from rnnvg.missing import number
from rnnvg.report.results import Results, moments
from rnnvg.report.style import AFTER, BEFORE

THRESHOLD = math.exp(-1)
GROUP = ["problem", "network", "cell", "when"]
NUMBERS = ["median", "low", "high", "coverage", "bound", "least", "most"]
COLUMNS = ["problem", "network", "cell", "wrt", "threshold", "when", "runs", "n", "n_censored", *NUMBERS, "spread"]


def horizons(results: Results) -> pd.DataFrame:
    """Memory horizons over seeds, a row per problem, network, wrt, threshold and moment.

    Columns: problem, network, cell, wrt, threshold, when, runs (how many there should be), n (how many were measured),
    n_censored, median (inf where it is beyond what was observed), low, high (steps: the range, from six seeds on the
    order-statistic interval; high is inf where it goes on beyond what was observed), coverage (nan for a range), bound (the
    median with every censored horizon at the last distance seen), least, most (of what was seen), spread (a Spread, or None).
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


def at(frame: pd.DataFrame, wrt: str = "state", threshold: float = THRESHOLD, when: str | None = None) -> pd.DataFrame:
    """The rows of a frame of horizons for one wrt and threshold, and one moment if given."""
    if frame.empty:
        return frame
    chosen = (frame["wrt"] == wrt) & np.isclose(frame["threshold"].astype(float), threshold)
    return frame[chosen if when is None else chosen & (frame["when"] == when)]


def by(rows: pd.DataFrame) -> str:
    """What a section's frame takes the gradient by, from its column `by`: "state", or "input"."""
    return str(rows["by"].iloc[0]) if len(rows) and "by" in rows else "state"


def over(seeds: pd.DataFrame) -> Spread | None:
    """The spread of some seeds' horizons (rows with last and censored); None for no seed."""
    if seeds.empty:
        return None
    last = seeds["last"].to_numpy(dtype=float)
    return spread(last, np.where(seeds["censored"].to_numpy(dtype=bool), np.inf, last))


def _pool(group: pd.DataFrame) -> dict[str, object]:
    over_seeds = over(group)
    if over_seeds is None:
        return {"n": 0, "n_censored": 0, **dict.fromkeys(NUMBERS, math.nan), "spread": None}
    return {
        "n": over_seeds.n,
        "n_censored": int(group["censored"].sum()),
        "median": over_seeds.median.most if over_seeds.median.above else over_seeds.median.seen,
        "low": math.nan if over_seeds.n < 2 else over_seeds.low.least,
        "high": math.nan if over_seeds.n < 2 else over_seeds.high.most,
        "coverage": number(over_seeds.coverage),
        "bound": float(group["last"].median()),
        "least": float(group["last"].min()),
        "most": float(group["last"].max()),
        "spread": over_seeds,
    }


def curves(results: Results, wrt: str = "state") -> pd.DataFrame:
    """Gain against distance of every seed before and after training: id, problem, network, cell, seed, when, distance,
    log10_gain (decades relative to one step back; -inf is an exact zero)."""
    frame = moments(results.curves[results.curves["wrt"] == wrt])
    columns = ["id", "problem", "network", "cell", "seed", "when", "distance", "log10_gain"]
    return frame.loc[frame["log10_gain"].notna(), columns].reset_index(drop=True)


def median_curves(single: pd.DataFrame) -> pd.DataFrame:
    """The median over seeds of what `curves` gives: problem, network, cell, when, distance, log10_gain, n.

    Distances that only some of the seeds reach are left out, so that the median is of the same models all along.
    """
    grouped = single.groupby([*GROUP, "distance"], sort=False)["log10_gain"]
    frame = grouped.agg(["median", "size"]).reset_index()
    seeds = single.groupby(GROUP, sort=False)["id"].nunique().rename("seeds").reset_index()
    frame = frame.merge(seeds, on=GROUP)
    kept = frame[frame["size"] == frame["seeds"]].rename(columns={"size": "n", "median": "log10_gain"})
    return kept[[*GROUP, "distance", "log10_gain", "n"]].reset_index(drop=True)


def measured(results: Results, split: str, metric: str = "loss") -> pd.DataFrame:
    """A metric against the training step, on "train" or "valid": the names of a run, id, step, value."""
    frame = results.training
    frame = frame[(frame["metric"] == metric) & (frame["split"] == split)]
    return frame.sort_values(["id", "step"], kind="stable").reset_index(drop=True)


def through_training(results: Results, wrt: str = "state", threshold: float = THRESHOLD) -> pd.DataFrame:
    """Horizon of every run at every checkpoint: problem, network, cell, id, seed, status, step, last, censored."""
    frame = at(results.horizons, wrt, threshold)
    columns = ["problem", "network", "cell", "id", "seed", "status", "step", "last", "censored"]
    return frame[columns].sort_values(["id", "step"], kind="stable").reset_index(drop=True)
