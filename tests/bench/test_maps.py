"""The map of sources and steps after training: of every network, by the state, or by the input where there is none."""

import math

import pandas as pd
import pytest
import torch

from rnnvg import models, tasks
from rnnvg.bench import causes, measure


@pytest.mark.parametrize(
    ("cell", "quantity"),
    [("gru", "map"), ("mingru", "map"), ("lru", "map"), ("leaky", "map"), ("attention", "map by input")],
)
def test_a_map_has_the_gain_of_every_source(cell, quantity):
    torch.manual_seed(0)
    task = tasks.make("adding", length=8)
    model, probe = models.build(task, cell, hidden=6), task.probe(4, torch.Generator().manual_seed(0))
    frame = pd.DataFrame(causes.after_training(model, task, probe, 7, 5), columns=causes.COLUMNS)
    found = frame[frame["quantity"].str.startswith("map")]
    steps = len(probe.inputs)
    assert set(found["quantity"]) == {quantity}
    wrt = "input" if cell == "attention" else "state"
    profile = measure.profile(model, task, probe, wrt, 5, min(causes.SOURCES, steps))
    assert sorted(set(found["part"])) == [each for each in profile.sources if each > 0]  # the first loss has no past
    gain = profile.log_gain()[-1][profile.distance >= 0].mean(1) / math.log(10)
    last = int(profile.sources[-1])
    own = found[(found["part"] == last) & (found["distance"] > 0)]
    assert len(own) == last
    assert list(own["value"]) == pytest.approx([gain[int(k)] for k in own["distance"]], rel=1e-3, abs=1e-3)
