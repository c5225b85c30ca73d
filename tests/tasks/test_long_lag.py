"""The long lag without noise, against sequences written out by hand and a network that knows all but the key."""

import math

import pytest
import torch
from torch import nn

from rnnvg import models, tasks
from rnnvg.errors import InputError


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


class Knowing(nn.Module):
    """Says the next symbol of each; at the end x always, or the key where it remembers it."""

    def __init__(self, lag, remembers):
        super().__init__()
        self.lag, self.remembers = lag, remembers

    def forward(self, inputs):
        following = torch.where(inputs < 2, 2, inputs + 1).clamp(max=self.lag)
        logits = 200.0 * nn.functional.one_hot(following, self.lag + 1).float()
        logits[-1] = 0
        if self.remembers:
            logits[-1] = 200.0 * nn.functional.one_hot(inputs[0], self.lag + 1).float()
        else:
            logits[-1, :, :2] = 200.0
        return logits, None


def test_its_sequences_are_the_two_of_the_paper():
    batch = tasks.make("long-lag", lag=4).batch(50, seeded())
    rows = {tuple(row) for row in torch.cat([batch.inputs, batch.targets[-1:]]).T.tolist()}
    assert rows == {(0, 2, 3, 4, 0), (1, 2, 3, 4, 1)}
    assert torch.equal(batch.inputs[1:], batch.targets[:-1])


@pytest.mark.parametrize("last_weight", [1.0, 100.0])
@pytest.mark.parametrize("lag", [2, 5, 50])
def test_remembering_nothing_scores_the_baseline_and_remembering_all_is_free(lag, last_weight):
    task = tasks.make("long-lag", lag=lag, last_weight=last_weight)
    score = task.score(Knowing(lag, remembers=False), seeded(), 4000)
    assert score["loss"] == pytest.approx(task.baseline_loss, rel=1e-5)
    assert score["accuracy"] == pytest.approx(0.5, abs=4 / math.sqrt(4 * 4000))
    assert not task.solved(score)
    score = task.score(Knowing(lag, remembers=True), seeded(), 100)
    assert score == {"loss": pytest.approx(0, abs=1e-6), "accuracy": 1.0}
    assert task.solved(score)


def test_the_last_step_counts_as_often_as_it_is_said():
    logits = torch.randn(6, 3, 7, generator=seeded(1))
    task = tasks.make("long-lag", lag=6, last_weight=10.0)
    batch = task.batch(3, seeded())
    each = [[-float(logits[t, b].log_softmax(0)[batch.targets[t, b]]) for b in range(3)] for t in range(6)]
    by_hand = (sum(map(sum, each[:-1])) + 10 * sum(each[-1])) / (3 * 15)
    assert float(task.loss(logits, batch)) == pytest.approx(by_hand, rel=1e-5)


def test_longer_sequences_go_round():
    task = tasks.make("long-lag", lag=3)
    probe = task.probe(2, seeded())
    assert probe.inputs[1:, 0].tolist() == [2, 3, 2, 3, 2, 3, 2, 3, 2, 3, 2]
    assert len(probe.inputs) == 4 * task.steps
    assert torch.equal(probe.targets[-1], probe.inputs[0])


def test_the_distance_is_that_of_the_key():
    """A network that is a delay line of that many steps, and no shorter one, can know."""
    task = tasks.make("long-lag", lag=7)
    batch = task.batch(20, seeded())
    (distance,) = task.distances
    last = len(batch.inputs) - 1
    assert torch.equal(batch.inputs[last - distance], batch.targets[last])
    assert (batch.inputs[last - distance + 1 :] > 1).all()


def test_a_network_learns_a_short_one():
    task = tasks.make("long-lag", lag=4, last_weight=10.0)
    from rnnvg import training

    torch.manual_seed(0)
    model = models.build(task, "gru", hidden=8)
    found = training.fit(model, task, steps=300, batch=16, lr=0.02, eval_every=20, eval_size=64, generator=seeded())
    assert found.solved_at is not None


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"lag": 1}, "`lag` must be a whole number of at least 2; got 1."),
        ({"last_weight": 0}, "`last_weight` must be a finite number above 0; got 0."),
    ],
)
def test_settings_out_of_range_are_named(settings, said):
    with pytest.raises(InputError) as caught:
        tasks.make("long-lag", **settings)
    assert str(caught.value) == said


def test_the_example_says_what_is_due():
    text = tasks.make("long-lag", lag=5).example()
    assert "because the first was, 5 symbols earlier." in text
