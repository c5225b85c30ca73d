"""Cells of our own: what they compute, by hand; the weights that they draw; their gradients; their files."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from rnnvg import InputError, gradient_profile, models, tasks
from rnnvg.models.own_cells import OwnCore

TASK = tasks.make("adding", length=6)
F64 = torch.float64


def core(form, hidden=5, n_inputs=3, seed=0, **weights):
    torch.manual_seed(seed)
    made = OwnCore(form, n_inputs, hidden).double()
    with torch.no_grad():
        for name, value in weights.items():
            made.get_buffer(name).fill_(value) if name == "step_size" else made.get_parameter(name).fill_(value)
    return made


def by_hand(made, inputs):
    h, states = torch.zeros(inputs.shape[1], made.hidden_size, dtype=F64), []
    for x in inputs:
        z = x @ made.weight_ih.T + made.bias_ih + h @ made.weight_hh.T + made.bias_hh
        if made.form == "layer-norm":
            z = (z - z.mean(1, keepdim=True)) / (z.var(1, unbiased=False, keepdim=True) + 1e-5).sqrt()
            h = torch.tanh(made.norm.weight * z + made.norm.bias)
        elif made.form == "leaky":
            h = (1 - made.step_size) * h + made.step_size * torch.tanh(z)
        else:
            h = h + made.step_size * torch.tanh(z)
        states.append(h)
    return torch.stack(states)


@pytest.mark.parametrize("form", ["leaky", "residual", "layer-norm"])
def test_states_are_those_of_the_formula_and_of_single_steps(form):
    made, inputs = core(form), torch.randn(7, 4, 3, dtype=F64, generator=torch.Generator().manual_seed(1))
    states, last = made(inputs)
    torch.testing.assert_close(states, by_hand(made, inputs))
    torch.testing.assert_close(last[0], states[-1])
    first, middle = made(inputs[:3])
    torch.testing.assert_close(torch.cat([first, made(inputs[3:], middle)[0]]), states)
    h = torch.zeros(4, 5, dtype=F64)
    for x in inputs:
        h = made.step(x, h)
    torch.testing.assert_close(h, states[-1])


def test_one_seed_draws_the_weights_of_an_nn_rnn_and_a_leak_of_everything_is_one():
    torch.manual_seed(3)
    theirs = nn.RNN(3, 5)
    ours = core("leaky", seed=3, step_size=1.0)
    for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
        torch.testing.assert_close(getattr(ours, name), getattr(theirs, f"{name}_l0").double())
    inputs = torch.randn(6, 2, 3, dtype=F64)
    torch.testing.assert_close(ours(inputs)[0], theirs.double()(inputs)[0])


@pytest.mark.parametrize(("form", "rate"), [("leaky", math.log(0.9)), ("residual", 0.0)])
def test_without_a_recurrent_matrix_the_carry_alone_decides(form, rate):
    made = core(form, weight_hh=0.0)
    profile = gradient_profile(made.step, torch.randn(300, 2, 3, dtype=F64), torch.zeros(2, 5, dtype=F64))
    np.testing.assert_allclose(profile.log_norm[0, :, 0], rate * np.arange(301), atol=1e-6)


def test_build_sets_the_step_size_and_a_file_keeps_it(tmp_path):
    assert float(models.build(TASK, "leaky", hidden=4).core.step_size) == pytest.approx(0.1)
    model = models.build(TASK, "residual", hidden=4, t_max=25)
    assert float(model.core.step_size) == pytest.approx(1 / 25)
    models.save(model, tmp_path / "own.safetensors")
    again = models.load(tmp_path / "own.safetensors", TASK)
    inputs = TASK.batch(3, torch.Generator()).inputs
    torch.testing.assert_close(again(inputs)[0], model(inputs)[0])
    assert float(again.core.step_size) == float(model.core.step_size)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": 2}, "`layers` must be 1 for cell 'leaky'; got 2."),
        ({"init": "orthogonal"}, "`init` has no 'orthogonal'. Pass one of: default."),
        ({"t_max": 1}, "`t_max` must be a whole number of at least 2; got 1."),
    ],
)
def test_bad_input(options, message):
    with pytest.raises(InputError) as caught:
        models.build(TASK, "leaky", hidden=4, **options)
    assert str(caught.value) == message
