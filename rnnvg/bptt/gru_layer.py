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
        self._biases: tuple[Tensor, Tensor] | None = None
        if weights.input_bias is not None and weights.hidden_bias is not None:
            both = weights.input_bias + weights.hidden_bias  # in r and z the two only ever meet as a sum
            H = self.hidden
            self._biases = torch.cat([both[: 2 * H], weights.hidden_bias[2 * H :]]), weights.input_bias[2 * H :]
        # The input sees the blocks (n, r, z), the hidden state (r, z, hn): with the blocks in the order (n, r, z, hn)
        # both are contiguous, and only the input's weight needs its rows in another order.
        reset, update, candidate = weights.input.chunk(3)
        self._input_nrz = torch.cat([candidate, reset, update])
        self._by_row = weights.hidden.view(3, self.hidden, self.hidden).transpose(0, 1).contiguous()  # [H, 3, H]

    def run(self, x: Tensor, h: Tensor, c: Tensor | None, new: Buffers) -> Trajectory:
        """The trajectory over inputs [c, B, I] from the state h [B, H]; preactivations from x (r, z, n) and from h."""
        steps, batch, H = x.shape[0], x.shape[1], self.hidden
        from_x = products(x, self.weights.input, new("x", h, steps, batch, 3 * H))
        from_h = new("h", h, steps, batch, 3 * H)
        hidden = states_from("hidden", h, steps, new)
        rows = hidden.unbind()
        gates, scratch = new("step gates", h, batch, 2 * H), new("step scratch", h, batch, H)
        reset, update = gates.split(H, -1)
        for k, (x_row, h_row) in enumerate(zip(from_x.unbind(), from_h.unbind(), strict=True)):
            torch.mm(rows[k], self._recurrent, out=h_row)
            if self._biases is not None:
                h_row.add_(self._biases[0])
                x_row[:, 2 * H :].add_(self._biases[1])
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
