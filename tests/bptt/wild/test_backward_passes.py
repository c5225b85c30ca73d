"""What happens to gradients on their way: clipped by a hook, stopped by an error, through a penalty alone, or not there."""

import subprocess
import sys

import pytest
import torch
from torch import nn

import rnnvg
from rnnvg import InputError

T, B, I, H = 9, 4, 3, 5
CELLS = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}


def draw(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def adds_up(watcher, module):
    found = watcher.temporal_contributions()
    for name, parameter in module.named_parameters():
        torch.testing.assert_close(found.total[name], parameter.grad, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("inside", [False, True])
def test_a_gradient_that_the_program_clips_at_the_output(cell, inside):
    torch.manual_seed(0)
    module, x, bound = CELLS[cell](I, H, dtype=torch.float64), draw(T, B, I), 0.02
    with rnnvg.watch(module) as watcher:
        output, _ = module(x)
        output.register_hook(lambda grad: grad.clamp(-bound, bound))
        if inside:
            output.register_hook(lambda grad: grad * 2)
        output.square().sum().backward()
    adds_up(watcher, module)
    direct = (2 * output.detach()).clamp(-bound, bound) * (2 if inside else 1)
    wanted = rnnvg.gradient_profile(module, x, output_grad=direct, sources="all")
    torch.testing.assert_close(watcher.profile().log_norm, wanted.log_norm, rtol=0, atol=1e-9, equal_nan=True)


@pytest.mark.parametrize("cell", CELLS)
def test_a_backward_pass_that_was_stopped_does_not_count(cell):
    torch.manual_seed(0)
    module = CELLS[cell](I, H, dtype=torch.float64)

    def refuse(grad):
        raise ValueError("stop")

    monitor = rnnvg.GradientMonitor(module, every=1)
    with rnnvg.watch(module) as watcher:
        x = draw(T, B, I).requires_grad_()
        output = module(x)[0]
        handle = x.register_hook(refuse)
        with pytest.raises(ValueError, match="stop"):
            output[-1].sum().backward(retain_graph=True)
        assert monitor.metrics() == {}
        with pytest.raises(InputError, match="The backward pass that began did not come to its end"):
            watcher.profile()
        handle.remove()
        module.zero_grad()
        output[4].square().sum().backward()
    adds_up(watcher, module)
    assert monitor.verdict() == "neither"


def test_a_penalty_without_the_loss_itself():
    torch.manual_seed(0)
    module, x = nn.RNN(I, H, dtype=torch.float64), draw(T, B, I).requires_grad_()
    with rnnvg.watch(module) as watcher:
        (grad,) = torch.autograd.grad(module(x)[0][-1].sum(), x, create_graph=True)
        grad.square().sum().backward()
    with pytest.raises(InputError, match="second derivatives, which are no gradient of an output; pass backward=0"):
        watcher.profile()
    assert watcher.profile(backward=0).verify(6).residual < 1e-9


@pytest.mark.parametrize(
    ("shape", "device", "reason"),
    [
        ((T, 0, I), "cpu", "its inputs had no sequence or no step"),
        ((T, B, I), "meta", "its tensors are on the meta device"),
    ],
)
def test_calls_with_nothing_in_them_are_left_out(shape, device, reason):
    module = nn.RNN(I, H, device=device)
    monitor = rnnvg.GradientMonitor(module, every=1)
    with rnnvg.watch(module) as watcher:
        module(torch.zeros(shape, device=device))[0].sum().backward()
        with pytest.raises(InputError, match=reason):
            watcher.profile()
        assert monitor.verdict() == "not measured"
        assert reason in monitor.reason


def test_a_call_with_nothing_in_it_beside_an_ordinary_one():
    torch.manual_seed(0)
    module = nn.RNN(I, H, dtype=torch.float64)
    with rnnvg.watch(module) as watcher:
        module(draw(T, 0, I))[0].sum().backward()
        module.zero_grad()
        module(draw(T, B, I))[0].sum().backward()
    adds_up(watcher, module)


def test_a_default_device_that_holds_something_else():
    torch.manual_seed(0)
    module, x = nn.GRU(I, H, 2, dropout=0.3).double(), draw(T, B, I)
    state = torch.zeros(2, B, H, dtype=torch.float64)
    monitor = rnnvg.GradientMonitor(module, every=1)
    with torch.device("meta"):
        with rnnvg.watch(module) as watcher:
            module(x, state)[0].square().sum().backward()
        adds_up(watcher, module)
        assert watcher.profile("last").horizon().last >= 0
        assert monitor.verdict() == "neither"


def test_the_first_numbers_import_nothing_more():
    program = """
import sys, torch, rnnvg
module = torch.nn.LSTM(3, 5)
monitor = rnnvg.GradientMonitor(module, every=1)
before = set(sys.modules)
module(torch.randn(130, 4, 3))[0].square().sum().backward()
first = set(sys.modules)
assert monitor.metrics()["verdict_threshold"] == 0.5
print(sorted(name for name in set(sys.modules) - first if not name.startswith("rnnvg")))
"""
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
