"""The closed-form Jacobians of one GRU layer, a whole segment of steps at a time.

Axes: c steps of a segment, B sequences, I input, H hidden, P output, n adjoints. Gate order and equations are PyTorch's.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from rnnvg.bptt.layer_parts import Buffers, LayerWeights, StateViews, Trajectory, products, slope_of_tanh, states_from


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
        self._bias: Tensor | None = None
        self._candidate_bias: Tensor | None = None
        if weights.input_bias is not None and weights.hidden_bias is not None:
            from_h, H = weights.hidden_bias.clone(), self.hidden
            self._candidate_bias = weights.hidden_bias[2 * H :]
            from_h[2 * H :] = 0  # in r and z the two biases only ever meet as a sum; in n, r is between them
            self._bias = weights.input_bias + from_h
        # The input sees the blocks (n, r, z), the hidden state (r, z, hn): with the blocks in the order (n, r, z, hn)
        # both are contiguous, and only the input's weight needs its rows in another order.
        reset, update, candidate = weights.input.chunk(3)
        self._input_nrz = torch.cat([candidate, reset, update])

    def run(self, x: Tensor, h: Tensor, c: Tensor | None, new: Buffers) -> Trajectory:
        """The trajectory over inputs [c, B, I] from the state h [B, H]; preactivations from x (r, z, n) and from h."""
        steps, batch, H = x.shape[0], x.shape[1], self.hidden
        from_x = products(x, self.weights.input, self._bias, new("x", h, steps, batch, 3 * H))
        from_h = new("h", h, steps, batch, 3 * H)
        hidden = states_from("hidden", h, steps, new)
        rows = hidden.unbind()
        gates, candidates = new("activations", h, steps, batch, 2 * H), new("candidates", h, steps, batch, H)
        resets, updates = gates.split(H, -1)
        values = zip(gates.unbind(), resets.unbind(), updates.unbind(), candidates.unbind(), strict=True)
        x_rows = zip(from_x[..., : 2 * H].unbind(), from_x[..., 2 * H :].unbind(), strict=True)
        h_rows = zip(from_h.unbind(), from_h[..., : 2 * H].unbind(), from_h[..., 2 * H :].unbind(), strict=True)
        for k, ((x_gates, x_n), (h_row, h_gates, h_n), (gate, reset, update, candidate)) in enumerate(
            zip(x_rows, h_rows, values, strict=True)
        ):
            torch.mm(rows[k], self._recurrent, out=h_row)
            if self._candidate_bias is not None:
                h_n.add_(self._candidate_bias)
            torch.add(x_gates, h_gates, out=gate).sigmoid_()
            torch.addcmul(x_n, reset, h_n, out=candidate).tanh_()
            torch.lerp(candidate, rows[k], update, out=rows[k + 1])
        return Trajectory((from_x, from_h), (gates, candidates), hidden)

    def factors(self, path: Trajectory, new: Buffers) -> list[Any]:
        """Per-step factors along a trajectory."""
        (from_x, from_h), (gates, candidate), H = path.preactivations, path.activations, self.hidden
        before, lead = path.hidden[:-1], from_x.shape[:2]
        hn, reset, update = from_h[..., 2 * H :], gates[..., :H], gates[..., H:]
        closing = torch.add(from_x[..., : 2 * H], from_h[..., : 2 * H], out=new("closing", from_x, *lead, 2 * H))
        closing.neg_().sigmoid_()  # 1 - r and 1 - z, to full relative precision
        into = new("into", closing, *lead, 4, H)
        into_n, into_r, into_z, into_hn = into.unbind(-2)
        torch.sub(before, candidate, out=into_z).mul_(update).mul_(closing[..., H:])
        proposed = torch.addcmul(from_x[..., 2 * H :], reset, hn, out=new("proposed", closing, *lead, H))
        slope_of_tanh(proposed, into_n).mul_(closing[..., H:])
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

    def pull_dense(
        self, factors: tuple[Tensor, ...], a: StateViews, out: StateViews, above: Tensor | None, new: Buffers
    ) -> None:
        """The same product through the step's Jacobian [B, H, H] itself: a third of the operations for many adjoints."""
        into, update = factors
        a_h = a.hidden if above is None else a.hidden + above
        reset, gate, candidate = self.weights.hidden.chunk(3)
        _, into_r, into_z, into_hn = into.unsqueeze(-1).unbind(1)
        jacobian = torch.mul(into_r, reset, out=new("jacobian", update, *update.shape, self.hidden))
        jacobian.addcmul_(into_z, gate).addcmul_(into_hn, candidate)
        jacobian.diagonal(dim1=1, dim2=2).add_(update)
        torch.bmm(a_h.transpose(0, 1), jacobian, out=out.hidden.transpose(0, 1))

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
