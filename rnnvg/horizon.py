"""Memory horizons: how many steps back a given fraction of the gradient survives, and how to pool that over models.

Log gains in, small frozen results out. No networks, tasks or files here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rnnvg.errors import InputError, check_float

THRESHOLDS = (math.exp(-1), 0.1, 0.01)
CONFIDENCE = 0.95


@dataclass(frozen=True)
class MemoryHorizon:
    """How far back at least `threshold` of the gradient survives, in steps.

    Attributes:
        threshold: the fraction of the gradient that counts as surviving, in (0, 1).
        last: largest distance with gain >= threshold; 0 if there is none.
        first_below: smallest observed distance with gain < threshold; None if the curve never falls below.
            It differs from `last + 1` where the curve comes back, as it does after a structural zero.
        censored: the gain at the largest observed distance is still >= threshold: read `last` as "> last".
        rate: slope of the log gain by least squares over its finite values, nats per step; nan with fewer than two.
        e_fold: -1/rate in steps, only where an exponential fits: the rate is negative and the slopes of both halves
            of the curve agree within 25 %; None otherwise (a power law has no time constant).
    """

    threshold: float
    last: int
    first_below: int | None
    censored: bool
    rate: float
    e_fold: float | None

    def __str__(self) -> str:
        return f"> {self.last}" if self.censored else str(self.last)


@dataclass(frozen=True)
class HorizonEstimate:
    """Memory horizons of independently trained models, pooled.

    Attributes:
        median: median of `last`, steps; a censored horizon counts as +inf.
        center: exp(mean ln(last + 1)) - 1, steps; None if any horizon is censored.
        low, high: interval, steps; None for fewer than two models. With nothing censored the t-interval on ln(last + 1),
            transformed back; otherwise order statistics, `high` = inf where it is unbounded.
        n, n_censored: number of models, and of those censored.
        coverage: nominal coverage of (low, high): 0.95, or what the extreme order statistics of so few models can give;
            None where there is no interval.
    """

    median: float
    center: float | None
    low: float | None
    high: float | None
    n: int
    n_censored: int
    coverage: float | None = None


def memory_horizon(log_gain: np.ndarray, threshold: float = math.exp(-1)) -> MemoryHorizon:
    """The last distance at which at least `threshold` of the gradient is left.

    Args:
        log_gain: ln gain at distances 0..K-1, [K]; -inf is an exact zero, nan is unobserved.
        threshold: fraction of the gradient at the reference distance, in (0, 1).

    Raises:
        InputError: `log_gain` is not one-dimensional or has no observed value; `threshold` is outside (0, 1).

    >>> memory_horizon(np.log(0.5) * np.arange(100), threshold=0.1).last
    3
    >>> str(memory_horizon(np.zeros(100)))
    '> 99'
    """
    threshold = check_float("threshold", threshold, above=0.0, below=1.0)
    gain = np.asarray(log_gain, dtype=np.float64)
    if gain.ndim != 1:
        raise InputError(
            f"`log_gain` must be one-dimensional, a value per distance; got shape {gain.shape}. "
            "Average over sources and sequences first, as GradientProfile.curve() does."
        )
    observed = np.flatnonzero(~np.isnan(gain))
    if observed.size == 0:
        raise InputError(f"`log_gain` has no observed value among its {gain.size}; pass at least one that is not nan.")
    survives = gain[observed] >= math.log(threshold)
    rate = slope(gain)
    return MemoryHorizon(
        threshold=threshold,
        last=int(observed[survives][-1]) if survives.any() else 0,
        first_below=int(observed[~survives][0]) if not survives.all() else None,
        censored=bool(survives[-1]),
        rate=rate,
        e_fold=-1.0 / rate if rate < 0 and _halves_agree(gain) else None,
    )


def slope(log_gain: np.ndarray) -> float:
    """Least-squares slope over the finite values of `log_gain` [K], nats per step; nan with fewer than two."""
    distance = np.flatnonzero(np.isfinite(log_gain))
    if distance.size < 2:
        return math.nan
    centred = distance - distance.mean()
    return float(centred @ log_gain[distance] / (centred @ centred))


def _halves_agree(log_gain: np.ndarray, tolerance: float = 0.25) -> bool:
    distance = np.flatnonzero(np.isfinite(log_gain))
    middle = distance.size // 2
    first, second = np.full_like(log_gain, math.nan), np.full_like(log_gain, math.nan)
    first[distance[:middle]] = log_gain[distance[:middle]]
    second[distance[middle:]] = log_gain[distance[middle:]]
    one, two = slope(first), slope(second)
    return abs(one - two) <= tolerance * max(
        abs(one), abs(two)
    )  # False where either half is too short: nan compares so


def pool_horizons(horizons: Sequence[MemoryHorizon]) -> HorizonEstimate:
    """One horizon with an interval from those of independently trained models (the unit of replication).

    With nothing censored the interval is the t-interval on ln(last + 1), which keeps its coverage down to three models
    where pooling samples or a bootstrap over models does not. A censored horizon is only known to be larger than `last`,
    so its model enters an upper bound as +inf and a lower bound as `last`, through order statistics around the median.

    Raises:
        InputError: the sequence is empty, or the horizons have different thresholds.

    >>> few = [MemoryHorizon(0.1, last, last + 1, False, -0.1, None) for last in (9, 9, 99)]
    >>> round(pool_horizons(few).center, 2)
    20.54
    """
    horizons = list(horizons)
    if not horizons:
        raise InputError("`horizons` is empty; pass the MemoryHorizon of at least one model.")
    thresholds = sorted({each.threshold for each in horizons})
    if len(thresholds) > 1:
        raise InputError(f"`horizons` mixes thresholds {thresholds}; pool the horizons of one threshold at a time.")
    last = np.array([each.last for each in horizons], dtype=np.float64)
    censored = np.array([each.censored for each in horizons])
    upper = np.where(censored, np.inf, last)
    center = None if censored.any() else math.expm1(np.log1p(last).mean())
    low, high, coverage = _interval(last, upper)
    return HorizonEstimate(
        median=_median(upper),
        center=center,
        low=low,
        high=high,
        n=len(horizons),
        n_censored=int(censored.sum()),
        coverage=coverage,
    )


def _median(values: np.ndarray) -> float:
    ordered = np.sort(values)
    lower, higher = ordered[(len(ordered) - 1) // 2], ordered[len(ordered) // 2]
    return float(lower if lower == higher else (lower + higher) / 2)


def _interval(last: np.ndarray, upper: np.ndarray) -> tuple[float | None, float | None, float | None]:
    n = len(last)
    if n < 2:
        return None, None, None
    if np.isfinite(upper).all():
        from scipy.stats import t

        logs = np.log1p(last)
        half = float(t.ppf(0.5 + CONFIDENCE / 2, n - 1)) * float(logs.std(ddof=1)) / math.sqrt(n)
        return max(0.0, math.expm1(logs.mean() - half)), math.expm1(logs.mean() + half), CONFIDENCE
    return _order_statistics(last, upper)


def _order_statistics(last: np.ndarray, upper: np.ndarray) -> tuple[float, float, float]:
    """The tightest (x_(j), x_(n+1-j)) around the median with the nominal coverage; j = 1 where none has it."""
    from scipy.stats import binom

    n = len(last)
    lower_sorted, upper_sorted = np.sort(last), np.sort(upper)
    rank = max(1, int(binom.ppf((1 - CONFIDENCE) / 2, n, 0.5)))
    high = float(upper_sorted[n - rank])
    if not math.isfinite(high):  # no upper bound: the whole error is the lower side's
        rank = max(1, int(binom.ppf(1 - CONFIDENCE, n, 0.5)))
        return float(lower_sorted[rank - 1]), math.inf, 1 - float(binom.cdf(rank - 1, n, 0.5))
    return float(lower_sorted[rank - 1]), high, 1 - 2 * float(binom.cdf(rank - 1, n, 0.5))
