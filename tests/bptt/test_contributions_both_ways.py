"""Contributions of bidirectional modules: against `.grad`, and autograd with a weight of its own for every step."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

import rnnvg

T, B, I, H = 6, 3, 2, 3
CELLS = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}


def draw(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("how", ["outputs", "batch first", "packed", "h_n", "unbatched"])
def test_they_add_up(cell, layers, how):
    torch.manual_seed(0)
    module = CELLS[cell](I, H, layers, bidirectional=True, batch_first=how == "batch first", dtype=torch.float64)
    x = draw(T, B, I)
    with rnnvg.watch(module) as watcher:
        if how == "packed":
            module(pack_padded_sequence(x, torch.tensor([6, 2, 4]), enforce_sorted=False))[
                0
            ].data.square().sum().backward()
        elif how == "h_n":
            state = module(x)[1]
            (state[0] if cell == "lstm" else state)[-2:].square().sum().backward()
        else:
            x = {"batch first": x.transpose(0, 1), "outputs": x, "unbatched": x[:, 0]}[how]
            module(x)[0].square().sum().backward()
    found = watcher.temporal_contributions()
    assert found.names == [name for name, _ in module.named_parameters()]
    for name, parameter in module.named_parameters():
        torch.testing.assert_close(found.total[name], parameter.grad, rtol=1e-9, atol=1e-12)
        if np.isfinite(found.log_norm_total[name]):
            assert found.share[name].sum() == pytest.approx(1, abs=1e-9)
    assert max(found.verify().weights.values()) < 1e-9


@pytest.mark.parametrize("packed", [False, True])
def test_each_step_of_the_backward_direction_is_where_it_lies_in_the_sequence(packed):
    torch.manual_seed(0)
    module, x = nn.RNN(I, H, bidirectional=True, dtype=torch.float64), draw(T, B, I)
    lengths = torch.tensor([6, 2, 4] if packed else [6, 6, 6])
    with rnnvg.watch(module) as watcher:
        output = module(pack_padded_sequence(x, lengths, enforce_sorted=False))[0].data
        output.square().sum().backward()
    found = watcher.temporal_contributions()
    for suffix, reverse in (("", False), ("_reverse", True)):
        w_ih, w_hh, b_ih, b_hh = (
            getattr(module, f"{name}_l0{suffix}").detach() for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        own = [w_hh.clone().requires_grad_() for _ in range(T)]  # a weight of its own for every step
        losses = []
        for b, length in enumerate(lengths.tolist()):
            h = torch.zeros(H, dtype=torch.float64)
            for t in reversed(range(length)) if reverse else range(length):
                h = torch.tanh(w_ih @ x[t, b] + b_ih + own[t] @ h + b_hh)
                losses.append(h.square().sum())
        grads = torch.autograd.grad(torch.stack(losses).sum(), own)
        wanted = torch.stack([grad.norm().log() for grad in grads]).numpy()
        np.testing.assert_allclose(found.log_norm[f"weight_hh_l0{suffix}"], wanted, rtol=1e-9, atol=1e-9)
