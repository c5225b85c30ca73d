"""The LSTM, c' = f c + i g, h' = W_hr (o tanh(c')), with gates i, f, g, o in PyTorch's order: every equation of it.

Axes: c steps of a segment, B sequences, I input, H hidden, P output (H, or proj_size), n adjoints.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from rnnvg.bptt.cells.cell import Cell, Paths
from rnnvg.bptt.cells.parts import (
    ALL_OPEN,
    FORGET_OPEN,
    GATES_HELD,
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
    Moments,
    Theory,
    WideLimit,
    edge_warning,
    fixed_point,
    gaussian_mean,
    growth_as_text,
    side_of_edge,
    sigmoid,
    sigmoid_slope,
    square,
    tanh_slope,
)
from rnnvg.bptt.threads import threads_for

GATES = ("input gate", "forget gate", "candidate", "output gate")  # PyTorch's blocks of W, in order


class Values(NamedTuple):
    """Preactivations z and gates [c, B, 4, H]; squashed = tanh(c') [c, B, H]."""

    z: Tensor
    gates: Tensor
    squashed: Tensor


class Factors(NamedTuple):
    """With dc := a_c + a_h * slope: slope o sech^2(c') [c, B, H]; into_cell dc -> gates i, f, g [c, B, 3, H]; into_output
    a_h -> gate o [c, B, H]; forget dc -> a_c' [c, B, H]."""

    slope: Tensor
    into_cell: Tensor
    into_output: Tensor
    forget: Tensor


class Delta(NamedTuple):
    """Adjoints of the preactivations [n, B, 4 H], as rows, of i, f, g and of o; dc [n, B, H], and for three gates at once."""

    gates: Tensor
    rows: Tensor
    cell_gates: Tensor
    output_gate: Tensor
    dc: Tensor
    dc_for_gates: Tensor


class LSTM(Cell):
    """c' = f c + i g,  h' = W_hr (o tanh(c'))."""

    modules = (nn.LSTM, nn.LSTMCell)
    changes = (SLOPES_1, GATES_HELD, FORGET_OPEN, ALL_OPEN)
    carry_gate = "forget gate"
    theory = "lstm"
    by_outputs = True
    lasting = True

    def __init__(self, weights: Weights) -> None:
        self.weights = weights
        self._bias = weights.bias
        self._recurrent = weights.hidden.t().contiguous()
        self.hidden = weights.hidden.shape[0] // 4
        self.n_inputs, self.like = weights.input.shape[1], weights.input
        self.parts = (Part("hidden", weights.hidden.shape[1]), Part("cell", self.hidden))
        self.widest, self.kept = 4 * self.hidden, 9 * self.hidden + 2 * weights.hidden.shape[1]

    @classmethod
    def read(cls, module: nn.Module, weights: Mapping[str, Tensor], reverse: bool = False) -> list[LSTM]:
        return [cls(each) for each in torch_weights(module, weights, reverse)]

    def run(self, x: Tensor, state: tuple[Tensor, ...], new: Buffers) -> Trajectory:
        (h, c), steps, batch, H = state, x.shape[0], x.shape[1], self.hidden
        z = products(x, self.weights.input, self._bias, new("z", h, steps, batch, 4 * H))
        gates, squashed = new("gates", h, steps, batch, 4 * H), new("squashed", h, steps, batch, H)
        hidden, cell = states_from("hidden", h, steps, new), states_from("cell", c, steps, new)
        rows = new.rows((hidden, cell), z, z[..., 2 * H : 3 * H], gates, *gates.chunk(4, -1), squashed)
        recurrent, projection = self._recurrent, self.weights.projection
        with threads_for(recurrent.numel() * batch, x.device):
            for row, proposed, gate, into, forget, candidate, out, squash, h_before, h_after, c_before, c_after in rows:
                row.addmm_(h_before, recurrent)
                torch.sigmoid(row, out=gate)
                torch.tanh(proposed, out=candidate)
                torch.mul(into, candidate, out=c_after).addcmul_(forget, c_before)
                torch.tanh(c_after, out=squash)
                if projection is None:
                    torch.mul(out, squash, out=h_after)
                else:
                    torch.mm(out * squash, projection.t(), out=h_after)
        shape = (steps, batch, 4, H)
        return Trajectory((hidden, cell), Values(z.view(shape), gates.view(shape), squashed))

    def retrace(self, x: Tensor, hidden: Tensor, state: tuple[Tensor, ...], new: Buffers) -> Trajectory:
        (h, c), steps, batch, H = state, x.shape[0], x.shape[1], self.hidden
        z = products(x, self.weights.input, self._bias, new("z", h, steps, batch, 4 * H))
        z.view(-1, 4 * H).addmm_(torch.cat([h[None], hidden[:-1]]).view(-1, h.shape[-1]), self._recurrent)
        gates = torch.sigmoid(z, out=new("gates", h, steps, batch, 4 * H))
        into, forget, candidate, out = gates.chunk(4, -1)
        torch.tanh(z[..., 2 * H : 3 * H], out=candidate)
        cell = states_from("cell", c, steps, new)
        torch.mul(into, candidate, out=cell[1:])
        rows = cell.unbind()
        for before, after, kept in zip(rows, rows[1:], forget.unbind(), strict=False):
            after.addcmul_(kept, before)
        squashed = torch.tanh(cell[1:], out=new("squashed", h, steps, batch, H))
        found = states_from("hidden", h, steps, new)
        if self.weights.projection is None:
            torch.mul(out, squashed, out=found[1:])
        else:
            torch.matmul(out * squashed, self.weights.projection.t(), out=found[1:])
        shape = (steps, batch, 4, H)
        return Trajectory((found, cell), Values(z.view(shape), gates.view(shape), squashed))

    def factors(self, path: Trajectory, new: Buffers, change: str | None = None) -> Factors:
        z, gates, squashed = path.values
        before, after = path.states[1][:-1], path.states[1][1:]
        into, forget, candidate, out = gates.unbind(-2)
        slopes = torch.abs(z, out=new.lasting("slopes", z, *z.shape)).neg_()  # copysign takes longer than both
        slopes[:, :, 2].mul_(2)
        slopes.sigmoid_().addcmul_(slopes, slopes, value=-1)
        slopes[:, :, 2].mul_(4)
        of_into, of_forget, of_candidate, of_out = slopes.unbind(-2)
        slope = slope_of_tanh(after, new.lasting("slope", z, *after.shape))
        if change == SLOPES_1:
            of_candidate.fill_(1)
            slope.fill_(1)
        if change in (GATES_HELD, ALL_OPEN):
            for slope_of_gate in (of_into, of_forget, of_out):
                slope_of_gate.zero_()
        if change in (FORGET_OPEN, ALL_OPEN):
            of_forget.zero_()
            forget = torch.ones_like(forget)
        if change == ALL_OPEN:
            into = out = forget
        of_into.mul_(candidate)
        of_forget.mul_(before)
        of_candidate.mul_(into)
        of_out.mul_(squashed)
        return Factors(slope.mul_(out), slopes[:, :, :3], of_out, new.kept("forget", forget))

    def new_delta(self, like: Tensor, new: Buffers) -> Delta:
        delta = new("delta", like, *like.shape[:2], 4, self.hidden)
        dc = new("dc", like, *like.shape[:2], self.hidden)
        flat = delta.view(-1, 4 * self.hidden)
        return Delta(delta.flatten(-2), flat, delta[..., :3, :], delta[..., 3, :], dc, dc.unsqueeze(-2))

    def into_gates(self, step: Factors, a: StateViews, delta: Delta, above: Tensor | None) -> None:
        slope, into_cell, into_output, _ = step
        a_h, a_c = a.parts
        if above is not None:
            a_h = a_h + above
        if self.weights.projection is not None:
            a_h = a_h @ self.weights.projection
        torch.addcmul(a_c, a_h, slope, out=delta.dc)
        torch.mul(delta.dc_for_gates, into_cell, out=delta.cell_gates)
        torch.mul(a_h, into_output, out=delta.output_gate)

    def pull(self, step: Factors, a: StateViews, out: StateViews, delta: Delta, above: Tensor | None) -> None:
        self.into_gates(step, a, delta, above)
        torch.mm(delta.rows, self.weights.hidden, out=out.rows[0])
        torch.mul(delta.dc, step.forget, out=out.parts[1])

    def input_adjoint(self, delta: Delta) -> Tensor:
        return delta.gates @ self.weights.input

    def push(self, step: Factors, v: tuple[Tensor, ...], v_x: Tensor | None) -> tuple[Tensor, ...]:
        v_h, v_c = v
        z = v_h @ self.weights.hidden.t()
        if v_x is not None:
            z = z + v_x @ self.weights.input.t()
        z = z.view(*z.shape[:-1], 4, self.hidden)
        cell = v_c * step.forget + (z[..., :3, :] * step.into_cell).sum(-2)
        hidden = cell * step.slope + z[..., 3, :] * step.into_output
        if self.weights.projection is not None:
            hidden = hidden @ self.weights.projection.t()
        return hidden, cell

    def gates(self, path: Trajectory) -> list[Gate]:
        z = path.values.z
        values = [torch.tanh(z[:, :, 2]).abs() if k == 2 else torch.sigmoid(z[:, :, k]) for k in range(4)]
        log_carry = (None, logsigmoid(z[:, :, 1]), None, None)
        return [Gate(*each) for each in zip(GATES, values, log_carry, strict=True)]

    def paths(self, step: Factors, a: StateViews, delta: Delta, above: Tensor | None) -> Paths:
        blocks = zip(GATES, delta.gates.chunk(4, -1), self.weights.hidden.chunk(4), strict=True)
        found: dict[str, tuple[Tensor | None, ...]] = {"cell": (None, delta.dc * step.forget)}
        return found | {name: (into @ weight, None) for name, into, weight in blocks}

    def contributions(
        self, x: Tensor, path: Trajectory, a: StateViews, delta: Delta, above: Tensor | None
    ) -> dict[str, tuple[Tensor, Tensor]]:
        found = self.weights.rank_one(delta.gates, delta.gates, x, path.states[0][:-1])
        if self.weights.projection is not None:
            a_h = a.parts[0] if above is None else a.parts[0] + above
            _, gates, squashed = path.values
            found["weight_hr" + self.weights.suffix] = (a_h, squashed * gates[:, :, 3])
        return found

    def carry_bias(self) -> Tensor | None:
        return None if self._bias is None else self._bias[self.hidden : 2 * self.hidden]

    def recurrent(self) -> Tensor:
        return self.weights.hidden

    @staticmethod
    def theories() -> dict[str, Theory]:
        return {"lstm": _limit}


def moments(sigma_w: float, inputs: float, bias: float, forget_bias: float) -> Moments:
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
        has_cell=True,
    )


def _limit(sigma_w: float, inputs: float, bias: float, forget_bias: float, bias_error: float) -> WideLimit:
    """With f + i o sigma_w, the spectral radius of the zero state's Jacobian."""
    edge = 1 / (1 + math.exp(-forget_bias)) + 0.25 * sigma_w
    side = side_of_edge(edge, EDGE_ERROR + bias_error / 4)  # a sigmoid's slope is at most 1/4
    room, warning = 1 - 0.25 * sigma_w, edge_warning(edge, side)
    if warning is not None and room > 0:
        warning = (
            f"a forget bias of {forget_bias:.4g}, the sum of both bias vectors, is past the edge ({growth_as_text(edge)} > 1 "
            f"a step at the zero state, which is unstable); keep it below {math.log(room / (1 - room)):.3g}."
        )
    return WideLimit(moments(sigma_w, inputs, bias, forget_bias), edge, side, warning)
