"""Dropout between layers in training: the masks of the call are drawn again, and `.grad` says whether they are the same."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import rnnvg
from rnnvg import InputError

T, B, I, H = 9, 4, 3, 6
CELLS = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}


def make(cell, dtype=torch.float64, dropout=0.4, layers=3, **settings):
    torch.manual_seed(0)
    return CELLS[cell](I, H, layers, dropout=dropout, dtype=dtype, **settings)


def draw(*shape, seed=1, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def adds_up(found, module, rtol):
    for name, parameter in module.named_parameters():
        apart = torch.linalg.vector_norm(found.total[name] - parameter.grad)
        assert apart <= rtol * torch.linalg.vector_norm(parameter.grad), name


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("how", ["plain", "batch first", "packed", "unbatched", "carried"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_masks_are_replayed(cell, how, dtype):
    module = make(cell, dtype, batch_first=how == "batch first")
    x, rtol = draw(T, B, I, dtype=dtype), 1e-9 if dtype == torch.float64 else 1e-4
    monitor = rnnvg.GradientMonitor(module, every=1)
    torch.manual_seed(5)
    with rnnvg.watch(module) as watcher:
        if how == "packed":
            output, _ = module(pack_padded_sequence(x, torch.tensor([9, 3, 7, 1]), enforce_sorted=False))
            output = pad_packed_sequence(output)[0]
        elif how == "carried":
            first, state = module(x[:4])
            output = torch.cat([first, module(x[4:], state)[0]])
        else:
            output, _ = module(x[:, 0] if how == "unbatched" else x.transpose(0, 1) if how == "batch first" else x)
        output.square().sum().backward()
    rest = torch.rand(3)
    found = watcher.temporal_contributions()
    adds_up(found, module, rtol)
    assert watcher.profile().log_norm.shape[0] == T
    assert monitor.verdict() == "neither"
    torch.manual_seed(5)
    module.zero_grad()
    module(x[:, :1] if how == "unbatched" else x)  # the random numbers after it are those without a watcher
    if how in ("plain", "unbatched"):
        assert torch.equal(torch.rand(3), rest)
    for ask in (watcher.profile("last").verify, found.verify):
        with pytest.raises(InputError, match=r"^The call had dropout between its layers"):
            ask()


def test_the_profile_is_that_of_the_masked_network():
    module, x = make("gru", layers=2), draw(T, B, I).requires_grad_()
    with rnnvg.watch(module) as watcher:
        module(x)[0][-1].sum().backward()
    got = watcher.profile("last", "input").log_norm[0, :T]
    np.testing.assert_allclose(got, x.grad.flip(0).norm(dim=2).log(), rtol=1e-9)


def test_calls_with_and_without_dropout_stand_side_by_side():
    module, x = make("lstm"), draw(T, B, I)
    with rnnvg.watch(module) as watcher:
        module(x)[0].sum().backward()
        module.eval()
        module(2 * x[:5])[0].square().sum().backward()
    adds_up(watcher.temporal_contributions(), module, 1e-9)


def test_all_or_nothing_dropped():
    for share in (1.0, 0.999):
        module, x = make("gru", dropout=share), draw(T, B, I)
        with rnnvg.watch(module) as watcher:
            module(x)[0].sum().backward()
        adds_up_top = watcher.temporal_contributions().total["weight_hh_l2"]
        torch.testing.assert_close(adds_up_top, module.weight_hh_l2.grad, rtol=1e-9, atol=1e-12)


class Noisy(nn.GRU):
    """Draws of its own between the hook and the masks: they cannot be known."""

    def forward(self, x, hx=None):
        torch.rand(1)
        return super().forward(x, hx)


def test_masks_that_are_not_the_calls_are_refused():
    torch.manual_seed(0)
    module = Noisy(I, H, 2, dropout=0.5).double()
    monitor = rnnvg.GradientMonitor(module, every=1)
    with rnnvg.watch(module) as watcher:
        module(draw(T, B, I))[0].sum().backward()
    with pytest.raises(InputError, match="give another output than the one that was seen"):
        watcher.profile()
    assert monitor.verdict() == "not measured"


def test_masks_from_another_generator_are_left_out_and_it_is_said(monkeypatch):
    from rnnvg.bptt import calls

    module, x = make("gru"), draw(T, B, I)
    plain = calls.Call
    monkeypatch.setattr(calls, "Call", lambda **k: plain(**{**k, "random": None}))
    with rnnvg.watch(module) as watcher:
        module(x)[0][-1].sum().backward()
    profile = watcher.profile("last")
    assert profile.note == "Dropout 0.4 between the layers is analysed as off: its masks are lost."
    want = rnnvg.gradient_profile(module.eval(), x, output_grad=torch.ones(T, B, H).double())
    np.testing.assert_allclose(profile.log_norm, want.log_norm, rtol=1e-9)
