"""Memory horizons of a curve, and horizons pooled over independently trained models."""

import math
import re
import tracemalloc

import numpy as np
import pytest
from scipy import stats

from rnnvg import HorizonEstimate, InputError, MemoryHorizon, decay_fit, memory_horizon, pool_horizons
from rnnvg.horizon import decay, memory


def test_memory_horizon_of_an_exponential():
    found = memory_horizon(np.log(0.5) * np.arange(100), threshold=0.1)
    assert isinstance(found, MemoryHorizon)
    assert (found.threshold, found.last, found.first_below, found.censored) == (0.1, 3, 4, False)
    assert found.rate == pytest.approx(math.log(0.5), rel=1e-12)
    assert found.e_fold == pytest.approx(1 / math.log(2), rel=1e-12)
    assert memory_horizon(-np.arange(100) / 40.5).last == 40  # 1/e by default


def test_the_threshold_itself_still_counts():
    assert memory_horizon(np.log([1, 0.5, 0.25, 0.1]), 0.5).last == 1
    assert memory_horizon(np.array([0, -0.5, -1, -1.5])).last == 2


def test_a_curve_that_comes_back():
    """The last crossing decides, the first is kept; an exact zero at one lag is not the end."""
    found = memory_horizon(np.array([0, -np.inf, -0.5, -3, np.nan, -0.9, -4, -5]))
    assert (found.last, found.first_below, found.censored) == (5, 1, False)
    k, gain = np.array([0, 2, 3, 5, 6, 7]), np.array([0, -0.5, -3, -0.9, -4, -5])
    assert found.rate == pytest.approx(np.polyfit(k, gain, 1)[0], rel=1e-12)


def test_censored_curves():
    flat = memory_horizon(np.zeros(101))
    assert (flat.last, flat.first_below, flat.censored, flat.rate, flat.e_fold) == (100, None, True, 0, None)
    assert str(flat) == "> 100"
    cut = memory_horizon(np.array([0, -0.1, -0.2, np.nan, np.nan]))
    assert (cut.last, cut.first_below, cut.censored) == (2, None, True)
    growing = memory_horizon(0.3 * np.arange(20))
    assert (growing.last, growing.censored, growing.e_fold) == (19, True, None)
    back_at_the_end = memory_horizon(np.array([0, -5, -5, -0.5]))
    assert (back_at_the_end.last, back_at_the_end.first_below, back_at_the_end.censored) == (3, 1, True)


def test_curves_that_never_reach_the_threshold():
    gone = memory_horizon(np.array([-5.0, -6, -7, -8]))
    assert (gone.last, gone.first_below, gone.censored) == (0, 0, False)
    zero = memory_horizon(np.array([0, -np.inf, -np.inf]))
    assert (zero.last, zero.first_below, zero.censored, zero.e_fold) == (0, 1, False, None)
    assert math.isnan(zero.rate)
    assert str(gone) == "0"


def test_e_fold_only_where_an_exponential_fits():
    k = np.arange(201)
    bent = np.where(k <= 100, -0.01 * k, -1 - 0.011 * (k - 100))
    assert memory_horizon(bent).e_fold == pytest.approx(-1 / memory_horizon(bent).rate)
    assert memory_horizon(np.where(k <= 100, -0.01 * k, -1 - 0.02 * (k - 100))).e_fold is None
    assert memory_horizon(-2 * np.log(k + 1)).e_fold is None  # a power law has no time constant
    assert memory_horizon(0.01 * k).e_fold is None
    with_zeros = -0.05 * k
    with_zeros[7::10] = -np.inf
    assert memory_horizon(with_zeros).e_fold == pytest.approx(20, rel=1e-9)


@pytest.mark.parametrize(
    ("log_gain", "threshold", "message"),
    [
        (
            np.zeros((2, 3)),
            0.5,
            "`log_gain` must be one-dimensional, a value per distance; got shape (2, 3). "
            "Average over sources and sequences first, as GradientProfile.curve() does.",
        ),
        (np.full(3, np.nan), 0.5, "`log_gain` has no observed value among its 3; pass at least one that is not nan."),
        (np.zeros(0), 0.5, "`log_gain` has no observed value among its 0; pass at least one that is not nan."),
        (np.zeros(3), 1, "`threshold` must be a number strictly between 0 and 1; got 1."),
        (np.zeros(3), 0.0, "`threshold` must be a number strictly between 0 and 1; got 0."),
        (np.zeros(3), "0.1", "`threshold` must be a number strictly between 0 and 1; got '0.1'."),
    ],
)
def test_memory_horizon_bad_input(log_gain, threshold, message):
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        memory_horizon(log_gain, threshold)


# pool_horizons ----------------------------------------------------------------------------------------------------------


def models(lasts, censored=()) -> list[MemoryHorizon]:
    return [
        MemoryHorizon(0.1, last, None if i in censored else last + 1, i in censored, -0.1, None)
        for i, last in enumerate(lasts)
    ]


def test_pooled_center_and_t_interval():
    lasts = np.array([9, 14, 30, 11, 20])
    found = pool_horizons(models(lasts))
    assert isinstance(found, HorizonEstimate)
    logs = np.log(lasts + 1)
    low, high = stats.t.interval(0.95, len(lasts) - 1, loc=logs.mean(), scale=logs.std(ddof=1) / math.sqrt(5))
    assert found.median == 14
    assert found.center == pytest.approx(math.exp(logs.mean()) - 1, rel=1e-12)
    assert (found.low, found.high) == (pytest.approx(math.exp(low) - 1), pytest.approx(math.exp(high) - 1))
    assert (found.n, found.n_censored) == (5, 0)
    assert pool_horizons(models([4, 9])).median == 6.5


