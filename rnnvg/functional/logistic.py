"""recall_horizon(): the delay at which half of what a network remembers is gone, by a logistic fit; many networks pooled.

Accuracy against delay d: p(d) = c + (1 - c) / (1 + (d / d50)^s), logistic in ln d, with c the share that a guess gets right.
At d50 the network knows the answer half of the time and guesses otherwise. Fitted by maximum likelihood, the answers
at a delay being binomial (as psychometric functions are: Wichmann & Hill 2001).
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from rnnvg.errors import InputError, bounded, check_float
from rnnvg.horizon import HorizonEstimate
from rnnvg.horizon.pooling import pooled
from rnnvg.notebook import Shown

# Slopes s from a gentle decline to a cliff; beyond, the data cannot tell.
_SLOPES = (0.1, 100.0)


@dataclass(frozen=True, repr=False)
class RecallHorizon(Shown):
    """The functional horizon of one network.

    Attributes:
        d50: steps: the delay at which half of what lies above guessing is left. 0 where less than that is left at the
            shortest delay, the longest delay that was asked for where `censored`.
        censored: more than half is left at the longest delay: read "> d50".
        slope: s of the fit; None where d50 is 0 or censored.
        chance: c, what a guess gets right.
        misfit: largest difference between a measured accuracy and the fitted one; a large one says that the accuracy
            does not fall in one logistic step, and that d50 is no summary of it.

    >>> import numpy as np
    >>> from rnnvg.functional import recall_horizon
    >>> found = recall_horizon(np.array([1, 2, 5, 10, 20]), np.array([100, 98, 80, 30, 26]), 100, 0.25)
    >>> found.censored, found.chance
    (False, 0.25)
    """

    d50: float
    censored: bool
    slope: float | None
    chance: float
    misfit: float

    def __str__(self) -> str:
        return f"> {self.d50:g}" if self.censored else f"{self.d50:.3g}"


def recall_horizon(delay: ArrayLike, right: ArrayLike, n: ArrayLike, chance: float) -> RecallHorizon:
    """The delay of 50 % from right answers at several delays.

    Args:
        delay: [D] steps, increasing, at least two of them, above 0.
        right: [D] right answers at each.
        n: [D] or one number: questions asked at each.
        chance: what a guess gets right, in (0, 1).

    Raises:
        InputError: delays that do not increase, fewer than two, more right answers than questions, a chance outside (0, 1).

    >>> d = np.array([1, 2, 4, 8, 16, 32])
    >>> recall_horizon(d, 10_000 * (0.5 + 0.5 / (1 + (d / 6.0) ** 3)), 10_000, 0.5).d50.__round__(3)
    6.0
    """
    delays, hits, questions = _checked(delay, right, n)
    chance = check_float("chance", chance, above=0, below=1)
    centre, slope = _fitted(delays, hits, questions, chance)
    fitted = _accuracy(delays, centre, slope, chance)
    misfit = float(np.abs(fitted - hits / questions).max())
    if centre >= math.log(delays[-1]):
        return RecallHorizon(float(delays[-1]), True, None, chance, misfit)
    if centre < math.log(delays[0]):
        return RecallHorizon(0.0, False, None, chance, misfit)
    return RecallHorizon(math.exp(centre), False, slope, chance, misfit)


def accuracy_at(delay: ArrayLike, horizon: RecallHorizon) -> np.ndarray:
    """The fitted accuracy at some delays [D]; nan where the fit has no slope."""
    delays = np.asarray(delay, dtype=np.float64)
    if horizon.slope is None:
        return np.full(delays.shape, np.nan)
    return _accuracy(delays, math.log(horizon.d50), horizon.slope, horizon.chance)


def pool_recall(horizons: Sequence[RecallHorizon]) -> HorizonEstimate:
    """One functional horizon with an interval over independently trained networks, as `pool_horizons` has it.

    With nothing censored, `center` and the 95 % t-interval are those of ln(d50 + 1), transformed back; with a censored
    one, the median and order statistics. One network has no interval (None): its own d50 is all that there is.

    Raises:
        InputError: there is no horizon.

    >>> from rnnvg.functional import RecallHorizon
    >>> pool_recall([RecallHorizon(steps, False, 1.0, 0.25, 0.0) for steps in (8.0, 10.0, 12.0)]).n
    3
    """
    horizons = list(bounded("horizons", horizons))
    if not horizons:
        raise InputError("`horizons` is empty; pass the RecallHorizon of at least one network.")
    d50 = np.array([each.d50 for each in horizons])
    upper = np.where([each.censored for each in horizons], np.inf, d50)
    return pooled(d50, upper)


def _accuracy(delays: np.ndarray, centre: float, slope: float, chance: float) -> np.ndarray:
    expit = importlib.import_module("scipy.special").expit
    return chance + (1 - chance) * expit(slope * (centre - np.log(delays)))


def _fitted(delays: np.ndarray, hits: np.ndarray, questions: np.ndarray, chance: float) -> tuple[float, float]:
    logs = np.log(delays)
    ends = [(logs[0] - 2, logs[-1] + 2), (math.log(_SLOPES[0]), math.log(_SLOPES[1]))]

    def price(found: Any) -> float:
        # A fitted 1 with one wrong answer would cost infinitely much.
        share = np.clip(_accuracy(delays, found[0], math.exp(found[1]), chance), 1e-9, 1 - 1e-9)
        return float(-(hits * np.log(share) + (questions - hits) * np.log1p(-share)).sum() / questions.sum())

    # The price has more than one valley: the best point of a grid is the start.
    starts = [
        (centre, math.log(slope))
        for centre in np.linspace(ends[0][0], ends[0][1], 25)
        for slope in (1.0, 3.0, 10.0, 40.0)
    ]
    best = min(starts, key=price)
    minimize = importlib.import_module("scipy.optimize").minimize
    found: np.ndarray = minimize(
        price, best, method="Nelder-Mead", bounds=ends, options={"xatol": 1e-7, "fatol": 1e-13}
    ).x
    return float(found[0]), math.exp(found[1])


def _checked(delay: ArrayLike, right: ArrayLike, n: ArrayLike) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    delays, hits = (np.asarray(each, dtype=np.float64) for each in (delay, right))
    if delays.ndim != 1 or len(delays) < 2 or not (np.diff(delays) > 0).all() or delays[0] <= 0:
        raise InputError(f"`delay` must be at least two increasing numbers of steps above 0; got {delay!r}.")
    if hits.shape != delays.shape:
        raise InputError(f"`right` must have a number for each of the {len(delays)} delays; got shape {hits.shape}.")
    questions = np.broadcast_to(np.asarray(n, dtype=np.float64), delays.shape)
    if not ((questions > 0) & (hits >= 0) & (hits <= questions)).all():
        raise InputError("`right` must lie between 0 and `n`, the questions asked, at every delay; it does not.")
    return delays, hits, questions
