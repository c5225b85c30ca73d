"""Intervals over models, for numbers that are known and for numbers that are only known to lie in a range."""

from __future__ import annotations

import math
from functools import cache

import numpy as np

CONFIDENCE = 0.95


def t_interval(values: np.ndarray) -> tuple[float, float]:
    """The t-interval for the mean of at least two `values`; it keeps its coverage down to two where they are normal."""
    n = len(values)
    half = _t_quantile(n - 1) * float(values.std(ddof=1)) / math.sqrt(n)
    middle = float(values.mean())
    return middle - half, middle + half


@cache
def _t_quantile(degrees: int) -> float:
    from scipy.stats import t

    return float(t.ppf(0.5 + CONFIDENCE / 2, degrees))


def median(values: np.ndarray) -> float:
    """The median; the mean of two middle values is infinite where one of them is."""
    ordered = np.sort(values)
    lower, higher = ordered[(len(ordered) - 1) // 2], ordered[len(ordered) // 2]
    return float(lower if lower == higher else (lower + higher) / 2)


def median_interval(lower: np.ndarray, upper: np.ndarray) -> tuple[float, float, float]:
    """The tightest (x_(j), x_(n+1-j)) around the median with the nominal coverage, and its coverage; j = 1 where none has it.

    Args:
        lower, upper: what each of n values is known to lie between; -inf and inf where a side is not known.

    Where one side of the interval is unbounded the whole error is the other side's.
    """
    from scipy.stats import binom

    n = len(lower)
    least, most = np.sort(lower), np.sort(upper)

    def at(error: float) -> tuple[int, float]:
        rank = max(1, int(binom.ppf(error, n, 0.5)))
        return rank, float(binom.cdf(rank - 1, n, 0.5))

    rank, missed = at((1 - CONFIDENCE) / 2)
    low, high = float(least[rank - 1]), float(most[n - rank])
    if math.isfinite(low) == math.isfinite(high):
        return low, high, 1 - 2 * missed if math.isfinite(low) else 1.0
    rank, missed = at(1 - CONFIDENCE)
    if math.isfinite(low):
        return float(least[rank - 1]), math.inf, 1 - missed
    return -math.inf, float(most[n - rank]), 1 - missed
