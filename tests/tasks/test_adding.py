"""The adding problem against a slow reading of its sequences, its layouts and its baseline."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from rnnvg import tasks
from rnnvg.errors import InputError

LAYOUTS = ("one-in-each-half", "anywhere")


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def read_slowly(inputs, sequence, least=0):
    """The marked steps and the sum of their values, by walking along one sequence."""
    marked, total = [], 0.0
    for step in range(len(inputs)):
        value, mark = inputs[step, sequence].tolist()
        assert least <= value < 1
        assert mark in (0.0, 1.0)
        if mark:
            marked.append(step)
            total += value
    return marked, total


class Constant(nn.Module):
    """A model that answers the same number whatever it sees."""

    def __init__(self, value):
        super().__init__()
        self.value = nn.Parameter(torch.tensor(float(value)))

    def forward(self, inputs):
        return self.value.expand(*inputs.shape[:2], 1), None


@pytest.mark.parametrize("marks", LAYOUTS)
@given(length=st.integers(2, 30), size=st.integers(1, 20), seed=st.integers(0, 2**31))
def test_every_sequence_holds_two_marks_and_their_sum(marks, length, size, seed):
    task = tasks.make("adding", length=length, marks=marks)
    batch = task.batch(size, seeded(seed))
    assert batch.inputs.shape == (length, size, 2)
    assert batch.inputs.dtype == torch.float32
    assert batch.targets.shape == (length, size)
    assert batch.weight is not None
    assert batch.weight.sum() == size
    assert (batch.weight[-1] == 1).all()
    for sequence in range(size):
        marked, total = read_slowly(batch.inputs, sequence)
        assert len(marked) == 2
        if marks == "one-in-each-half":
            assert marked[0] < length // 2 <= marked[1]
        assert batch.targets[:, sequence].tolist() == pytest.approx([total] * length)


@pytest.mark.parametrize("marks", LAYOUTS)
@pytest.mark.parametrize("length", [2, 7, 10])
def test_distances_are_those_that_occur(marks, length):
    task = tasks.make("adding", length=length, marks=marks)
    batch = task.batch(4000, seeded())
    steps = batch.inputs[..., 1].nonzero()[:, 0]
    assert sorted(set((length - 1 - steps).tolist())) == task.distances.tolist()


def test_marks_fall_uniformly_where_they_may():
    size = 60_000
    halves = tasks.make("adding", length=9).batch(size, seeded()).inputs[..., 1].sum(1)
    # The first half of nine steps is four long, the second five.
    expected = torch.tensor([size / 4] * 4 + [size / 5] * 5)
    assert ((halves - expected).abs() < 5 * expected.sqrt()).all()
    batch = tasks.make("adding", length=9, marks="anywhere").batch(size, seeded())
    assert ((batch.inputs[..., 1].sum(1) - size * 2 / 9).abs() < 5 * (size * 2 / 9) ** 0.5).all()
    pairs = batch.inputs[..., 1].T.nonzero()[:, 1].view(size, 2)
    counts = torch.bincount(pairs[:, 0] * 9 + pairs[:, 1])
    counts = counts[counts > 0]
    assert len(counts) == 36
    assert ((counts - size / 36).abs() < 5 * (size / 36) ** 0.5).all()


@pytest.mark.parametrize("marks", LAYOUTS)
def test_baseline_is_what_always_predicting_one_scores(marks):
    task = tasks.make("adding", marks=marks)
    n = 40_000
    score = task.score(Constant(1.0), seeded(3), n)
    # (u1 + u2 - 1)^2 has mean 1/6 and variance 1/15 - 1/36.
    error = ((1 / 15 - 1 / 36) / n) ** 0.5
    assert abs(score["mse"] - task.baseline) < 4 * error
    assert score["loss"] == score["mse"]
    assert task.baseline == task.baseline_loss == 1 / 6
    # No other constant does better.
    assert task.score(Constant(0.9), seeded(3), n)["mse"] > score["mse"]
    assert task.score(Constant(1.1), seeded(3), n)["mse"] > score["mse"]


def test_values_from_minus_one_to_one():
    task = tasks.make("adding", length=12, values="-1 to 1")
    batch = task.batch(5000, seeded())
    for sequence in range(50):
        marked, total = read_slowly(batch.inputs, sequence, least=-1)
        assert len(marked) == 2
        assert batch.targets[:, sequence].tolist() == pytest.approx([total] * 12, abs=1e-6)
    values = batch.inputs[..., 0].flatten()
    # U(-1, 1): mean 0, variance 1/3, fourth moment 1/5.
    assert abs(float(values.mean())) < 5 * (1 / 3 / len(values)) ** 0.5
    assert float(values.square().mean()) == pytest.approx(1 / 3, abs=5 * ((1 / 5 - 1 / 9) / len(values)) ** 0.5)
    n = 40_000
    # (v1 + v2)^2 has mean 2/3 and variance 16/15 - 4/9.
    error = ((16 / 15 - 4 / 9) / n) ** 0.5
    score = task.score(Constant(0.0), seeded(3), n)
    assert abs(score["mse"] - task.baseline) < 4 * error
    assert task.baseline == task.baseline_loss == pytest.approx(2 / 3)
    assert task.baseline_text == "Always predicting 0, the mean of the sum, has a mean squared error of 2/3."
    same = tasks.make("adding", length=12).batch(5, seeded())
    assert torch.allclose(
        2 * same.inputs[..., 0] - 1, tasks.make("adding", length=12, values="-1 to 1").batch(5, seeded()).inputs[..., 0]
    )


def test_loss_looks_at_the_last_step_alone():
    task = tasks.make("adding", length=5)
    batch = task.batch(3, seeded())
    outputs = torch.full((5, 3, 1), 99.0)
    outputs[-1, :, 0] = batch.targets[-1] + torch.tensor([0.0, 1.0, 2.0])
    assert float(task.loss(outputs, batch)) == pytest.approx(5 / 3)


def test_score_does_not_depend_on_how_much_is_scored_at_once(monkeypatch):
    task = tasks.make("adding", length=20)
    model = Constant(0.8)
    whole = task.batch(50, seeded())
    monkeypatch.setattr("rnnvg.tasks.scoring.SCORED_AT_ONCE", 400)
    parts = [task.batch(size, generator) for generator in [seeded()] for size in (20, 20, 10)]
    errors = [((0.8 - batch.targets[-1]) ** 2) for batch in parts]
    assert task.score(model, seeded(), 50)["mse"] == pytest.approx(float(torch.cat(errors).mean()), rel=1e-6)
    assert whole.inputs.shape[1] == 50


def test_score_leaves_the_modes_as_they_were():
    class Watched(Constant):
        def __init__(self):
            super().__init__(1.0)
            self.frozen = nn.Dropout()
            self.loose = nn.Dropout()

        def forward(self, inputs):
            assert not self.training
            assert not self.loose.training
            assert not torch.is_grad_enabled()
            return super().forward(inputs)

    model = Watched()
    model.frozen.eval()
    tasks.make("adding").score(model, seeded(), 3)
    assert model.training
    assert model.loose.training
    assert not model.frozen.training


def test_same_seed_same_batch_and_the_same_on_every_machine():
    batch = tasks.make("adding", length=4).batch(2, seeded(7))
    again = tasks.make("adding", length=4).batch(2, seeded(7))
    assert torch.equal(batch.inputs, again.inputs)
    # Draws of the CPU's Mersenne twister: written down once.
    assert (batch.inputs[..., 0] * 2**24).int().tolist() == [
        [8974511, 3335364],
        [11059737, 11020790],
        [3905091, 7131347],
        [3474327, 10565223],
    ]
    assert batch.inputs[..., 1].int().tolist() == [[1, 0], [0, 1], [1, 0], [0, 1]]


def test_probe_is_four_times_as_long_and_keeps_the_layout():
    task = tasks.make("adding", length=6, marks="anywhere")
    probe = task.probe(3, seeded())
    assert probe.inputs.shape == (24, 3, 2)
    assert torch.equal(probe.inputs, tasks.make("adding", length=24, marks="anywhere").batch(3, seeded()).inputs)
    assert task.probe_sources == "last"


def test_solved_well_below_the_baseline():
    task = tasks.make("adding")
    assert task.solved({"loss": 0.01, "mse": 0.01})
    assert not task.solved({"loss": 0.011, "mse": 0.011})


def test_settings_give_the_same_task_again():
    task = tasks.make("adding", length=11, marks="anywhere")
    again = tasks.make(task.name, **task.settings)
    assert again.settings == {"length": 11, "marks": "anywhere", "values": "0 to 1"}
    assert torch.equal(task.batch(2, seeded()).inputs, again.batch(2, seeded()).inputs)
    assert np.array_equal(task.distances, again.distances)


def test_example_shows_marks_values_and_sum():
    text = tasks.make("adding", length=6, marks="anywhere").example()
    assert text == EXAMPLE


EXAMPLE = """\
step        0    1    2    3    4    5
value    0.50 0.77 0.09 0.13 0.31 0.63
mark        0    1    0    0    1    0
target                            1.08

