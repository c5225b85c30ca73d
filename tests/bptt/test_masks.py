"""Dropout between layers with known masks: states, both Jacobian products and contributions against autograd."""

import numpy as np
import pytest
import torch
from torch import nn

from rnnvg.bptt import Diagonal, linearize
from rnnvg.bptt.stack import ModuleLinearization
from rnnvg.bptt.why.contributions import contributions_of
from rnnvg.errors import InputError

WIDE = torch.float64
T, B, I, H, L = 6, 2, 3, 4, 3
KINDS = [nn.RNN, nn.LSTM, nn.GRU]


def problem(kind):
    torch.manual_seed(0)
    module = kind(I, H, L, dtype=WIDE)
    inputs = torch.randn(T, B, I, dtype=WIDE)
    return module, inputs, [2.0 * (torch.rand(T, B, H) > 0.5) for _ in range(L - 1)]


def layers_of(module):
    """Each layer as a module of its own over the same parameters."""
    found = []
    for layer in range(L):
        single = type(module)(I if layer == 0 else H, H, dtype=WIDE)
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            del single._parameters[f"{name}_l0"]
            setattr(single, f"{name}_l0", getattr(module, f"{name}_l{layer}"))
        found.append(single)
    return found


def step(module, masks, t, x, state):
    """One step of the masked stack on the whole state [B, N], layer by layer, h before c."""
    after = []
    parts = state.split(H, -1)
    per_layer = len(parts) // L
    for layer, single in enumerate(layers_of(module)):
        own = [part.unsqueeze(0).contiguous() for part in parts[layer * per_layer : (layer + 1) * per_layer]]
        output, last = single(x.unsqueeze(0), tuple(own) if per_layer > 1 else own[0])
        after += [part[0] for part in (last if per_layer > 1 else (last,))]
        x = output[0] * masks[layer][t] if layer < L - 1 else output[0]
    return torch.cat(after, -1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("keep_bytes", [2**28, 0])
def test_outputs_and_jacobian_products(kind, keep_bytes):
    module, inputs, masks = problem(kind)
    linear = linearize(module, inputs, masks=masks, keep_bytes=keep_bytes)
    assert isinstance(linear, ModuleLinearization)
    assert linear.note == ""
    state, outputs = torch.zeros(B, linear.size, dtype=WIDE), []
    a, v = torch.randn(2, B, linear.size, dtype=WIDE)
    for t in range(T):

        def one(s, t=t):
            return step(module, masks, t, inputs[t], s)

        torch.testing.assert_close(linear.pullback(t, a), torch.autograd.functional.vjp(one, state, a)[1])
        dual = torch.zeros_like(a, requires_grad=True)
        leaf = state.detach().requires_grad_()
        (pulled,) = torch.autograd.grad(one(leaf), leaf, dual, create_graph=True)
        torch.testing.assert_close(linear.pushforward(t, v), torch.autograd.grad(pulled, dual, v)[0])
        state = one(state).detach()
        outputs.append(state[:, linear.output])
    torch.testing.assert_close(linear.outputs(), torch.stack(outputs))


@pytest.mark.parametrize("kind", KINDS)
def test_contributions(kind):
    module, inputs, masks = problem(kind)
    linear = linearize(module, inputs, masks=masks)
    assert isinstance(linear, ModuleLinearization)
    grad = torch.randn(T, B, H, dtype=WIDE)
    found = contributions_of(module, linear, inputs, None, grad)
    x = inputs
    for layer, single in enumerate(layers_of(module)):
        x = single(x)[0] * (masks[layer] if layer < L - 1 else 1)
    names, parameters = zip(*module.named_parameters(), strict=True)
    for name, gradient in zip(names, torch.autograd.grad((x * grad).sum(), parameters), strict=True):
        torch.testing.assert_close(found.total[name], gradient)


def test_masks_of_ones_change_nothing_and_masks_of_zeros_cut_the_layers_apart():
    module, inputs, _ = problem(nn.GRU)
    plain, ones = linearize(module, inputs), linearize(module, inputs, masks=[torch.ones(T, B, H)] * (L - 1))
    a = torch.randn(B, plain.size, dtype=WIDE)
    torch.testing.assert_close(plain.pullback(T - 1, a), ones.pullback(T - 1, a))
    cut = linearize(module, inputs, masks=[torch.zeros(T, B, H)] * (L - 1)).pullback(T - 1, plain.covectors(a[:, :H]))
    np.testing.assert_array_equal(cut[:, : 2 * H], 0)
    assert (cut[:, 2 * H :] != 0).all()


def test_refusals():
    module, inputs, masks = problem(nn.RNN)
    with pytest.raises(InputError) as error:
        linearize(module, inputs, masks=masks[:1])
    assert str(error.value) == (
        "`masks` have shapes [[6, 2, 4]]; pass one for each border between two layers: [[6, 2, 4], [6, 2, 4]]."
    )
    with pytest.raises(InputError) as error:
        linearize(Diagonal(), inputs, masks=masks)
    assert str(error.value) == "`masks` are of dropout between layers, and `recurrence` is a Diagonal; pass None."
