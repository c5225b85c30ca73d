"""Calls that ran with different weights in one watcher: each is followed with its own, and nothing mixes them."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from fused_optimisers import skipped_without_fused
from torch import nn

import rnnvg
from rnnvg import InputError

T, B, I, H = 9, 3, 3, 5
CELLS = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}


def draw(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def expected(module, x, used, direct, sources):
    with torch.no_grad():
        module = copy.deepcopy(module)
        for name, weight in used.items():
            getattr(module, name).copy_(weight)
    return rnnvg.gradient_profile(module, x, output_grad=direct, sources=sources).log_norm


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("snapshot", [False, True])
def test_a_weight_that_a_wrapper_drops_anew_for_each_call(cell, snapshot):
    torch.manual_seed(0)
    module = CELLS[cell](I, H, dtype=torch.float64)
    original = copy.deepcopy(module)
    raw = module.weight_hh_l0
    del module._parameters["weight_hh_l0"]
    masks = [F.dropout(torch.ones_like(raw), 0.5) for _ in range(2)]
    order, lengths = (0, 1, 0), (9, 6, 4)  # the first mask comes back, and the sequences are of different lengths
    xs, losses = [draw(length, B, I, seed=length) for length in lengths], []
    monitor = rnnvg.GradientMonitor(module, every=1)
    with rnnvg.watch(module, snapshot=snapshot) as watcher:
        for x, mask in zip(xs, order, strict=True):
            module.weight_hh_l0 = raw * masks[mask]
            losses.append(module(x)[0].square().sum())
        torch.stack(losses).sum().backward()
    profile = watcher.profile()
    assert "2 different sets of weights" in profile.note
    for call, (x, mask) in enumerate(zip(xs, order, strict=True)):
        weights = {"weight_hh_l0": (raw * masks[mask]).detach()}
        with torch.no_grad():
            its = copy.deepcopy(original)
            its.weight_hh_l0.copy_(weights["weight_hh_l0"])
            direct = 2 * its(x)[0]
        wanted = expected(original, x, weights, direct, "all")
        found = profile.log_norm[: len(x), : len(x) + 1, call * B : call * B + B]
        np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-9)
        assert np.isnan(profile.log_norm[len(x) :, :, call * B : call * B + B]).all()
    certificate = profile.verify(12)
    assert certificate.residual < 1e-9
    assert {int(each) // B for each in certificate.sequence} == {0, 1, 2}
    assert monitor.verdict() in ("neither", "vanishing")
    with pytest.raises(InputError, match="the answer would mix them"):
        watcher.temporal_contributions()


def test_the_last_step_is_each_sequences_own():
    torch.manual_seed(0)
    module = nn.utils.parametrizations.spectral_norm(nn.GRU(I, H, dtype=torch.float64), "weight_hh_l0")
    with rnnvg.watch(module) as watcher:
        loss = sum(module(draw(length, B, I))[0][-1].sum() for length in (9, 4))
        loss.backward()
    profile = watcher.profile("last")
    assert (~np.isnan(profile.log_norm[0])).sum(0).tolist() == [10] * B + [5] * B
    assert profile.verify(10).residual < 1e-9


@pytest.mark.parametrize("fused", [False, True])
def test_optimiser_steps_inside_one_watch(fused):
    torch.manual_seed(0)
    module, used = nn.LSTM(I, H, 2, dtype=torch.float64), []
    original = copy.deepcopy(module)
    with skipped_without_fused():
        optimiser = torch.optim.Adam(module.parameters(), 0.1, fused=fused)
    xs = [draw(T, B, I, seed=seed) for seed in range(3)]
    with rnnvg.watch(module, snapshot=True) as watcher:
        state = None
        for x in xs:  # truncated backpropagation: the state goes on, detached
            used.append(({name: each.detach().clone() for name, each in module.named_parameters()}, state))
            optimiser.zero_grad()
            output, state = module(x, state)
            output[-1].sum().backward()
            optimiser.step()
            state = tuple(part.detach() for part in state)
    profile, direct = watcher.profile("last"), torch.zeros(T, B, H, dtype=torch.float64)
    direct[-1] = 1
    for call, (x, (weights, state)) in enumerate(zip(xs, used, strict=True)):
        with torch.no_grad():
            its = copy.deepcopy(original)
            its.load_state_dict(weights)
        wanted = rnnvg.gradient_profile(its, x, state, output_grad=direct).log_norm
        np.testing.assert_allclose(profile.log_norm[..., call * B : call * B + B], wanted, rtol=1e-9, atol=1e-9)


def test_one_sequence_over_calls_with_different_weights_is_refused():
    torch.manual_seed(0)
    module = nn.utils.parametrizations.spectral_norm(nn.GRU(I, H), "weight_hh_l0")
    monitor = rnnvg.GradientMonitor(module, every=1)
    with rnnvg.watch(module) as watcher:
        _, state = module(torch.randn(T, B, I))
        module(torch.randn(T, B, I), state)[0].sum().backward()
    with pytest.raises(InputError, match="one sequence that went on over several calls"):
        watcher.profile()
    assert monitor.verdict() == "not measured"
    assert "would mix them" in monitor.reason
