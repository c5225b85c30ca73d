"""A small LSTM and GRU over 300 steps in 50 decimal digits, to where no floating-point number reaches.

Their Jacobians come from central differences of the plain equations: at 50 digits a nudge of 1e-18 leaves 1e-36 of error.
"""

import numpy as np
import pytest
import torch
from mpmath import mp, mpf
from torch import nn

from rnnvg import gradient_profile

STEPS, NUDGE = 300, "1e-18"


@pytest.fixture(autouse=True)
def fifty_digits():
    with mp.workdps(50):
        yield


def affine(weight, bias, vector):
    return [sum((w * v for w, v in zip(row, vector, strict=True)), b) for row, b in zip(weight, bias, strict=True)]


def sigmoid(value):
    return 1 / (1 + mp.exp(-value))


def exactly(tensor):
    """The float64 numbers of a parameter, as they are."""
    return [
        [mpf(value) for value in row] if isinstance(row, list) else mpf(row)
        for row in tensor.detach().double().tolist()
    ]


def lstm_step(weights, x, state):
    h, c = state[: len(state) // 2], state[len(state) // 2 :]
    from_x, from_h = affine(weights["ih"], weights["b_ih"], x), affine(weights["hh"], weights["b_hh"], h)
    gates = [a + b for a, b in zip(from_x, from_h, strict=True)]
    n = len(c)
    new = [
        sigmoid(gates[n + j]) * c[j] + sigmoid(gates[j]) * mp.tanh(gates[2 * n + j]) for j in range(n)
    ]  # PyTorch's order: i, f, g, o
    return [sigmoid(gates[3 * n + j]) * mp.tanh(new[j]) for j in range(n)] + new


def gru_step(weights, x, state):
    from_x, from_h = affine(weights["ih"], weights["b_ih"], x), affine(weights["hh"], weights["b_hh"], state)
    n, new = len(state), []
    for j in range(n):  # PyTorch's order: r, z, n
        r, z = sigmoid(from_x[j] + from_h[j]), sigmoid(from_x[n + j] + from_h[n + j])
        new.append((1 - z) * mp.tanh(from_x[2 * n + j] + r * from_h[2 * n + j]) + z * state[j])
    return new


def log_norms(step, weights, inputs, size, covector) -> np.ndarray:
    """ln ||dL/ds|| at distances 0..T from the last step, zero initial state."""
    state, jacobians, nudge = [mpf(0)] * size, [], mpf(NUDGE)
    for x in inputs:
        columns = []
        for j in range(size):
            ends = [step(weights, x, [s + sign * nudge * (i == j) for i, s in enumerate(state)]) for sign in (1, -1)]
            columns.append([(a - b) / (2 * nudge) for a, b in zip(*ends, strict=True)])
        jacobians.append(columns)
        state = step(weights, x, state)
    adjoint, found = covector + [mpf(0)] * (size - len(covector)), []
    for columns in [None, *reversed(jacobians)]:
        if columns is not None:  # row j of J^T is the column of coordinate j
            adjoint = [sum((c * a for c, a in zip(column, adjoint, strict=True)), mpf(0)) for column in columns]
        found.append(float(mp.log(mp.sqrt(sum(a * a for a in adjoint)))))
    return np.array(found)


@pytest.mark.parametrize(("kind", "step"), [(nn.LSTM, lstm_step), (nn.GRU, gru_step)])
@pytest.mark.parametrize("forgetful", [False, True])
def test_fifty_digits(kind, step, forgetful):
    """Also with gates that forget so fast that the gradient passes 1e-400: no float64 holds it."""
    torch.manual_seed(11)
    module = kind(1, 2, dtype=torch.float64)
    if forgetful:
        with torch.no_grad():
            module.bias_hh_l0[2:4] = -4.0  # the LSTM's forget gate, the GRU's update gate
            module.weight_hh_l0 *= 0.1
    inputs = torch.randn(STEPS, 1, 1, dtype=torch.float64)
    grad = torch.randn(STEPS, 1, 2, dtype=torch.float64)
    weights = {
        "ih": exactly(module.weight_ih_l0),
        "hh": exactly(module.weight_hh_l0),
        "b_ih": exactly(module.bias_ih_l0),
        "b_hh": exactly(module.bias_hh_l0),
    }
    size = 4 if kind is nn.LSTM else 2
    expected = log_norms(step, weights, exactly(inputs[:, 0]), size, exactly(grad[-1, 0]))
    found = gradient_profile(module, inputs, output_grad=grad).log_norm[0, :, 0]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)
    assert expected[-1] < (-920 if forgetful else -50)
