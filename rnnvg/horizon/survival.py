"""Horizons as survival times: what share of models reaches farther than k steps, censored ones counted for what they show.

A horizon that is only known to be larger than its sequence tells that its model survived that long, and nothing after it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from rnnvg.errors import InputError
from rnnvg.horizon.intervals import CONFIDENCE
from rnnvg.horizon.memory import MemoryHorizon, check_horizons
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
    thresholds = sorted({each.threshold for each in horizons})
    if len(thresholds) > 1:
        raise InputError(f"`horizons` mixes thresholds {thresholds}; pool the horizons of one threshold at a time.")
    last = np.array([each.last for each in horizons], dtype=np.float64)
    censored = np.array([each.censored for each in horizons])
    steps = np.unique(last[~censored])
    ended = np.array([((last == each) & ~censored).sum() for each in steps])
    at_risk = np.array([(last >= each).sum() for each in steps])  # one censored at k outlived k
    share = np.cumprod(1 - ended / at_risk)
    low, high, from_half = _intervals(share, ended, at_risk)
    undecided = np.abs(from_half) <= _critical()
    return HorizonSurvival(
        horizon=steps,
        survival=share,
        low=low,
        high=high,
        median=_crossing(steps, share),
        median_low=float(steps[undecided][0]) if undecided.any() else _first(steps, share <= 0.5),
        median_high=_first(steps, ~undecided & (share <= 0.5)),
        n=len(horizons),
        n_censored=int(censored.sum()),
    )


@cache
def _critical() -> float:
    from scipy.stats import norm

    return float(norm.ppf(0.5 + CONFIDENCE / 2))


def _intervals(share: np.ndarray, ended: np.ndarray, at_risk: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pointwise low and high, and how many standard errors the share is away from a half (positive: above it)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        greenwood = np.cumsum(ended / (at_risk * (at_risk - ended)))
        error = np.sqrt(greenwood) / np.abs(np.log(share))
        place = np.log(-np.log(share))
        half = _critical() * error
        low, high = np.exp(-np.exp(place + half)), np.exp(-np.exp(place - half))
        from_half = (math.log(math.log(2)) - place) / error
    gone = share <= 0
    return np.where(gone, np.nan, low), np.where(gone, np.nan, high), np.where(gone, -np.inf, from_half)


def _first(steps: np.ndarray, where: np.ndarray) -> float:
    return float(steps[where][0]) if where.any() else math.inf


def _crossing(steps: np.ndarray, share: np.ndarray) -> float:
    """The first horizon that at most half exceed; halfway to the next one where exactly half do."""
    first = _first(steps, share <= 0.5 + 1e-12)
    if math.isinf(first) or share[steps == first][0] < 0.5 - 1e-12:
        return first
    return (first + _first(steps, steps > first)) / 2
