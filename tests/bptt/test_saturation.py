"""Gates and units so saturated that 1 - activation rounds to nothing, states that overflow, norms whose squares do.

Slopes are written with pencil and paper: sigmoid'(+-40) = e^-40, tanh'(20) = 4 e^-40, tanh'(30) = 4 e^-60, where a float32
activation is 1 to the last digit and the slope taken from it is a false zero.
"""

import math

import numpy as np
import pytest
import torch
from mpmath import mp, mpf
from torch import nn

from rnnvg import gradient_profile
from rnnvg.bptt import Diagonal

DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
STEPS = 30
SECH2 = 1 / math.cosh(1) ** 2  # tanh'(1)


def near(dtype: torch.dtype, steps: int = 1) -> dict[str, float]:
    return {"rtol": 0, "atol": (1e-6 if dtype == torch.float32 else 1e-9) * steps}


def zeros(dtype: torch.dtype, steps: int = STEPS) -> torch.Tensor:
    return torch.zeros(steps, 1, 1, dtype=dtype)


def gated(kind, dtype: torch.dtype, biases: dict[int, float], from_x: int | None = None):
    """One unit without weights on h; gate number -> bias; the input enters the one gate `from_x` with weight 1."""
    module = kind(1, 1, dtype=dtype)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()
        for gate, bias in biases.items():
            module.bias_ih_l0[gate] = bias
        if from_x is not None:
            module.weight_ih_l0[from_x] = 1
    return module


def lstm(dtype, *, i=0.0, f=0.0, g=0.0, o=0.0, from_x=None):
    return gated(nn.LSTM, dtype, {0: i, 1: f, 2: g, 3: o}, None if from_x is None else "ifgo".index(from_x))


def gru(dtype, *, r=0.0, z=0.0, n=0.0, from_x=None):
    return gated(nn.GRU, dtype, {0: r, 1: z, 2: n}, None if from_x is None else "rzn".index(from_x))


def states(dtype, c: float):
    return torch.zeros(1, 1, 1, dtype=dtype), torch.full((1, 1, 1), c, dtype=dtype)


def at_input(module, dtype, state=None) -> np.ndarray:
    return gradient_profile(module, zeros(dtype), state, wrt="input").log_norm[0, :STEPS, 0]


@DTYPES
@pytest.mark.parametrize("c", [30.0, -30.0])
def test_a_cell_at_thirty(dtype, c):
    """f = o = 1, so c stays: dh/dc = tanh'(30) = 4 e^-60 once, and nothing is lost on the way back."""
    found = gradient_profile(lstm(dtype, i=-40, f=40, o=40), zeros(dtype), states(dtype, c)).log_norm[0, :, 0]
    np.testing.assert_allclose(found[1:], math.log(4) - 60, **near(dtype, 10))


@DTYPES
@pytest.mark.parametrize("sign", [1, -1])
def test_slopes_of_saturated_gates(dtype, sign):
    """The input moves one gate alone, at +-40; c starts at 1 and o or f is 1/2 where it is not the one."""
    of_o = at_input(lstm(dtype, i=-40, f=40, o=40 * sign, from_x="o"), dtype, states(dtype, 1.0))
    assert of_o[0] == pytest.approx(math.log(math.tanh(1)) - 40, abs=1e-5)
    assert (of_o[1:] == -np.inf).all()  # without weights on h that gate's path ends there
    of_i = at_input(lstm(dtype, i=40 * sign, f=40, g=0.3, from_x="i"), dtype)
    c = 0.0 if sign < 0 else STEPS * math.tanh(0.3)
    expected = math.log(0.5 * math.tanh(0.3)) - 40 - 2 * math.log(math.cosh(c))
    np.testing.assert_allclose(of_i, expected, **near(dtype, 20))


@DTYPES
def test_slope_of_an_open_forget_gate(dtype):
    found = at_input(lstm(dtype, i=-40, f=40, from_x="f"), dtype, states(dtype, 1.0))
    np.testing.assert_allclose(found, math.log(0.5 * SECH2) - 40, **near(dtype, 10))


