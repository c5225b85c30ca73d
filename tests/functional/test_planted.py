"""Memory of planted words: a network that learns the short distance, read off verb by verb."""

import numpy as np
import pandas as pd
import pytest
import torch

from rnnvg import models, tasks, training
from rnnvg.errors import InputError
from rnnvg.functional.planted import agreement_by_distance, remembered
from rnnvg.text.agreement import Agreement, heavy_tailed
from rnnvg.text.lexicon import NOUNS, VERBS
from rnnvg.text.manifest import data_file


def build(task, hidden=16):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return models.build(task, "gru", hidden=hidden)


def test_accuracy_and_loss_are_those_of_the_verbs_one_by_one():
    task = tasks.make("next-word", distance=[2, 5], n_words=3000, bptt=10)
    model = build(task)
    training.fit(model, task, steps=60, batch=16, lr=0.02, generator=torch.Generator().manual_seed(0), eval_every=60)
    found = agreement_by_distance(model, task).set_index("distance")
    words = task.vocabulary.decode(task.corpus.test)
    ids = torch.tensor(task.corpus.test.astype(np.int64))
    with torch.no_grad():
        log_p = model(ids[:-1, None])[0][:, 0].log_softmax(-1)
    losses = {2: [], 5: []}
    for at, word in enumerate(words):
        if word in VERBS and at > 5:
            back = next(k for k in (2, 5) if words[at - k] == NOUNS[VERBS.index(word)])
            losses[back].append(-float(log_p[at - 1, ids[at]]))
    for k, each in losses.items():
        assert abs(found.loc[k, "n"] - len(each)) <= 1
        assert found.loc[k, "loss"] == pytest.approx(np.mean(each), rel=0.1)
    assert task.best_loss == Agreement([2, 5]).entropy_rate


@pytest.mark.parametrize(
    ("accuracy", "horizon"), [([1, 0.9, 0.1], (5, False)), ([0.2, 1, 1], (0, False)), ([1, 1, 0.5], (9, True))]
)
def test_the_functional_horizon_ends_at_the_first_distance_that_is_forgotten(accuracy, horizon):
    assert remembered(pd.DataFrame({"distance": [2, 5, 9], "accuracy": accuracy})) == horizon


def test_heavy_tailed_distances_reach_from_2_to_the_longest():
    assert heavy_tailed(200)[0] == 2
    assert heavy_tailed(200)[-1] == 200
    assert heavy_tailed(3, 50) == [2, 3]
    task = tasks.make("next-word", distance=heavy_tailed(200), n_words=30_000)
    assert task.distances.max() == 199


def test_a_text_without_planted_words_is_refused():
    task = tasks.make("next-word", text=data_file("agreement.txt"), bptt=5)
    with pytest.raises(InputError) as caught:
        agreement_by_distance(build(task), task)
    assert str(caught.value) == (
        f"`task` reads the text '{data_file('agreement.txt')}', which has no planted words; pass one of 'agreement'."
    )
