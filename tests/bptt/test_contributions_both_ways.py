"""Contributions of bidirectional modules: against `.grad`, and autograd with a weight of its own for every step."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

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


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("how", ["time first", "batch first", "lengths", "unbatched"])
def test_the_function_gives_what_grad_and_the_watcher_give(cell, layers, how):
    torch.manual_seed(0)
    module = CELLS[cell](I, H, layers, bidirectional=True, batch_first=how == "batch first", dtype=torch.float64)
    x, lengths = draw(T, B, I), torch.tensor([4, 6, 2]) if how == "lengths" else None
    x = {"batch first": x.transpose(0, 1), "unbatched": x[:, 0]}.get(how, x)
    first = draw(2 * layers, *([] if how == "unbatched" else [B]), H, seed=2)
    state = (first, first.cos()) if cell == "lstm" else first
    with rnnvg.watch(module) as watcher:
        if lengths is None:
            output = module(x, state)[0]
        else:
            packed = module(pack_padded_sequence(x, lengths, enforce_sorted=False), state)[0]
            output = pad_packed_sequence(packed)[0]
        grad = draw(*output.shape, seed=3)
        (output * grad).sum().backward()
    if lengths is not None:
        x[4:, 0] = grad[4:, 0] = torch.nan  # the padding is nobody's
    found = rnnvg.temporal_contributions(module, x, state, output_grad=grad, lengths=lengths)
    seen = watcher.temporal_contributions()
    for name, parameter in module.named_parameters():
        torch.testing.assert_close(found.total[name], parameter.grad, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(found.log_norm[name], seen.log_norm[name], rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(found.share[name], seen.share[name], rtol=1e-9, atol=1e-9)
    assert max(found.verify().weights.values()) < 1e-9


@pytest.mark.parametrize("way", ["", "_reverse"])
def test_each_step_in_each_layer_of_a_stack_is_what_autograd_gives_a_weight_of_its_own(way):
    """Two layers of tanh units both ways, lengths 6, 2 and 4: the lower layer's steps are reached through all of the upper."""
    torch.manual_seed(0)
    module, x = nn.RNN(I, H, 2, bidirectional=True, dtype=torch.float64), draw(T, B, I)
    lengths, grad = [6, 2, 4], draw(T, B, 2 * H, seed=3)
    found = rnnvg.temporal_contributions(module, x, output_grad=grad, lengths=lengths)
    for layer in (0, 1):
        own = [getattr(module, f"weight_hh_l{layer}{way}").detach().clone().requires_grad_() for _ in range(T)]
        total = torch.zeros((), dtype=torch.float64)
        for b, length in enumerate(lengths):
            read = list(x[:length, b])
            for at in (0, 1):
                outputs = []
                for suffix in ("", "_reverse"):
                    w_ih, w_hh, b_ih, b_hh = (
                        getattr(module, f"{kind}_l{at}{suffix}").detach()
                        for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
                    )
                    h, states = torch.zeros(H, dtype=torch.float64), {}
                    for t in reversed(range(length)) if suffix else range(length):
                        weight = own[t] if (at, suffix) == (layer, way) else w_hh
                        h = states[t] = torch.tanh(w_ih @ read[t] + b_ih + weight @ h + b_hh)
                    outputs.append([states[t] for t in range(length)])
                read = [torch.cat(pair) for pair in zip(*outputs, strict=True)]
            total = total + (torch.stack(read) * grad[:length, b]).sum()
        wanted = [each.norm().log().item() for each in torch.autograd.grad(total, own)]
        np.testing.assert_allclose(found.log_norm[f"weight_hh_l{layer}{way}"], wanted, rtol=1e-9, atol=1e-9)


def test_lengths_of_a_module_that_runs_one_way_leave_the_padding_out():
    torch.manual_seed(0)
    module, x, grad = nn.GRU(I, H, dtype=torch.float64), draw(T, B, I), draw(T, B, H, seed=3)
    lengths = torch.tensor([4, 6, 2])
    output = pad_packed_sequence(module(pack_padded_sequence(x, lengths, enforce_sorted=False))[0])[0]
    (output * grad).sum().backward()
    x[4:, 0] = torch.nan
    found = rnnvg.temporal_contributions(module, x, output_grad=grad, lengths=lengths)
    for name, parameter in module.named_parameters():
        torch.testing.assert_close(found.total[name], parameter.grad, rtol=1e-9, atol=1e-12)


def test_lengths_that_do_not_fit_are_refused():
    module = nn.GRU(I, H, bidirectional=True)
    with pytest.raises(rnnvg.InputError, match="`lengths`"):
        rnnvg.temporal_contributions(module, torch.ones(T, B, I), output_grad=torch.ones(T, B, 2 * H), lengths=[1, 2])


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("packed", [False, True])
def test_losses_through_every_final_state_of_every_layer_are_in_the_sum(cell, layers, packed):
    torch.manual_seed(0)
    module = CELLS[cell](I, H, layers, bidirectional=True, dtype=torch.float64)
    x = draw(T, B, I)
    with rnnvg.watch(module) as watcher:
        given = pack_padded_sequence(x, torch.tensor([4, 6, 2]), enforce_sorted=False) if packed else x
        output, ends = module(given)
        loss = (output.data if packed else output).square().sum()
        for index, end in enumerate(ends if cell == "lstm" else [ends]):
            loss = loss + (end * draw(*end.shape, seed=5 + index)).sum()
        loss.backward()
    found = watcher.temporal_contributions()
    for name, parameter in module.named_parameters():
        torch.testing.assert_close(found.total[name], parameter.grad, rtol=1e-9, atol=1e-12)
        assert found.share[name].sum() == pytest.approx(1, abs=1e-9)
    assert max(found.verify().weights.values()) < 1e-9


def test_a_loss_through_a_lower_layers_c_n_alone_reaches_that_layer_alone():
    torch.manual_seed(0)
    module = nn.LSTM(I, H, 2, bidirectional=True, dtype=torch.float64)
    with rnnvg.watch(module) as watcher:
        module(draw(T, B, I))[1][1][1].sum().backward()  # the lower layer's backward direction
    found = watcher.temporal_contributions()
    for name, parameter in module.named_parameters():
        wanted = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        torch.testing.assert_close(found.total[name], wanted, rtol=1e-9, atol=1e-12)
        assert np.isneginf(found.log_norm[name]).all() == ("l0_reverse" not in name)
