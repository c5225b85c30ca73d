"""Horizons as statistics: whether an exponential fits, survival with censoring, networks paired by seed, and coverage."""

import itertools
import math
import re
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from rnnvg import (
    InputError,
    MemoryHorizon,
    compare_horizons,
    decay_fit,
    horizon_survival,
    memory_horizon,
    pool_horizons,
)
from rnnvg.horizon import sign_flip, spread


def models(lasts, censored=None, threshold=0.1) -> list[MemoryHorizon]:
    censored = np.zeros(len(lasts), bool) if censored is None else censored
    return [
        MemoryHorizon(threshold, int(last), None if hidden else int(last) + 1, bool(hidden), -0.1, None)
        for last, hidden in zip(lasts, censored, strict=True)
    ]


# The misfit test --------------------------------------------------------------------------------------------------------

K = np.arange(201)


def test_an_exponential_has_a_time_constant():
    fit = decay_fit(-0.05 * K)
    assert fit.rate == pytest.approx(-0.05, rel=1e-12)
    assert fit.e_fold == pytest.approx(20, rel=1e-12)
    assert fit.misfit < 1e-12
    assert (fit.power_law, fit.reason, str(fit)) == (False, None, "one e-fold in 20 steps")


def test_slopes_of_the_halves_against_polyfit():
    random = np.random.default_rng(0)
    gain = -0.3 * K + np.cumsum(random.normal(0, 0.5, K.size))
    gain[[3, 50, 120]] = [-np.inf, np.nan, -np.inf]
    fit = decay_fit(gain)
    seen = np.flatnonzero(np.isfinite(gain))
    one, two = (np.polyfit(half, gain[half], 1)[0] for half in (seen[:99], seen[99:]))
    assert (fit.first_half, fit.second_half) == (pytest.approx(one), pytest.approx(two))
    assert fit.misfit == pytest.approx(abs(one - two) / max(abs(one), abs(two)))
    assert memory_horizon(gain).e_fold == fit.e_fold


def test_a_power_law_has_none_and_says_so():
    fit = decay_fit(-2 * np.log(K + 1))
    assert (fit.e_fold, fit.power_law) == (None, True)
    assert fit.reason is not None
    assert re.fullmatch(
        r"no time constant: -0\.0\d+ nats a step in the first half and -0\.0\d+ in the second; a power law fits better",
        fit.reason,
    )


@pytest.mark.parametrize(
    ("gain", "reason"),
    [
        (0.01 * K, "no time constant: the gain does not fall (+0.01 nats a step)"),
        (np.array([0.0, -1, -2]), "no time constant: only 3 finite gains"),
        (np.array([0.0, -np.inf]), "no time constant: only 1 finite gain"),
        (
            np.where(K <= 100, -0.01 * K, -1 - 0.02 * (K - 100)),
            "no time constant: -0.01 nats a step in the first half and -0.02 in the second",
        ),
    ],
)
def test_why_there_is_no_time_constant(gain, reason):
    fit = decay_fit(gain)
    assert (fit.e_fold, str(fit)) == (None, reason)


def test_decay_fit_bad_input():
    with pytest.raises(
        InputError, match=r"^`log_gain` must be one-dimensional, a value per distance; got shape \(2, 3\)\.$"
    ):
        decay_fit(np.zeros((2, 3)))


# Survival ---------------------------------------------------------------------------------------------------------------

# Remission under 6-MP, weeks (Freireich et al. 1963), the textbook's example; True is censored.
REMISSION = [6, 6, 6, 6, 7, 9, 10, 10, 11, 13, 16, 17, 19, 20, 22, 23, 25, 32, 32, 34, 35]
CENSORED = [0, 0, 0, 1, 0, 1, 0, 1, 1, 0, 0, 1, 1, 1, 0, 0, 1, 1, 1, 1, 1]