@DTYPES
@pytest.mark.parametrize("sign", [1, -1])
def test_slope_of_a_saturated_candidate(dtype, sign):
    """g = +-1 with slope 4 e^-80; i = f = o = 1/2 lead c to +-1 (1 - 2^-30)."""
    found = at_input(lstm(dtype, g=40 * sign, from_x="g"), dtype)
    c = 1 - 0.5**STEPS
    start = math.log(0.5 * 0.5 * 4) - 80 - 2 * math.log(math.cosh(c))
    np.testing.assert_allclose(found, start + np.arange(STEPS) * math.log(0.5), **near(dtype, 10))


@DTYPES
def test_a_shut_forget_gate(dtype):
    """e^-40 a step: 1e-520 after 30, with no zero and no underflow on the way."""
    module = lstm(dtype, i=-60, f=-40)
    found = gradient_profile(module, zeros(dtype), states(dtype, 1.0)).log_norm[0, :, 0]
    np.testing.assert_allclose(found[1:], math.log(0.5) - 40.0 * np.arange(1, STEPS + 1), **near(dtype, STEPS))


@DTYPES
def test_a_saturated_gru(dtype):
    shut = gradient_profile(gru(dtype, z=-40), zeros(dtype)).log_norm[0, :, 0]
    np.testing.assert_allclose(shut, -40.0 * np.arange(STEPS + 1), **near(dtype, STEPS))
    candidate = at_input(gru(dtype, z=40, from_x="n"), dtype)  # weight 1 - z = e^-40 on the candidate
    np.testing.assert_allclose(candidate, -40, **near(dtype, 10))
    update = at_input(gru(dtype, z=40, n=1.0, from_x="z"), dtype)  # z' (h - n), h almost 0
    np.testing.assert_allclose(update, math.log(math.tanh(1)) - 40, **near(dtype, 10))
    update = at_input(gru(dtype, z=-40, n=1.0, from_x="z"), dtype, torch.zeros(1, 1, 1, dtype=dtype))
    assert update[-1] == pytest.approx(math.log(math.tanh(1)) - 40 - 40 * (STEPS - 1), abs=1e-3)
    filled = at_input(gru(dtype, z=-40, n=30.0, from_x="n"), dtype)  # tanh'(30)
    assert filled[0] == pytest.approx(math.log(4) - 60, abs=1e-4)


@DTYPES
@pytest.mark.parametrize("sign", [1, -1])
def test_a_saturated_tanh(dtype, sign):
    """h = +-1 held by w = 1 and a bias of +-19: slope tanh'(20) a step."""
    module = nn.RNN(1, 1, bias=False, dtype=dtype)
    nn.init.ones_(module.weight_hh_l0)
    nn.init.ones_(module.weight_ih_l0)
    start = torch.full((1, 1, 1), float(sign), dtype=dtype)
    found = gradient_profile(module, zeros(dtype) + 19.0 * sign, start).log_norm[0, :, 0]
    np.testing.assert_allclose(found, (math.log(4) - 40) * np.arange(STEPS + 1), **near(dtype, STEPS * 10))


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
def test_saturated_networks_in_float32(kind):
    """Weights of several times the usual size and inputs to +-20: never nan, a zero only where 50 digits say zero."""
    torch.manual_seed(1)
    module = kind(2, 6, num_layers=2)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(4)
    inputs = 20 * (2 * torch.rand(60, 8, 2) - 1)
    for wrt in ("state", "input"):
        found = gradient_profile(module, inputs, sources=[20, 59], wrt=wrt).log_norm
        seen = np.arange(61)[None, :] <= np.array([[21], [60]]) - (wrt == "input")
        assert np.isfinite(found[seen]).all()
    double = gradient_profile(module.double(), inputs.double(), sources=[59]).log_norm[:, :4]
    single = gradient_profile(module.float(), inputs, sources=[59]).log_norm[:, :4]
    np.testing.assert_allclose(single, double, rtol=0.02, atol=0.02)


