"""Networks compared seed by seed: by what factor one's horizon is longer than another's, after training."""

from __future__ import annotations

import math
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from rnnvg.horizon import MemoryHorizon, compare_horizons, least_p, pool_horizons
from rnnvg.report import causes, pooled, wording
from rnnvg.report.results import Frame, Results, moments
from rnnvg.report.style import AFTER

LEVEL = 0.05
_NUMBERS = {2: "Two", 3: "Three", 4: "Four", 5: "Five"}
MOST_PAIRS = 15  # of one problem; beyond it every network is compared with the first alone
COLUMNS = ["problem", "first", "second", "n", "n_censored", "ratio", "low", "high", "coverage"]
COLUMNS += ["longer", "shorter", "equal", "unknown", "sign_test", "sign_flip", "least_p"]


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
            row = {"problem": problem, "first": first, "second": second, **vars(found), "spread": found.spread}
            row["ratio"] = math.nan if found.ratio is None else found.ratio
            rows.append(row)
    return pd.DataFrame(rows, columns=[*COLUMNS, "spread"])


def shown(results: Results) -> Frame:
    """`table` for readers."""
    rows = [
        {
            "task": row.problem,
            "networks": f"{row.first} against {row.second}",
            "times as far": wording.spread(row.spread, wording.factor),
            "longer in": f"{row.longer} of {row.n}" + (f", {row.equal} tied" if row.equal else ""),
            "sign-flip test": _test(row),
        }
        for row in table(results).itertuples()
    ]
    return pd.DataFrame(rows)


def _test(row: Any) -> str:
    if row.equal == row.n:
        return "identical"
    settled = "" if row.least_p <= LEVEL else f" (no less possible with {row.n - row.equal})"
    return f"p = {row.sign_flip:.2g}{settled}"


def sentences(results: Results) -> list[str]:
    """Whether so many seeds can settle an order of networks at all."""
    frame = table(results)
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