def test_the_textbooks_remission_times():
    found = horizon_survival(models(REMISSION, CENSORED))
    np.testing.assert_array_equal(found.horizon, [6, 7, 10, 13, 16, 22, 23])
    np.testing.assert_allclose(found.survival, [0.857, 0.807, 0.753, 0.690, 0.627, 0.538, 0.448], atol=6e-4)
    np.testing.assert_allclose(found.low[:3], [0.620, 0.563, 0.503], atol=6e-4)  # conf.type = "log-log"
    np.testing.assert_allclose(found.high[:3], [0.952, 0.923, 0.889], atol=6e-4)
    assert (found.median, found.median_low, found.median_high) == (23, 13, math.inf)
    assert (found.n, found.n_censored) == (21, 12)
    assert str(found) == "half of 21 models reach 23 steps (95 % interval from 13 to no upper bound)"
    assert list(found.to_frame()) == ["horizon", "survival", "low", "high"]


def test_without_censoring_it_is_the_share_of_models():
    lasts = [3, 9, 9, 20, 41, 60]
    found = horizon_survival(models(lasts))
    np.testing.assert_allclose(found.survival, [np.mean(np.array(lasts) > each) for each in found.horizon], atol=1e-15)
    assert found.median == np.median(lasts) == pool_horizons(models(lasts)).median
    assert math.isnan(found.low[-1])


def test_models_censored_early_do_not_lengthen_the_median():
    lasts, hidden = [3, 10, 12, 14], [1, 0, 0, 0]
    assert pool_horizons(models(lasts, hidden)).median == 13
    assert horizon_survival(models(lasts, hidden)).median == 12


def test_nothing_but_censored_models():
    found = horizon_survival(models([5, 7], [1, 1]))
    assert (found.median, found.median_low, found.median_high, found.horizon.size) == (math.inf, math.inf, math.inf, 0)


def test_the_survival_interval_covers_95_percent():
    """2000 experiments of 20 models, censored at 150 to 1200 steps by chance; the true median is 200."""
    random, n, covered = np.random.default_rng(0), 20, 0
    for _ in range(2000):
        true, limit = np.exp(random.normal(math.log(200), 0.6, n)), random.choice([150, 300, 600, 1200], n)
        found = horizon_survival(models(np.minimum(true, limit), true > limit))
        covered += found.median_low <= 200 <= found.median_high + 1  # whole steps are rounded down
    assert 0.93 <= covered / 2000 <= 0.97


# Pairs ------------------------------------------------------------------------------------------------------------------


def test_the_ratio_is_the_median_over_pairs_with_its_range():
    first, second = np.array([50, 40, 70, 30]), np.array([5, 6, 4, 7])
    found = compare_horizons(models(first), models(second))
    ratios = np.sort(first / second)
    assert found.ratio == pytest.approx(math.sqrt(ratios[1] * ratios[2]))
    assert (found.low, found.high) == (pytest.approx(ratios[0]), pytest.approx(ratios[-1]))
    assert math.isnan(found.coverage)  # a range claims none
    assert (found.longer, found.shorter, found.equal, found.unknown) == (4, 0, 0, 0)
    assert found.sign_test == found.sign_flip == found.least_p == pytest.approx(2 / 16)
    assert found.ratio is not None
    swapped = compare_horizons(models(second), models(first))
    assert swapped.ratio == pytest.approx(1 / found.ratio)
    assert (swapped.low, swapped.high) == (pytest.approx(1 / found.high), pytest.approx(1 / found.low))


def test_from_six_pairs_on_it_is_an_interval():
    ratios = np.array([2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13])
    found = compare_horizons(models(10 * ratios), models([10] * 12))
    assert (found.low, found.high) == (pytest.approx(4), pytest.approx(11))  # ranks 3 and 10 of 12: 96.1 %
    assert found.coverage == pytest.approx(1 - 2 * stats.binom.cdf(2, 12, 0.5))


def test_what_a_seed_has_in_common_drops_out():
    seeds = np.array([1, 10, 100, 1000])
    paired = compare_horizons(models(4 * seeds), models(2 * seeds))
    assert [paired.ratio, paired.low, paired.high] == pytest.approx([2, 2, 2])
    assert (pool_horizons(models(4 * seeds)).low, pool_horizons(models(2 * seeds)).high) < (100, 100_000)


