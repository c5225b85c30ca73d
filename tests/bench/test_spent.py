"""Where the time of runs went, and the floor of a training step."""

import copy

import pytest
import torch

from rnnvg import models, tasks
from rnnvg.bench.estimate import spent
from rnnvg.bench.measure import seconds_a_step


def test_time_is_added_over_the_runs_that_have_recorded_a_floor():
    runs = [
        {"seconds": 12.0, "training_seconds": 9.0, "floor_seconds": 8.0},
        {"seconds": 8.0, "training_seconds": 6.0, "floor_seconds": 4.0},
        {"seconds": 99.0, "training_seconds": 50.0},  # of an earlier version
        {"seconds": 1.0, "training_seconds": None, "floor_seconds": None},  # failed
    ]
    found = spent(runs)
    assert (found.training, found.floor, found.measuring, found.n) == (15.0, 12.0, 5.0, 2)
    assert found.ratio == pytest.approx(1.25)
    assert found.share == pytest.approx(0.25)
    assert str(found) == (
        "Training took 15 s, 1.25 times the 12 s of PyTorch's own steps; measuring took 5 s, 25 % of the whole"
    )
    assert spent(runs[2:]) is None


@pytest.mark.parametrize("name", ["adding", "copy"])
def test_the_floor_is_taken_on_a_copy(name):
    task = tasks.make(name)
    torch.manual_seed(0)
    model = models.build(task, "gru", hidden=8)
    batch, before = task.batch(4, torch.Generator().manual_seed(0)), copy.deepcopy(model.state_dict())
    model.eval()
    steps = []

    class Counted(torch.optim.Adam):
        def step(self, closure=None):
            steps.append(1)
            return super().step(closure)

    assert seconds_a_step(model, task, batch, Counted) > 0
    assert len(steps) == 6
    assert not model.training
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