def test_a_saturated_tanh_in_fifty_digits():
    """Two units far in the tails, their Jacobian in mpmath; float64's 1 - h^2 would have three digits left at best."""
    torch.manual_seed(2)
    module = nn.RNN(1, 2, bias=False, dtype=torch.float64)
    inputs, grad = 14 + torch.randn(40, 1, 1, dtype=torch.float64), torch.randn(40, 1, 2, dtype=torch.float64)
    nn.init.constant_(module.weight_ih_l0, 1.0)
    found = gradient_profile(module, inputs, output_grad=grad).log_norm[0, :, 0]
    with mp.workdps(50):
        weight = mp.matrix(module.weight_hh_l0.tolist())
        h, slopes = mp.matrix([0, 0]), []
        for x in inputs.flatten().tolist():
            a = weight * h + mp.matrix([x, x])
            h = mp.matrix([mp.tanh(each) for each in a])
            slopes.append([1 / mp.cosh(each) ** 2 for each in a])
        adjoint, expected = mp.matrix([mpf(each) for each in grad[-1, 0].tolist()]), []
        for slope in [None, *reversed(slopes)]:
            if slope is not None:
                adjoint = weight.T * mp.matrix([d * each for d, each in zip(slope, adjoint, strict=True)])
            expected.append(float(mp.log(mp.norm(adjoint))))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)
    assert expected[-1] < -900


# overflow ---------------------------------------------------------------------------------------------------------------


def exploding(dtype: torch.dtype) -> nn.RNN:
    """h = 10 h + x: 1, 11, 111, ...; in float32 the state of step 38 is 1.1e38 and that of step 39 is inf."""
    module = nn.RNN(1, 1, nonlinearity="relu", bias=False, dtype=dtype)
    nn.init.constant_(module.weight_hh_l0, 10.0)
    nn.init.ones_(module.weight_ih_l0)
    return module


@pytest.mark.parametrize("wrt", ["state", "input"])
def test_states_that_overflow(wrt):
    inputs = torch.ones(60, 2, 1)
    inputs[:, 1] = -1  # a dead unit: an exact zero that stays apart from the overflow
    profile = gradient_profile(exploding(torch.float32), inputs, sources=[10, 38, 39, 59], wrt=wrt)
    np.testing.assert_array_equal(profile.first_nonfinite, [39, -1])
    last = 1 if wrt == "state" else 0
    for s, source in enumerate((10, 38)):  # before the overflow everything is as ever
        k = np.arange(source + 1 + last)
        np.testing.assert_allclose(profile.log_norm[s, : len(k), 0], k * math.log(10), rtol=1e-5)
    assert np.isnan(profile.log_norm[2:, 1:, 0]).all()
    assert (profile.log_norm[3, 1:60, 1] == -np.inf).all()


def test_float64_overflows_later():
    profile = gradient_profile(exploding(torch.float64), torch.ones(400, 1, 1, dtype=torch.float64), sources=[307, 399])
    np.testing.assert_array_equal(profile.first_nonfinite, [308 + 1])
    np.testing.assert_allclose(profile.log_norm[0, :309, 0], np.arange(309) * math.log(10), rtol=1e-9)


def test_an_overflow_in_the_padding_is_none():
    profile = gradient_profile(exploding(torch.float32), torch.ones(60, 2, 1), lengths=[60, 20])
    np.testing.assert_array_equal(profile.first_nonfinite, [39, -1])


def test_an_overflow_in_the_padding_changes_no_number():
    profile = gradient_profile(exploding(torch.float32), torch.ones(60, 2, 1), lengths=[60, 20])
    np.testing.assert_allclose(profile.log_norm[0, :21, 1], np.arange(21) * math.log(10), rtol=1e-5)


def test_step_functions_that_overflow():
    inputs, state = torch.ones(60, 1, 1), torch.zeros(1, 1)
    profile = gradient_profile(lambda x, h: 10 * h + x, inputs, state, sources=[38, 59])
    np.testing.assert_array_equal(profile.first_nonfinite, [39])
    np.testing.assert_allclose(profile.log_norm[0, :40, 0], np.arange(40) * math.log(10), rtol=1e-5)


def test_behind_states_that_overflowed_a_step_function_is_nan_as_a_module_is():
    profile = gradient_profile(lambda x, h: 10 * h + x, torch.ones(60, 1, 1), torch.zeros(1, 1))
    assert np.isnan(profile.log_norm[0, 1:, 0]).all()


