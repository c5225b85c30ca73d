"""suggest_clip against norms computed by hand, and what it must leave alone."""

import itertools
import random

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from torch import nn

from rnnvg import InputError, suggest_clip


def loss(model, batch):
    return nn.functional.mse_loss(model(batch[0])[0][-1], batch[1])


def batches(n, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [(torch.randn(10, 4, 3, generator=generator), torch.randn(4, 8, generator=generator)) for _ in range(n)]


def test_norms_are_those_of_clip_grad_norm():
    torch.manual_seed(0)
    model = nn.LSTM(3, 8)
    drawn = batches(6)
    expected = []
    for batch in drawn:
        model.zero_grad()
        loss(model, batch).backward()
        expected.append(float(nn.utils.clip_grad_norm_(model.parameters(), 1e9)))
    found = suggest_clip(model, drawn, loss, quantile=0.5)
    # Ten steps of float32 sums: a few units in the last place of each of some hundred numbers.
    np.testing.assert_allclose(found.norms, expected, rtol=1e-5)
    assert found.threshold == sorted(found.norms)[2]
    assert (~found.to_frame()["clipped"]).sum() == 3
    assert "50%" in str(found)


def test_nothing_of_the_model_changes():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 1))
    model(torch.randn(5, 3)).sum().backward()
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    grads = [each.grad.clone() for each in model.parameters()]
    state = torch.get_rng_state()
    suggest_clip(model, [torch.randn(5, 3, generator=torch.Generator().manual_seed(0))], lambda m, x: m(x).sum())
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert all(torch.equal(each.grad, grad) for each, grad in zip(model.parameters(), grads, strict=True))


def test_a_module_whose_weights_are_computed_is_measured_and_no_random_state_moves():
    # copy.deepcopy refuses weights that a wrapper set as results of autograd.
    lstm = nn.LSTM(3, 8)
    raw = nn.Parameter(lstm.weight_hh_l0.detach().clone())
    del lstm._parameters["weight_hh_l0"]
    lstm.raw, lstm.weight_hh_l0 = raw, raw * 0.5
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    with torch.no_grad():
        found = suggest_clip(lstm, batches(2), lambda m, b: loss(m, b) * (1 + random.random() + np.random.rand()))
    assert np.isfinite(found.norms).all()
    assert (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()) == before


def test_a_gradient_that_is_not_finite_is_counted_and_left_out():
    model = nn.Linear(1, 1, bias=False)
    drawn = [torch.ones(1, 1), torch.full((1, 1), torch.inf), torch.full((1, 1), 2.0)]
    found = suggest_clip(model, drawn, lambda m, x: m(x).sum())
    assert found.n_nonfinite == 1
    assert found.threshold == 2
    assert str(found).endswith("1 more had a gradient that is not finite")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"batches": []}, "`batches` is empty; pass at least one batch."),
        ({"quantile": 1}, "`quantile` must be a number strictly between 0 and 1; got 1."),
        ({"model": print}, "`model` is a builtin_function_or_method; pass a torch.nn.Module."),
        ({"loss": lambda m, x: m(x)}, "`loss` returned [5, 1]; pass a function that returns one number as a tensor."),
        (
            {"loss": lambda m, x: x.sum()},
            "`loss` does not depend on the model that it is handed; call that model inside it.",
        ),
        (
            {"batches": [torch.full((5, 3), torch.nan)]},
            "None of the 1 gradients is finite; rnnvg.diagnose(model, batch, loss) looks for the cause.",
        ),
        (
            {"model": nn.Linear(3, 1).requires_grad_(False)},
            "`model` has no parameter that requires a gradient; nothing is clipped.",
        ),
    ],
)
def test_bad_input_gets_one_sentence(change, sentence):
    given = {"model": nn.Linear(3, 1), "batches": [torch.ones(5, 3)], "loss": lambda m, x: m(x).sum()} | change
    with pytest.raises(InputError) as caught:
        suggest_clip(**given)
    assert str(caught.value) == sentence


def test_an_endless_loader_is_stopped(monkeypatch):
    monkeypatch.setattr("rnnvg.depth.clip_threshold.MOST_BATCHES", 20)
    with pytest.raises(InputError, match="no end after 20"):
        suggest_clip(nn.Linear(3, 1), itertools.repeat(torch.ones(5, 3)), lambda m, x: m(x).sum())


def test_the_plot_marks_the_threshold():
    found = suggest_clip(nn.Linear(3, 1), [torch.ones(5, 3), torch.zeros(5, 3)], lambda m, x: m(x).sum())
    ax = found.plot()
    assert ax.lines[1].get_xdata()[0] == found.threshold
    assert plt.get_fignums() == [], "pyplot's own figures are the caller's"
