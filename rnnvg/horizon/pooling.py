"""Memory horizons of independently trained models, pooled: the unit of replication is a model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rnnvg.errors import InputError
from rnnvg.horizon.intervals import CONFIDENCE, median_interval, t_interval
from rnnvg.horizon.memory import MemoryHorizon, check_horizons, of_one_threshold
from rnnvg.horizon.spread import Spread, spread
from rnnvg.notebook import Shown


@dataclass(frozen=True, repr=False)
class HorizonEstimate(Shown):
    """Memory horizons of independently trained models, pooled.

    Attributes:
        median: median of `last`, steps; a censored horizon counts as +inf.
        center: exp(mean ln(last + 1)) - 1, steps; None if any horizon is censored.
        low, high: interval, steps; None for fewer than two models. With nothing censored the t-interval on ln(last + 1),
            transformed back; otherwise order statistics, `high` = inf where it is unbounded.
        n, n_censored: number of models, and of those censored.
        coverage: nominal coverage of (low, high): 0.95, or what the extreme order statistics of so few models can give;
            None where there is no interval.
        spread: the same models for readers: each horizon, their median, and a range or an order-statistic interval, none of
            it beyond what was observed; str() is made of it.

    >>> import numpy as np
    >>> from rnnvg import memory_horizon, pool_horizons
    >>> found = pool_horizons([memory_horizon(-np.arange(100) / steps) for steps in (10, 20, 40)])
    >>> found.median, found.n, found.n_censored
    (20.0, 3, 0)
    """

    median: float
    center: float | None
    low: float | None
    high: float | None
    n: int
    n_censored: int
    coverage: float | None = None
    spread: Spread | None = None

    def __str__(self) -> str:
        models = f"{self.n} model" if self.n == 1 else f"{self.n} models"
        if self.spread is None:
            return f"median {self.median:.4g} steps ({models})"
        return f"{self.spread} steps ({models})"


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
    horizons = check_horizons("horizons", horizons)
    if not horizons:
        raise InputError("`horizons` is empty; pass the MemoryHorizon of at least one model.")
    last, censored = of_one_threshold(horizons)
    return pooled(last, np.where(censored, np.inf, last))


def pooled(seen: np.ndarray, upper: np.ndarray) -> HorizonEstimate:
    """What independently trained models' horizons [n] come to: `seen`, with `upper` inf where there may be more."""
    n, n_censored = len(seen), int(np.isinf(upper).sum())
    low, high, coverage = None, None, None
    if n > 1 and n_censored:
        low, high, coverage = median_interval(seen, upper)
    elif n > 1:
        low, high = (math.expm1(end) for end in t_interval(np.log1p(seen)))
        low, coverage = max(0.0, low), CONFIDENCE
    return HorizonEstimate(
        median=float(np.median(upper)),
        center=None if n_censored else math.expm1(np.log1p(seen).mean()),
        low=low,
        high=high,
        n=n,
        n_censored=n_censored,
        coverage=coverage,
        spread=spread(seen, upper),
    )
