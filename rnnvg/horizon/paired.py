"""Two networks compared seed by seed: by what factor one reaches farther than the other, and whether that can be chance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from rnnvg.errors import InputError
from rnnvg.horizon.intervals import sign_test
from rnnvg.horizon.memory import MemoryHorizon, check_horizons
from rnnvg.horizon.spread import Bounded, Spread, spread
from rnnvg.missing import number
from rnnvg.notebook import Shown

MOST_EXACT = 40  # pairs; two halves of 2^20 sums each
DRAWS = 1_000_000


@dataclass(frozen=True, repr=False)
class PairedHorizons(Shown):
    """The ratio of two networks' horizons, first / second, over pairs of independently trained models.

    Attributes:
        ratio: median over pairs; inf where it is only known to be larger than some number, 0 where it is only known to be
            smaller, None where censoring leaves it open.
        low, high: with fewer than 6 pairs the smallest and the largest ratio, from 6 on order statistics around the median;
            0 and inf where a side is unbounded.
        longer, shorter, equal, unknown: pairs in which the first reaches farther, less far, equally far, or in which
            censoring leaves that open.
        sign_test: two-sided probability of so uneven a split of longer and shorter by chance; 1 where there is none.
        sign_flip: p-value of the exact sign-flip test; see `sign_flip`. Where a horizon is censored only the direction of
            a pair is known, the test is of directions, and pairs of unknown direction count as whatever makes p largest.
        least_p: the smallest p-value that so many pairs can give, 2 / 2^n over pairs that are not equal; 1 for none.
        n, n_censored: pairs, and those with a censored horizon in them.
        coverage: nominal coverage of (low, high); nan for a range.
        spread: the ratio of each pair, with what is known of it; None for no pairs.

    >>> import numpy as np
    >>> from rnnvg import compare_horizons, memory_horizon
    >>> near, far = ([memory_horizon(-np.arange(100) / (steps * k)) for k in (1, 2, 3)] for steps in (5, 20))
    >>> found = compare_horizons(far, near)
    >>> round(found.ratio, 6), found.longer, found.sign_flip
    (4.0, 3, 0.25)
    """

    ratio: float | None
    low: float
    high: float
    longer: int
    shorter: int
    equal: int
    unknown: int
    sign_test: float
    n: int
    n_censored: int
    coverage: float
    sign_flip: float = 1.0
    least_p: float = 1.0
    spread: Spread | None = None

    def __str__(self) -> str:
        if self.equal == self.n:
            return f"identical horizons in all {self.n} pairs"
        ties = f", {self.equal} tied" if self.equal else ""
        ratio = f"ratio {self.spread}" if self.spread is not None else f"ratio {self.ratio}"
        longer = f"longer in {self.longer} of {self.n} pairs{ties}"
        settled = "" if self.least_p <= 0.05 else f"; so few pairs cannot settle it (least p {self.least_p:.3g})"
        return f"{ratio}; {longer}; sign-flip p = {self.sign_flip:.3g}{settled}"


def compare_horizons(first: Sequence[MemoryHorizon], second: Sequence[MemoryHorizon]) -> PairedHorizons:
    """By what factor the first network's horizon is longer, from models paired by seed.

    Args:
        first, second: horizons of the two networks at one threshold; the models at one place share their seed.

    Raises:
        InputError: fewer than two pairs, different numbers of models, or horizons of different thresholds.

    >>> few = [[MemoryHorizon(0.1, last, last + 1, False, -0.1, None) for last in each] for each in ((8, 20, 40), (4, 10, 20))]
    >>> round(compare_horizons(*few).ratio, 6)
    2.0
    """
    first, second = check_horizons("first", first), check_horizons("second", second)
    if len(first) != len(second):
        raise InputError(
            f"`first` has {len(first)} models and `second` {len(second)}; pass the horizons of the seeds that both have."
        )
    if len(first) < 2:
        alone = f": of one pair report both horizons, {first[0]} and {second[0]}" if first else ""
        raise InputError(
            f"`first` and `second` hold {len(first)} of the at least 2 pairs that an interval needs{alone}."
        )
    thresholds = sorted({each.threshold for each in (*first, *second)})
    if len(thresholds) > 1:
        raise InputError(f"`first` and `second` mix thresholds {thresholds}; compare the horizons of one threshold.")
    a, b = (np.array([each.last for each in side], dtype=np.float64) for side in (first, second))
    a_open, b_open = (np.array([each.censored for each in side]) for side in (first, second))
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.where(a == b, 0.0, np.log(a) - np.log(b))  # two horizons of 0 are equal
    # Over logs, so that the ratio the other way round is exactly the inverse.
    over = _exp(spread(np.where(b_open, -np.inf, logs), np.where(a_open, np.inf, logs)))
    longer = ((a > b) & ~b_open) | (a_open & ~b_open & (a >= b))
    shorter = ((b > a) & ~a_open) | (b_open & ~a_open & (b >= a))
    equal = (a == b) & ~a_open & ~b_open
    n, censored = len(first), a_open | b_open
    up, down, unknown = int(longer.sum()), int(shorter.sum()), int((~longer & ~shorter & ~equal).sum())
    if censored.any():
        even = min(max((down + unknown - up + 1) // 2, 0), unknown)  # the most even split gives the largest p
        p = sign_test(up + even, down + unknown - even)
    else:
        p = sign_flip(np.log1p(a) - np.log1p(b))  # logs, so that one long horizon does not outweigh the others
    return PairedHorizons(
        ratio=_one(over),
        low=max(0.0, over.low.least),
        high=over.high.most,
        longer=up,
        shorter=down,
        equal=int(equal.sum()),
        unknown=unknown,
        sign_test=sign_test(up, down),
        n=n,
        n_censored=int(censored.sum()),
        coverage=number(over.coverage),
        sign_flip=p,
        least_p=least_p(n - int(equal.sum())),
        spread=over,
    )


def sign_flip(differences: np.ndarray | Sequence[float]) -> float:
    """Two-sided p-value of the sign-flip test: how many of all 2^n choices of signs give so large a sum by chance.

    The count is exact up to 40 pairs that are not equal, and for any number of differences of one size; beyond that it is
    estimated from a million random choices.
    Pairs that are equal say nothing and drop out; with no other pair p is 1. The test supposes only that under the null
    hypothesis each difference could as well have had the other sign.

    Args:
        differences: [n] second minus first, a value a pair, finite.

    Raises:
        InputError: a difference that is not finite.

    Source: Fisher 1935, The Design of Experiments, section 21.

    >>> sign_flip([1.0, 2.0, 3.0]), sign_flip([0.0, 0.0]), sign_flip([5, 4, 3, 2, 1, 1])
    (0.25, 1.0, 0.03125)
    """
    values = np.asarray(differences, dtype=np.float64)
    if not np.isfinite(values).all():
        raise InputError("`differences` holds values that are not finite; pass the pairs whose difference is known.")
    values = values[values != 0]
    size = np.abs(values)
    reached = abs(float(values.sum())) - 1e-9 * float(size.sum())  # equal sums that differ by rounding count
    if reached <= 0:
        return 1.0
    if (size == size[0]).all():  # only directions: their number is binomial, however many there are
        up = int((values > 0).sum())
        return sign_test(up, size.size - up)
    if size.size > MOST_EXACT:
        return float((1 + (np.abs(_drawn_sums(size)) >= reached).sum()) / (1 + DRAWS))
    short, long = (np.sort(_sums(part)) for part in (size[: size.size // 2], size[size.size // 2 :]))
    above = len(long) - np.searchsorted(long, reached - short, side="left")
    return min(1.0, 2 * float(above.sum()) / 2.0**size.size)


def least_p(n: int) -> float:
    """The smallest two-sided p-value that `n` pairs can give: all of them the same way.

    >>> least_p(3), least_p(6)
    (0.25, 0.03125)
    """
    return min(1.0, 2.0 ** (1 - n))


def _sums(size: np.ndarray) -> np.ndarray:
    """The sums of `size` under all choices of signs."""
    sums = np.zeros(1)
    for each in size:
        sums = np.concatenate([sums - each, sums + each])
    return sums


def _drawn_sums(size: np.ndarray) -> np.ndarray:
    """The sums of `size` under DRAWS random choices of signs, [DRAWS]: a random byte chooses the signs of eight."""
    random, sums = np.random.default_rng(0), np.zeros(DRAWS)
    for start in range(0, size.size, 8):
        part = _sums(size[start : start + 8])
        # The number of sums is a power of 2: what is over in a byte leaves them equally likely.
        sums += part[np.frombuffer(random.bytes(DRAWS), dtype=np.uint8) & (len(part) - 1)]
    return sums


def _one(over: Spread) -> float | None:
    """What stands for the median ratio: itself, inf or 0 where it is only a bound, or None."""
    middle = over.median
    if middle.least == middle.most:
        return middle.least
    return math.inf if middle.above else 0.0 if middle.below else None


def _exp(logs: Spread) -> Spread:
    """Ratios of log ratios; a side without a bound stays without one."""

    def of(each: Bounded) -> Bounded:
        if each.least == each.most:
            return Bounded(*[_power(each.least)] * 2)
        return Bounded(*(side if math.isinf(side) else _power(side) for side in (each.least, each.most)))

    values = tuple(of(each) for each in logs.values)
    return replace(logs, values=values, median=of(logs.median), low=of(logs.low), high=of(logs.high))


def _power(log: float) -> float:
    return math.exp(log) if log < 700 else math.inf
