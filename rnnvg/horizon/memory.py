"""One curve's memory horizon: the last distance at which a fraction of the gradient is left."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from rnnvg.errors import InputError, bounded, check_float
from rnnvg.horizon.decay import PIECE, check_numbers, decay_fit
from rnnvg.missing import number
from rnnvg.notebook import Shown

THRESHOLDS = (math.exp(-1), 0.1, 0.01)


@dataclass(frozen=True)
class MemoryHorizon(Shown):
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

    >>> import numpy as np
    >>> from rnnvg import memory_horizon
    >>> found = memory_horizon(np.log(0.5) * np.arange(100), threshold=0.1)
    >>> found.last, found.first_below, found.censored
    (3, 4, False)
    >>> print(memory_horizon(np.zeros(50)))
    > 49
    """

    threshold: float
    last: int
    first_below: int | None
    censored: bool
    rate: float
    e_fold: float | None

    @classmethod
    def from_row(cls, row: Mapping[str, Any], threshold: float | None = None) -> MemoryHorizon:
        """A horizon from a row of a table of them, in which None or nan stands for what is not there.

        Args:
            row: last, censored and, where they are known, threshold, first_below, rate, e_fold.
            threshold: of all rows, where `row` has none.

        >>> MemoryHorizon.from_row({"last": 3.0, "first_below": 4.0, "censored": False, "rate": None}, 0.1)
        MemoryHorizon(threshold=0.1, last=3, first_below=4, censored=False, rate=nan, e_fold=None)
        """
        first_below, rate, e_fold = (number(row.get(name)) for name in ("first_below", "rate", "e_fold"))
        return cls(
            threshold=float(row["threshold"] if threshold is None else threshold),
            last=int(row["last"]),
            first_below=None if math.isnan(first_below) else int(first_below),
            censored=bool(row["censored"]),
            rate=rate,
            e_fold=None if math.isnan(e_fold) else e_fold,
        )

    def __str__(self) -> str:
        return f"> {self.last}" if self.censored else str(self.last)


def memory_horizon(log_gain: np.ndarray, threshold: float = math.exp(-1)) -> MemoryHorizon:
    """The last distance at which at least `threshold` of the gradient is left.

    Args:
        log_gain: ln gain at distances 0..K-1, [K]; -inf is an exact zero, nan (or masked) is unobserved.
        threshold: fraction of the gradient at the reference distance, in (0, 1).

    Raises:
        InputError: `log_gain` is not one-dimensional or has no observed value; `threshold` is outside (0, 1).

    >>> memory_horizon(np.log(0.5) * np.arange(100), threshold=0.1).last
    3
    >>> str(memory_horizon(np.zeros(100)))
    '> 99'
    """
    threshold = check_float("threshold", threshold, above=0.0, below=1.0)
    gain = check_numbers("log_gain", log_gain)
    if gain.ndim != 1:
        raise InputError(
            f"`log_gain` must be one-dimensional, a value per distance; got shape {gain.shape}. "
            "Average over sources and sequences first, as GradientProfile.curve() does."
        )
    level = math.log(threshold)
    reach = last_reach(gain, level)
    if reach is None:
        raise InputError(f"`log_gain` has no observed value among its {gain.size}; pass at least one that is not nan.")
    fit = decay_fit(gain)
    return MemoryHorizon(
        threshold=threshold,
        last=reach[0],
        first_below=_first(gain, lambda values: values < level),
        censored=reach[1],
        rate=fit.rate,
        e_fold=fit.e_fold,
    )


def last_reach(log_gain: np.ndarray, level: float) -> tuple[int, bool] | None:
    """`last` and `censored` of a MemoryHorizon alone, for a level in nats; None where nothing was observed."""
    last_observed = _last(log_gain, lambda values: ~np.isnan(values))
    if last_observed is None:
        return None
    return _last(log_gain, lambda values: values >= level) or 0, bool(log_gain[last_observed] >= level)


Test = Callable[[np.ndarray], np.ndarray]


def _first(values: np.ndarray, test: Test) -> int | None:
    """The first place where `test` holds, looked for a piece at a time; None where it holds nowhere."""
    for start in range(0, len(values), PIECE):
        found = np.flatnonzero(test(values[start : start + PIECE]))
        if found.size:
            return start + int(found[0])
    return None


def _last(values: np.ndarray, test: Test) -> int | None:
    found = _first(values[::-1], test)
    return None if found is None else len(values) - 1 - found


def check_horizons(argument: str, horizons: object) -> list[MemoryHorizon]:
    """`horizons` as a list, every one a MemoryHorizon.

    Raises:
        InputError: anything else.
    """
    found: list[MemoryHorizon] = []
    try:
        iter(cast("Iterable[object]", horizons))
    except TypeError:  # a tensor without axes too
        horizons = [horizons]
    for each in bounded(argument, cast("Iterable[object]", horizons)):
        if not isinstance(each, MemoryHorizon):
            raise InputError(
                f"`{argument}` holds a {type(each).__name__}; pass a list of MemoryHorizon, one of each model."
            )
        found.append(each)
    return found


def of_one_threshold(horizons: list[MemoryHorizon]) -> tuple[np.ndarray, np.ndarray]:
    """The last distance of each horizon [n], steps, and whether it is censored [n].

    Raises:
        InputError: the horizons have different thresholds.
    """
    thresholds = sorted({each.threshold for each in horizons})
    if len(thresholds) > 1:
        raise InputError(f"`horizons` mixes thresholds {thresholds}; pool the horizons of one threshold at a time.")
    last = np.array([each.last for each in horizons], dtype=np.float64)
    return last, np.array([each.censored for each in horizons])
