"""Bidirectional modules under watch: what gradient_profile gives, after the check that the replay gives what was seen."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import rnnvg
from rnnvg import InputError

T, B, I, H = 8, 4, 3, 5
CELLS = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}


def make(cell, layers=1, **settings):
    torch.manual_seed(0)
    return CELLS[cell](I, H, layers, bidirectional=True, **settings).double()


def draw(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def same(one, two):
    np.testing.assert_allclose(one.log_norm, two.log_norm, rtol=1e-9, atol=1e-9)
    np.testing.assert_array_equal(one.distance, two.distance)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("packed", [False, True])
def test_it_gives_what_gradient_profile_gives(cell, layers, packed):
    module, x, weight = make(cell, layers), draw(T, B, I), draw(T, B, 2 * H, seed=2)
    lengths = torch.tensor([8, 3, 5, 1]) if packed else None
    with rnnvg.watch(module) as watcher:
        output, _ = module(pack_padded_sequence(x, lengths, enforce_sorted=False) if packed else x)
        ((pad_packed_sequence(output)[0] if packed else output) * weight).sum().backward()
    for direction in ("forward", "backward"):
        want = rnnvg.gradient_profile(
            module, x, output_grad=weight, sources="all", lengths=lengths, direction=direction
        )
        got = watcher.profile(direction=direction)
        same(got, want)
        assert got.verify(6).residual < 1e-9
    want = rnnvg.gradient_profile(module, x, output_grad=weight, sources=2, lengths=lengths, wrt="input")
    same(watcher.profile(2, "input"), want)
    with pytest.raises(InputError, match="is bidirectional: pass direction='forward' or direction='backward'"):
        watcher.profile()
    found = watcher.temporal_contributions()
    for name, parameter in module.named_parameters():
        torch.testing.assert_close(found.total[name], parameter.grad, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_a_loss_through_h_n(cell):
    module, x, weight = make(cell, 2, batch_first=True), draw(B, T, I), draw(2, B, H, seed=2)
    with rnnvg.watch(module) as watcher:
        state = module(x)[1]
        ((state[0] if cell == "lstm" else state)[2:] * weight).sum().backward()
    direct = torch.zeros(B, T, 2 * H, dtype=torch.float64)
    direct[:, -1, :H], direct[:, 0, H:] = weight[0], weight[1]
    want = rnnvg.gradient_profile(module, x, output_grad=direct, sources="all", wrt="input")
    same(watcher.profile(wrt="input"), want)
    with rnnvg.watch(module) as watcher:
        state = module(x)[1]
        (state[0] if cell == "lstm" else state)[0].sum().backward()
    with pytest.raises(InputError, match="the final state of a lower layer"):
        watcher.profile(wrt="input")


def test_what_is_refused():
    module, x = make("gru"), draw(T, B, I)
    with rnnvg.watch(module) as watcher, torch.no_grad():
        with torch.enable_grad():
            module(x)[0].sum().backward()
        module.weight_hh_l0_reverse.data.mul_(1.5)
    with pytest.raises(InputError, match="give another output"):
        watcher.profile(direction="forward")
    one = nn.GRU(I, H).double()
    with rnnvg.watch(one) as watcher:
        one(x)[0].sum().backward()
    with pytest.raises(InputError, match="`direction` is 'forward' and the module runs one way"):
        watcher.profile(direction="forward")


def test_dropout_between_bidirectional_layers_is_left_out_and_it_is_said():
    module, x = make("gru", 2, dropout=0.3), draw(T, B, I)
    with rnnvg.watch(module) as watcher:
        module(x)[0].sum().backward()
    note = watcher.profile(wrt="input").note
    assert note == "Dropout 0.3 between the layers is analysed as off: its masks are lost."
