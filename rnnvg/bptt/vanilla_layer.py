"""The closed-form Jacobians of one vanilla RNN layer, a whole segment of steps at a time.

Axes: c steps of a segment, B sequences, I input, H hidden, P output, n adjoints. Gate order and equations are PyTorch's.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from rnnvg.bptt.layer_parts import Buffers, LayerWeights, StateViews, Trajectory, products, slope_of_tanh, states_from


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
        z = products(x, self.weights.input, self.bias, new("z", h, *x.shape[:2], self.hidden))
        hidden = states_from("hidden", h, len(x), new)
        rows = hidden.unbind()
        for before, after, gate in zip(rows, rows[1:], z.unbind(), strict=False):
            gate.addmm_(before, self._recurrent)
            if self.nonlinearity == "relu":
                torch.clamp_min(gate, 0, out=after)
            else:
                torch.tanh(gate, out=after)
        return Trajectory((z,), (), hidden)

    def factors(self, path: Trajectory, new: Buffers) -> list[Any]:
        """Per-step factors along a trajectory."""
        (z,) = path.preactivations
        slopes = new("slopes", z, *z.shape)
        if self.nonlinearity == "relu":
            # 0 * z keeps a state that is not finite visible: nan, not a slope of 0.
            return list(torch.mul(z, 0, out=slopes).add_(z > 0).unbind())
        return list(slope_of_tanh(z, slopes).unbind())

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
