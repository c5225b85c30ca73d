"""Mutual information against closed forms: Markov chains, independence, and the generated language's planted words."""

import math

import numpy as np
import pytest
import torch

from rnnvg.errors import InputError
from rnnvg.text.agreement import Agreement
from rnnvg.text.statistics import mutual_information


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
