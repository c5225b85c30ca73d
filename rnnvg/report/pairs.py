"""Networks compared seed by seed: by what factor one's horizon is longer than another's, after training."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pandas as pd

from rnnvg.horizon import MemoryHorizon, compare_horizons, pool_horizons
from rnnvg.report import causes, pooled, wording
from rnnvg.report.results import Frame, Results, moments
from rnnvg.report.style import AFTER

MOST_PAIRS = 15  # of one problem; beyond it every network is compared with the first alone
COLUMNS = ["problem", "first", "second", "n", "n_censored", "ratio", "low", "high", "coverage"]
COLUMNS += ["longer", "shorter", "equal", "unknown", "sign_test"]


def table(results: Results, wrt: str = "state", threshold: float = pooled.THRESHOLD) -> Frame:
    """A row a problem and pair of networks with at least two seeds in common; columns as `compare_horizons` defines them.

    ratio is nan where censoring leaves it open.
    """
    rows = []
    for problem in results.problems:
        models = _by_seed(results, problem, wrt, threshold)
        pairs = list(combinations([network for network in results.networks(problem) if network in models], 2))
        if len(pairs) > MOST_PAIRS:
            pairs = [pair for pair in pairs if pair[0] == pairs[0][0]]
        for second, first in pairs:  # the later in the legend against the earlier: LSTM against RNN
            seeds = sorted(models[first].keys() & models[second].keys())
            if len(seeds) < 2:
                continue
            found = compare_horizons(*([models[network][seed] for seed in seeds] for network in (first, second)))
            row = {"problem": problem, "first": first, "second": second, **vars(found)}
            row["ratio"] = math.nan if found.ratio is None else found.ratio
            rows.append(row)
    return pd.DataFrame(rows, columns=COLUMNS)


def shown(results: Results) -> Frame:
    """`table` for readers."""
    rows = [
        {
            "task": row.problem,
            "networks": f"{row.first} / {row.second}",
            "times as far": times(row),
            "interval": f"{_interval(row)} ({100 * row.coverage:.0f} %)",
            "seeds longer": f"{row.longer} of {row.n}",
            "sign test": f"{row.sign_test:.2g}",
        }
        for row in table(results).itertuples()
    ]
    return pd.DataFrame(rows)


def sentences(results: Results) -> list[str]:
    """Each problem's ratios, paired by seed, where censoring does not leave them open."""
    said = []
    for problem, rows in table(results).groupby("problem", sort=False):
        known = [row for row in rows.itertuples() if times(row) != "unknown"]
        if not known:
            continue
        told = [f"{row.first} {times(row)} times ({_interval(row)}) as far as {row.second}" for row in known]
        n = int(rows["n"].max())
        said.append(f"{problem}, paired by seed ({n} seeds), {wording.listed(told)}.")
    return said


def times(row: object) -> str:
    """A ratio as a reader holds it; what is only known to be larger or smaller is marked so."""
    ratio, low, high = (float(getattr(row, name)) for name in ("ratio", "low", "high"))
    if math.isnan(ratio):
        return "unknown"
    if math.isinf(ratio):
        return f"> {_number(low)}" if low > 0 else "unknown"
    return f"< {_number(high)}" if ratio == 0 and math.isfinite(high) else _number(ratio)


def _interval(row: object) -> str:
    low, high = (float(getattr(row, name)) for name in ("low", "high"))
    return f"{_number(low)} to {'∞' if math.isinf(high) else _number(high)}"


def _number(value: float) -> str:
    if value >= wording.MOST_STEPS:
        return "more than 1e6"
    if value < 1 / wording.MOST_STEPS:
        return "0" if value == 0 else "less than 1e-6"
    return wording.number(float(f"{value:.2g}"))


def _by_seed(results: Results, problem: str, wrt: str, threshold: float) -> dict[str, dict[int, MemoryHorizon]]:
    frame = moments(results.horizons)
    frame = frame[(frame["problem"] == problem) & (frame["wrt"] == wrt) & (frame["when"] == AFTER)]
    frame = frame[np.isclose(frame["threshold"], threshold)]
    models: dict[str, dict[int, MemoryHorizon]] = {}
    for row in frame.itertuples():
        found = MemoryHorizon(threshold, int(row.last), None, bool(row.censored), math.nan, None)
        models.setdefault(row.network, {})[int(row.seed)] = found
    return models


def covariance(results: Results, threshold: float = pooled.THRESHOLD) -> Frame:
    """Horizons in units of the state's spread pooled over seeds: problem, network, center, median, bound, n."""
    frame = causes.covariance_horizons(results, threshold)
    rows = []
    for (problem, network), own in frame.groupby(["problem", "network"], sort=False):
        single = [
            MemoryHorizon(threshold, int(row.last), None, bool(row.censored), math.nan, None)
            for row in own.itertuples()
        ]
        found = pool_horizons(single)
        center = math.nan if found.center is None else found.center
        bound = float(own["last"].median())
        rows.append(
            {
                "problem": problem,
                "network": network,
                "center": center,
                "median": found.median,
                "bound": bound,
                "n": found.n,
            }
        )
    return pd.DataFrame(rows, columns=["problem", "network", "center", "median", "bound", "n"])