def test_censored_pairs():
    first, second = models([100, 100, 100], [1, 1, 1]), models([10, 5, 20])
    found = compare_horizons(first, second)
    assert (found.ratio, found.low, found.high) == (math.inf, pytest.approx(5), math.inf)
    assert (found.longer, found.n_censored, found.sign_flip) == (3, 3, 0.25)
    assert found.spread is not None
    assert str(found.spread) == "median > 10, range > 5 to > 20"
    assert compare_horizons(second, first).ratio == 0
    both = compare_horizons(models([99, 99], [1, 1]), models([50, 99], [1, 1]))
    assert (both.ratio, both.low, both.high, both.unknown, both.sign_test) == (None, 0, math.inf, 2, 1)
    one = compare_horizons(models([8, 99, 20], [0, 1, 0]), models([4, 9, 10]))  # 2, more than 11, 2
    assert (one.ratio, one.low, one.high) == (pytest.approx(2), pytest.approx(2), math.inf)


def test_horizons_of_zero_have_a_ratio_where_one_exists():
    found = compare_horizons(models([0, 4, 0]), models([0, 0, 5]))  # equal, longer, shorter
    assert (found.longer, found.shorter, found.equal) == (1, 1, 1)
    assert (found.ratio, found.low, found.high) == (1, 0, math.inf)


@pytest.mark.parametrize("n", [6, 9, 15])
def test_the_paired_interval_covers_95_percent(n):
    """2000 experiments; what the seeds have in common is larger than what sets two models of one seed apart."""
    random, covered = np.random.default_rng(n), 0
    for _ in range(2000):
        seed = random.normal(0, 0.5, n)
        first, second = (np.exp(math.log(each) + seed + random.normal(0, 0.3, n)) for each in (400, 100))
        found = compare_horizons(models(np.rint(first)), models(np.rint(second)))
        covered += found.low <= 4 <= found.high
    assert covered / 2000 >= 0.94
    assert covered / 2000 <= found.coverage + 0.02


@pytest.mark.parametrize("values", [[1, 2, 3], [1, -2, 3.5, 0.1], [5, 5, -5, 5, 0, 5], [0.1, 0.2, -0.3], [2.5] * 9])
def test_the_sign_flip_test_against_every_choice_of_signs(values):
    known = np.array([each for each in values if each])
    sums = [abs(np.dot(known, signs)) for signs in itertools.product([1, -1], repeat=len(known))]
    expected = np.mean([each >= abs(known.sum()) - 1e-12 for each in sums])
    assert sign_flip(values) == pytest.approx(expected)
    assert sign_flip([-each for each in values]) == pytest.approx(expected)


def test_the_sign_flip_test_against_scipy_and_under_the_null():
    random = np.random.default_rng(0)
    values = random.normal(0.5, 1, 12)
    result = stats.permutation_test((values,), np.sum, permutation_type="samples", n_resamples=np.inf, vectorized=False)
    assert sign_flip(values) == pytest.approx(result.pvalue)
    p = np.array([sign_flip(random.normal(0, 1, 10)) for _ in range(2000)])
    assert abs((p <= 0.05).mean() - 0.05) < 3 * math.sqrt(0.05 * 0.95 / 2000)


def test_the_sign_flip_test_of_many_pairs_is_close_to_the_exact_one():
    values = np.random.default_rng(3).normal(0.25, 1, 41)
    normal = 2 * stats.norm.sf(abs(values.sum()) / math.sqrt((values**2).sum()))
    assert sign_flip(values) == pytest.approx(normal, rel=0.1)
    assert sign_flip(values[:40]) == pytest.approx(
        2 * stats.norm.sf(abs(values[:40].sum()) / math.sqrt((values[:40] ** 2).sum())), rel=0.1
    )


def test_identical_horizons_and_few_pairs_are_named():
    assert str(compare_horizons(models([87, 87]), models([87, 87]))) == "identical horizons in all 2 pairs"
    few = compare_horizons(models([87, 87, 87]), models([3, 3, 87]))
    assert str(few) == (
        "ratio median 29, range 1 to 29; longer in 2 of 3 pairs, 1 tied; sign-flip p = 0.5; so few pairs cannot settle it "
        "(least p 0.5)"
    )


# What readers see ---------------------------------------------------------------------------------------------------------


