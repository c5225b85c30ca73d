"""parameter_sensitivity against closed forms, exact recursions and autograd's Jacobian."""

import re

import numpy as np
import pytest
import torch
from torch import nn

from rnnvg import InputError
from rnnvg.bptt import parameter_sensitivity


def wide(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def scalar(decay, inputs, **others):
    a = torch.tensor(decay, dtype=torch.float64, requires_grad=True)
    zero = torch.zeros(inputs.shape[1], 1, dtype=torch.float64)
    return parameter_sensitivity(lambda x, h: a * h + x, inputs, zero, parameters={"a": a}, **others)


@pytest.mark.parametrize("decay", [0.5, 0.9])
def test_the_linear_scalar_case_on_white_input(decay):
    """E h^2 = 1 / (1 - a^2) and E (dh/da)^2 = (1 + a^2) / (1 - a^2)^3: 5.263 and 263.9 for a = 0.9."""
    found = scalar(decay, wide(400, 300, 1), burn_in=150)
    expected = (1 + decay**2) / (1 - decay**2) ** 3
    assert abs(found.mean["a"] - expected) < 4 * found.stderr["a"]
    assert found.stderr["a"] < 0.1 * expected
    assert found.output_square == pytest.approx(1 / (1 - decay**2), rel=0.05)
    assert found.exact
    if decay == 0.9:
        assert (round(1 / (1 - decay**2), 3), round(expected, 1)) == (5.263, 263.9)
        assert found.horizon.last == 10  # one step back is the reference: 0.9^9 > 1/e > 0.9^10


def test_the_scalar_recursion_exactly():
    inputs = wide(60, 4, 1)
    found = scalar(0.95, inputs)
    h = dh = torch.zeros(4, 1, dtype=torch.float64)
    expected = []
    for x in inputs:
        h, dh = 0.95 * h + x, 0.95 * dh + h
        expected.append(float(dh.square().mean()))
    np.testing.assert_allclose(found.by_step["a"], expected, rtol=1e-10)
    assert found.mean["a"] == pytest.approx(np.mean(expected), rel=1e-10)


def test_sensitivity_outgrows_the_state_as_memory_grows():
    found = {decay: scalar(decay, wide(300, 100, 1), burn_in=150) for decay in (0.5, 0.8, 0.95)}
    ratios = [each.mean["a"] / each.output_square for each in found.values()]
    assert ratios[0] < ratios[1] / 2 < ratios[2] / 8
    horizons = [each.horizon.last for each in found.values()]
    assert horizons == sorted(horizons)


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
@pytest.mark.parametrize("batch_first", [False, True])
def test_modules_against_the_whole_jacobian(kind, batch_first):
    torch.manual_seed(0)
    module = kind(2, 3, batch_first=batch_first)
    inputs = torch.randn(*((2, 5) if batch_first else (5, 2)), 2)
    found = parameter_sensitivity(module, inputs, directions=1000)
    assert found.exact
    plain = kind(2, 3, batch_first=batch_first).double()
    plain.load_state_dict(module.state_dict())
    names = [name for name, _ in plain.named_parameters()]

    def outputs(*values):
        given = dict(zip(names, values, strict=True))
        out = torch.func.functional_call(plain, given, (inputs.double(),))[0]
        return out.transpose(0, 1) if batch_first else out

    jacobians = torch.autograd.functional.jacobian(outputs, tuple(p.detach() for p in plain.parameters()))
    for name, jacobian in zip(names, jacobians, strict=True):
        expected = jacobian.flatten(3).square().sum(3).mean(dim=(1, 2))
        np.testing.assert_allclose(found.by_step[name], expected, rtol=1e-10)
    frame = found.to_frame()
    assert list(frame["parameter"]) == names
    assert list(frame["entries"]) == [parameter.numel() for parameter in module.parameters()]
    assert all(parameter.grad is None for parameter in module.parameters())


def test_random_directions_estimate_the_sum():
    torch.manual_seed(1)
    module = nn.GRU(2, 6)
    inputs = torch.randn(10, 8, 2)
    exact = parameter_sensitivity(module, inputs, parameters={"weight_hh_l0": None}, directions=1000)
    rough = parameter_sensitivity(module, inputs, parameters={"weight_hh_l0": None}, directions=60)
    assert not rough.exact
    assert rough.mean["weight_hh_l0"] == pytest.approx(exact.mean["weight_hh_l0"], rel=0.5)
    assert rough.mean["weight_hh_l0"] != exact.mean["weight_hh_l0"]


def test_cells_and_unused_parameters():
    torch.manual_seed(2)
    cell = nn.GRUCell(2, 3)
    whole = nn.GRU(2, 3)
    whole.load_state_dict({name + "_l0": value for name, value in cell.state_dict().items()})
    inputs = torch.randn(6, 2, 2)
    by_cell = parameter_sensitivity(cell, inputs, directions=1000)
    by_module = parameter_sensitivity(whole, inputs, directions=1000)
    for name, value in by_cell.mean.items():
        assert value == pytest.approx(by_module.mean[name + "_l0"], rel=1e-10)
    unused = torch.ones(2, requires_grad=True)
    found = parameter_sensitivity(lambda x, h: h + x, torch.ones(3, 1, 1), torch.zeros(1, 1), parameters={"w": unused})
    assert found.mean["w"] == 0


def test_words_and_figure():
    found = scalar(0.9, wide(50, 4, 1))
    assert re.fullmatch(
        r"Mean square of the output [\d.]+, of its derivative by `a` [\d.]+; the gradient's horizon is 10\.", str(found)
    )
    ax = found.plot()
    np.testing.assert_allclose(ax.lines[0].get_ydata()[1:], found.by_step["a"][1:])
    assert ax.get_yscale() == "log"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: parameter_sensitivity(lambda x, h: h, wide(4, 2, 1), torch.zeros(2, 1)),
            "`parameters` is empty and `recurrence` is a function; pass a dictionary of the tensors that it uses, by name.",
        ),
        (
            lambda: parameter_sensitivity(
                lambda x, h: h, wide(4, 2, 1), torch.zeros(2, 1), parameters={"a": torch.ones(1)}
            ),
            "`parameters` has 'a', which is not a leaf tensor that requires a gradient; pass one.",
        ),
        (
            lambda: parameter_sensitivity(nn.GRU(1, 1), torch.ones(4, 2, 1), parameters={"a": torch.ones(1)}),
            "`parameters` names 'a'; the module has weight_ih_l0, weight_hh_l0, bias_ih_l0, bias_hh_l0.",
        ),
        (lambda: scalar(0.9, wide(4, 2, 1), burn_in=4), "`burn_in` is 4 and `inputs` has 4 steps; pass fewer than 4."),
        (lambda: scalar(0.9, wide(4, 2, 1), directions=0), "`directions` must be a whole number of at least 1; got 0."),
    ],
)
def test_bad_input_is_one_sentence(call, message):
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        call()
