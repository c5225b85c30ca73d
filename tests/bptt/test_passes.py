"""Several backward passes through one forward pass: told apart, chosen, or refused by name."""

import numpy as np
import pytest
import torch
from torch import nn

import rnnvg
from rnnvg import InputError

T, B, I, H = 9, 4, 3, 5
CELLS = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}


def make(cell="gru", **settings):
    torch.manual_seed(0)
    return CELLS[cell](I, H, **settings).double()


def draw(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def adds_up(found, module):
    for name, parameter in module.named_parameters():
        torch.testing.assert_close(found.total[name], parameter.grad, rtol=1e-9, atol=1e-12)


def same(one, two):
    np.testing.assert_allclose(one.log_norm, two.log_norm, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("cell", CELLS)
def test_a_retained_graph_adds_up_and_each_pass_can_be_picked(cell):
    module, x, weight = make(cell), draw(T, B, I), draw(T, B, H, seed=2)
    with rnnvg.watch(module) as watcher:
        output, _ = module(x)
        output[-1].sum().backward(retain_graph=True)
        (output * weight).sum().backward()
    adds_up(watcher.temporal_contributions(), module)
    ones = torch.zeros(T, B, H, dtype=torch.float64)
    ones[-1] = 1
    for number, direct in enumerate((ones, weight)):
        want = rnnvg.gradient_profile(module, x, output_grad=direct, sources="all")
        same(watcher.profile(backward=number), want)
        module.zero_grad()
        (module(x)[0] * direct).sum().backward()
        adds_up(watcher.temporal_contributions(backward=number), module)
    with pytest.raises(InputError, match=r"`backward` must be a whole number from 0 to 1; got 2\."):
        watcher.profile(backward=2)


@pytest.mark.parametrize("what", ["input", "weights", "all weights and the input"])
def test_autograd_grad_beside_the_loss_is_not_part_of_grad(what):
    module, x = make(), draw(T, B, I).requires_grad_()
    wanted = {"input": [x], "weights": [module.weight_hh_l0], "all weights and the input": [x, *module.parameters()]}[
        what
    ]
    with rnnvg.watch(module) as watcher:
        output, _ = module(x)
        torch.autograd.grad(3 * output[3].square().sum(), wanted, retain_graph=True)
        output[-1].square().sum().backward()
    adds_up(watcher.temporal_contributions(), module)
    assert np.isneginf(watcher.profile().log_norm[3, 0]).all()
    assert np.isfinite(watcher.profile(backward=0).log_norm[3, 0]).all()


def test_autograd_grad_alone():
    module, x = make(), draw(T, B, I)
    with rnnvg.watch(module) as watcher:
        output, _ = module(x)
        grads = torch.autograd.grad(output.square().sum(), list(module.parameters()), retain_graph=True)
    found = watcher.temporal_contributions()
    for (name, _), grad in zip(module.named_parameters(), grads, strict=True):
        torch.testing.assert_close(found.total[name], grad, rtol=1e-9, atol=1e-12)
    with watcher:
        torch.autograd.grad(output.sum(), module.weight_ih_l0)
    message = (
        r"2 backward passes came back and none of them added to \.grad .*; pass backward=0 to 1, in the order they came"
    )
    with pytest.raises(InputError, match=message):
        watcher.profile()
    assert watcher.profile(backward=1).log_norm.shape[2] == B


def test_autograd_grad_through_several_calls_is_no_open_choice():
    module = make()
    with rnnvg.watch(module) as watcher:
        for seed in (1, 2):
            torch.autograd.grad(module(draw(T, B, I, seed=seed))[0].sum(), list(module.parameters()))
    assert watcher.profile("last").log_norm.shape[2] == 2 * B


@pytest.mark.parametrize("cell", CELLS)
def test_a_gradient_penalty_is_refused_by_name(cell):
    module, x = make(cell), draw(T, B, I).requires_grad_()
    monitor = rnnvg.GradientMonitor(module, every=1)
    with rnnvg.watch(module) as watcher:
        output, _ = module(x)
        (into,) = torch.autograd.grad(output[-1].square().sum(), x, create_graph=True)
        (output[-1].sum() + into.square().sum()).backward()
    for ask in (watcher.profile, watcher.temporal_contributions, lambda: watcher.profile(backward=1)):
        with pytest.raises(
            InputError, match=r"create_graph=True \(a gradient penalty\?\) .* pass backward=0 for the first"
        ):
            ask()
    direct = torch.zeros(T, B, H, dtype=torch.float64)
    direct[-1] = 2 * output[-1].detach()
    same(watcher.profile(backward=0), rnnvg.gradient_profile(module, x, output_grad=direct, sources="all"))
    assert monitor.verdict() == "not measured"
    assert "create_graph=True" in monitor.reason


def test_a_recorded_backward_pass_that_is_the_only_one():
    module, x = make(), draw(T, B, I)
    with rnnvg.watch(module) as watcher, pytest.warns(UserWarning, match="create_graph=True"):
        module(x)[0].square().sum().backward(create_graph=True)
    found = watcher.temporal_contributions()
    for name, parameter in module.named_parameters():
        torch.testing.assert_close(found.total[name], parameter.grad.detach(), rtol=1e-9, atol=1e-12)
    module.zero_grad()


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("carried", [False, True])
def test_two_watchers_and_a_monitor_on_one_module(cell, carried):
    module, x = make(cell, num_layers=2), draw(T, B, I)
    monitor = rnnvg.GradientMonitor(module, every=1)
    with rnnvg.watch(module) as one, rnnvg.watch(module, snapshot=True) as two:
        output, state = module(x[:4])
        if carried:
            other, _ = module(x[4:], state)
            (output.square().sum() + other[-1].sum()).backward()
        else:
            output.square().sum().backward()
            module(x[4:])[0][-1].sum().backward()
    adds_up(one.temporal_contributions(), module)
    adds_up(two.temporal_contributions(), module)
    same(one.profile(), two.profile())
    if carried:
        direct = torch.zeros(T, B, H, dtype=torch.float64)
        direct[:4], direct[-1] = 2 * output.detach(), 1
        same(one.profile(), rnnvg.gradient_profile(module, x, output_grad=direct, sources="all"))
    assert monitor.verdict() == "neither"


def test_a_pass_after_zero_grad_is_picked_by_its_number():
    module, x = make(), draw(T, B, I)
    with rnnvg.watch(module) as watcher:
        output, _ = module(x)
        output[2].sum().backward(retain_graph=True)
        module.zero_grad()
        output[-1].square().sum().backward()
    adds_up(watcher.temporal_contributions(backward=1), module)


OUTSIDE = {
    "a penalty on the weights": lambda m, x, y: y.sum() + m.weight_hh_l0.square().sum(),
    "a call outside the watch": lambda m, x, y: y.sum() + x,
}


@pytest.mark.parametrize("how", OUTSIDE)
def test_contributions_that_are_not_all_of_grad_are_refused(how):
    module, x = make(), draw(T, B, I)
    before = module(x)[0].square().sum()
    with rnnvg.watch(module) as watcher:
        OUTSIDE[how](module, before, module(x)[0]).backward()
    with pytest.raises(
        InputError, match=r"do not add up to its \.grad .*a call outside the watch, a penalty on the weights"
    ):
        watcher.temporal_contributions()
    assert watcher.profile().verify().residual < 1e-9


@pytest.mark.parametrize("how", ["clipped", "scaled", "zeroed", "removed", "accumulated before"])
def test_gradients_changed_as_trainings_change_them_are_no_reason_to_refuse(how):
    module, x = make(), draw(T, B, I)
    if how == "accumulated before":
        module(x)[0].square().sum().backward()
    with rnnvg.watch(module) as watcher:
        module(x)[0].sum().backward()
    if how == "clipped":
        nn.utils.clip_grad_norm_(module.parameters(), 0.1)
    elif how == "scaled":
        for parameter in module.parameters():
            parameter.grad.div_(65536)
    elif how in ("zeroed", "removed"):
        module.zero_grad(set_to_none=how == "removed")
    want = make()
    want(x)[0].sum().backward()
    adds_up(watcher.temporal_contributions(), want)


def test_one_parameter_under_two_names():
    module, x = make(num_layers=2, bias=False), draw(T, B, I)
    module.weight_hh_l1 = module.weight_hh_l0
    with rnnvg.watch(module) as watcher:
        module(x)[0].square().sum().backward()
    found = watcher.temporal_contributions()
    both = found.total["weight_hh_l0"] + found.total["weight_hh_l1"]
    torch.testing.assert_close(both, module.weight_hh_l0.grad, rtol=1e-9, atol=1e-12)
