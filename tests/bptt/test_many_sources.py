"""Many sources at once, where adjoints have little room: their lengths alone wait, and rows are carried before they begin."""

import numpy as np
import pytest
import torch
from torch import nn

from rnnvg import gradient_profile
from rnnvg.bptt import adjoints
from tests.reference import assert_same, log_norms

T, B = 45, 3


def little_room(monkeypatch):
    """As where an adjoint is wide: two slots, blocks of a few steps, and as many rows carried along as have begun."""
    monkeypatch.setattr(adjoints, "FEW_STEPS", 10**9)
    monkeypatch.setattr(adjoints, "WAITING_NUMBERS", 20 * T * B)
    monkeypatch.setattr(adjoints, "SPARE", 1)


def ample_room(monkeypatch):
    """Every adjoint waits with its vectors, and no row before it begins."""
    monkeypatch.setattr(adjoints, "FEW_STEPS", 0)
    monkeypatch.setattr(adjoints, "WAITING_NUMBERS", 2**20)
    monkeypatch.setattr(adjoints, "SPARE", 10**9)


def drawn(kind, **options):
    module = kind(2, 5, dtype=torch.float64, **options)
    return module, torch.randn(T, B, 2, dtype=torch.float64), torch.randn(T, B, 5, dtype=torch.float64)


@pytest.mark.parametrize("options", [{}, {"num_layers": 2}], ids=["one layer", "two layers"])
@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
def test_the_room_changes_nothing(monkeypatch, kind, options):
    module, inputs, grad = drawn(kind, **options)
    arguments = {"sources": "all", "output_grad": grad}
    little_room(monkeypatch)
    found = gradient_profile(module, inputs, **arguments).log_norm
    assert_same(found, log_norms(module, inputs, **arguments))
    of_inputs = gradient_profile(module, inputs, wrt="input", **arguments).log_norm
    ample_room(monkeypatch)
    np.testing.assert_allclose(found, gradient_profile(module, inputs, **arguments).log_norm, rtol=1e-12, atol=1e-12)
    expected = gradient_profile(module, inputs, wrt="input", **arguments).log_norm
    np.testing.assert_allclose(of_inputs, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("at", [0, 20, T - 1])
def test_covectors_of_length_zero_and_sequences_that_begin_apart(monkeypatch, at):
    module, inputs, grad = drawn(nn.GRU)
    grad[at, 1] = 0  # one sequence without a gradient from one source
    arguments = {"sources": "all", "output_grad": grad, "lengths": torch.tensor([T, 17, 30])}
    little_room(monkeypatch)
    found = gradient_profile(module, inputs, **arguments).log_norm
    ample_room(monkeypatch)
    np.testing.assert_allclose(found, gradient_profile(module, inputs, **arguments).log_norm, rtol=1e-12, atol=1e-12)
    if at == 0:
        assert np.isneginf(found[0, :2, 1]).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_end_for_all_sources_that_pass_it(monkeypatch, dtype):
    """relu below 0 at step 20 in one sequence: 0.5 a step up to there, and exactly zero from it back."""
    module = nn.RNN(1, 1, nonlinearity="relu", bias=False, dtype=dtype)
    nn.init.constant_(module.weight_hh_l0, 0.5)
    nn.init.ones_(module.weight_ih_l0)
    inputs = torch.ones(T, B, 1, dtype=dtype)
    inputs[20, 1] = -10
    little_room(monkeypatch)
    found = gradient_profile(module, inputs, sources="all", output_grad=torch.ones(T, B, 1, dtype=dtype)).log_norm
    source, distance = np.meshgrid(np.arange(T), np.arange(T + 1), indexing="ij")
    alive = np.where(distance <= source + 1, distance * np.log(0.5), np.nan)
    for sequence in range(B):
        expected = alive.copy()
        if sequence == 1:
            expected[(source >= 20) & (distance > source - 20) & (distance <= source + 1)] = -np.inf
        np.testing.assert_allclose(found[:, :, sequence], expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("growth", [1e-25, 1e25])
def test_steps_too_small_or_large_for_one_division(monkeypatch, growth):
    """Squares of a float32 adjoint leave its range at each step."""
    module = nn.RNN(1, 1, nonlinearity="relu", bias=False)
    nn.init.ones_(module.weight_ih_l0)
    nn.init.constant_(module.weight_hh_l0, growth)
    little_room(monkeypatch)
    found = gradient_profile(
        module,
        torch.full((2, B, 1), float(growth < 1)),
        torch.full((1, B, 1), 1e-30),  # so that no state leaves the range
        sources="all",
        output_grad=torch.ones(2, B, 1),
    ).log_norm
    for source in range(2):
        expected = np.arange(source + 2)[:, None] * np.log(growth) * np.ones(B)
        np.testing.assert_allclose(found[source, : source + 2], expected, rtol=1e-6, atol=1e-6)
