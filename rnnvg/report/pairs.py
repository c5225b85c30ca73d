"""Networks compared seed by seed: by what factor one's horizon is longer than another's, after training."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import pandas as pd

from rnnvg.horizon import MemoryHorizon, compare_horizons, least_p
from rnnvg.missing import number
from rnnvg.report import pooled, wording
from rnnvg.report.results import each_row
from rnnvg.report.style import AFTER

LEVEL = 0.05
_NUMBERS = {2: "Two", 3: "Three", 4: "Four", 5: "Five"}
MOST_PAIRS = 15  # of one problem; beyond it every network is compared with the first alone
COLUMNS = ["problem", "first", "second", "n", "n_censored", "ratio", "low", "high", "coverage"]
COLUMNS += ["longer", "shorter", "equal", "unknown", "sign_test", "sign_flip", "least_p", "spread"]


def table(seeds: pd.DataFrame, wrt: str | None = None, threshold: float = pooled.THRESHOLD) -> pd.DataFrame:
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
        pairs = list(combinations(models, 2))
        if len(pairs) > MOST_PAIRS:
            pairs = [pair for pair in pairs if pair[0] == pairs[0][0]]
        for second, first in pairs:  # the later in the legend against the earlier: LSTM against RNN
            shared = sorted(models[first].keys() & models[second].keys())
            if len(shared) < 2:
                continue
            found = compare_horizons(*([models[network][seed] for seed in shared] for network in (first, second)))
            row = {"problem": problem, "first": first, "second": second, **vars(found)}
            row["ratio"] = number(found.ratio)
            rows.append(row)
    return pd.DataFrame(rows, columns=COLUMNS)


def shown(seeds: pd.DataFrame) -> pd.DataFrame:
    """`table` for readers."""
    rows = [
        {
            "task": row.problem,
            "networks": f"{row.first} against {row.second}",
            "times as far": wording.spread(row.spread, wording.factor),
            "longer in": f"{row.longer} of {row.n}" + (f", {row.equal} tied" if row.equal else ""),
            "sign-flip test": _test(row),
        }
        for row in each_row(table(seeds))
    ]
    return pd.DataFrame(rows)


def sentences(seeds: pd.DataFrame) -> list[str]:
    """Whether so many seeds can settle an order of networks at all."""
    frame = table(seeds)
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
