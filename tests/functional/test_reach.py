"""How far a gradient reaches over a whole text: against one backward pass a word."""

import numpy as np
import pytest
import torch
from torch import nn

from rnnvg import models, tasks
from rnnvg.errors import InputError
from rnnvg.functional import reach

TASK = tasks.make("next-word", distance=4, n_words=6000, bptt=5)


def build(task=TASK):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return models.build(task, "gru", hidden=8, dropout=0.5).double()


def test_reach_is_the_geometric_mean_of_autograds_gains():
    model = build().train()
    found = reach(model, TASK, windows=2, seed=4)
    assert model.training
    probe = TASK.probe(2, torch.Generator().manual_seed(4))
    model.eval()
    embedded = model.encoder(probe.inputs).detach().requires_grad_()
    logits = model.readout(model.core(embedded)[0])
    size = len(probe.inputs)
    gains = np.full((TASK.probe_sources, 2, size), np.nan)
    for i in range(TASK.probe_sources):
        source = round((i + 1) * size / TASK.probe_sources) - 1
        loss = nn.functional.cross_entropy(logits[source], probe.targets[source], reduction="sum")
        (gradient,) = torch.autograd.grad(loss, embedded, retain_graph=True)
        norm = gradient[: source + 1].norm(dim=-1).flip(0).log10().T.numpy()
        gains[i, :, : source + 1] = norm - norm[:, :1]
    assert found["distance"].tolist() == list(range(1, size + 1))
    np.testing.assert_allclose(found["log10_gain"], np.nanmean(gains, (0, 1)), atol=1e-6)
    assert found["n"].tolist() == (~np.isnan(gains)).sum((0, 1)).tolist()


def test_a_model_of_another_task_is_refused():
    with pytest.raises(
        InputError, match=r"^`model` takes numbers, 2 in and 1 out; task 'next-word' has tokens, 251 in"
    ):
        reach(models.build(tasks.make("adding"), "rnn", hidden=4), TASK)
