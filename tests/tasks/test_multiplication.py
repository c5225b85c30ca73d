"""The multiplication problem against a slow product and a simulated constant."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from rnnvg import tasks
from rnnvg.errors import InputError


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


class Constant(nn.Module):
    def __init__(self, value):
        super().__init__()
        self.value = value

    def forward(self, inputs):
        return torch.full((*inputs.shape[:2], 1), self.value), None


@settings(max_examples=20)
@given(length=st.integers(2, 20), seed=st.integers(0, 2**31), marks=st.sampled_from(["one-in-each-half", "anywhere"]))
def test_the_product_of_the_two_marked_numbers_is_due(length, seed, marks):
    task = tasks.make("multiplication", length=length, marks=marks)
    for batch in (task.batch(4, seeded(seed)), task.probe(4, seeded(seed))):
        assert batch.weight is not None
        assert (batch.weight[-1] == 1).all()
        assert batch.weight.sum() == 4
        for sequence in range(4):
            marked = [value for value, mark in batch.inputs[:, sequence].tolist() if mark]
            assert len(marked) == 2
            assert batch.targets[:, sequence].tolist() == pytest.approx(
                [marked[0] * marked[1]] * len(batch.targets), rel=1e-6
            )
    assert task.distances.tolist() == list(range(length))


def test_baseline_is_what_a_constant_scores_and_no_other_does_better():
    task = tasks.make("multiplication")
    n = 30_000
    score = task.score(Constant(0.25), seeded(), n)
    # Var[(uv - 1/4)^2] = E[(uv - 1/4)^4] - (7/144)^2, bounded by 0.75^4.
    assert score["mse"] == score["loss"] == pytest.approx(7 / 144, abs=4 * 0.08 / n**0.5)
    assert task.score(Constant(0.2), seeded(), n)["mse"] > score["mse"] < task.score(Constant(0.3), seeded(), n)["mse"]
    assert (task.baseline, task.baseline_loss) == (7 / 144, 7 / 144)
    assert not task.solved(score)
    assert task.solved({"mse": 0.003})
    assert not task.solved({"mse": 0.0031})


def test_the_sequences_are_those_of_adding():
    one = tasks.make("multiplication", length=9).batch(5, seeded(3))
    assert torch.equal(one.inputs, tasks.make("adding", length=9).batch(5, seeded(3)).inputs)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"length": 1}, "`length` must be a whole number of at least 2; got 1."),
        (
            {"marks": "anywere"},
            "`marks` has no 'anywere'. Did you mean 'anywhere'? Pass one of: one-in-each-half, anywhere.",
        ),
    ],
)
def test_bad_settings_are_one_clear_sentence(changed, message):
    with pytest.raises(InputError) as caught:
        tasks.make("multiplication", **changed)
    assert str(caught.value) == message
