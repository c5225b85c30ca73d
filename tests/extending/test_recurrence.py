"""A new recurrence is one file and its class in a list: everything the analyzer measures of it against float64 autograd."""

import math

import numpy as np
import pytest
import torch

import rnnvg
from rnnvg.bptt import cells, linearize, theory
from tests.extending.minimal_gated_unit import MGU, MinimalGatedUnit

WIDE = torch.float64
T, B, I, H = 9, 2, 3, 4


@pytest.fixture(autouse=True)
def _listed(monkeypatch):
    monkeypatch.setattr(cells, "CELLS", [*cells.CELLS, MGU])


@pytest.fixture(params=[1, 2])
def unit(request):
    torch.manual_seed(request.param)
    module = MinimalGatedUnit(I, H, request.param, WIDE)
    for parameter in module.parameters():
        parameter.data *= 2
    return module, torch.randn(T, B, I, dtype=WIDE), torch.randn(request.param, B, H, dtype=WIDE)


def unrolled(module, inputs, state):
    """States after every step, as leaves that each step passes on: the gradient there is dL/ds_t. And the outputs."""
    leaves, current, outputs = [state.clone().requires_grad_()], None, []
    current = leaves[0]
    for x in inputs:
        after = []
        for layer in range(module.num_layers):
            x = module.step(layer, x, current[layer])
            after.append(x)
        outputs.append(x)
        leaves.append(torch.zeros(len(after), *x.shape, dtype=WIDE, requires_grad=True))
        current = torch.stack(after) + leaves[-1]
    return leaves, outputs


def test_profile_of_states_and_inputs(unit):
    module, inputs, state = unit
    grad = torch.randn(T, B, H, dtype=WIDE)
    for wrt in ("state", "input"):
        found = rnnvg.gradient_profile(module, inputs, state, output_grad=grad, sources=[3, T - 1], wrt=wrt)
        for row, source in enumerate((3, T - 1)):
            leaves, x = None, inputs.clone().requires_grad_()
            leaves, outputs = unrolled(module, x, state)
            loss = (outputs[source] * grad[source]).sum()
            if wrt == "input":
                (gradient,) = torch.autograd.grad(loss, x)
                wanted = gradient.norm(dim=-1).log().numpy()
                np.testing.assert_allclose(found.log_norm[row, : source + 1], wanted[source::-1], atol=1e-12)
            else:
                gradients = torch.autograd.grad(loss, leaves[: source + 1])
                norms = [each.transpose(0, 1).flatten(1).norm(dim=-1).log().numpy() for each in gradients]
                np.testing.assert_allclose(found.log_norm[row, 1 : source + 2], norms[::-1], atol=1e-12)
        assert found.verify().residual < 1e-12


def test_a_long_profile_is_certified(unit):
    module, _, state = unit
    found = rnnvg.gradient_profile(module, torch.randn(250, B, I, dtype=WIDE), state)
    assert found.first_nonfinite.tolist() == [-1, -1]
    certificate = found.verify(20)
    assert certificate.residual < 1e-9
    assert max(certificate.weights.values()) < 1e-9


def test_single_precision_is_analysed_in_it():
    module = MinimalGatedUnit(I, H)
    found = rnnvg.gradient_profile(module, torch.randn(40, B, I))
    assert found.verify().residual < 1e-4
    assert rnnvg.lyapunov_spectrum(module, torch.randn(40, B, I)).exponents.dtype == np.float64


def test_jacobian_products_are_each_other_s_transpose(unit):
    module, inputs, state = unit
    linear = linearize(module, inputs, state)
    a, v = torch.randn(2, 3, B, linear.size, dtype=WIDE)
    left, right = (linear.pullback(4, a) * v).sum(-1), (a * linear.pushforward(4, v)).sum(-1)
    torch.testing.assert_close(left, right, rtol=1e-12, atol=1e-13)


def test_spectrum_adds_up_to_the_determinant_and_is_that_of_the_jacobians(unit):
    module, inputs, state = unit
    found = rnnvg.lyapunov_spectrum(module, inputs, state)
    assert found.log_det_residual is not None
    np.testing.assert_allclose(found.log_det_residual, 0, atol=1e-12)
    values = rnnvg.jacobian_singular_values(module, inputs, state).log_values

    def last(start):
        return module(inputs[:, :1], start.view(module.num_layers, 1, H))[1].flatten()

    whole = torch.autograd.functional.jacobian(last, state[:, :1].flatten())
    np.testing.assert_allclose(values[0], torch.linalg.svdvals(whole).log(), rtol=1e-6)


def test_attribution_by_its_own_paths(unit):
    module, inputs, state = unit
    grad = torch.randn(T, B, H, dtype=WIDE)
    found = rnnvg.attribute_decay(module, inputs, state, output_grad=grad)
    profile = rnnvg.gradient_profile(module, inputs, state, output_grad=grad)
    np.testing.assert_allclose(found.log_norm, profile.log_norm[0], atol=1e-12)
    assert list(found.shares) == ["carry", "gate", "candidate"]
    np.testing.assert_allclose(sum(found.shares.values())[1:], 1, rtol=1e-12)
    assert found.counterfactuals == {}
    assert str(found).startswith(f"over {T} steps: ")
    assert "it would be" not in str(found)
    kept = [each for each in found.gates if each.name == "kept part"]
    assert all(0 < each.time_constant < math.inf for each in kept)
    if module.num_layers == 1:
        _, outputs = unrolled(module, inputs, state)
        before = outputs[-2].detach()
        f = torch.sigmoid(inputs[-1] @ module.W_f0.T + before @ module.U_f0.T + module.b_f0)
        arrives = torch.autograd.functional.vjp(lambda h: module.step(0, inputs[-1], h), before, grad[-1])[1]
        wanted = ((1 - f) * grad[-1] * arrives).sum(-1) / arrives.square().sum(-1)
        np.testing.assert_allclose(found.shares["carry"][1], wanted.detach(), rtol=1e-12)
    found.plot()


def test_contributions_of_every_parameter(unit):
    module, inputs, state = unit
    grad = torch.randn(T, B, H, dtype=WIDE)
    found = rnnvg.temporal_contributions(module, inputs, state, output_grad=grad)
    assert set(found.names) == {name for name, _ in module.named_parameters()}
    output, _ = module(inputs, state)
    wanted = torch.autograd.grad((output * grad).sum(), list(module.parameters()))
    for (name, _), gradient in zip(module.named_parameters(), wanted, strict=True):
        torch.testing.assert_close(found.total[name], gradient, rtol=1e-10, atol=1e-12)
        assert found.share[name].sum() == pytest.approx(1)
    assert max(found.verify().weights.values()) < 1e-12


def test_refusals_name_what_to_pass(unit):
    module, inputs, state = unit
    with pytest.raises(rnnvg.InputError, match="has 2 features and the module takes 3"):
        rnnvg.gradient_profile(module, inputs[..., :2])
    with pytest.raises(rnnvg.InputError, match="`state` is"):
        rnnvg.gradient_profile(module, inputs, state[:, :1])
    with pytest.raises(rnnvg.InputError, match="there is no theory" if module.num_layers == 1 else "has 2 layers"):
        theory.predict_for(module, inputs)
