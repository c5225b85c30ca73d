"""Closed-form Jacobians of one vanilla RNN, LSTM or GRU layer, a whole segment of steps at a time.

Weights and states in, per-step factors out; with them one step of the adjoint recursion is a handful of elementwise
products and one matrix product. Gate order and equations are PyTorch's.
Axes: c steps of a segment, B sequences, I input, H hidden, P output (H, or proj_size), n adjoints, G gates.

Slopes are never taken from the activation: 1 - tanh(z)^2 is exactly 0 in float32 from |z| = 9 on, and a gradient read
from it would be called zero where it is small. sigmoid'(z) = sigmoid(z) sigmoid(-z) and tanh'(z) = 4 sigmoid'(2z) keep
their relative precision until the number itself leaves the dtype's range.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


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


def slope_of_tanh(z: Tensor) -> Tensor:
    """d tanh(z)/dz to full relative precision."""
    doubled = 2 * z
    return torch.sigmoid(doubled).mul_(torch.sigmoid(doubled.neg_())).mul_(4)


def _affine(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    rows = x.reshape(-1, x.shape[-1])
    flat = rows @ weight.t() if bias is None else torch.addmm(bias, rows, weight.t())
    return flat.view(*x.shape[:-1], weight.shape[0])


class RNNLayer:
    """h' = phi(W_ih x + b_ih + W_hh h + b_hh) with phi tanh or relu."""

    gates = 1
    has_cell = False

    def __init__(self, weights: LayerWeights, nonlinearity: str) -> None:
        self.weights = weights
        self.nonlinearity = nonlinearity
        self.hidden = weights.hidden.shape[0]
        self.output = self.hidden

    def module(self) -> nn.RNNBase:
        return _fused(nn.RNN, self, nonlinearity=self.nonlinearity)

    def factors(self, x: Tensor, h: Tensor, c: Tensor | None) -> Tensor:
        """Slopes phi'(z), [c, B, H], from inputs [c, B, I] and hidden states [c+1, B, H]."""
        if self.nonlinearity == "relu":
            # 0 * h keeps a state that is not finite visible: nan, not a slope of 0.
            return (h[1:] > 0).to(h.dtype).add_(h[1:] * 0)
        z = _affine(x, self.weights.input, self.weights.bias)
        rows = h[:-1].reshape(-1, self.hidden)
        z.view(-1, self.hidden).addmm_(rows, self.weights.hidden.t())
        return slope_of_tanh(z)

    def new_delta(self, n: int, batch: int, like: Tensor) -> Tensor:
        return like.new_empty(n, batch, self.hidden)

    def pull(
        self, f: Tensor, k: int, a_h: Tensor, a_c: Tensor | None, out_h: Tensor, out_c: Tensor | None, delta: Tensor
    ) -> None:
        torch.mul(a_h, f[k], out=delta)
        torch.mm(delta.view(-1, self.hidden), self.weights.hidden, out=out_h)

    def input_adjoint(self, delta: Tensor) -> Tensor:
        return delta @ self.weights.input

    def push(
        self, f: Tensor, k: int, v_h: Tensor, v_c: Tensor | None, v_x: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        z = v_h @ self.weights.hidden.t()
        if v_x is not None:
            z = z + v_x @ self.weights.input.t()
        return z * f[k], None


@dataclass(frozen=True)
class LSTMFactors:
    """Per step: dc = a_c + a_h o sech^2(c) =: a_c + a_h `output_slope`; gate adjoints dc * `gates` (i, f, g) and
    a_h * `output_gate`; a_c' = dc * `forget`. Shapes [c, B, H], `gates` [c, B, 3, H]."""

    output_slope: Tensor
    gates: Tensor
    output_gate: Tensor
    forget: Tensor


class LSTMLayer:
    """c' = f c + i g,  h' = W_hr (o tanh(c')), with gates i, f, g, o in PyTorch's order."""

    gates = 4
    has_cell = True

    def __init__(self, weights: LayerWeights) -> None:
        self.weights = weights
        self.hidden = weights.hidden.shape[0] // 4
        self.output = weights.hidden.shape[1]

    def module(self) -> nn.RNNBase:
        return _fused(nn.LSTM, self, proj_size=0 if self.weights.projection is None else self.output)

    def preactivations(self, x: Tensor, h: Tensor) -> Tensor:
        """All gates before their nonlinearity, [c, B, 4, H], from inputs [c, B, I] and hidden states [c+1, B, P]."""
        z = _affine(x, self.weights.input, self.weights.bias)
        z.view(-1, 4 * self.hidden).addmm_(h[:-1].reshape(-1, self.output), self.weights.hidden.t())
        return z.view(x.shape[0], x.shape[1], 4, self.hidden)

    def cell_states(self, gates: Tensor, candidate: Tensor, c: Tensor) -> Tensor:
        """Cell states [c+1, B, H] from the gates [c, B, 4, H], the candidate tanh(z_g) and the first cell state [B, H]."""
        added = gates[:, :, 0] * candidate
        states = torch.empty(added.shape[0] + 1, *added.shape[1:], dtype=added.dtype, device=added.device)
        states[0] = c
        for k in range(added.shape[0]):
            torch.addcmul(added[k], gates[k, :, 1], states[k], out=states[k + 1])
        return states

    def factors(self, x: Tensor, h: Tensor, c: Tensor | None) -> LSTMFactors:
        assert c is not None
        z = self.preactivations(x, h)
        candidate = torch.tanh(z[:, :, 2])
        z[:, :, 2] *= 2
        gates = torch.sigmoid(z)
        slopes = torch.sigmoid(z.neg_()).mul_(gates)
        states = self.cell_states(gates, candidate, c)
        into_cell = torch.empty_like(slopes[:, :, :3])
        torch.mul(candidate, slopes[:, :, 0], out=into_cell[:, :, 0])
        torch.mul(states[:-1], slopes[:, :, 1], out=into_cell[:, :, 1])
        torch.mul(gates[:, :, 0], slopes[:, :, 2], out=into_cell[:, :, 2])
        into_cell[:, :, 2] *= 4
        return LSTMFactors(
            output_slope=slope_of_tanh(states[1:]).mul_(gates[:, :, 3]),
            gates=into_cell,
            output_gate=torch.tanh(states[1:]).mul_(slopes[:, :, 3]),
            forget=gates[:, :, 1].contiguous(),
        )

    def new_delta(self, n: int, batch: int, like: Tensor) -> Tensor:
        return like.new_empty(n, batch, 4, self.hidden)

    def pull(
        self,
        f: LSTMFactors,
        k: int,
        a_h: Tensor,
        a_c: Tensor | None,
        out_h: Tensor,
        out_c: Tensor | None,
        delta: Tensor,
    ) -> None:
        assert a_c is not None
        assert out_c is not None
        if self.weights.projection is not None:
            a_h = a_h @ self.weights.projection
        dc = torch.addcmul(a_c, a_h, f.output_slope[k])
        torch.mul(dc.unsqueeze(-2), f.gates[k], out=delta[..., :3, :])
        torch.mul(a_h, f.output_gate[k], out=delta[..., 3, :])
        torch.mm(delta.view(-1, 4 * self.hidden), self.weights.hidden, out=out_h)
        torch.mul(dc, f.forget[k], out=out_c)

    def input_adjoint(self, delta: Tensor) -> Tensor:
        return delta.flatten(-2) @ self.weights.input

    def push(
        self, f: LSTMFactors, k: int, v_h: Tensor, v_c: Tensor | None, v_x: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        assert v_c is not None
        z = v_h @ self.weights.hidden.t()
        if v_x is not None:
            z = z + v_x @ self.weights.input.t()
        z = z.view(*z.shape[:-1], 4, self.hidden)
        cell = v_c * f.forget[k] + (z[..., :3, :] * f.gates[k]).sum(-2)
        hidden = cell * f.output_slope[k] + z[..., 3, :] * f.output_gate[k]
        if self.weights.projection is not None:
            hidden = hidden @ self.weights.projection.t()
        return hidden, cell


@dataclass(frozen=True)
class GRUFactors:
    """Per step: preactivation adjoints a * `gates`, blocks (n, r, z, hn) with hn the hidden part inside the candidate,
    [c, B, 4, H]; direct carry a * `update`, [c, B, H]."""

    gates: Tensor
    update: Tensor


class GRULayer:
    """h' = (1 - z) n + z h,  n = tanh(W_in x + b_in + r (W_hn h + b_hn)), with gates r, z, n in PyTorch's order."""

    gates = 3
    has_cell = False

    def __init__(self, weights: LayerWeights) -> None:
        self.weights = weights
        self.hidden = weights.hidden.shape[0] // 3
        self.output = self.hidden
        # The input sees the blocks (n, r, z), the hidden state (r, z, hn): with the blocks in the order (n, r, z, hn)
        # both are contiguous, and only the input's weight needs its rows in another order.
        reset, update, new = weights.input.chunk(3)
        self._input_nrz = torch.cat([new, reset, update])

    def module(self) -> nn.RNNBase:
        return _fused(nn.GRU, self)

    def factors(self, x: Tensor, h: Tensor, c: Tensor | None) -> GRUFactors:
        H = self.hidden
        before = h[:-1]
        from_x = _affine(x, self.weights.input, self.weights.input_bias)
        from_h = _affine(before, self.weights.hidden, self.weights.hidden_bias)
        hn = from_h[..., 2 * H :]
        z = from_x[..., : 2 * H] + from_h[..., : 2 * H]
        gates = torch.sigmoid(z)
        slopes = torch.sigmoid(z.neg_())
        reset, update = gates[..., :H], gates[..., H:]
        closed = slopes[..., H:]  # 1 - z, to full relative precision
        candidate = torch.addcmul(from_x[..., 2 * H :], reset, hn)
        into = torch.empty(*before.shape[:-1], 4, H, dtype=h.dtype, device=h.device)
        torch.mul(slope_of_tanh(candidate), closed, out=into[..., 0, :])
        torch.mul(into[..., 0, :], reset, out=into[..., 3, :])
        torch.mul(into[..., 3, :], slopes[..., :H], out=into[..., 1, :])
        into[..., 1, :] *= hn
        torch.sub(before, torch.tanh(candidate), out=into[..., 2, :])
        into[..., 2, :] *= update
        into[..., 2, :] *= closed
        return GRUFactors(gates=into, update=update.contiguous())

    def new_delta(self, n: int, batch: int, like: Tensor) -> Tensor:
        return like.new_empty(n, batch, 4, self.hidden)

    def pull(
        self, f: GRUFactors, k: int, a_h: Tensor, a_c: Tensor | None, out_h: Tensor, out_c: Tensor | None, delta: Tensor
    ) -> None:
        torch.mul(a_h.unsqueeze(-2), f.gates[k], out=delta)
        torch.mm(delta.view(-1, 4 * self.hidden)[:, self.hidden :], self.weights.hidden, out=out_h)
        out_h.view_as(a_h).addcmul_(a_h, f.update[k])

    def input_adjoint(self, delta: Tensor) -> Tensor:
        return delta.flatten(-2)[..., : 3 * self.hidden] @ self._input_nrz

    def push(
        self, f: GRUFactors, k: int, v_h: Tensor, v_c: Tensor | None, v_x: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        z = v_h @ self.weights.hidden.t()
        z = z.view(*z.shape[:-1], 3, self.hidden)
        hidden = v_h * f.update[k] + (z * f.gates[k][..., 1:, :]).sum(-2)
        if v_x is not None:
            x = v_x @ self._input_nrz.t()
            hidden = hidden + (x.view(*x.shape[:-1], 3, self.hidden) * f.gates[k][..., :3, :]).sum(-2)
        return hidden, None


Layer = RNNLayer | LSTMLayer | GRULayer


def _fused(kind: Callable[..., nn.RNNBase], layer: Layer, **settings: Any) -> nn.RNNBase:
    """A one-layer fused module over the cell's own weights; built on the meta device, so no random number is drawn."""
    weights = layer.weights
    module = kind(weights.input.shape[1], layer.hidden, bias=weights.input_bias is not None, device="meta", **settings)
    for name, value in (
        ("weight_ih_l0", weights.input),
        ("weight_hh_l0", weights.hidden),
        ("bias_ih_l0", weights.input_bias),
        ("bias_hh_l0", weights.hidden_bias),
        ("weight_hr_l0", weights.projection),
    ):
        if value is not None:
            setattr(module, name, nn.Parameter(value, requires_grad=False))
    return module
