"""The closed-form Jacobians of one LSTM layer, a whole segment of steps at a time.

Axes: c steps of a segment, B sequences, I input, H hidden, P output, n adjoints. Gate order and equations are PyTorch's.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from rnnvg.bptt.layer_parts import Buffers, LayerWeights, StateViews, Trajectory, products, slope_of_tanh, states_from


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
        z = products(x, self.weights.input, new("z", h, steps, batch, 4 * H))
        hidden, cell = states_from("hidden", h, steps, new), states_from("cell", c, steps, new)
        h_rows, c_rows = hidden.unbind(), cell.unbind()
        gates, scratch = new("step gates", h, batch, 4 * H), new("step scratch", h, batch, H)
        into, forget, _, out = gates.split(H, -1)
        for k, (row, candidate) in enumerate(zip(z.unbind(), z[..., 2 * H : 3 * H].unbind(), strict=True)):
            row.addmm_(h_rows[k], self._recurrent)
            if self.bias is not None:
                row.add_(self.bias)
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
