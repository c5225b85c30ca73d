"""Horizons as survival times: what share of models reaches farther than k steps, censored ones counted for what they show.

A horizon that is only known to be larger than its sequence tells that its model survived that long, and nothing after it.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rnnvg.errors import InputError
from rnnvg.horizon.intervals import CONFIDENCE, stats
from rnnvg.horizon.memory import MemoryHorizon, check_horizons, of_one_threshold
from rnnvg.notebook import Shown

if TYPE_CHECKING:
    import pandas as pd


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
