"""Closed-form Jacobians of one vanilla RNN, LSTM or GRU layer, a whole segment of steps at a time.

Weights and states in, per-step factors out; with them one step of the adjoint recursion is a handful of elementwise
products and one matrix product. Gate order and equations are PyTorch's.
Axes: c steps of a segment, B sequences, I input, H hidden, P output (H, or proj_size), n adjoints, G gates.

Slopes are never taken from the activation: 1 - tanh(z)^2 is exactly 0 in float32 from |z| = 9 on, and a gradient read
from it would be called zero where it is small. sigmoid'(z) = sigmoid(z) sigmoid(-z) and tanh'(z) = 4 sigmoid'(2z) keep
their relative precision until the number itself leaves the dtype's range.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor


class StateViews(NamedTuple):
    """One layer's part of an adjoint [n, B, N]: hidden [n, B, P], the same as rows [n B, P], cell [n, B, H] or None."""

    hidden: Tensor
    hidden_rows: Tensor
    cell: Tensor | None


@dataclass(frozen=True)
class LayerWeights:
    """One layer's weights, detached: input [G H, I], hidden [G H, P], biases [G H] or None, projection [P, H] or None."""

    input: Tensor
    hidden: Tensor
    input_bias: Tensor | None
    hidden_bias: Tensor | None
    projection: Tensor | None = None

    @property
    def bias(self) -> Tensor | None:
        if self.input_bias is None or self.hidden_bias is None:
            return None
        return self.input_bias + self.hidden_bias


class Buffers:
    """Memory that one segment's factors are written into. Handing the same Buffers to the next segment overwrites them."""

    def __init__(self) -> None:
        self._held: dict[str, Tensor] = {}

    def __call__(self, name: str, like: Tensor, *shape: int) -> Tensor:
        """An uninitialised tensor of `shape`, the same memory for the same name while it is large enough."""
        size = math.prod(shape)
        held = self._held.get(name)
        if held is None or held.numel() < size:
            # A little more than is asked for, because the number of adjoints grows by one source at a time.
            held = self._held[name] = like.new_empty(size if held is None else 2 * size)
        return held[:size].view(shape)


def slope_of_tanh(z: Tensor, out: Tensor, scratch: Tensor) -> Tensor:
    """d tanh(z)/dz to full relative precision, into `out`; `scratch` is overwritten too."""
    torch.sigmoid(torch.mul(z, 2, out=scratch), out=out)
    return out.mul_(scratch.neg_().sigmoid_()).mul_(4)


class Trajectory(NamedTuple):
    """What one layer went through over a segment.

    preactivations: of the gates, as the layer's `factors` needs them; hidden [c+1, B, P] and cell [c+1, B, H] or None: the
    state before the segment first.
    """

    preactivations: tuple[Tensor, ...]
    hidden: Tensor
    cell: Tensor | None = None


def _affine(x: Tensor, weight: Tensor, bias: Tensor | None, out: Tensor) -> Tensor:
    """W x + b for every step and sequence, [c, B, G H], into `out`."""
    rows, flat = x.reshape(-1, x.shape[-1]), out.view(-1, weight.shape[0])
    if bias is None:
        torch.mm(rows, weight.t(), out=flat)
    else:
        torch.addmm(bias, rows, weight.t(), out=flat)
    return out


def _states(name: str, first: Tensor, steps: int, new: Buffers) -> Tensor:
    states = new(name, first, steps + 1, *first.shape)
    states[0] = first
    return states


