"""Gradients in units that networks share: written out, unchanged by an exact symmetry, and flags where rankings flip."""

import copy
import re
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from rnnvg import InputError, gradient_profile
from rnnvg.bptt import Diagonal
from rnnvg.bptt.invariant import covariance_weighted, input_sensitivity, ranking_flips


def relu_network(seed: int = 0) -> Any:
    torch.manual_seed(seed)
    module: Any = nn.RNN(2, 6, nonlinearity="relu", dtype=torch.float64)
    with torch.no_grad():
        module.bias_ih_l0.fill_(0.5)
    return module


def rescaled(module: Any, unit: int, factor: float, grad: torch.Tensor) -> tuple[Any, torch.Tensor]:
    """The same function with one hidden unit measured in other units: h' = factor h."""
    other = copy.deepcopy(module)
    with torch.no_grad():
        for name in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"):
            getattr(other, name)[unit] *= factor
        other.weight_hh_l0[:, unit] /= factor
    grad = grad.clone()
    grad[..., unit] /= factor
    return other, grad


def test_an_exact_symmetry_changes_the_raw_curve_alone():
    module, inputs = relu_network(), torch.randn(12, 5, 2, dtype=torch.float64)
    grad = torch.randn(12, 5, 6, dtype=torch.float64)
    other, other_grad = rescaled(module, 0, 1e-4, grad)
    one, two = (
        gradient_profile(module, inputs, output_grad=grad),
        gradient_profile(other, inputs, output_grad=other_grad),
    )
    assert np.nanmax(np.abs(one.log_norm - two.log_norm)) > 3
    for measure in (covariance_weighted, input_sensitivity):
        np.testing.assert_allclose(measure(one).log_norm, measure(two).log_norm, atol=1e-7)


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU, "function"])
def test_against_adjoints_from_autograd(kind):
    torch.manual_seed(1)
    T, B, H = 7, 4, 3
    inputs = torch.randn(T, B, 2, dtype=torch.float64)
    cell_of = {nn.RNN: nn.RNNCell, nn.LSTM: nn.LSTMCell, nn.GRU: nn.GRUCell, "function": nn.GRUCell}[kind]
    cell = cell_of(2, H, dtype=torch.float64)
    start = torch.zeros(B, H, dtype=torch.float64)
    recurrence, state = (cell, start) if kind == "function" else (cell, None)
    grad = torch.randn(T, B, H, dtype=torch.float64)
    profile = gradient_profile(recurrence, inputs, state, output_grad=grad, sources=[3, 6])
    found = covariance_weighted(profile).log_norm

    states, parts = [], (start, start) if kind is nn.LSTM else (start,)
    for x in inputs:
        held = [part.detach().requires_grad_() for part in parts]
        after = cell(x, tuple(held) if kind is nn.LSTM else held[0])
        parts = after if kind is nn.LSTM else (after,)
        states.append((held, parts))
    whole = torch.stack([torch.cat(parts, -1) for _, parts in states]).detach()
    cov = torch.from_numpy(np.cov(whole.flatten(0, 1).T.numpy(), bias=True))
    for row, source in enumerate((3, 6)):
        # all sequences up to the last source are in the covariance
        adjoint = [grad[source], *[torch.zeros_like(start)] * (len(parts) - 1)]
        for k in range(source + 1):
            delta = torch.cat(adjoint, -1)
            wanted = 0.5 * torch.einsum("bi,ij,bj->b", delta, cov, delta).log()
            np.testing.assert_allclose(found[row, k], wanted.numpy(), rtol=1e-9)
            held, after = states[source - k]
            adjoint = list(torch.autograd.grad(after, held, adjoint, allow_unused=True, retain_graph=True))
            adjoint = [torch.zeros_like(start) if each is None else each for each in adjoint]
        assert np.isnan(found[row, source + 1]).all()


def test_input_sensitivity_is_the_profile_by_the_input_times_rms():
    module, inputs = relu_network(), 3 * torch.randn(9, 2, 2, dtype=torch.float64)
    by_state, by_input = (gradient_profile(module, inputs, wrt=wrt) for wrt in ("state", "input"))
    scale = inputs.square().mean().sqrt().log().item()
    np.testing.assert_allclose(input_sensitivity(by_state).log_norm, by_input.log_norm + scale, rtol=1e-12)


def test_padding_plays_no_part():
    module, inputs = relu_network(), torch.randn(12, 3, 2, dtype=torch.float64)
    spoiled = inputs.clone()
    spoiled[6:, 1] = 1e3
    one, two = (covariance_weighted(gradient_profile(module, x, lengths=[12, 6, 9])) for x in (inputs, spoiled))
    np.testing.assert_array_equal(one.log_norm, two.log_norm)


def test_a_ranking_that_is_one_of_coordinates_is_flagged():
    """A unit in which only an old gradient sits, measured in smaller units: its network seems to reach farther."""
    inputs = torch.randn(40, 8, 2, dtype=torch.float64)
    module = relu_network()
    with torch.no_grad():
        module.bias_ih_l0.fill_(5.0)  # every unit open
        module.weight_hh_l0.copy_(0.6 * torch.eye(6))
    slower = copy.deepcopy(module)
    with torch.no_grad():
        module.weight_hh_l0[0, 1] = 0.1
        slower.weight_hh_l0.copy_(0.69 * torch.eye(6))
    grad = torch.zeros(40, 8, 6, dtype=torch.float64)
    grad[..., 0] = 1
    other, other_grad = rescaled(module, 1, 1e-6, grad)
    profiles = {
        "slower": gradient_profile(slower, inputs, output_grad=grad),
        "rescaled": gradient_profile(other, inputs, output_grad=other_grad),
    }
    (flip,) = ranking_flips(profiles, threshold=0.1)
    assert (flip.first, flip.second, flip.flipped) == ("rescaled", "slower", ("covariance", "input"))
    assert str(flip).startswith(
        "rescaled reaches farther than slower by its own state, not by covariance and input: state "
    )
    profiles["rescaled"] = gradient_profile(module, inputs, output_grad=grad)
    assert ranking_flips(profiles, threshold=0.1) == []


def test_misuse_is_said_in_one_sentence(tmp_path):
    module, inputs = relu_network(), torch.randn(9, 2, 2, dtype=torch.float64)
    profile = gradient_profile(module, inputs)
    profile.save(tmp_path / "profile.npz")
    diagonal = gradient_profile(Diagonal(), torch.full_like(inputs, 0.5))
    cases = [
        (
            lambda: covariance_weighted(type(profile).load(tmp_path / "profile.npz")),
            "`profile` has no recurrence with it (it was loaded from a file, or made from another profile); measure it again.",
        ),
        (
            lambda: covariance_weighted(diagonal),
            "`profile` is of a recurrence that is given by its factors alone and has no states to vary.",
        ),
        (lambda: ranking_flips({"a": profile}), "`profiles` holds 1 network; a ranking needs at least 2."),
        (
            lambda: ranking_flips({"a": profile, "b": input_sensitivity(profile)}),
            "`profiles` has 'b' wrt 'input'; pass profiles wrt 'state'.",
        ),
    ]
    for call, message in cases:
        with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
            call()
    with torch.no_grad():
        module.weight_hh_l0.mul_(2)
    with pytest.raises(InputError, match=r"^A weight of the recurrence of `profile` has changed since; measure it"):
        input_sensitivity(profile)