def test_an_overflown_profile_still_has_a_curve_and_a_frame():
    profile = gradient_profile(exploding(torch.float32), torch.ones(60, 2, 1), sources=[20, 59])
    curve = profile.curve()
    np.testing.assert_array_equal(curve["n"], [0] + [2] * 21 + [0] * 39)
    assert profile.horizon().censored
    assert np.isfinite(profile.to_frame()["log_norm"]).all()


# squares ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "size"),
    [
        (torch.float32, 1e-30),
        (torch.float32, 1e30),
        (torch.float64, 1e-200),
        (torch.float64, 1e200),
    ],
)
def test_an_output_grad_whose_square_leaves_the_range(dtype, size):
    grad = torch.full((50, 1, 4), size, dtype=dtype)
    found = gradient_profile(Diagonal(), torch.ones(50, 1, 4, dtype=dtype), output_grad=grad).log_norm[0, :, 0]
    np.testing.assert_allclose(found, math.log(2 * size), rtol=1e-6)


@pytest.mark.parametrize(
    ("dtype", "size"),
    [
        (torch.float32, 1e-25),
        (torch.float32, 1e25),
        (torch.float64, 1e-180),
        (torch.float64, 1e180),
    ],
)
def test_jacobians_whose_squares_leave_the_range(dtype, size):
    module = nn.RNN(1, 3, bias=False, dtype=dtype)
    module.weight_hh_l0.data = size * torch.eye(3, dtype=dtype)[[1, 2, 0]]
    expected = np.arange(41) * math.log(size)
    for recurrence, inputs in ((module, zeros(dtype, 40)), (Diagonal(), torch.full((40, 1, 3), size, dtype=dtype))):
        found = gradient_profile(recurrence, inputs).log_norm[0, :, 0]
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


def test_coordinates_of_very_different_size_are_not_lost():
    """Next to a coordinate that stays at 1, one that falls below the dtype's range: layer by layer both are measured."""
    module = nn.RNN(1, 1, num_layers=2, bias=False, dtype=torch.float64)
    for parameter, value in zip(module.parameters(), (1.0, 0.5, 1e-3, 0.9), strict=True):
        nn.init.constant_(parameter, value)  # ih0, hh0, ih1, hh1; zero states, so every slope is 1
    grad = torch.ones(1000, 1, 1, dtype=torch.float64)
    lower = gradient_profile(module, zeros(torch.float64, 1000), output_grad=grad, layer=0).log_norm[0, 1:, 0]
    k = np.arange(1, 1001)
    exact = np.log(1e-3 * 0.5 * (0.9**k - 0.5**k) / 0.4)  # sum of 0.9^a 0.5^b over a + b = k - 1
    np.testing.assert_allclose(lower, exact, rtol=0, atol=1e-9)


@DTYPES
@pytest.mark.parametrize("wrt", ["state", "input"])
def test_a_part_that_falls_out_of_the_range_of_the_whole(dtype, wrt):
    """A part that decays by .1 a step beside one that decays by .9 is 10^-k until it leaves the dtype's range relative to the
    whole, as the profile's docstring says; from there on it is -inf, never a wrong number."""
    if wrt == "state":  # the upper of two layers; the lower one remembers longer
        module, asked = nn.RNN(1, 1, num_layers=2, bias=False, dtype=dtype), {"layer": 1}
        for parameter, value in zip(module.parameters(), (1.0, 0.9, 1e-3, 0.1), strict=True):
            nn.init.constant_(parameter, value)
    else:  # an input that reaches the second of two units alone
        module, asked = nn.RNN(1, 2, bias=False, dtype=dtype), {"wrt": "input"}
        module.weight_hh_l0.data = torch.tensor([[0.9, 0.0], [0.0, 0.1]], dtype=dtype)
        module.weight_ih_l0.data = torch.tensor([[0.0], [1.0]], dtype=dtype)
    grad = torch.ones(500, 1, module.hidden_size, dtype=dtype)
    found = gradient_profile(module, zeros(dtype, 500), output_grad=grad, **asked).log_norm[0, :500, 0]
    measured = 45 if dtype == torch.float32 else 330
    np.testing.assert_allclose(found[:measured], np.arange(measured) * math.log(0.1), rtol=1e-3, atol=1e-6)
    assert np.isneginf(found[measured + 30 :]).all()
