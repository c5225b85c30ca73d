"""Whether an exponential fits a curve: the test that comes before any time constant.

Anything can be fitted by a straight line; where the line does not fit, its slope is no rate and -1/slope no time constant.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from rnnvg.errors import InputError
from rnnvg.notebook import Shown

TOLERANCE = 0.25  # the slopes of both halves may differ by so much of the larger
LEAST_VALUES = 4  # two a half


@dataclass(frozen=True, repr=False)
class DecayFit(Shown):
    """How well an exponential, log gain = a + rate k, fits a curve.

    Attributes:
        rate: least-squares slope over the finite values, nats per step; nan with fewer than two.
        first_half, second_half: slopes of the two halves of the finite values; nan where a half has fewer than two.
        misfit: |first_half - second_half| / max(|first_half|, |second_half|), 0 for an exponential; nan where a half is nan.
        power_law: a power law, log gain = a + b ln k, leaves a smaller sum of squares over distances from 1 on.
        e_fold: -1/rate in steps, only where the rate is negative and the misfit at most 0.25; None otherwise.
        reason: a sentence that says why there is no time constant; None where there is one.
    """

    rate: float
    first_half: float
    second_half: float
    misfit: float
    power_law: bool
    e_fold: float | None
    reason: str | None

    def __str__(self) -> str:
        return self.reason if self.e_fold is None and self.reason else f"one e-fold in {self.e_fold:.3g} steps"


def check_numbers(argument: str, values: object) -> np.ndarray:
    """`values` as float64: real numbers, in an array, a list or a tensor on the CPU.

    Raises:
        InputError: anything else; complex numbers and truth values are not cast silently.
    """
    try:
        found = np.asarray(values)
    except (TypeError, ValueError, RuntimeError):
        found = None
    if found is None or found.dtype.kind not in "fiu":
        kind = "" if found is None or found.dtype.kind == "O" else f" of {found.dtype}"
        raise InputError(
            f"`{argument}` is a {type(values).__name__}{kind}; pass real numbers, such as a float64 array."
        )
    return found.astype(np.float64)


def decay_fit(log_gain: np.ndarray) -> DecayFit:
    """Tests whether a curve is an exponential before a time constant is read off it.

    Args:
        log_gain: ln gain at distances 0..K-1, [K]; -inf and nan are left out.

    Raises:
        InputError: `log_gain` is not one-dimensional.

    >>> decay_fit(-0.05 * np.arange(100)).e_fold
    20.0
    >>> print(decay_fit(-2 * np.log(np.arange(100) + 1)))
    no time constant: -0.111 nats a step in the first half and -0.0271 in the second; a power law fits better
    """
    gain = check_numbers("log_gain", log_gain)
    if gain.ndim != 1:
        raise InputError(f"`log_gain` must be one-dimensional, a value per distance; got shape {gain.shape}.")
    distance = np.flatnonzero(np.isfinite(gain))
    middle = distance.size // 2
    rate, one, two = (_slope(part, gain[part]) for part in (distance, distance[:middle], distance[middle:]))
    larger = max(abs(one), abs(two))
    misfit = 0.0 if larger == 0 else abs(one - two) / larger  # nan where a half is
    power_law = _power_law_fits_better(gain)
    fits = rate < 0 and misfit <= TOLERANCE
    return DecayFit(
        rate=rate,
        first_half=one,
        second_half=two,
        misfit=misfit,
        power_law=power_law,
        e_fold=-1.0 / rate if fits else None,
        reason=None if fits else f"no time constant: {_why_not(distance.size, rate, one, two, power_law)}",
    )


def slope(log_gain: np.ndarray) -> float:
    """Least-squares slope over the finite values of `log_gain` [K], nats per step; nan with fewer than two."""
    distance = np.flatnonzero(np.isfinite(log_gain))
    return _slope(distance, log_gain[distance])


def _slope(x: np.ndarray, y: np.ndarray) -> float:
    if x.size < 2:
        return math.nan
    centred = x - x.mean()
    return float(centred @ y / (centred @ centred))


def _power_law_fits_better(gain: np.ndarray) -> bool:
    distance = np.flatnonzero(np.isfinite(gain))
    distance = distance[distance > 0]
    if distance.size < LEAST_VALUES:
        return False
    straight, power = (_squares(x, gain[distance]) for x in (distance.astype(float), np.log(distance)))
    return power < straight


def _squares(x: np.ndarray, y: np.ndarray) -> float:
    """What a straight line leaves of y, as a sum of squares."""
    left = y - y.mean() - _slope(x, y) * (x - x.mean())
    return float(left @ left)


def _why_not(n: int, rate: float, one: float, two: float, power_law: bool) -> str:
    if n < LEAST_VALUES:
        return f"only {n} finite gain{'' if n == 1 else 's'}"
    if rate >= 0:
        return f"the gain does not fall ({rate:+.3g} nats a step)"
    better = "; a power law fits better" if power_law else ""
    return f"{one:+.3g} nats a step in the first half and {two:+.3g} in the second{better}"
