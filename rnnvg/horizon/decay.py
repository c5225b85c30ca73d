"""Whether an exponential fits a curve: the test that comes before any time constant.

Anything can be fitted by a straight line; where the line does not fit, its slope is no rate and -1/slope no time constant.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from rnnvg.errors import InputError
from rnnvg.notebook import Shown

TOLERANCE = 0.25  # the slopes of both halves may differ by so much of the larger
NATS_PER_DECADE = math.log(10)
LEAST_VALUES = 4  # two a half
PIECE = 2**16  # distances that are worked on at a time


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

    >>> import numpy as np
    >>> from rnnvg import decay_fit
    >>> found = decay_fit(np.log(0.5) * np.arange(100))
    >>> round(found.rate, 3), round(found.e_fold, 3), found.power_law
    (-0.693, 1.443, False)
    """

    rate: float
    first_half: float
    second_half: float
    misfit: float
    power_law: bool
    e_fold: float | None
    reason: str | None

    @property
    def half_life(self) -> float:
        """ln 2 / -rate in steps, inf where the rate is not below 0; of an exponential alone a property of the whole curve."""
        return half_life(self.rate)

    def __str__(self) -> str:
        return self.reason if self.e_fold is None and self.reason else f"one e-fold in {self.e_fold:.3g} steps"


def half_life(rate: float) -> float:
    """Steps in which what decays at `rate` nats a step is halved, ln 2 / -rate: inf where it does not decay, nan for nan.

    >>> round(half_life(-0.1), 3), half_life(0.0), half_life(-math.inf)
    (6.931, inf, 0.0)
    """
    if math.isnan(rate):
        return math.nan
    return math.log(2) / -rate if rate < 0 else math.inf


def check_numbers(argument: str, values: object) -> np.ndarray:
    """`values` as float64: real numbers, in an array, a list or a tensor on the CPU; nan where an array is masked.

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
    found = found.astype(np.float64, copy=False)
    source: Any = values
    return np.where(source.mask, np.nan, found) if np.ma.isMaskedArray(source) else found


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
    size, middle = _middle(gain)
    rate, one, two = (_slope(_finite(gain, *part)) for part in ((0, None), (0, middle), (middle, None)))
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
        reason=None if fits else f"no time constant: {_why_not(size, rate, one, two, power_law)}",
    )


def slope(log_gain: np.ndarray) -> float:
    """Least-squares slope over the finite values of `log_gain` [K], nats per step; nan with fewer than two.

    >>> round(slope(-0.25 * np.arange(20)), 6)
    -0.25
    """
    return _slope(_finite(log_gain))


# Gives the finite values of a curve from the start: distances and gains, a piece of it at a time.
Pieces = Callable[[], Iterator[tuple[np.ndarray, np.ndarray]]]


def _finite(gain: np.ndarray, start: int = 0, stop: int | None = None, logs: bool = False) -> Pieces:
    """The finite values at distances start..stop-1, against the distance or its logarithm."""
    stop = len(gain) if stop is None else stop

    def pieces() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for first in range(start, stop, PIECE):
            values = gain[first : min(first + PIECE, stop)]
            at = np.flatnonzero(np.isfinite(values))
            x = (at + first).astype(float)
            yield np.log(x) if logs else x, values[at]

    return pieces


def _middle(gain: np.ndarray) -> tuple[int, int]:
    """How many values are finite, and the distance before which half of them lie."""
    counts = [np.isfinite(gain[first : first + PIECE]).sum() for first in range(0, len(gain), PIECE)]
    size, before = int(sum(counts)), 0
    for piece, count in enumerate(counts):
        if before + count > size // 2:
            at = np.flatnonzero(np.isfinite(gain[piece * PIECE : (piece + 1) * PIECE]))
            return size, piece * PIECE + int(at[size // 2 - before])
        before += int(count)
    return size, 0


def _means(pieces: Pieces) -> tuple[int, float, float]:
    """How many values there are, and the means of both coordinates."""
    n, x_sum, y_sum = 0, 0.0, 0.0
    for x, y in pieces():
        n, x_sum, y_sum = n + x.size, x_sum + float(x.sum()), y_sum + float(y.sum())
    return n, x_sum / max(n, 1), y_sum / max(n, 1)


def _slope(pieces: Pieces) -> float:
    n, x_mean, _ = _means(pieces)
    if n < 2:
        return math.nan
    above = below = 0.0
    for x, y in pieces():
        centred = x - x_mean
        above, below = above + centred @ y, below + centred @ centred
    return float(above / below)


def _power_law_fits_better(gain: np.ndarray) -> bool:
    straight, power = _finite(gain, 1), _finite(gain, 1, logs=True)
    return _means(straight)[0] >= LEAST_VALUES and _squares(power) < _squares(straight)


def _squares(pieces: Pieces) -> float:
    """What a straight line leaves of y, as a sum of squares."""
    (_, x_mean, y_mean), slope = _means(pieces), _slope(pieces)
    squares = 0.0
    for x, y in pieces():
        left = y - y_mean - slope * (x - x_mean)
        squares += float(left @ left)
    return squares


def _why_not(n: int, rate: float, one: float, two: float, power_law: bool) -> str:
    if n < LEAST_VALUES:
        return f"only {n} finite gain{'' if n == 1 else 's'}"
    if rate >= 0:
        return f"the gain does not fall ({rate:+.3g} nats a step)"
    better = "; a power law fits better" if power_law else ""
    return f"{one:+.3g} nats a step in the first half and {two:+.3g} in the second{better}"
