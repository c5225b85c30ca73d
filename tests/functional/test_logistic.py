"""The delay of 50 %: fits that are known, censoring, and intervals over networks."""

import math

import numpy as np
import pytest
from scipy.stats import t

from rnnvg.errors import InputError
from rnnvg.functional.logistic import RecallHorizon, accuracy_at, pool_recall, recall_horizon

DELAYS = np.array([1, 2, 3, 5, 8, 13, 20, 30, 50, 80, 120])


def exact(d50, slope, chance):
    return chance + (1 - chance) / (1 + (DELAYS / d50) ** slope)


@pytest.mark.parametrize("d50", [1.5, 7.0, 40.0, 110.0])
@pytest.mark.parametrize("slope", [0.8, 4.0, 30.0])
@pytest.mark.parametrize("chance", [0.5, 0.125])
def test_a_logistic_curve_gives_its_own_numbers_back(d50, slope, chance):
    found = recall_horizon(DELAYS, 1000 * exact(d50, slope, chance), 1000, chance)
    # At a cliff between two delays many fits are as good.
    assert found.d50 == pytest.approx(d50, rel=1e-3 if slope < 10 else 0.35)
    assert not found.censored
    assert found.misfit < 2e-3
    if slope < 10:
        assert found.slope == pytest.approx(slope, rel=1e-2)
    halfway = accuracy_at([found.d50], found)
    assert halfway == pytest.approx([(1 + chance) / 2])


def test_sampled_answers_scatter_around_the_truth():
    rng = np.random.default_rng(0)
    found = [recall_horizon(DELAYS, rng.binomial(400, exact(25.0, 3.0, 0.125)), 400, 0.125).d50 for _ in range(30)]
    logs = np.log(found)
    assert abs(logs.mean() - math.log(25)) < 4 * logs.std(ddof=1) / 30**0.5
    assert logs.std(ddof=1) < 0.1


def test_a_network_that_never_forgets_is_censored():
    found = recall_horizon(DELAYS, np.full(len(DELAYS), 500), 500, 0.125)
    assert (found.d50, found.censored, found.slope) == (120.0, True, None)
    assert str(found) == "> 120"
    # Falling, but more than half is left at the end.
    found = recall_horizon(DELAYS, 500 * exact(200.0, 2.0, 0.125), 500, 0.125)
    assert (found.d50, found.censored) == (120.0, True)


def test_a_network_that_guesses_remembers_nothing():
    rng = np.random.default_rng(1)
    for _ in range(10):
        found = recall_horizon(DELAYS, rng.binomial(500, 0.125, len(DELAYS)), 500, 0.125)
        assert (found.d50, found.censored) == (0.0, False)
    assert np.isnan(accuracy_at(DELAYS, found)).all()


def test_memory_that_comes_and_goes_is_a_misfit():
    right = np.where((DELAYS > 6) & (DELAYS < 60), 500, 60)
    assert recall_horizon(DELAYS, right, 500, 0.125).misfit > 0.2


def horizon(d50, censored=False):
    return RecallHorizon(d50, censored, 2.0, 0.125, 0.0)


def test_the_interval_over_networks_is_the_t_interval_on_logs():
    pooled = pool_recall([horizon(each) for each in (9.0, 20.0, 33.0)])
    logs = np.log([10.0, 21.0, 34.0])
    half = t.ppf(0.975, 2) * logs.std(ddof=1) / 3**0.5
    assert pooled.center == pytest.approx(math.exp(logs.mean()) - 1)
    assert pooled.low == pytest.approx(max(0, math.exp(logs.mean() - half) - 1))
    assert pooled.high == pytest.approx(math.exp(logs.mean() + half) - 1)
    assert (pooled.n, pooled.n_censored, pooled.median) == (3, 0, 20.0)


def test_censored_networks_have_a_median_and_no_upper_end():
    pooled = pool_recall([horizon(9.0), horizon(160.0, True), horizon(160.0, True)])
    assert (pooled.center, pooled.median, pooled.low, pooled.high) == (None, math.inf, 9.0, math.inf)
    assert pooled.n_censored == 2


def test_one_network_has_no_interval():
    pooled = pool_recall([horizon(9.0)])
    assert (pooled.low, pooled.high, pooled.n) == (None, None, 1)
    assert pooled.center == pytest.approx(9.0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1], [1], 2, 0.5), "`delay` must be at least two increasing numbers of steps above 0; got [1]."),
        (([2, 1], [1, 1], 2, 0.5), "`delay` must be at least two increasing numbers of steps above 0; got [2, 1]."),
        (([0, 1], [1, 1], 2, 0.5), "`delay` must be at least two increasing numbers of steps above 0; got [0, 1]."),
        (([1, 2], [1], 2, 0.5), "`right` must have a number for each of the 2 delays; got shape (1,)."),
        (
            ([1, 2], [1, 3], 2, 0.5),
            "`right` must lie between 0 and `n`, the questions asked, at every delay; it does not.",
        ),
        (([1, 2], [1, 1], 2, 1.0), "`chance` must be a number strictly between 0 and 1; got 1."),
    ],
)
def test_bad_input(arguments, message):
    with pytest.raises(InputError) as caught:
        recall_horizon(*arguments)
    assert str(caught.value) == message


def test_nothing_to_pool():
    with pytest.raises(InputError) as caught:
        pool_recall([])
    assert str(caught.value) == "`horizons` is empty; pass the RecallHorizon of at least one network."
