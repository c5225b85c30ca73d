"""Two horizons of the same networks: how far the gradient reaches, and how far they remember. Neither stands for the other."""

from __future__ import annotations

import importlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from rnnvg.errors import InputError, bounded, check_float

BOTH = "remembers, and the gradient reaches"
LATCHED = "remembers without gradient"
UNUSED = "gradient without memory"
NEITHER = "neither"
QUADRANTS = (BOTH, LATCHED, UNUSED, NEITHER)
# Fisher's z has a standard error with n - 3 in its denominator.
FEWEST = 4
_Z = 1.959963984540054  # of the normal distribution, 97.5 %


@dataclass(frozen=True)
class RankCorrelation:
    """Spearman's rank correlation of two horizons over networks.

    Attributes:
        rho: in [-1, 1]; None for fewer than three networks, or where one of the horizons is the same in all of them.
        low, high: 95 % interval by Fisher's z with the standard error sqrt((1 + rho^2 / 2) / (n - 3)) (Bonett & Wright
            2000); None for fewer than four networks. A perfect correlation, whose z is infinite, is first taken half of
            the smallest possible step nearer to 0, by 6 / (n (n^2 - 1)).
        n: networks.

    >>> from rnnvg.functional import rank_correlation
    >>> rank_correlation([2, 10, 40, 90], [100, 30, 12, 3]).rho
    -1.0
    """

    rho: float | None
    low: float | None
    high: float | None
    n: int

    def __str__(self) -> str:
        if self.n < FEWEST:
            return (
                f"{self.n} network{'s' if self.n > 1 else ''}: too few for a rank correlation with an interval, which "
                f"takes {FEWEST}; the two horizons of each network and its quadrant can be reported."
            )
        if self.rho is None:
            return (
                f"no rank correlation: one of the two horizons is the same in all {self.n} networks; the quadrant of each "
                "can be reported."
            )
        return f"rank correlation {self.rho:.2f} [{self.low:.2f}, {self.high:.2f}] over {self.n} networks"


def rank_correlation(gradient: ArrayLike, functional: ArrayLike) -> RankCorrelation:
    """Spearman's rank correlation of two horizons, with an interval over networks.

    Args:
        gradient, functional: [n] steps; a censored horizon, larger than any that was observed, is inf.

    Raises:
        InputError: different lengths, no network, or a nan.

    >>> found = rank_correlation([2, 10, 40, 90], [3, 12, 30, 100])
    >>> found.rho, found.n
    (1.0, 4)
    """
    first, second = (np.asarray(each, dtype=np.float64) for each in (gradient, functional))
    if first.ndim != 1 or first.shape != second.shape or not len(first):
        raise InputError(
            f"`gradient` and `functional` must have a horizon for each network; got shapes {first.shape} and {second.shape}."
        )
    if np.isnan(first).any() or np.isnan(second).any():
        raise InputError("`gradient` and `functional` must be numbers of steps; got nan. Leave such networks out.")
    n = len(first)
    rankdata = importlib.import_module("scipy.stats").rankdata
    ranks: list[np.ndarray] = [rankdata(each) - (n + 1) / 2 for each in (first, second)]
    size = math.sqrt(float((ranks[0] ** 2).sum() * (ranks[1] ** 2).sum()))
    if n < 3 or size == 0:
        return RankCorrelation(None, None, None, n)
    rho = min(1.0, max(-1.0, float((ranks[0] * ranks[1]).sum()) / size))
    if n < FEWEST:
        return RankCorrelation(rho, None, None, n)
    most = 1 - 6 / (n * (n * n - 1))
    inside = min(most, max(-most, rho))
    error = math.sqrt((1 + inside**2 / 2) / (n - 3))
    low, high = (math.tanh(math.atanh(inside) + side * _Z * error) for side in (-1, 1))
    return RankCorrelation(rho, low, high, n)


def quadrant(gradient: float, functional: float, reach: float) -> str:
    """One of QUADRANTS: whether a network remembers over `reach` steps, and whether its gradient reaches over them.

    Args:
        gradient, functional: horizons, steps; inf where censored.
        reach: the delay that counts, steps, such as the longest of training.

    >>> quadrant(gradient=2, functional=math.inf, reach=40)
    'remembers without gradient'
    """
    reach = check_float("reach", reach, above=0)
    remembers, reaches = functional >= reach, gradient >= reach
    if remembers:
        return BOTH if reaches else LATCHED
    return UNUSED if reaches else NEITHER


def count_quadrants(found: Sequence[str]) -> dict[str, int]:
    """How many networks are in each quadrant, empty ones too."""
    found = list(bounded("found", found))
    return {name: found.count(name) for name in QUADRANTS}
