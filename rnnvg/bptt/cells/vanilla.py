"""The vanilla RNN, h' = phi(W_ih x + b_ih + W_hh h + b_hh): every equation of it that is used anywhere.

Axes: c steps of a segment, B sequences, I input, H hidden, n adjoints. Weights are laid out as PyTorch's.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from rnnvg.bptt.cells.cell import Cell, Paths
from rnnvg.bptt.cells.parts import (
    SLOPES_1,
    Buffers,
    Gate,
    Part,
    StateViews,
    Trajectory,
    Weights,
    products,
    slope_of_tanh,
    states_from,
    torch_weights,
)
from rnnvg.bptt.gaussian import (
    EDGE_ERROR,
    EPS,
    Moments,
    Side,
    Theory,
    WideLimit,
    edge_warning,
    gaussian_mean,
    growth_as_text,
    quadrature_error,
    side_of_edge,
    square,
    tanh_slope,
)
from rnnvg.bptt.threads import threads_for

XTOL, RTOL = 1e-15, 1e-14  # of the search for q
STEEPEST = 2.0  # |d/dq E sech^4(sqrt(q) z)| is at most half of the largest |(sech^4)''|, which is 4, at 0


class Values(NamedTuple):
    """Preactivations z [c, B, H]."""

    z: Tensor


class Factors(NamedTuple):
    """Slopes phi'(z), [c, B, H]."""

    slopes: Tensor


class Delta(NamedTuple):
    """Adjoints of the preactivations [n, B, H], and the same as rows."""

    gates: Tensor
    rows: Tensor


class Vanilla(Cell):
    """h' = phi(W_ih x + b_ih + W_hh h + b_hh) with phi tanh or relu."""

    modules = (nn.RNN, nn.RNNCell)
    changes = (SLOPES_1,)
    chain = ("saturation", "matrix")
    by_outputs = True
    lasting = True

    def __init__(self, weights: Weights, nonlinearity: str) -> None:
        self.weights, self.nonlinearity = weights, nonlinearity
        self.theory = "rnn-relu" if nonlinearity == "relu" else "rnn"
        self._bias = weights.bias
        self._recurrent = weights.hidden.t().contiguous()  # so laid out, the small product of each step is faster
        self.hidden = weights.hidden.shape[0]
        self.n_inputs, self.like = weights.input.shape[1], weights.input
        self.parts = (Part("hidden", self.hidden),)
        self.widest, self.kept = self.hidden, 5 * self.hidden

    @classmethod
    def read(cls, module: nn.Module, weights: Mapping[str, Tensor], reverse: bool = False) -> list[Vanilla]:
        nonlinearity = getattr(module, "nonlinearity", "tanh")
        return [cls(each, nonlinearity) for each in torch_weights(module, weights, reverse)]

    def run(self, x: Tensor, state: tuple[Tensor, ...], new: Buffers) -> Trajectory:
        (h,) = state
        z = products(x, self.weights.input, self._bias, new("z", h, *x.shape[:2], self.hidden))
        hidden = states_from("hidden", h, len(x), new)
        rows = new.rows((hidden,), z)
        with threads_for(self._recurrent.numel() * h.shape[0], x.device):
            for gate, before, after in rows:
                gate.addmm_(before, self._recurrent)
                if self.nonlinearity == "relu":
                    torch.clamp_min(gate, 0, out=after)
                else:
                    torch.tanh(gate, out=after)
        return Trajectory((hidden,), Values(z))

    def retrace(self, x: Tensor, hidden: Tensor, state: tuple[Tensor, ...], new: Buffers) -> Trajectory:
        (h,), steps, H = state, len(x), self.hidden
        z = products(x, self.weights.input, self._bias, new("z", h, steps, x.shape[1], H))
        z.view(-1, H).addmm_(torch.cat([h[None], hidden[:-1]]).view(-1, H), self._recurrent)
        found = states_from("hidden", h, steps, new)
        if self.nonlinearity == "relu":
            torch.clamp_min(z, 0, out=found[1:])
        else:
            torch.tanh(z, out=found[1:])
        return Trajectory((found,), Values(z))

    def factors(self, path: Trajectory, new: Buffers, change: str | None = None) -> Factors:
        z: Tensor = path.values.z
        slopes = new.lasting("slopes", z, *z.shape)
        if change == SLOPES_1:
            return Factors(slopes.fill_(1))
        if self.nonlinearity == "relu":
            # 0 * z keeps a state that is not finite visible: nan, not a slope of 0.
            return Factors(torch.mul(z, 0, out=slopes).add_(z > 0))
        return Factors(slope_of_tanh(z, slopes))

    def new_delta(self, like: Tensor, new: Buffers) -> Delta:
        gates = new("delta", like, *like.shape[:2], self.hidden)
        return Delta(gates, gates.view(-1, self.hidden))

    def into_gates(self, step: Factors, a: StateViews, delta: Delta, above: Tensor | None) -> None:
        (a_h,) = a.parts
        torch.mul(a_h if above is None else a_h + above, step.slopes, out=delta.gates)

    def pull(self, step: Factors, a: StateViews, out: StateViews, delta: Delta, above: Tensor | None) -> None:
        self.into_gates(step, a, delta, above)
        torch.mm(delta.rows, self.weights.hidden, out=out.rows[0])

    def input_adjoint(self, delta: Delta) -> Tensor:
        return delta.gates @ self.weights.input

    def push(self, step: Factors, v: tuple[Tensor, ...], v_x: Tensor | None) -> tuple[Tensor, ...]:
        z = v[0] @ self.weights.hidden.t()
        if v_x is not None:
            z = z + v_x @ self.weights.input.t()
        return (z * step.slopes,)

    def gates(self, path: Trajectory) -> list[Gate]:
        return [Gate("activation", path.states[0][1:].abs())]

    def paths(self, step: Factors, a: StateViews, delta: Delta, above: Tensor | None) -> Paths:
        return {"matrix": (delta.gates @ self.weights.hidden,)}

    def contributions(
        self, x: Tensor, path: Trajectory, a: StateViews, delta: Delta, above: Tensor | None
    ) -> dict[str, tuple[Tensor, Tensor]]:
        return self.weights.rank_one(delta.gates, delta.gates, x, path.states[0][:-1])

    def recurrent(self) -> Tensor:
        return self.weights.hidden

    @staticmethod
    def theories() -> dict[str, Theory]:
        return {"rnn": _tanh_limit, "rnn-relu": _relu_limit}