def test_one_model_has_no_interval():
    one = pool_horizons(models([12]))
    assert (one.median, one.low, one.high, one.n, one.n_censored) == (12, None, None, 1, 0)
    assert one.center == pytest.approx(12)
    censored = pool_horizons(models([12], {0}))
    assert (censored.median, censored.center, censored.low, censored.high, censored.n_censored) == (
        math.inf,
        None,
        None,
        None,
        1,
    )


def test_equal_models_have_an_interval_of_no_width():
    found = pool_horizons(models([9, 9, 9]))
    assert [found.center, found.low, found.high] == pytest.approx([9, 9, 9])


def test_censored_models_go_through_order_statistics():
    found = pool_horizons(models([5, 7, 9], {2}))
    assert (found.median, found.center, found.low, found.high, found.n_censored) == (7, None, 5, math.inf, 1)
    found = pool_horizons(models([5, 7, 9], {0, 2}))  # the middle one of {> 5, 7, > 9} is unbounded
    assert (found.median, found.center, found.high, found.n_censored) == (math.inf, None, math.inf, 2)
    many = pool_horizons(models(range(1, 21), {19}))  # ranks 6 and 15 of 20: 95.9 %, the least that reaches 95
    assert (many.median, many.low, many.high) == (10.5, 6, 15)
    early = pool_horizons(models([3, *range(10, 29)], {0}))  # "> 3" may be anything above: last in an upper bound
    assert (early.median, early.low, early.high) == (19.5, 14, 24)


@pytest.mark.parametrize("n", [2, 3, 5, 10])
def test_t_interval_covers_95_percent(n):
    """2000 experiments of n models, their true centre known: 93 to 97 % of the intervals hold it."""
    draw = np.random.default_rng(100 + n)
    center, spread, covered, widths = 200.0, 0.5, 0, []
    for logs in draw.normal(math.log(center + 1), spread, size=(2000, n)):
        found = pool_horizons(models(np.rint(np.exp(logs) - 1).astype(int)))
        covered += found.low <= center <= found.high
        widths.append((found.high + 1) / (found.low + 1))
    assert 0.93 <= covered / 2000 <= 0.97
    assert np.median(widths) < 20 or n == 2


@pytest.mark.parametrize(("n", "limit"), [(10, 250), (20, 300)])
def test_censored_intervals_cover_what_they_claim(n, limit):
    """Horizons above `limit` are censored there; the interval claims `coverage` for the median of all models."""
    draw = np.random.default_rng(200 + n)
    median, covered, claimed, count = 200, 0, 0.0, 0
    for logs in draw.normal(math.log(median), 0.6, size=(2000, n)):
        lasts = np.exp(logs)
        censored = set(np.flatnonzero(lasts > limit))
        if not censored:
            continue
        found = pool_horizons(models(np.minimum(lasts, limit).astype(int), censored))
        covered += found.low <= median <= found.high
        claimed += found.coverage
        count += 1
    assert count > 1800
    assert covered / count > claimed / count - 0.03


@pytest.mark.parametrize(
    ("horizons", "message"),
    [
        ([], "`horizons` is empty; pass the MemoryHorizon of at least one model."),
        (
            [memory_horizon(np.zeros(3), 0.1), memory_horizon(np.zeros(3), 0.5)],
            "`horizons` mixes thresholds [0.1, 0.5]; pool the horizons of one threshold at a time.",
        ),
    ],
)
def test_pool_horizons_bad_input(horizons, message):
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        pool_horizons(horizons)


def test_the_horizon_of_a_long_curve_takes_no_copy_of_it():
    gain = -1e-4 * np.arange(2_000_000)
    memory_horizon(gain)
    tracemalloc.start()
    try:
        found = memory_horizon(gain)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found.last == 10_000
    assert found.first_below == 10_001
    assert peak < 16 * 8 * decay.PIECE < gain.nbytes


def test_a_fit_in_pieces_is_the_fit(monkeypatch):
    random = np.random.default_rng(0)
    gain = -0.03 * np.arange(997) + random.standard_normal(997)
    gain[random.random(997) < 0.2] = np.nan
    whole = decay_fit(gain), memory_horizon(gain)
    monkeypatch.setattr(decay, "PIECE", 10)
    monkeypatch.setattr(memory, "PIECE", 10)
    parts = decay_fit(gain), memory_horizon(gain)
    for one, other in zip(whole, parts, strict=True):
        for name, value in vars(one).items():
            assert getattr(other, name) == (pytest.approx(value, rel=1e-10) if isinstance(value, float) else value), (
                name
            )


@pytest.mark.parametrize("mask", [True, False, [False, False, True, False, False, True]])
def test_what_is_masked_is_unobserved(mask):
    curve = -0.5 * np.arange(6.0)
    masked = np.ma.masked_array(curve, mask=mask)
    if mask is True:
        with pytest.raises(InputError, match="no observed value among its 6"):
            memory_horizon(masked)
        return
    plain = np.where(mask, np.nan, curve)
    assert memory_horizon(masked, 0.3) == memory_horizon(plain, 0.3)
    assert memory_horizon(np.ma.masked_array(-np.arange(6), mask=mask)) == memory_horizon(
        np.where(mask, np.nan, -np.arange(6.0))
    )
    assert decay_fit(masked) == decay_fit(plain)
    if mask:  # the last value observed is at distance 4, and what lies under the mask at 2 is never read
        assert memory_horizon(np.ma.masked_array([0.0, -3.0, 0.0, -3.0, -3.0, 0.0], mask=mask)).last == 0
