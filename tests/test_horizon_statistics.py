"""Horizons as statistics: whether an exponential fits, survival with censoring, networks paired by seed, and coverage."""

import math
import re

import numpy as np
import pytest
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


def test_ratio_over_pairs_is_a_t_interval_on_logs():
    first, second = np.array([50, 40, 70, 30]), np.array([5, 6, 4, 7])
    found = compare_horizons(models(first), models(second))
    logs = np.log((first + 1) / (second + 1))
    test = stats.ttest_1samp(logs, 0).confidence_interval()
    assert found.ratio == pytest.approx(math.exp(logs.mean()))
    assert (found.low, found.high) == (pytest.approx(math.exp(test.low)), pytest.approx(math.exp(test.high)))
    assert (found.longer, found.shorter, found.equal, found.unknown) == (4, 0, 0, 0)
    assert found.sign_test == pytest.approx(2 / 16)
    assert found.ratio is not None
    swapped = compare_horizons(models(second), models(first))
    assert swapped.ratio == pytest.approx(1 / found.ratio)
    assert (swapped.low, swapped.high) == (pytest.approx(1 / found.high), pytest.approx(1 / found.low))


def test_what_a_seed_has_in_common_drops_out():
    seeds = np.array([1, 10, 100, 1000])
    paired = compare_horizons(models(4 * seeds - 1), models(2 * seeds - 1))
    assert [paired.ratio, paired.low, paired.high] == pytest.approx([2, 2, 2])
    assert (pool_horizons(models(4 * seeds - 1)).low, pool_horizons(models(2 * seeds - 1)).high) < (100, 100_000)


def test_censored_pairs():
    first, second = models([99, 99, 99], [1, 1, 1]), models([9, 4, 19])
    found = compare_horizons(first, second)
    assert (found.ratio, found.low, found.high) == (math.inf, pytest.approx(5), math.inf)
    assert (found.longer, found.n_censored) == (3, 3)
    assert compare_horizons(second, first).ratio == 0
    both = compare_horizons(models([99, 99], [1, 1]), models([50, 99], [1, 1]))
    assert (both.ratio, both.low, both.high, both.unknown, both.sign_test) == (None, 0, math.inf, 2, 1)
    one = compare_horizons(models([9, 99, 19], [0, 1, 0]), models([4, 9, 9]))  # 2, more than 10, 2
    assert (one.ratio, one.low, one.high) == (pytest.approx(2), pytest.approx(2), math.inf)


@pytest.mark.parametrize("n", [2, 5])
def test_the_paired_interval_covers_95_percent(n):
    """2000 experiments; what the seeds have in common is larger than what sets two models of one seed apart."""
    random, covered = np.random.default_rng(n), 0
    for _ in range(2000):
        seed = random.normal(0, 0.5, n)
        first, second = (np.exp(math.log(each) + seed + random.normal(0, 0.3, n)) for each in (400, 100))
        found = compare_horizons(models(np.rint(first - 1)), models(np.rint(second - 1)))
        covered += found.low <= 4 <= found.high
    assert 0.93 <= covered / 2000 <= 0.97


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