def tanh_moments(sigma_w: float, inputs: float) -> tuple[Moments, float]:
    """Of a wide tanh recurrence: q = sigma_w^2 E tanh^2(sqrt(q) z) + s0^2, chi = sigma_w^2 E sech^4(sqrt(q) z).

    `all_factors` is chi / sigma_w^2; `inputs` is s0^2, what inputs and biases add. Beside them what the quadrature, the search
    for q and rounding leave open in chi. Source: Poole et al. 2016; Chen, Pennington and Schoenholz 2018.
    """

    def update(q: float) -> float:
        return sigma_w**2 * gaussian_mean(square(np.tanh), q) + inputs

    q, q_error = 0.0, 0.0
    if inputs > 0 or sigma_w > 1:  # update(q) is concave in q: one crossing above this bound
        low = inputs if inputs > 0 else (sigma_w**2 - 1) / (4 * sigma_w**2)
        q = _root(lambda q: update(q) - q, low, sigma_w**2 + inputs, xtol=XTOL, rtol=RTOL)
        slope = 1 - sigma_w**2 * gaussian_mean(_half_second_derivative, q)
        # near the edge without inputs both the slope and what rounding does to update(q) are proportional to q
        q_error = XTOL + RTOL * q + (quadrature_error(q) + EPS) * q / max(slope, EPS)
    found = Moments(
        q=q,
        state=gaussian_mean(square(np.tanh), q),
        carry=0.0,
        carry_square=0.0,
        candidate=gaussian_mean(tanh_slope, q),
        carry_candidate=0.0,
        all_factors=gaussian_mean(square(tanh_slope), q),
    )
    chi = sigma_w**2 * found.all_factors
    return found, quadrature_error(q) * chi + STEEPEST * sigma_w**2 * q_error


def _half_second_derivative(z: np.ndarray) -> np.ndarray:
    """(tanh^2)'' / 2, whose mean is d/dq E tanh^2(sqrt(q) z)."""
    open_part = tanh_slope(z)
    return open_part**2 - 2 * np.tanh(z) ** 2 * open_part


def _root(excess: Callable[[float], float], low: float, high: float, **tolerances: float) -> float:
    """Where `excess` is zero between `low` and `high`, by SciPy, which is slow to load and has no types."""
    return float(importlib.import_module("scipy.optimize").brentq(excess, low, high, **tolerances))


def critical_sigma_w(inputs: float) -> float:
    """The sigma_w at which chi of a wide tanh recurrence is 1; inputs suppress chaos, so it rises with them."""
    if inputs == 0:
        return 1.0

    def excess(sigma_w: float) -> float:
        return sigma_w**2 * tanh_moments(sigma_w, inputs)[0].all_factors - 1

    # chi > sigma_w^2 / (2 sqrt(q + 1)) and q < sigma_w^2 + s0
    above = 4.0 + 2 * inputs**0.25
    return _root(excess, 1.0, above, xtol=1e-12)


def tanh_warning(sigma_w: float, inputs: float, chi: float, side: Side) -> str | None:
    """The sentence for a wide tanh recurrence past the edge of chaos."""
    if side != "past the edge":
        return None
    return (
        f"sigma_w = {sigma_w:.4g} is past the edge (chi = {growth_as_text(chi)} > 1), so gradients grow; the edge is at "
        f"{critical_sigma_w(inputs):.4g}."
    )


def _tanh_limit(sigma_w: float, inputs: float, bias: float, carry_bias: float, bias_error: float) -> WideLimit:
    moments, error = tanh_moments(sigma_w, inputs + bias)
    chi = sigma_w**2 * moments.all_factors
    side = side_of_edge(chi, error)
    return WideLimit(moments, sigma_w, side, tanh_warning(sigma_w, inputs + bias, chi, side))


def _relu_limit(sigma_w: float, inputs: float, bias: float, carry_bias: float, bias_error: float) -> WideLimit:
    """Half of the units are open whatever q is, and E h^2 = q / 2."""
    q = (inputs + bias) / (1 - sigma_w**2 / 2) if sigma_w**2 < 2 else math.inf
    moments = Moments(q, q / 2, carry=0.0, carry_square=0.0, candidate=0.5, carry_candidate=0.0, all_factors=0.5)
    edge = sigma_w / math.sqrt(2)
    side = side_of_edge(edge, EDGE_ERROR)
    return WideLimit(moments, edge, side, edge_warning(edge, side))
