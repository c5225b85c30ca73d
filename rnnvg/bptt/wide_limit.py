"""Gradients of very wide random networks: second moments of an adjoint on its way back through gates.

In the limit of many units a random matrix times a vector is a Gaussian field with the vector's mean square, and what it is
multiplied by next is independent of it (gradient independence; Gilboa et al. 2019). The recurrent matrix is the *same* at
every step, so the fields of two steps are correlated as the vectors are (Can, Krishnamurthy and Schwab 2020): with carry d and
candidate factor g the growth is d + g sigma_w a step, not sqrt(d^2 + g^2 sigma_w^2). So the moments are two-time:

    y_{k+1} = d_k y_k + s_k xi_k,    E xi_k xi_l = sigma_w^2 E (g_k y_k)(g_l y_l)

y is dL/dh of a GRU or dL/dc + dL/dh dh/dc of an LSTM at distance k, d its update or forget gate, s = o tanh'(c) (GRU: 1),
and g runs over the gates' factors. Gates are taken as independent from step to step, as independent inputs make them; then
only the candidate's factor, whose mean is not zero, connects two times.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

STEP = 0.05  # between nodes, in t
FEW = 16  # units of rounding in exp, cosh and tanh, and in their arguments and powers
REACH = 9.0  # standard deviations; exp(-REACH^2 / 2) is below a float64's digits
DEFAULT_SIGMA_W = 1 / math.sqrt(3)  # entries U(-1/sqrt(H), 1/sqrt(H)) have variance 1/(3 H)
Function = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Moments:
    """What one backward step multiplies by, averaged over units: carry d, candidate factor g, output slope s.

    `all_factors` is the sum of E factor^2 over every path that starts at y, `output_path` E factor^2 of the one that starts
    at dL/dh (an LSTM's output gate). `q` is the variance of a gate's preactivation, `state` E h^2.
    """

    q: float
    state: float
    carry: float
    carry_square: float
    candidate: float
    carry_candidate: float
    all_factors: float
    slope: float = 1.0
    slope_square: float = 1.0
    output_path: float = 0.0


def gaussian_nodes(variance: float, mean: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights for E f(mean + sqrt(variance) z), z standard normal, f a gate's sigmoid or tanh or a slope of them.

    The trapezoidal rule in t, z = c + w sinh(t): w = 1 / max(1, sqrt(variance)) is the width of f's step as z sees it, and
    c is where the step is. Whatever the variance, f and the Gaussian are then analytic in a strip of half-width pi/4 about the
    real line, poles of tanh included, and the rule's error is below exp(-35), less than rounding (Trefethen, Weideman 2014).
    """
    root = math.sqrt(variance)
    width = 1 / max(1.0, root)
    centre = min(max(-mean / root, -REACH), REACH) if root > 0 else 0.0
    first, last = (math.asinh((end - centre) / width) / STEP for end in (-REACH, REACH))
    t = STEP * np.arange(math.floor(first), math.ceil(last) + 1)
    nodes = centre + width * np.sinh(t)
    weights = np.exp(-(nodes**2) / 2) * np.cosh(t)
    return nodes, weights / weights.sum()


def gaussian_mean(function: Function, variance: float, mean: float = 0.0) -> float:
    """E f(mean + sqrt(variance) z), z standard normal, to `quadrature_error` of E |f|."""
    nodes, weights = gaussian_nodes(variance, mean)
    return float(weights @ function(mean + math.sqrt(variance) * nodes))


def quadrature_error(variance: float) -> float:
    """What rounding may do to a `gaussian_mean`, relative to E |f|, on any machine.

    n weights above 0 that add up to 1, and n products, are added in an order that the machine chooses: n units of rounding
    for each of the two sums. Every weight and value is itself good to a few.
    """
    n = len(gaussian_nodes(variance)[0])
    return (2 * n + FEW) * float(np.finfo(float).eps) / 2


def sigmoid(z: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + np.tanh(z / 2))


def sigmoid_slope(z: np.ndarray) -> np.ndarray:
    return 0.25 / np.cosh(np.clip(z / 2, -300, 300)) ** 2


def tanh_slope(z: np.ndarray) -> np.ndarray:
    return 1 / np.cosh(np.clip(z, -300, 300)) ** 2


def square(function: Function) -> Function:
    return lambda z: function(z) ** 2


def fixed_point(update: Callable[[float], float], start: float) -> float:
    """Where repeated `update` comes to rest; the maps here are bounded and increasing."""
    value = start
    for _ in range(100_000):
        after = update(value)
        if abs(after - value) <= 1e-15 * (1 + abs(after)):
            return after
        value = after
    return value


def lstm_moments(sigma_w: float, inputs: float, bias: float, forget_bias: float) -> Moments:
    """For input variance `inputs` per preactivation, variance `bias` of b_ih + b_hh, and the forget gate's mean bias."""

    def forward(state: float) -> tuple[float, float, float]:
        q = sigma_w**2 * state + inputs + bias
        cell = gate_square(q) * gaussian_mean(square(np.tanh), q) / (1 - gaussian_mean(square(sigmoid), q, forget_bias))
        return q, cell, gate_square(q) * gaussian_mean(square(np.tanh), cell)

    def gate_square(q: float) -> float:
        return gaussian_mean(square(sigmoid), q)

    state = fixed_point(lambda value: forward(value)[2], 0.0)
    q, cell, _ = forward(state)
    forget, candidate = gaussian_mean(sigmoid, q, forget_bias), 0.5 * gaussian_mean(tanh_slope, q)
    gate_slope = gaussian_mean(square(sigmoid_slope), q)
    return Moments(
        q=q,
        state=state,
        carry=forget,
        carry_square=gaussian_mean(square(sigmoid), q, forget_bias),
        candidate=candidate,
        carry_candidate=forget * candidate,
        all_factors=gate_square(q) * gaussian_mean(square(tanh_slope), q)
        + gaussian_mean(square(np.tanh), q) * gate_slope
        + cell * gaussian_mean(square(sigmoid_slope), q, forget_bias),
        slope=0.5 * gaussian_mean(tanh_slope, cell),
        slope_square=gate_square(q) * gaussian_mean(square(tanh_slope), cell),
        output_path=gaussian_mean(square(np.tanh), cell) * gate_slope,
    )


def gru_moments(sigma_w: float, inputs: float, bias: float, update_bias: float) -> Moments:
    """As for the LSTM; half of the bias variance belongs to b_hh, which the candidate's reset gate multiplies."""

    def forward(state: float) -> float:
        q = sigma_w**2 * state + inputs + bias
        opened = gaussian_mean(square(lambda z: sigmoid(-z)), q, update_bias)
        kept = gaussian_mean(square(sigmoid), q, update_bias)
        return opened * _Candidate(sigma_w**2 * state + bias / 2, inputs + bias / 2, q).square / (1 - kept)

    state = fixed_point(forward, 0.0)
    q = sigma_w**2 * state + inputs + bias
    new = _Candidate(sigma_w**2 * state + bias / 2, inputs + bias / 2, q)
    update, update_square = gaussian_mean(sigmoid, q, update_bias), gaussian_mean(square(sigmoid), q, update_bias)
    opened = gaussian_mean(square(lambda z: sigmoid(-z)), q, update_bias)
    return Moments(
        q=q,
        state=state,
        carry=update,
        carry_square=update_square,
        candidate=(1 - update) * new.factor,
        carry_candidate=(update - update_square) * new.factor,
        all_factors=opened * (new.factor_square + new.reset_square)
        + (state + new.square) * gaussian_mean(square(sigmoid_slope), q, update_bias),
    )


class _Candidate:
    """Means over a GRU's candidate n = tanh(u), u = x + r hn, for Gaussian x, hn and reset preactivation of these variances.

    square E n^2; factor E dn/dhn; factor_square its mean square; reset_square E (dn/dz_r)^2. Given r, u is Gaussian with
    variance V = x + r^2 hn, and E(hn^2 | u) = hn + (r hn)^2 / V (u^2 / V - 1) with the variances so called.
    """

    def __init__(self, hn: float, x: float, gate: float) -> None:
        nodes, weights = gaussian_nodes(gate)
        z = math.sqrt(gate) * nodes
        r = sigmoid(z)[:, None]
        variance = x + r**2 * hn
        inner, inner_weights = gaussian_nodes(float(variance.max()))
        u = np.sqrt(variance) * inner
        hn_given_u = hn + (r * hn) ** 2 / np.where(variance > 0, variance, 1.0) * (inner**2 - 1)
        slope_square = tanh_slope(u) ** 2

        def mean(values: np.ndarray) -> float:
            return float(weights @ (values @ inner_weights))

        self.square = mean(np.tanh(u) ** 2)
        self.factor = mean(r * tanh_slope(u))
        self.factor_square = mean(r**2 * slope_square)
        self.reset_square = mean(sigmoid_slope(z)[:, None] ** 2 * hn_given_u * slope_square)


def log_norms(moments: Moments, sigma_w: float, steps: int, has_cell: bool) -> np.ndarray:
    """ln sqrt(E ||dL/ds||^2) at distances 1..steps from a random covector of length 1 on the output, [steps].

    Everything is kept over scale^k, so that no step count leaves the range.
    """
    m = moments
    scale = m.carry + sigma_w * m.candidate * m.slope
    carry, carry_square, joint = m.carry / scale, m.carry_square / scale**2, m.carry_candidate / scale
    slope, slope_square = m.slope / scale, m.slope_square / scale**2
    y_square = m.slope_square if has_cell else 1.0
    output_square = 1.0
    fields = np.zeros(steps + 1)  # E xi_k xi_l for the current k and l <= k
    seen = np.zeros(steps + 1)  # E y_k (g_l y_l) for l < k
    squares = np.empty(steps)
    for k in range(steps):
        fields[:k] = sigma_w**2 * m.candidate * seen[:k]
        fields[k] = sigma_w**2 * (m.all_factors * y_square + m.output_path * output_square)
        known = np.zeros(k + 1)  # E xi_k y_l for l <= k
        for earlier in range(1, k + 1):
            known[earlier] = carry * known[earlier - 1] + slope * fields[earlier - 1]
        output_square = fields[k] / scale**2
        cell_square = carry_square * y_square
        seen[:k] = carry * seen[:k] + slope * m.candidate * known[:k]
        seen[k] = joint * y_square + slope * m.candidate * known[k]
        y_square = carry_square * y_square + 2 * carry * slope * known[k] + slope_square * fields[k]
        squares[k] = output_square + cell_square if has_cell else y_square
    return 0.5 * np.log(squares) + np.arange(1, steps + 1) * math.log(scale)
