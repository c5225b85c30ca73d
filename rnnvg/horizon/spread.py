"""One number from each of several independently trained models, as readers see it: median, every value, range or interval.

A value may be known only to be larger, or smaller, than what was observed; nothing here claims more than that.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rnnvg.errors import InputError
from rnnvg.horizon.intervals import CONFIDENCE, median_rank
from rnnvg.notebook import Shown

LEAST_MODELS = 6  # fewer order statistics cannot hold the median with 95 %: 1 - 2 / 2^5 is 94 %


@dataclass(frozen=True)
class Bounded:
    """A number that is known to lie from `least` to `most`; the two are equal where it was observed.

    `least` is -inf and `most` inf where observation sets no bound on that side.

    >>> Bounded(5, 5), Bounded(5, float("inf"))
    (Bounded(least=5, most=5), Bounded(least=5, most=inf))
    """

    least: float
    most: float

    @property
    def above(self) -> bool:
        """Only known to be at least `least`."""
        return math.isfinite(self.least) and self.least < self.most

    @property
    def below(self) -> bool:
        """Only known to be at most `most`."""
        return self.least == -math.inf and math.isfinite(self.most)

    @property
    def seen(self) -> float:
        """The number, or the bound that is known of it; nan where there is none."""
        if self.least == self.most or self.above:
            return self.least
        return self.most if self.below else math.nan


@dataclass(frozen=True, repr=False)
class Spread(Shown):
    """What several models have of one number.

    Attributes:
        values: one for each model, in the order given.
        median: the median over models.
        low, high: with fewer than 6 models the range: the smallest and the largest value. From 6 on the order statistics
            around the median that hold it with at least 95 %.
        coverage: nominal coverage of (low, high) for the median; None for a range, which claims none.

    >>> import numpy as np
    >>> from rnnvg.horizon import memory_horizon, spread
    >>> found = spread([3, 5, 8])
    >>> found.median.least, found.coverage
    (5.0, None)
    """

    values: tuple[Bounded, ...]
    median: Bounded
    low: Bounded
    high: Bounded
    coverage: float | None

    @property
    def n(self) -> int:
        """How many models."""
        return len(self.values)

    def __str__(self) -> str:
        written = [mark(each) for each in (self.median, self.low, self.high)]
        if self.n == 1:
            return written[0]
        if self.coverage is None:
            return f"median {written[0]}, range {written[1]} to {written[2]}"
        return f"median {written[0]}, {100 * self.coverage:.0f} % interval {written[1]} to {written[2]}"


def spread(least: Sequence[float] | np.ndarray, most: Sequence[float] | np.ndarray | None = None) -> Spread:
    """Median, range and interval of what several models have of one number.

    Args:
        least, most: the bounds of each model's number; `most` is `least` where it is left out.

    Raises:
        InputError: no value, or different numbers of bounds.

    >>> str(spread([48, 51, 54]))
    'median 51, range 48 to 54'
    >>> str(spread([88, 40, 88], [math.inf, 40, math.inf]))
    'median > 88, range 40 to > 88'
    >>> str(spread([3, 5, 8, 13, 21, 34]))
    'median 10.5, 97 % interval 3 to 34'
    """
    lower = np.asarray(least, dtype=np.float64)
    upper = lower if most is None else np.asarray(most, dtype=np.float64)
    if lower.shape != upper.shape or lower.size == 0:
        raise InputError(
            f"`least` and `most` hold {lower.size} and {upper.size} values; pass a bound of each for at least one model."
        )
    n = len(lower)
    rank, coverage = 1, None
    if n >= LEAST_MODELS:
        rank, missed = median_rank(n, (1 - CONFIDENCE) / 2)
        coverage = 1 - 2 * missed
    ranked = [np.sort(each) for each in (lower, upper)]
    middle = (n - 1) // 2, n // 2

    def at(*places: int) -> Bounded:
        found = [float(np.mean([side[place] for place in places])) for side in ranked]
        return Bounded(*found)

    values = tuple(Bounded(float(one), float(two)) for one, two in zip(lower, upper, strict=True))
    return Spread(values, at(*middle), at(rank - 1), at(n - rank), coverage)


def mark(value: Bounded, written: str | None = None) -> str:
    """A number as text, with > or < before what is only a bound.

    Args:
        written: `value.seen` as the caller writes it; four digits where it is left out.

    >>> mark(Bounded(5, 5)), mark(Bounded(5, float("inf")))
    ('5', '> 5')
    """
    if math.isnan(value.seen):
        return "unknown"
    text = f"{value.seen:.4g}" if written is None else written
    return f"> {text}" if value.above else f"< {text}" if value.below else text
