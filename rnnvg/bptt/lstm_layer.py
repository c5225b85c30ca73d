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
        z = products(x, self.weights.input, self.bias, new("z", h, steps, batch, 4 * H))
        gates, squashed = new("activations", h, steps, batch, 4 * H), new("squashed", h, steps, batch, H)
        hidden, cell = states_from("hidden", h, steps, new), states_from("cell", c, steps, new)
        h_rows, c_rows, gate_rows, squashed_rows = hidden.unbind(), cell.unbind(), gates.unbind(), squashed.unbind()
        into, forget, candidate, out = (each.unbind() for each in gates.split(H, -1))
        for k, (row, proposed) in enumerate(zip(z.unbind(), z[..., 2 * H : 3 * H].unbind(), strict=True)):
            row.addmm_(h_rows[k], self._recurrent)
            torch.sigmoid(row, out=gate_rows[k])
            torch.tanh(proposed, out=candidate[k])
            torch.mul(into[k], candidate[k], out=c_rows[k + 1]).addcmul_(forget[k], c_rows[k])
            torch.tanh(c_rows[k + 1], out=squashed_rows[k])
            if self.weights.projection is None:
                torch.mul(out[k], squashed_rows[k], out=h_rows[k + 1])
            else:
                torch.mm(out[k] * squashed_rows[k], self.weights.projection.t(), out=h_rows[k + 1])
        shape = (steps, batch, 4, H)
        return Trajectory((z.view(shape),), (gates.view(shape), squashed), hidden, cell)

    def factors(self, path: Trajectory, new: Buffers) -> list[Any]:
        """Per-step factors along a trajectory."""
        (z,), (gates, squashed) = path.preactivations, path.activations
        assert path.cell is not None
        before, after = path.cell[:-1], path.cell[1:]
        into, forget, candidate, out = gates.unbind(-2)
        slopes = torch.copysign(z, -1.0, out=new("slopes", z, *z.shape))
        slopes[:, :, 2].mul_(2)
        slopes.sigmoid_().addcmul_(slopes, slopes, value=-1)
        slopes[:, :, 0].mul_(candidate)
        slopes[:, :, 1].mul_(before)
        slopes[:, :, 2].mul_(into).mul_(4)
        slopes[:, :, 3].mul_(squashed)
        slope = slope_of_tanh(after, new("slope", z, *after.shape)).mul_(out)
        into_cell, into_output = slopes[:, :, :3], slopes[:, :, 3]
        return list(zip(slope.unbind(), into_cell.unbind(), into_output.unbind(), forget.unbind(), strict=True))

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
        gates, squashed = path.activations
        return squashed * gates[:, :, 3]

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
