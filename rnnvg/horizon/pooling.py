"""Memory horizons of independently trained models, pooled: the unit of replication is a model.

Also as survival times: what share of models reaches farther than k steps, censored ones counted for what they show. A horizon
that is only known to be larger than its sequence tells that its model survived that long, and nothing after it.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rnnvg.errors import InputError
from rnnvg.horizon.intervals import CONFIDENCE, median_interval, stats, t_interval
from rnnvg.horizon.memory import MemoryHorizon, check_horizons, of_one_threshold
from rnnvg.horizon.spread import Spread, spread
from rnnvg.notebook import Shown

if TYPE_CHECKING:
    import pandas as pd


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


@dataclass(frozen=True, repr=False)
class HorizonSurvival(Shown):
    """The Kaplan-Meier estimate of the distribution of memory horizons.

    Attributes:
        horizon: [m] steps, the distinct horizons that were seen to end, ascending.
        survival: [m] share of models whose horizon is longer than that.
        low, high: [m] pointwise 95 % interval of it on the scale ln(-ln share); nan where the share is 0.
        median: the horizon that half of the models exceed, steps; inf where too many are censored to say.
        median_low, median_high: 95 % interval of the median, steps; `median_high` is inf where it is unbounded.
        n, n_censored: number of models, and of those censored.

    Source: Kaplan and Meier 1958; the median's interval by Brookmeyer and Crowley 1982 with Greenwood's variance.

    >>> import numpy as np
    >>> from rnnvg import horizon_survival, memory_horizon
    >>> found = horizon_survival([memory_horizon(-np.arange(100) / steps) for steps in (10, 20, 40, 200)])
    >>> found.n, found.n_censored, found.horizon.tolist()
    (4, 1, [10.0, 20.0, 40.0])
    """

    horizon: np.ndarray
    survival: np.ndarray
    low: np.ndarray
    high: np.ndarray
    median: float
    median_low: float
    median_high: float
    n: int
    n_censored: int

    def to_frame(self) -> pd.DataFrame:
        """A row per horizon that was seen to end; columns horizon (steps), survival, low, high."""
        import pandas as pd

        return pd.DataFrame({name: getattr(self, name) for name in ("horizon", "survival", "low", "high")})

    def __str__(self) -> str:
        middle = "more than was observed" if math.isinf(self.median) else f"{self.median:g} steps"
        high = "no upper bound" if math.isinf(self.median_high) else f"{self.median_high:g}"
        return f"half of {self.n} models reach {middle} (95 % interval from {self.median_low:g} to {high})"


def horizon_survival(horizons: Sequence[MemoryHorizon]) -> HorizonSurvival:
    """The share of models whose horizon is longer than k steps, for every k, from horizons that may be censored.

    Use it where sequences of different length censor at different distances: there the median of `pool_horizons`, which
    counts a censored horizon as infinite, is too long.

    Args:
        horizons: of independently trained models, at one threshold.

    Raises:
        InputError: fewer than two models, or horizons of different thresholds.

    >>> models = [MemoryHorizon(0.1, last, None, last == 3, -0.1, None) for last in (3, 10, 12, 14)]  # the first: "> 3"
    >>> horizon_survival(models).median
    12.0
    """
    horizons = check_horizons("horizons", horizons)
    if len(horizons) < 2:
        alone = f": of one model report its own horizon, {horizons[0]}" if horizons else ""
        raise InputError(f"`horizons` holds {len(horizons)} of the at least 2 models that an interval needs{alone}.")
    last, censored = of_one_threshold(horizons)
    steps = np.unique(last[~censored])
    share, low, high = _estimate(steps, last, censored)
    decided = ~((low <= 0.5) & (high >= 0.5))  # with Greenwood's error on the scale ln(-ln share)
    return HorizonSurvival(
        horizon=steps,
        survival=share,
        low=low,
        high=high,
        median=_crossing(steps, share),
        median_low=_first(steps, ~decided) if not decided.all() else _first(steps, share <= 0.5),
        median_high=_first(steps, decided & (share <= 0.5)),
        n=len(horizons),
        n_censored=int(censored.sum()),
    )


def _estimate(steps: np.ndarray, last: np.ndarray, censored: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Share of models beyond each of `steps`, and its pointwise low and high."""
    if not steps.size:
        return steps, steps, steps
    found = stats().ecdf(stats().CensoredData(uncensored=last[~censored], right=last[censored])).sf
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a share of 0 has no interval: nan
        interval = found.confidence_interval(CONFIDENCE, method="log-log")
    ended = np.isin(found.quantiles, steps)
    return found.probabilities[ended], interval.low.probabilities[ended], interval.high.probabilities[ended]


def _first(steps: np.ndarray, where: np.ndarray) -> float:
    return float(steps[where][0]) if where.any() else math.inf


def _crossing(steps: np.ndarray, share: np.ndarray) -> float:
    """The first horizon that at most half exceed; halfway to the next one where exactly half do."""
    first = _first(steps, share <= 0.5 + 1e-12)
    if math.isinf(first) or share[steps == first][0] < 0.5 - 1e-12:
        return first
    return (first + _first(steps, steps > first)) / 2