The two marked values add up to 0.7682 + 0.3074 = 1.0756, due at the last step, 4 and 1 steps after they were seen."""


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"length": 1}, "`length` must be a whole number of at least 2; got 1."),
        ({"length": -5}, "`length` must be a whole number of at least 2; got -5."),
        ({"length": 2.5}, "`length` must be a whole number of at least 2; got 2.5."),
        (
            {"marks": "anywere"},
            "`marks` has no 'anywere'. Did you mean 'anywhere'? Pass one of: one-in-each-half, anywhere.",
        ),
        (
            {"lenght": 5},
            "Task 'adding' has no setting 'lenght'. Did you mean 'length'? Its settings are: length, marks, values.",
        ),
    ],
)
def test_bad_settings_are_one_clear_sentence(settings, message):
    with pytest.raises(InputError) as caught:
        tasks.make("adding", **settings)
    assert str(caught.value) == message


def test_bad_sizes_and_generators_are_refused():
    task = tasks.make("adding")
    with pytest.raises(InputError, match=r"`size` must be a whole number of at least 1; got 0\."):
        task.batch(0, seeded())
    with pytest.raises(InputError, match=r"`n` must be a whole number of at least 1; got 0\."):
        task.score(Constant(1), seeded(), 0)
    with pytest.raises(InputError) as caught:
        task.batch(1, 0)
    assert str(caught.value) == "`generator` must be a torch.Generator; got int. Pass torch.Generator().manual_seed(0)."
