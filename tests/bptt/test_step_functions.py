"""Recurrences that are only a function step(x_t, state) -> state: autograd, finite differences, and odd but honest steps."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from rnnvg import gradient_profile
from tests.reference import assert_same, log_norms


def draw(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64)


class Cube(torch.autograd.Function):
    """x^3 with a backward of its own, and no forward mode: the commonest kind of custom operation."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return 3 * x**2 * grad


torch.manual_seed(0)
W, V, U = 0.5 * draw(3, 3), draw(3, 2), 0.4 * draw(4, 3)
inner = nn.LSTMCell(2, 3, dtype=torch.float64)
norm = nn.LayerNorm(3, dtype=torch.float64)


def plain(x, h):
    return torch.tanh(h @ W.T + x @ V.T)


def branching(x, h):
    """Python's `if` on the inputs of the whole batch."""
    return plain(x, h) if x.sum() > 0 else 0.9 * h + x[:, :1]


def branching_on_the_state(x, h):
    return plain(x, h) if h.abs().max() < 0.9 else 0.5 * torch.sin(h) + x[:, :1]


def custom_function(x, h):
    return Cube.apply(0.7 * h @ W.T + 0.5 * torch.tanh(x @ V.T)) + 0.3 * h


def with_a_layer_norm(x, h):
    return norm(plain(x, h))


def pair(x, state):
    h, c = state
    c = torch.sigmoid(x @ V.T) * c[:, :3] + h
    c = torch.cat([c, torch.cos(c[:, :1])], 1)
    return torch.tanh(c @ U), c


def wrapped_lstm(x, state):
    return inner(x, state)


def triple(x, state):
    h, c, m = state
    return torch.tanh(h + c[:, :3] + x[:, :1]), torch.sin(c) * m, 0.9 * m + h[:, :1] * x[:, 1:]


STEPS = {
    "plain": (plain, (3,)),
    "branching": (branching, (3,)),
    "branching on the state": (branching_on_the_state, (3,)),
    "custom function": (custom_function, (3,)),
    "layer norm": (with_a_layer_norm, (3,)),
    "pair": (pair, (3, 4)),
    "lstm cell": (wrapped_lstm, (3, 3)),
    "triple": (triple, (3, 4, 1)),
}


def problem(name: str, steps: int, batch: int, seed: int):
    step, widths = STEPS[name]
    torch.manual_seed(seed)
    state = tuple(draw(batch, width) for width in widths)
    return step, draw(steps, batch, 2), state[0] if len(widths) == 1 else state, draw(steps, batch, 3)


@pytest.mark.parametrize("name", STEPS)
@given(steps=st.integers(1, 8), batch=st.integers(1, 4), seed=st.integers(0, 10**6), data=st.data())
@settings(max_examples=12, deadline=None, derandomize=True)
def test_against_autograd(name, steps, batch, seed, data):
    step, inputs, state, grad = problem(name, steps, batch, seed)
    asked = {
        "output_grad": grad,
        "wrt": data.draw(st.sampled_from(["state", "hidden", "input"] + ["cell"] * isinstance(state, tuple))),
        "sources": data.draw(st.sampled_from(["last", "all"]) | st.lists(st.integers(-steps, steps - 1), min_size=1)),
        "lengths": data.draw(st.none() | st.lists(st.integers(1, steps), min_size=batch, max_size=batch)),
    }
    assert_same(gradient_profile(step, inputs, state, **asked).log_norm, log_norms(step, inputs, state, **asked))


def run(step, inputs, state, covector) -> float:
    for x in inputs:
        state = step(x, state)
    return ((state if isinstance(state, torch.Tensor) else state[0]) * covector).sum().item()


def slopes(step, inputs, state, covector) -> np.ndarray:
    """d<covector, last output>/d(initial state) by central differences, one number per coordinate."""
    tensors, found = [state] if isinstance(state, torch.Tensor) else list(state), []
    for which, tensor in enumerate(tensors):
        for unit in range(tensor.shape[1]):
            ends = []
            for nudge in (1e-6, -1e-6):
                moved = [part.clone() for part in tensors]
                moved[which][0, unit] += nudge
                ends.append(run(step, inputs, moved[0] if len(moved) == 1 else tuple(moved), covector))
            found.append((ends[0] - ends[1]) / 2e-6)
    return np.array(found)


@pytest.mark.parametrize("name", STEPS)
def test_against_finite_differences(name):
    """The gradient at distance k of the last of six steps, restarted from the state k steps before the end."""
    step, inputs, state, grad = problem(name, 6, 1, 3)
    found = gradient_profile(step, inputs, state, output_grad=grad).log_norm[0, :, 0]
    for t, x in enumerate(inputs):
        slope = np.linalg.norm(slopes(step, inputs[t:], state, grad[-1]))
        assert math.exp(found[6 - t]) == pytest.approx(slope, rel=1e-6, abs=1e-9)
        state = step(x, state)
        state = state.detach() if isinstance(state, torch.Tensor) else tuple(part.detach() for part in state)


