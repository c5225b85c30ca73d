"""Two networks compared seed by seed: by what factor one reaches farther than the other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rnnvg.errors import InputError
from rnnvg.horizon.intervals import CONFIDENCE, median, median_interval, t_interval
from rnnvg.horizon.memory import MemoryHorizon


@dataclass(frozen=True)
class PairedHorizons:
    """The ratio of two networks' horizons, (first + 1) / (second + 1), over pairs of independently trained models.

    Attributes:
        ratio: geometric mean over pairs; the median where a horizon is censored: inf where that is only known to be larger
            than some number, 0 where it is only known to be smaller, None where censoring leaves it open.
        low, high: with nothing censored the t-interval on the logs, transformed back; else order statistics around the
            median, 0 and inf where a side is unbounded.
        longer, shorter, equal, unknown: pairs in which the first reaches farther, less far, equally far, or in which
            censoring leaves that open.
        sign_test: two-sided probability of so uneven a split of longer and shorter by chance; 1 where there is none.
        n, n_censored: pairs, and those with a censored horizon in them.
        coverage: nominal coverage of (low, high).
    """

    ratio: float | None
    low: float
    high: float
    longer: int
    shorter: int
    equal: int
    unknown: int
    sign_test: float
    n: int
    n_censored: int
    coverage: float

    def __str__(self) -> str:
        reach = "unknown" if self.ratio is None else f"{self.ratio:.3g}"
        return f"{reach} times as far (interval {self.low:.3g} to {self.high:.3g}, {self.n} pairs)"


def compare_horizons(first: Sequence[MemoryHorizon], second: Sequence[MemoryHorizon]) -> PairedHorizons:
    """By what factor the first network's horizon is longer, from models paired by seed.

    Args:
        first, second: horizons of the two networks at one threshold; the models at one place share their seed.

    Raises:
        InputError: fewer than two pairs, different numbers of models, or horizons of different thresholds.

    >>> few = [[MemoryHorizon(0.1, last, last + 1, False, -0.1, None) for last in each] for each in ((9, 19, 39), (4, 9, 19))]
    >>> round(compare_horizons(*few).ratio, 6)
    2.0
    """
    first, second = list(first), list(second)
    if len(first) != len(second):
        raise InputError(
            f"`first` has {len(first)} models and `second` {len(second)}; pass the horizons of the seeds that both have."
        )
    if len(first) < 2:
        alone = f": of one pair report both horizons, {first[0]} and {second[0]}" if first else ""
        raise InputError(
            f"`first` and `second` hold {len(first)} of the at least 2 pairs that an interval needs{alone}."
        )
    thresholds = sorted({each.threshold for each in (*first, *second)})
    if len(thresholds) > 1:
        raise InputError(f"`first` and `second` mix thresholds {thresholds}; compare the horizons of one threshold.")
    a, b = (np.log1p([each.last for each in side]) for side in (first, second))
    a_open, b_open = (np.array([each.censored for each in side]) for side in (first, second))
    least, most = np.where(b_open, -np.inf, a - b), np.where(a_open, np.inf, a - b)
    censored = a_open | b_open
    if censored.any():
        low, high, coverage = median_interval(least, most)
        middle = _between(median(least), median(most))
    else:
        (low, high), coverage, middle = t_interval(a - b), CONFIDENCE, float((a - b).mean())
    longer, shorter = int((least > 0).sum()), int((most < 0).sum())
    equal = int(((least == 0) & (most == 0)).sum())
    return PairedHorizons(
        ratio=None if middle is None else _exp(middle),
        low=_exp(low),
        high=_exp(high),
        longer=longer,
        shorter=shorter,
        equal=equal,
        unknown=len(first) - longer - shorter - equal,
        sign_test=_sign_test(longer, shorter),
        n=len(first),
        n_censored=int(censored.sum()),
        coverage=coverage,
    )


def _between(least: float, most: float) -> float | None:
    """What stands for a number known to lie from `least` to `most`: itself, an infinity where one side is open, or None."""
    if least == most:
        return least
    if math.isfinite(least) == math.isfinite(most):
        return None
    return most if math.isfinite(least) else least


def _exp(value: float) -> float:
    return math.exp(value) if value < 700 else math.inf


def _sign_test(longer: int, shorter: int) -> float:
    n = longer + shorter
    tail = sum(math.comb(n, k) for k in range(min(longer, shorter) + 1)) / 2**n
    return min(1.0, 2 * tail)