class RNNLayer:
    """h' = phi(W_ih x + b_ih + W_hh h + b_hh) with phi tanh or relu. Factors of a step: the slopes phi'(z), [B, H]."""

    gates = 1
    has_cell = False

    def __init__(self, weights: LayerWeights, nonlinearity: str) -> None:
        self.weights, self.nonlinearity = weights, nonlinearity
        self.bias = weights.bias
        self._recurrent = weights.hidden.t().contiguous()  # so laid out, the small product of each step is faster
        self.hidden = self.output = weights.hidden.shape[0]

    def run(self, x: Tensor, h: Tensor, c: Tensor | None, new: Buffers) -> Trajectory:
        """The trajectory over inputs [c, B, I] from the state h [B, H]."""
        z = _affine(x, self.weights.input, self.bias, new("z", h, *x.shape[:2], self.hidden))
        hidden = _states("hidden", h, len(x), new)
        rows = hidden.unbind()
        for before, after, gate in zip(rows, rows[1:], z.unbind(), strict=False):
            gate.addmm_(before, self._recurrent)
            if self.nonlinearity == "relu":
                torch.clamp_min(gate, 0, out=after)
            else:
                torch.tanh(gate, out=after)
        return Trajectory((z,), hidden)

    def factors(self, path: Trajectory, new: Buffers) -> list[Any]:
        """Per-step factors along a trajectory."""
        (z,) = path.preactivations
        slopes = new("slopes", z, *z.shape)
        if self.nonlinearity == "relu":
            # 0 * z keeps a state that is not finite visible: nan, not a slope of 0.
            return list(torch.mul(z, 0, out=slopes).add_(z > 0).unbind())
        return list(slope_of_tanh(z, slopes, new("scratch", z, *z.shape)).unbind())

    def new_delta(self, like: Tensor, new: Buffers) -> tuple[Tensor, Tensor]:
        delta = new("delta", like, *like.shape[:2], self.hidden)
        return delta, delta.view(-1, self.hidden)

    def pull(
        self, slope: Tensor, a: StateViews, out: StateViews, delta: tuple[Tensor, ...], above: Tensor | None
    ) -> None:
        torch.mul(a.hidden if above is None else a.hidden + above, slope, out=delta[0])
        torch.mm(delta[1], self.weights.hidden, out=out.hidden_rows)

    def input_adjoint(self, delta: tuple[Tensor, ...]) -> Tensor:
        return delta[0] @ self.weights.input

    def weight_adjoints(self, delta: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """Adjoints of W_ih x + b_ih and of W_hh h + b_hh, [n, B, G H] in PyTorch's gate order, from what `pull` left."""
        return delta[0], delta[0]

    def push(self, slope: Tensor, v_h: Tensor, v_c: Tensor | None, v_x: Tensor | None) -> tuple[Tensor, Tensor | None]:
        z = v_h @ self.weights.hidden.t()
        if v_x is not None:
            z = z + v_x @ self.weights.input.t()
        return z * slope, None


class LSTMLayer:
    """c' = f c + i g,  h' = W_hr (o tanh(c')), with gates i, f, g, o in PyTorch's order.

    Factors of a step, as dc := a_c + a_h * slope: (slope o sech^2(c) [B, H]; into_cell dc -> gates i, f, g [B, 3, H];
    into_output a_h -> gate o [B, H]; forget dc -> a_c' [B, H]).
    """

    gates = 4
    has_cell = True

    def __init__(self, weights: LayerWeights) -> None:
        self.weights = weights
        self.bias = weights.bias
        self._recurrent = weights.hidden.t().contiguous()
        self.hidden = weights.hidden.shape[0] // 4
        self.output = weights.hidden.shape[1]

    def run(self, x: Tensor, h: Tensor, c: Tensor | None, new: Buffers) -> Trajectory:
        """The trajectory over inputs [c, B, I] from the state h [B, P], c [B, H]."""
        assert c is not None
        steps, batch, H = x.shape[0], x.shape[1], self.hidden
        z = _affine(x, self.weights.input, self.bias, new("z", h, steps, batch, 4 * H))
        hidden, cell = _states("hidden", h, steps, new), _states("cell", c, steps, new)
        h_rows, c_rows = hidden.unbind(), cell.unbind()
        gates, scratch = new("step gates", h, batch, 4 * H), new("step scratch", h, batch, H)
        into, forget, _, out = gates.split(H, -1)
        for k, (row, candidate) in enumerate(zip(z.unbind(), z[..., 2 * H : 3 * H].unbind(), strict=True)):
            row.addmm_(h_rows[k], self._recurrent)
            torch.sigmoid(row, out=gates)
            torch.tanh(candidate, out=scratch)
            torch.mul(into, scratch, out=c_rows[k + 1]).addcmul_(forget, c_rows[k])
            torch.tanh(c_rows[k + 1], out=scratch)
            if self.weights.projection is None:
                torch.mul(out, scratch, out=h_rows[k + 1])
            else:
                torch.mm(scratch.mul_(out), self.weights.projection.t(), out=h_rows[k + 1])
        return Trajectory((z.view(steps, batch, 4, H),), hidden, cell)

    def factors(self, path: Trajectory, new: Buffers) -> list[Any]:
        """Per-step factors along a trajectory."""
        (z,) = path.preactivations
        assert path.cell is not None
        before, after = path.cell[:-1], path.cell[1:]
        gates = torch.sigmoid(z, out=new("gates", z, *z.shape))
        slopes = torch.neg(z, out=new("slopes", z, *z.shape))
        slopes[:, :, 2] *= 2  # tanh'(z) = 4 sigmoid'(2z)
        slopes.sigmoid_()
        candidate, slope = new("candidate", z, *after.shape), new("slope", z, *after.shape)
        torch.sigmoid(torch.mul(z[:, :, 2], 2, out=candidate), out=gates[:, :, 2])
        slopes.mul_(gates)
        slopes[:, :, 0].mul_(torch.tanh(z[:, :, 2], out=candidate))
        slopes[:, :, 1].mul_(before)
        slopes[:, :, 2].mul_(gates[:, :, 0]).mul_(4)
        slopes[:, :, 3].mul_(torch.tanh(after, out=candidate))
        slope_of_tanh(after, slope, candidate).mul_(gates[:, :, 3])
        into_cell, into_output = slopes[:, :, :3], slopes[:, :, 3]
        return list(zip(slope.unbind(), into_cell.unbind(), into_output.unbind(), gates[:, :, 1].unbind(), strict=True))

    def new_delta(self, like: Tensor, new: Buffers) -> tuple[Tensor, ...]:
        delta = new("delta", like, *like.shape[:2], 4, self.hidden)
        dc = new("dc", like, *like.shape[:2], self.hidden)
        flat = delta.view(-1, 4 * self.hidden)
        return delta.flatten(-2), flat, delta[..., :3, :], delta[..., 3, :], dc, dc.unsqueeze(-2)

    def pull(
        self,
        factors: tuple[Tensor, ...],
        a: StateViews,
        out: StateViews,
        delta: tuple[Tensor, ...],
        above: Tensor | None,
    ) -> None:
        slope, into_cell, into_output, forget = factors
        _, flat, cell_gates, output_gate, dc, dc_for_gates = delta
        a_h = a.hidden if above is None else a.hidden + above
        if self.weights.projection is not None:
            a_h = a_h @ self.weights.projection
        torch.addcmul(a.cell, a_h, slope, out=dc)  # pyright: ignore[reportArgumentType]
        torch.mul(dc_for_gates, into_cell, out=cell_gates)
        torch.mul(a_h, into_output, out=output_gate)
        torch.mm(flat, self.weights.hidden, out=out.hidden_rows)
        torch.mul(dc, forget, out=out.cell)

    def input_adjoint(self, delta: tuple[Tensor, ...]) -> Tensor:
        return delta[0] @ self.weights.input

    def weight_adjoints(self, delta: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """Adjoints of W_ih x + b_ih and of W_hh h + b_hh, [n, B, G H] in PyTorch's gate order, from what `pull` left."""
        return delta[0], delta[0]

    def unprojected(self, path: Trajectory) -> Tensor:
        """o tanh(c') before the projection, [c, B, H]."""
        assert path.cell is not None
        return path.cell[1:].tanh().mul_(torch.sigmoid(path.preactivations[0][:, :, 3]))

    def push(
        self, factors: tuple[Tensor, ...], v_h: Tensor, v_c: Tensor | None, v_x: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        assert v_c is not None
        slope, into_cell, into_output, forget = factors
        z = v_h @ self.weights.hidden.t()
        if v_x is not None:
            z = z + v_x @ self.weights.input.t()
        z = z.view(*z.shape[:-1], 4, self.hidden)
        cell = v_c * forget + (z[..., :3, :] * into_cell).sum(-2)
        hidden = cell * slope + z[..., 3, :] * into_output
        if self.weights.projection is not None:
            hidden = hidden @ self.weights.projection.t()
        return hidden, cell


class GRULayer:
    """h' = (1 - z) n + z h,  n = tanh(W_in x + b_in + r (W_hn h + b_hn)), with gates r, z, n in PyTorch's order.

    Factors of a step: (into a_h -> preactivations (n, r, z, hn), hn the hidden part inside the candidate, [B, 4, H];
    update, the direct carry z, [B, H]).
    """

    gates = 3
    has_cell = False

    def __init__(self, weights: LayerWeights) -> None:
        self.weights = weights
        self.hidden = self.output = weights.hidden.shape[0] // 3
        self._recurrent = weights.hidden.t().contiguous()
        # The input sees the blocks (n, r, z), the hidden state (r, z, hn): with the blocks in the order (n, r, z, hn)
        # both are contiguous, and only the input's weight needs its rows in another order.
        reset, update, candidate = weights.input.chunk(3)
        self._input_nrz = torch.cat([candidate, reset, update])
        self._by_row = weights.hidden.view(3, self.hidden, self.hidden).transpose(0, 1).contiguous()  # [H, 3, H]

    def run(self, x: Tensor, h: Tensor, c: Tensor | None, new: Buffers) -> Trajectory:
        """The trajectory over inputs [c, B, I] from the state h [B, H]; preactivations from x (r, z, n) and from h."""
        steps, batch, H = x.shape[0], x.shape[1], self.hidden
        from_x = _affine(x, self.weights.input, self.weights.input_bias, new("x", h, steps, batch, 3 * H))
        from_h = new("h", h, steps, batch, 3 * H)
        hidden = _states("hidden", h, steps, new)
        rows = hidden.unbind()
        gates, scratch = new("step gates", h, batch, 2 * H), new("step scratch", h, batch, H)
        reset, update = gates.split(H, -1)
        for k, (x_row, h_row) in enumerate(zip(from_x.unbind(), from_h.unbind(), strict=True)):
            if self.weights.hidden_bias is None:
                torch.mm(rows[k], self._recurrent, out=h_row)
            else:
                torch.addmm(self.weights.hidden_bias, rows[k], self._recurrent, out=h_row)
            torch.add(x_row[:, : 2 * H], h_row[:, : 2 * H], out=gates).sigmoid_()
            torch.addcmul(x_row[:, 2 * H :], reset, h_row[:, 2 * H :], out=scratch).tanh_()
            torch.lerp(scratch, rows[k], update, out=rows[k + 1])
        return Trajectory((from_x, from_h), hidden)

    def factors(self, path: Trajectory, new: Buffers) -> list[Any]:
        """Per-step factors along a trajectory."""
        (from_x, from_h), H = path.preactivations, self.hidden
        before, lead = path.hidden[:-1], from_x.shape[:2]
        hn = from_h[..., 2 * H :]
        z = torch.add(from_x[..., : 2 * H], from_h[..., : 2 * H], out=new("z", from_x, *lead, 2 * H))
        gates = torch.sigmoid(z, out=new("gates", z, *lead, 2 * H))
        closing = z.neg_().sigmoid_()  # 1 - r and 1 - z, to full relative precision
        reset, update = gates[..., :H], gates[..., H:]
        candidate = torch.addcmul(from_x[..., 2 * H :], reset, hn, out=new("candidate", z, *lead, H))
        into, scratch = new("into", z, *lead, 4, H), new("scratch", z, *lead, H)
        into_n, into_r, into_z, into_hn = into.unbind(-2)
        torch.sub(before, torch.tanh(candidate, out=scratch), out=into_z)
        into_z.mul_(update).mul_(closing[..., H:])
        slope_of_tanh(candidate, into_n, scratch).mul_(closing[..., H:])
        torch.mul(into_n, reset, out=into_hn)
        torch.mul(into_hn, closing[..., :H], out=into_r).mul_(hn)
        return list(zip(into.unbind(), update.unbind(), strict=True))

    def new_delta(self, like: Tensor, new: Buffers) -> tuple[Tensor, ...]:
        delta = new("delta", like, *like.shape[:2], 4, self.hidden)
        flat = delta.flatten(-2)
        return flat[..., : 3 * self.hidden], delta.view(-1, 4 * self.hidden)[:, self.hidden :], delta

    def pull(
        self,
        factors: tuple[Tensor, ...],
        a: StateViews,
        out: StateViews,
        delta: tuple[Tensor, ...],
        above: Tensor | None,
    ) -> None:
        into, update = factors
        a_h = a.hidden if above is None else a.hidden + above
        torch.mul(a_h.unsqueeze(-2), into, out=delta[2])
        torch.mm(delta[1], self.weights.hidden, out=out.hidden_rows)
        out.hidden.addcmul_(a_h, update)

    def pull_dense(self, factors: tuple[Tensor, ...], a: StateViews, out: StateViews, above: Tensor | None) -> None:
        """The same product through the step's Jacobian [H, B, H] itself: a third of the operations for many adjoints."""
        into, update = factors
        a_h = a.hidden if above is None else a.hidden + above
        jacobian = torch.bmm(into[:, 1:].permute(2, 0, 1), self._by_row)
        jacobian.diagonal(dim1=0, dim2=2).add_(update)
        for b in range(a_h.shape[1]):
            torch.mm(a_h[:, b], jacobian[:, b], out=out.hidden[:, b])

    def input_adjoint(self, delta: tuple[Tensor, ...]) -> Tensor:
        return delta[0] @ self._input_nrz

    def weight_adjoints(self, delta: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """Adjoints of W_ih x + b_ih and of W_hh h + b_hh, [n, B, G H] in PyTorch's gate order, from what `pull` left."""
        new, reset, update, new_hidden = delta[2].unbind(-2)
        return torch.cat([reset, update, new], -1), torch.cat([reset, update, new_hidden], -1)

    def push(
        self, factors: tuple[Tensor, ...], v_h: Tensor, v_c: Tensor | None, v_x: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        into, update = factors
        z = v_h @ self.weights.hidden.t()
        hidden = v_h * update + (z.view(*z.shape[:-1], 3, self.hidden) * into[..., 1:, :]).sum(-2)
        if v_x is not None:
            x = v_x @ self._input_nrz.t()
            hidden = hidden + (x.view(*x.shape[:-1], 3, self.hidden) * into[..., :3, :]).sum(-2)
        return hidden, None


Layer = RNNLayer | LSTMLayer | GRULayer
