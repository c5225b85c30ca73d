"""Intervals and exact tests over models, for numbers that are known and for numbers that are only known to lie in a range."""

from __future__ import annotations

import importlib
import math
from functools import cache
from typing import Any

import numpy as np

CONFIDENCE = 0.95


def stats() -> Any:
    """scipy.stats, which is slow to load and has no types."""
    return importlib.import_module("scipy.stats")


def t_interval(values: np.ndarray) -> tuple[float, float]:
    """The t-interval for the mean of at least two `values`; it keeps its coverage down to two where they are normal."""
    n = len(values)
    half = _t_quantile(n - 1) * float(values.std(ddof=1)) / math.sqrt(n)
    middle = float(values.mean())
    return middle - half, middle + half


@cache
def _t_quantile(degrees: int) -> float:
    return float(stats().t.ppf(0.5 + CONFIDENCE / 2, degrees))


def fraction_interval(won: int, of: int, level: float = CONFIDENCE) -> tuple[float, float]:
    """The exact binomial interval of a fraction (Clopper and Pearson 1934).

    >>> low, high = fraction_interval(3, 3)
    >>> round(low, 3), high
    (0.292, 1.0)
    """
    interval = stats().binomtest(won, of).proportion_ci(confidence_level=level, method="exact")
    return float(interval.low), float(interval.high)


def sign_test(one: int, other: int) -> float:
    """Two-sided probability of so uneven a split of one + other by chance; 1 where there is none.

    >>> sign_test(6, 0), sign_test(2, 2), sign_test(0, 0)
    (0.03125, 1.0, 1.0)
    """
    return float(stats().binomtest(one, one + other).pvalue) if one + other else 1.0


def median_interval(lower: np.ndarray, upper: np.ndarray) -> tuple[float, float, float]:
    """The tightest (x_(j), x_(n+1-j)) around the median with the nominal coverage, and its coverage; j = 1 where none has it.

    Args:
        lower, upper: what each of n values is known to lie between; -inf and inf where a side is not known.

    Where one side of the interval is unbounded the whole error is the other side's.
    """
    n = len(lower)
    least, most = np.sort(lower), np.sort(upper)
    rank, missed = median_rank(n, (1 - CONFIDENCE) / 2)
    low, high = float(least[rank - 1]), float(most[n - rank])
    if math.isfinite(low) == math.isfinite(high):
        return low, high, 1 - 2 * missed if math.isfinite(low) else 1.0
    rank, missed = median_rank(n, 1 - CONFIDENCE)
    if math.isfinite(low):
        return float(least[rank - 1]), math.inf, 1 - missed
    return -math.inf, float(most[n - rank]), 1 - missed


@cache
def median_rank(n: int, error: float) -> tuple[int, float]:
    """The largest rank j whose order statistic x_(j) of n lies above the median with probability `error` at most (1 where
    none does), and that probability."""
    rank = max(1, int(stats().binom.ppf(error, n, 0.5)))
    return rank, float(stats().binom.cdf(rank - 1, n, 0.5))
