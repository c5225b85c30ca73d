"""Quadrants, and the rank correlation of two horizons with its interval."""

import math

import numpy as np
import pytest
from scipy.stats import spearmanr

from rnnvg.errors import InputError
from rnnvg.functional.quadrants import BOTH, LATCHED, NEITHER, UNUSED, count_quadrants, quadrant, rank_correlation


def test_the_four_quadrants():
    assert quadrant(50, 60, reach=40) == BOTH
    assert quadrant(40, 40, reach=40) == BOTH
    assert quadrant(1, math.inf, reach=40) == LATCHED
    assert quadrant(math.inf, 3, reach=40) == UNUSED
    assert quadrant(39, 39.9, reach=40) == NEITHER
    assert count_quadrants([LATCHED, LATCHED, NEITHER]) == {BOTH: 0, LATCHED: 2, UNUSED: 0, NEITHER: 1}


def test_rho_is_scipys_with_ties_and_infinities():
    rng = np.random.default_rng(0)
    for _ in range(20):
        first, second = rng.integers(0, 5, (2, 9)).astype(float)
        found = rank_correlation(first, second)
        assert found.rho == pytest.approx(spearmanr(first, second).statistic, abs=1e-12)
        assert -1 <= found.low <= found.rho <= found.high <= 1
    # An unbounded horizon has the highest rank.
    assert rank_correlation([1, 2, 3, math.inf], [1, 2, 3, 9]).rho == pytest.approx(1.0)


def test_the_interval_by_hand():
    found = rank_correlation([1, 2, 3, 4, 5, 6, 7], [2, 1, 4, 3, 7, 5, 6])
    rho = 1 - 6 * (1 + 1 + 1 + 1 + 4 + 1 + 1) / (7 * 48)
    half = 1.96 * math.sqrt((1 + rho**2 / 2) / 4)
    assert found.rho == pytest.approx(rho)
    assert found.low == pytest.approx(math.tanh(math.atanh(rho) - half), abs=1e-4)
    assert found.high == pytest.approx(math.tanh(math.atanh(rho) + half), abs=1e-4)
    assert str(found) == f"rank correlation {rho:.2f} [{found.low:.2f}, {found.high:.2f}] over 7 networks"


def test_a_perfect_correlation_still_has_an_interval():
    found = rank_correlation(range(5), range(5))
    assert found.rho == 1.0
    assert found.low < 0.9
    assert found.high < 1


def test_the_interval_covers():
    rng = np.random.default_rng(1)
    latent = 0.7
    rho = 6 / math.pi * math.asin(latent / 2)  # Spearman's of a bivariate normal
    covered = 0
    for _ in range(600):
        first = rng.standard_normal(15)
        second = latent * first + math.sqrt(1 - latent**2) * rng.standard_normal(15)
        found = rank_correlation(first, second)
        covered += found.low <= rho <= found.high
    assert 0.92 < covered / 600 < 0.985


def test_too_few_networks_are_told_what_can_be_reported():
    for n, rho in ((1, None), (2, None), (3, 1.0)):
        found = rank_correlation(range(n), range(n))
        assert (found.rho, found.low, found.high) == (rho, None, None)
        assert str(found) == (
            f"{n} network{'s' if n > 1 else ''}: too few for a rank correlation with an interval, which takes 4; the two "
            "horizons of each network and its quadrant can be reported."
        )
    assert str(rank_correlation([1, 1, 1, 1], range(4))) == (
        "no rank correlation: one of the two horizons is the same in all 4 networks; the quadrant of each can be reported."
    )


def test_bad_input():
    for arguments, message in (
        (
            ([1, 2], [1]),
            "`gradient` and `functional` must have a horizon for each network; got shapes (2,) and (1,).",
        ),
        (
            ([1, math.nan], [1, 2]),
            "`gradient` and `functional` must be numbers of steps; got nan. Leave such networks out.",
        ),
    ):
        with pytest.raises(InputError) as caught:
            rank_correlation(*arguments)
        assert str(caught.value) == message
    with pytest.raises(InputError) as caught:
        quadrant(1, 2, reach=0)
    assert str(caught.value) == "`reach` must be a finite number above 0; got 0."
