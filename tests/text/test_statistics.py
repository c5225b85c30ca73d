"""Mutual information against closed forms: Markov chains, independence, and the generated language's planted words."""

import math

import numpy as np
import pandas as pd
import pytest
import torch

from rnnvg.errors import InputError
from rnnvg.text.agreement import Agreement
from rnnvg.text.statistics import PowerLaw, mutual_information, power_law, spread_distances


def chain(n, stay, seed=0):
    turns = np.random.default_rng(seed).random(n) > stay
    return turns.cumsum() % 2


def test_a_markov_chain_has_its_closed_form():
    stay, n = 0.9, 400_000
    found = mutual_information(chain(n, stay), [1, 2, 5, 20])
    for d, information in zip(found["distance"], found["information"], strict=True):
        same = (1 + (2 * stay - 1) ** d) / 2
        exact = math.log(2) + same * math.log(same) + (1 - same) * math.log(1 - same)
        assert information == pytest.approx(exact, abs=0.004)


def test_the_correction_takes_off_what_independent_words_seem_to_share():
    ids = np.random.default_rng(1).integers(0, 50, 20_000)
    found = mutual_information(ids, [1, 7])
    assert (found["plain"] > 0.05).all()
    assert (found["information"].abs() < 0.005).all()


def test_planted_words_stand_out_at_their_distance():
    ids = Agreement(9).sample(200_000, torch.Generator().manual_seed(0))
    found = mutual_information(ids, [8, 9, 10], most_words=251).set_index("distance")["information"]
    assert found[9] > found[8] + 0.05
    assert found[9] > found[10] + 0.05


def test_rare_words_count_as_one_and_pairs_are_counted():
    found = mutual_information(np.array([0, 1, 0, 2, 0, 3]), [1], most_words=1)
    # With 1, 2 and 3 told apart from 0 alone the text alternates: 0 x 0 x 0 x.
    joint = {("0", "x"): 3, ("x", "0"): 2}
    exact = sum(
        c / 5 * math.log((c / 5) / (a / 5 * b / 5)) for c, a, b in ((joint["0", "x"], 3, 3), (joint["x", "0"], 2, 2))
    )
    assert found["plain"].iloc[0] == pytest.approx(exact)
    assert found["n"].iloc[0] == 5


@pytest.mark.parametrize(
    ("distances", "message"),
    [
        ([], "`distances` is empty; pass at least one, such as [1, 2, 5, 10]."),
        ([0], "`distances` must be a whole number from 1 to 9; got 0."),
        ([10], "`distances` must be a whole number from 1 to 9; got 10."),
    ],
)
def test_misuse_is_one_clear_sentence(distances, message):
    with pytest.raises(InputError) as caught:
        mutual_information(np.arange(10), distances)
    assert str(caught.value) == message


def test_noise_is_the_scatter_of_independent_words():
    found = [mutual_information(np.random.default_rng(seed).integers(0, 20, 3000), [1, 5]) for seed in range(60)]
    scatter = np.std([frame["information"] for frame in found], axis=0, ddof=1)
    np.testing.assert_allclose(scatter, found[0]["noise"], rtol=0.35)


@pytest.mark.parametrize("floor", [0.0, 0.004])
def test_a_power_law_ends_where_the_noise_begins_and_beats_an_exponential(floor):
    distance = np.array(spread_distances(1000))
    scatter = np.random.default_rng(0).normal(0, 0.03, len(distance))
    information = (floor + 0.3 * distance**-0.7) * np.exp(scatter)
    noise = 0.004 / 3
    law = power_law(pd.DataFrame({"distance": distance, "information": information, "noise": noise}))
    assert law.low < 0.7 < law.high
    assert law.high - law.low < 0.3
    assert law.coefficient == pytest.approx(0.3, rel=0.1)
    assert law.floor == pytest.approx(floor, abs=0.003)
    below = information < 0.004
    assert law.n == (below.argmax() if below.any() else len(below))
    assert law.last == distance[law.n - 1]
    assert law.rms < 0.05 < law.rms_exponential
    np.testing.assert_allclose(law.at(distance[: law.n]), information[: law.n], rtol=0.15)


def test_a_power_law_says_what_it_found():
    law = PowerLaw(0.72, 0.3, 0.004, 0.65, 0.79, 464, 12, 0.02, 0.3)
    assert str(law) == (
        "Mutual information falls as distance to the power -0.72 (-0.79 to -0.65), to a floor of 0.004 nats, seen up to "
        "464 words; an exponential is 15.0 times as far from the points."
    )


def test_a_markov_chain_has_an_exponential_and_independent_words_have_nothing():
    law = power_law(mutual_information(chain(400_000, 0.9), [1, 2, 3, 5, 7, 10, 14]))
    assert law.rms_exponential < 0.5 * law.rms
    assert "an exponential is nearer to the points" in str(law)
    ids = np.random.default_rng(1).integers(0, 50, 20_000)
    assert power_law(mutual_information(ids, [1, 2, 3, 5, 7])) is None


def test_distances_are_spread_evenly_in_the_logarithm():
    assert spread_distances(1) == [1]
    found = spread_distances(1000)
    assert (found[0], found[-1]) == (1, 1000)
    assert len(found) == len(set(found)) == 18
