"""The GRU, h' = (1 - z) n + z h, n = tanh(W_in x + b_in + r (W_hn h + b_hn)), with gates r, z, n in PyTorch's order.

Every equation of it. Axes: c steps of a segment, B sequences, I input, H hidden, n adjoints.
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
    GATES_HELD,
    RESET_OPEN,
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
    gaussian_nodes,
    side_of_edge,
    sigmoid,
    sigmoid_slope,
    square,
    tanh_slope,
)
from rnnvg.bptt.threads import threads_for

GATES = ("reset gate", "update gate", "candidate")  # PyTorch's blocks of W, in order
# From so many adjoints on, forming a step's Jacobian costs less than it saves.
DENSE_FROM = 24


class Values(NamedTuple):
    """Preactivations from x (r, z, n) and from h [c, B, 3 H]; gates r, z [c, B, 2 H]; candidates n [c, B, H]."""

    from_x: Tensor
    from_h: Tensor
    gates: Tensor
    candidates: Tensor


class Factors(NamedTuple):
    """into a_h -> preactivations (n, r, z, hn), hn the hidden part inside the candidate [c, B, 4, H]; update, the direct
    carry z [c, B, H]."""

    into: Tensor
    update: Tensor


class Delta(NamedTuple):
    """Adjoints of the preactivations (n, r, z, hn) [n, B, 4, H]; what the input sees of them, (n, r, z) [n, B, 3 H]; what
    the hidden state sees, (r, z, hn) as rows. With the blocks in this order both are contiguous."""

    blocks: Tensor
    from_x: Tensor
    rows: Tensor


class GRU(Cell):
    """h' = (1 - z) n + z h,  n = tanh(W_in x + b_in + r (W_hn h + b_hn))."""

    modules = (nn.GRU, nn.GRUCell)
    changes = (SLOPES_1, GATES_HELD, RESET_OPEN, ALL_OPEN)
    carry_gate = "update gate"
    theory = "gru"
    by_outputs = True
    lasting = True

    def __init__(self, weights: Weights) -> None:
        self.weights = weights
        self.hidden = weights.hidden.shape[0] // 3
        self.n_inputs, self.like = weights.input.shape[1], weights.input
        self.parts = (Part("hidden", self.hidden),)
        self.widest, self.kept = 3 * self.hidden, 9 * self.hidden
        self._recurrent = weights.hidden.t().contiguous()
        self._bias: Tensor | None = None
        self._candidate_bias: Tensor | None = None
        if weights.input_bias is not None and weights.hidden_bias is not None:
            from_h, H = weights.hidden_bias.clone(), self.hidden
            self._candidate_bias = weights.hidden_bias[2 * H :]
            from_h[2 * H :] = 0  # in r and z the two biases only ever meet as a sum; in n, r is between them
            self._bias = weights.input_bias + from_h
        # Of the blocks (n, r, z, hn) only the input's weight needs its rows in another order.
        reset, update, candidate = weights.input.chunk(3)
        self._input_nrz = torch.cat([candidate, reset, update])

    @classmethod
    def read(cls, module: nn.Module, weights: Mapping[str, Tensor], reverse: bool = False) -> list[GRU]:
        return [cls(each) for each in torch_weights(module, weights, reverse)]

    def run(self, x: Tensor, state: tuple[Tensor, ...], new: Buffers) -> Trajectory:
        (h,), steps, batch, H = state, x.shape[0], x.shape[1], self.hidden
        from_x = products(x, self.weights.input, self._bias, new("x", h, steps, batch, 3 * H))
        from_h = new("h", h, steps, batch, 3 * H)
        hidden = states_from("hidden", h, steps, new)
        gates, candidates = new("gates", h, steps, batch, 2 * H), new("candidates", h, steps, batch, H)
        values = gates, *gates.chunk(2, -1), candidates
        split = [part for each in (from_x, from_h) for part in (each[..., : 2 * H], each[..., 2 * H :])]
        rows = new.rows((hidden,), from_h, *split, *values)
        with threads_for(self._recurrent.numel() * batch, x.device):
            for h_row, x_gates, x_n, h_gates, h_n, gate, reset, update, candidate, before, after in rows:
                torch.mm(before, self._recurrent, out=h_row)
                if self._candidate_bias is not None:
                    h_n.add_(self._candidate_bias)
                torch.add(x_gates, h_gates, out=gate).sigmoid_()
                torch.addcmul(x_n, reset, h_n, out=candidate).tanh_()
                torch.lerp(candidate, before, update, out=after)
        return Trajectory((hidden,), Values(from_x, from_h, gates, candidates))

    def retrace(self, x: Tensor, hidden: Tensor, state: tuple[Tensor, ...], new: Buffers) -> Trajectory:
        (h,), steps, batch, H = state, x.shape[0], x.shape[1], self.hidden
        before = torch.cat([h[None], hidden[:-1]])
        from_x = products(x, self.weights.input, self._bias, new("x", h, steps, batch, 3 * H))
        from_h = products(before, self.weights.hidden, None, new("h", h, steps, batch, 3 * H))
        if self._candidate_bias is not None:
            from_h[..., 2 * H :].add_(self._candidate_bias)
        gates = new("gates", h, steps, batch, 2 * H)
        torch.add(from_x[..., : 2 * H], from_h[..., : 2 * H], out=gates).sigmoid_()
        candidates = new("candidates", h, steps, batch, H)
        torch.addcmul(from_x[..., 2 * H :], gates[..., :H], from_h[..., 2 * H :], out=candidates).tanh_()
        found = states_from("hidden", h, steps, new)
        torch.lerp(candidates, before, gates[..., H:], out=found[1:])
        return Trajectory((found,), Values(from_x, from_h, gates, candidates))

    def factors(self, path: Trajectory, new: Buffers, change: str | None = None) -> Factors:
        (from_x, from_h, gates, candidate), H = path.values, self.hidden
        before, lead = path.states[0][:-1], from_x.shape[:2]
        hn, reset, update = from_h[..., 2 * H :], gates[..., :H], gates[..., H:]
        closing = torch.add(from_x[..., : 2 * H], from_h[..., : 2 * H], out=new("closing", from_x, *lead, 2 * H))
        closing.neg_().sigmoid_()  # 1 - r and 1 - z, to full relative precision
        reset_closing, update_closing = closing[..., :H], closing[..., H:]
        into = new.lasting("into", closing, *lead, 4, H)
        into_n, into_r, into_z, into_hn = into.unbind(-2)
        torch.sub(before, candidate, out=into_z).mul_(update).mul_(update_closing)
        proposed = torch.addcmul(from_x[..., 2 * H :], reset, hn, out=new("proposed", closing, *lead, H))
        slope_of_tanh(proposed, into_n)
        if change == SLOPES_1:
            into_n.fill_(1)
        if change in (RESET_OPEN, ALL_OPEN):
            reset = torch.ones_like(reset)
        if change == ALL_OPEN:
            update = update_closing = reset
        into_n.mul_(update_closing)
        torch.mul(into_n, reset, out=into_hn)
        torch.mul(into_hn, reset_closing, out=into_r).mul_(hn)
        if change in (GATES_HELD, ALL_OPEN):
            into_z.zero_()
        if change in (GATES_HELD, RESET_OPEN, ALL_OPEN):
            into_r.zero_()
        return Factors(into, new.kept("update", update))

    def new_delta(self, like: Tensor, new: Buffers) -> Delta:
        delta = new("delta", like, *like.shape[:2], 4, self.hidden)
        flat = delta.flatten(-2)
        return Delta(delta, flat[..., : 3 * self.hidden], delta.view(-1, 4 * self.hidden)[:, self.hidden :])

    def into_gates(self, step: Factors, a: StateViews, delta: Delta, above: Tensor | None) -> None:
        a_h = a.parts[0] if above is None else a.parts[0] + above
        torch.mul(a_h.unsqueeze(-2), step.into, out=delta.blocks)

    def pull(self, step: Factors, a: StateViews, out: StateViews, delta: Delta, above: Tensor | None) -> None:
        a_h = a.parts[0] if above is None else a.parts[0] + above
        torch.mul(a_h.unsqueeze(-2), step.into, out=delta.blocks)
        torch.mm(delta.rows, self.weights.hidden, out=out.rows[0])
        out.parts[0].addcmul_(a_h, step.update)

    def pull_dense(self, step: Factors, a: StateViews, out: StateViews, above: Tensor | None, new: Buffers) -> bool:
        """The product through the step's Jacobian [B, H, H] itself: a third of the operations for many adjoints."""
        if a.parts[0].shape[0] < DENSE_FROM:
            return False
        into, update = step
        a_h = a.parts[0] if above is None else a.parts[0] + above
        reset, gate, candidate = self.weights.hidden.chunk(3)
        _, into_r, into_z, into_hn = into.unsqueeze(-1).unbind(1)
        jacobian = torch.mul(into_r, reset, out=new("jacobian", update, *update.shape, self.hidden))
        jacobian.addcmul_(into_z, gate).addcmul_(into_hn, candidate)
        jacobian.diagonal(dim1=1, dim2=2).add_(update)
        torch.bmm(a_h.transpose(0, 1), jacobian, out=out.parts[0].transpose(0, 1))
        return True

    def input_adjoint(self, delta: Delta) -> Tensor:
        return delta.from_x @ self._input_nrz

    def push(self, step: Factors, v: tuple[Tensor, ...], v_x: Tensor | None) -> tuple[Tensor, ...]:
        (v_h,), (into, update) = v, step
        z = v_h @ self.weights.hidden.t()
        hidden = v_h * update + (z.view(*z.shape[:-1], 3, self.hidden) * into[..., 1:, :]).sum(-2)
        if v_x is not None:
            x = v_x @ self._input_nrz.t()
            hidden = hidden + (x.view(*x.shape[:-1], 3, self.hidden) * into[..., :3, :]).sum(-2)
        return (hidden,)

    def gates(self, path: Trajectory) -> list[Gate]:
        from_x, from_h, _, _ = path.values
        (xr, xz, xn), (hr, hz, hn) = from_x.split(self.hidden, -1), from_h.split(self.hidden, -1)
        reset = torch.sigmoid(xr + hr)
        values = (reset, torch.sigmoid(xz + hz), torch.tanh(xn + reset * hn).abs())
        return [Gate(*each) for each in zip(GATES, values, (None, logsigmoid(xz + hz), None), strict=True)]

    def paths(self, step: Factors, a: StateViews, delta: Delta, above: Tensor | None) -> Paths:
        a_h = a.parts[0] if above is None else a.parts[0] + above
        blocks = zip(GATES, delta.blocks.unbind(-2)[1:], self.weights.hidden.chunk(3), strict=True)
        return {"carry": (a_h * step.update,)} | {name: (into @ weight,) for name, into, weight in blocks}

    def contributions(
        self, x: Tensor, path: Trajectory, a: StateViews, delta: Delta, above: Tensor | None
    ) -> dict[str, tuple[Tensor, Tensor]]:
        new, reset, update, new_hidden = delta.blocks.unbind(-2)
        into_input, into_hidden = torch.cat([reset, update, new], -1), torch.cat([reset, update, new_hidden], -1)
        return self.weights.rank_one(into_input, into_hidden, x, path.states[0][:-1])

    def carry_bias(self) -> Tensor | None:
        return None if self._bias is None else self._bias[self.hidden : 2 * self.hidden]

    def recurrent(self) -> Tensor:
        return self.weights.hidden

    @staticmethod
    def theories() -> dict[str, Theory]:
        return {"gru": _limit}


def moments(sigma_w: float, inputs: float, bias: float, update_bias: float) -> Moments:
    """For input variance `inputs` per preactivation, variance `bias` of both bias vectors, and the update gate's mean bias.

    Half of the bias variance belongs to b_hh, which the candidate's reset gate multiplies.
    """

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


def _limit(sigma_w: float, inputs: float, bias: float, update_bias: float, bias_error: float) -> WideLimit:
    """With z + (1 - z) r sigma_w, the spectral radius of the zero state's Jacobian."""
    carry = 1 / (1 + math.exp(-update_bias))
    edge = carry + 0.5 * (1 - carry) * sigma_w
    side = side_of_edge(edge, EDGE_ERROR + bias_error / 4)  # a sigmoid's slope is at most 1/4
    return WideLimit(moments(sigma_w, inputs, bias, update_bias), edge, side, edge_warning(edge, side))