def test_a_spread_is_a_range_below_six_models_and_an_interval_from_six_on():
    few = spread([48, 54, 51, 50, 49])
    assert (few.median.seen, few.low.seen, few.high.seen, few.coverage) == (50, 48, 54, None)
    many = spread(range(1, 21))
    assert (many.median.seen, many.low.seen, many.high.seen) == (10.5, 6, 15)
    assert many.coverage == pytest.approx(0.9586, abs=1e-4)
    assert spread(range(6)).coverage == pytest.approx(1 - 2 / 64)
    assert str(spread([7])) == "7"


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 99), st.booleans()), min_size=1, max_size=24))
def test_a_spread_claims_nothing_beyond_what_was_observed(models):
    least = [last for last, _ in models]
    found = spread(least, [math.inf if censored else last for last, censored in models])
    for each in (found.median, found.low, found.high):
        assert min(least) <= each.seen <= max(least)
    assert found.low.seen <= found.median.seen <= found.high.seen
    assert found.high.above or not any(censored and last == found.high.seen == max(least) for last, censored in models)


def test_pooled_horizons_read_as_their_spread():
    assert str(pool_horizons(models([48, 51, 54]))) == "median 51, range 48 to 54 steps (3 models)"
    assert str(pool_horizons(models([88, 40, 88], [1, 0, 1]))) == "median > 88, range 40 to > 88 steps (3 models)"
    assert str(pool_horizons(models([12]))) == "12 steps (1 model)"


BAD = [
    (
        lambda: horizon_survival(models([7], [1])),
        "`horizons` holds 1 of the at least 2 models that an interval needs: of one model report its own horizon, > 7.",
    ),
    (lambda: horizon_survival([]), "`horizons` holds 0 of the at least 2 models that an interval needs."),
    (
        lambda: horizon_survival([*models([1, 2]), *models([3], threshold=0.5)]),
        "`horizons` mixes thresholds [0.1, 0.5]; pool the horizons of one threshold at a time.",
    ),
    (
        lambda: compare_horizons(models([7]), models([3])),
        "`first` and `second` hold 1 of the at least 2 pairs that an interval needs: of one pair report both horizons, 7 "
        "and 3.",
    ),
    (
        lambda: compare_horizons(models([7, 8]), models([3])),
        "`first` has 2 models and `second` 1; pass the horizons of the seeds that both have.",
    ),
    (
        lambda: compare_horizons(models([7, 8]), models([3, 4], threshold=0.5)),
        "`first` and `second` mix thresholds [0.1, 0.5]; compare the horizons of one threshold.",
    ),
]


@pytest.mark.parametrize(("call", "message"), BAD, ids=range(len(BAD)))
def test_misuse_is_said_in_one_sentence(call, message):
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        call()


def test_directions_alone_are_counted_exactly_however_many_pairs_there_are():
    for up, down in ((30, 12), (500, 460), (5000, 4900)):
        p = sign_flip(np.repeat([2.0, -2.0], [up, down]))
        assert p == pytest.approx(stats.binomtest(up, up + down).pvalue, rel=1e-9)


def test_of_censored_pairs_the_most_even_split_counts():
    longer, shorter, unknown = 7, 1, 3
    first = models([9] * longer + [1] * shorter + [5] * unknown, [0] * 8 + [1] * 3)
    second = models([1] * longer + [9] * shorter + [5] * unknown, [0] * 8 + [1] * 3)
    found = compare_horizons(first, second)
    every = [stats.binomtest(longer + k, longer + shorter + unknown).pvalue for k in range(unknown + 1)]
    assert (found.longer, found.shorter, found.unknown) == (longer, shorter, unknown)
    assert found.sign_flip == pytest.approx(max(every))


def test_many_pairs_take_no_more_memory_than_their_sums():
    random = np.random.default_rng(0)
    few, many = (random.normal(0.3, 1, n) for n in (48, 480))
    sign_flip(few)
    peaks = []
    for values in (few, many):
        tracemalloc.start()
        try:
            sign_flip(values)
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    assert peaks[1] < 1.1 * peaks[0]


def test_survival_counts_as_the_definition_does():
    random = np.random.default_rng(0)
    lasts, censored = random.integers(0, 12, 60), random.random(60) < 0.3
    found = horizon_survival(models(lasts, censored))
    share, seen = 1.0, []
    for step in sorted(set(lasts[~censored])):
        share *= 1 - ((lasts == step) & ~censored).sum() / (lasts >= step).sum()
        seen.append(share)
    np.testing.assert_allclose(found.survival, seen, rtol=1e-12)