def test_the_branches_were_taken():
    """Both sides of the `if`s above were in play, or those tests would say nothing."""
    torch.manual_seed(3)
    _, inputs, state, _ = problem("branching", 6, 1, 3)
    assert {bool(x.sum() > 0) for x in inputs} == {True, False}
    sides = set()
    for x in inputs:
        sides.add(bool(state.abs().max() < 0.9))
        state = branching_on_the_state(x, state)
    assert sides == {True, False}


def test_a_step_sees_whole_batches_and_plain_tensors():
    seen = set()

    def watchful(x, h):
        seen.add((tuple(x.shape), tuple(h.shape)))
        assert type(x) is torch.Tensor
        assert isinstance(x[0, 0].item(), float)  # not possible under vmap
        return plain(x, h)

    gradient_profile(watchful, draw(5, 4, 2), draw(4, 3), sources="all")
    assert seen == {((4, 2), (4, 3))}


def test_a_step_that_ignores_its_state():
    """The gradient ends at the source: exact zeros behind it, and only the last input matters."""
    inputs, state, grad = draw(6, 2, 2), draw(2, 3), draw(6, 2, 3)

    def forgetful(x, h):
        return torch.tanh(x @ V.T)

    for wrt, own in (("state", grad[-1].norm(dim=-1).log().numpy()), ("input", None)):
        profile = gradient_profile(forgetful, inputs, state, output_grad=grad, wrt=wrt)
        assert np.isfinite(profile.log_norm[0, 0]).all()
        if own is not None:
            np.testing.assert_allclose(profile.log_norm[0, 0], own, rtol=1e-12)
        assert (profile.log_norm[0, 1:6] == -np.inf).all()
        if wrt == "state":
            assert (profile.log_norm[0, 6] == -np.inf).all()
        assert np.isnan(profile.log_gain()).all()
        assert profile.horizon(reference=0).last == 0


def test_a_step_that_ignores_its_input():
    profile = gradient_profile(lambda x, h: torch.tanh(h @ W.T), draw(6, 2, 2), draw(2, 3), wrt="input")
    assert (profile.log_norm[0, :6] == -np.inf).all()
    assert np.isnan(profile.log_norm[0, 6]).all()


def test_a_step_that_is_the_identity():
    found = gradient_profile(lambda x, h: h, draw(6, 2, 2), draw(2, 3)).log_norm
    np.testing.assert_allclose(found, 0, atol=1e-12)


def test_a_step_cut_off_at_one_step_alone():
    """Nothing passes the step that detaches, and everything after it is as it was."""
    inputs, state, grad = draw(9, 2, 2), draw(2, 3), draw(9, 2, 3)
    inputs[5] = 100.0

    def cut(x, h):
        return plain(x, h.detach() if x.min() == 100 else h)

    found = gradient_profile(cut, inputs, state, output_grad=grad).log_norm[0]
    assert np.isfinite(found[:4]).all()  # the states of steps 8, 7, 6 and 5
    assert (found[4:] == -np.inf).all()


def test_a_module_as_a_step_is_left_as_it_was():
    class Step(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell = nn.GRUCell(2, 3, dtype=torch.float64)

        def forward(self, x, h):
            return self.cell(x, h)

    module, inputs = Step(), draw(8, 3, 2)
    found = gradient_profile(module, inputs, torch.zeros(3, 3, dtype=torch.float64), sources="all").log_norm
    assert_same(found, gradient_profile(module.cell, inputs, sources="all").log_norm, 1e-12)
    assert all(parameter.grad is None and parameter.requires_grad for parameter in module.parameters())


def test_under_no_grad_a_step_is_still_differentiated():
    inputs, state, grad = draw(5, 2, 2), draw(2, 3), draw(5, 2, 3)
    expected = gradient_profile(plain, inputs, state, output_grad=grad).log_norm
    with torch.no_grad():
        np.testing.assert_array_equal(gradient_profile(plain, inputs, state, output_grad=grad).log_norm, expected)


def test_a_list_of_tensors_is_a_tuple():
    step, inputs, state, grad = problem("pair", 5, 2, 0)
    expected = gradient_profile(step, inputs, state, output_grad=grad).log_norm
    found = gradient_profile(lambda x, s: list(step(x, tuple(s))), inputs, list(state), output_grad=grad).log_norm
    assert_same(found, expected, 1e-12)


def test_float32_steps():
    inputs, state, grad = draw(200, 2, 2), draw(2, 3), draw(200, 2, 3)

    def step(x, h):
        return torch.tanh(h @ W.to(h.dtype).T + x @ V.to(h.dtype).T)

    double = gradient_profile(step, inputs, state, output_grad=grad).log_norm
    single = gradient_profile(step, inputs.float(), state.float(), output_grad=grad.float()).log_norm
    np.testing.assert_allclose(single, double, rtol=0, atol=1e-3)
    assert double.min() < -100
