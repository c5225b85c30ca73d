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
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn


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
            held = self._held[name] = like.new_empty(size)
        return held[:size].view(shape)


def slope_of_tanh(z: Tensor, out: Tensor | None = None) -> Tensor:
    """d tanh(z)/dz to full relative precision; `z` is overwritten."""
    z *= 2
    slope = torch.sigmoid(z, out=out)
    return slope.mul_(z.neg_().sigmoid_()).mul_(4)


def _affine(x: Tensor, weight: Tensor, bias: Tensor | None, out: Tensor) -> Tensor:
    """W x + b for every step and sequence, [c, B, G H], into `out`."""
    rows, flat = x.reshape(-1, x.shape[-1]), out.view(-1, weight.shape[0])
    if bias is None:
        torch.mm(rows, weight.t(), out=flat)
    else:
        torch.addmm(bias, rows, weight.t(), out=flat)
    return out


def _add_product(out: Tensor, h: Tensor, weight: Tensor) -> None:
    out.view(-1, weight.shape[0]).addmm_(h.reshape(-1, h.shape[-1]), weight.t())


class RNNLayer:
    """h' = phi(W_ih x + b_ih + W_hh h + b_hh) with phi tanh or relu. Factors of a step: the slopes phi'(z), [B, H]."""

    gates = 1
    has_cell = False

    def __init__(self, weights: LayerWeights, nonlinearity: str) -> None:
        self.weights, self.nonlinearity = weights, nonlinearity
        self.bias = weights.bias
        self.hidden = self.output = weights.hidden.shape[0]

    def module(self) -> nn.RNNBase:
        return _fused(nn.RNN, self, nonlinearity=self.nonlinearity)

    def factors(self, x: Tensor, h: Tensor, c: Tensor | None, new: Buffers) -> list[Any]:
        """Per-step factors from inputs [c, B, I] and hidden states [c+1, B, H]."""
        if self.nonlinearity == "relu":
            # 0 * h keeps a state that is not finite visible: nan, not a slope of 0.
            slopes = torch.mul(h[1:], 0, out=new("slopes", h, *h[1:].shape))
            return list(slopes.add_(h[1:] > 0).unbind())
        z = _affine(x, self.weights.input, self.bias, new("z", h, *h[1:].shape))
        _add_product(z, h[:-1], self.weights.hidden)
        return list(slope_of_tanh(z, out=new("slopes", h, *h[1:].shape)).unbind())

    def new_delta(self, n: int, like: Tensor) -> tuple[Tensor, Tensor]:
        delta = like.new_empty(n, like.shape[-2], self.hidden)
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
        self.hidden = weights.hidden.shape[0] // 4
        self.output = weights.hidden.shape[1]

    def module(self) -> nn.RNNBase:
        return _fused(nn.LSTM, self, proj_size=0 if self.weights.projection is None else self.output)

    def preactivations(self, x: Tensor, h: Tensor, out: Tensor | None = None) -> Tensor:
        """All gates before their nonlinearity, [c, B, 4, H], from inputs [c, B, I] and hidden states [c+1, B, P]."""
        shape = (x.shape[0], x.shape[1], 4 * self.hidden)
        z = _affine(x, self.weights.input, self.bias, h.new_empty(shape) if out is None else out.view(shape))
        _add_product(z, h[:-1], self.weights.hidden)
        return z.view(*shape[:2], 4, self.hidden)

    def cell_states(self, gates: Tensor, candidate: Tensor, c: Tensor, out: Tensor | None = None) -> Tensor:
        """Cell states [c+1, B, H] from the gates [c, B, 4, H], the candidate tanh(z_g) and the first cell state [B, H]."""
        states = c.new_empty(candidate.shape[0] + 1, *c.shape) if out is None else out
        states[0] = c
        torch.mul(gates[:, :, 0], candidate, out=states[1:])
        for before, after, forget in zip(
            states[:-1].unbind(), states[1:].unbind(), gates[:, :, 1].unbind(), strict=True
        ):
            after.addcmul_(forget, before)
        return states

    def factors(self, x: Tensor, h: Tensor, c: Tensor | None, new: Buffers) -> list[Any]:
        """Per-step factors from inputs [c, B, I], hidden states [c+1, B, P] and the first cell state [B, H]."""
        assert c is not None
        steps, batch, H = x.shape[0], x.shape[1], self.hidden
        z = self.preactivations(x, h, new("z", h, steps, batch, 4, H))
        candidate = torch.tanh(z[:, :, 2], out=new("candidate", h, steps, batch, H))
        z[:, :, 2] *= 2  # tanh'(z) = 4 sigmoid'(2z): one pass gives all four slopes
        gates = torch.sigmoid(z, out=new("gates", h, steps, batch, 4, H))
        slopes = z.neg_().sigmoid_().mul_(gates)
        states = self.cell_states(gates, candidate, c, new("states", h, steps + 1, batch, H))
        slopes[:, :, 0].mul_(candidate)
        slopes[:, :, 1].mul_(states[:-1])
        slopes[:, :, 2].mul_(gates[:, :, 0]).mul_(4)
        slopes[:, :, 3].mul_(torch.tanh(states[1:], out=candidate))
        slope = slope_of_tanh(states[1:], out=new("slope", h, steps, batch, H)).mul_(gates[:, :, 3])
        into_cell, into_output = slopes[:, :, :3], slopes[:, :, 3]
        return list(zip(slope.unbind(), into_cell.unbind(), into_output.unbind(), gates[:, :, 1].unbind(), strict=True))

    def new_delta(self, n: int, like: Tensor) -> tuple[Tensor, ...]:
        delta = like.new_empty(n, like.shape[-2], 4, self.hidden)
        dc = like.new_empty(n, like.shape[-2], self.hidden)
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

    def unprojected(self, x: Tensor, h: Tensor, c: Tensor) -> Tensor:
        """o tanh(c') before the projection, [c, B, H], from inputs [c, B, I], hidden states [c+1, B, P] and first c."""
        z = self.preactivations(x, h)
        candidate = torch.tanh(z[:, :, 2])
        gates = torch.sigmoid(z)
        return self.cell_states(gates, candidate, c)[1:].tanh_().mul_(gates[:, :, 3])

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
        # The input sees the blocks (n, r, z), the hidden state (r, z, hn): with the blocks in the order (n, r, z, hn)
        # both are contiguous, and only the input's weight needs its rows in another order.
        reset, update, candidate = weights.input.chunk(3)
        self._input_nrz = torch.cat([candidate, reset, update])

    def module(self) -> nn.RNNBase:
        return _fused(nn.GRU, self)

    def factors(self, x: Tensor, h: Tensor, c: Tensor | None, new: Buffers) -> list[Any]:
        """Per-step factors from inputs [c, B, I] and hidden states [c+1, B, H]."""
        before, H = h[:-1], self.hidden
        lead = before.shape[:2]
        from_x = _affine(x, self.weights.input, self.weights.input_bias, new("x", h, *lead, 3 * H))
        from_h = _affine(before, self.weights.hidden, self.weights.hidden_bias, new("h", h, *lead, 3 * H))
        hn = from_h[..., 2 * H :]
        z = from_h[..., : 2 * H].add_(from_x[..., : 2 * H])
        gates = torch.sigmoid(z, out=new("gates", h, *lead, 2 * H))
        closing = z.neg_().sigmoid_()  # 1 - r and 1 - z, to full relative precision
        reset, update = gates[..., :H], gates[..., H:]
        candidate = from_x[..., 2 * H :].addcmul_(reset, hn)
        into = new("into", h, *lead, 4, H)
        into_n, into_r, into_z, into_hn = into.unbind(-2)
        torch.sub(before, torch.tanh(candidate, out=new("tanh", h, *lead, H)), out=into_z)
        into_z.mul_(update).mul_(closing[..., H:])
        slope_of_tanh(candidate, out=into_n).mul_(closing[..., H:])
        torch.mul(into_n, reset, out=into_hn)
        torch.mul(into_hn, closing[..., :H], out=into_r).mul_(hn)
        return list(zip(into.unbind(), update.unbind(), strict=True))

    def new_delta(self, n: int, like: Tensor) -> tuple[Tensor, ...]:
        delta = like.new_empty(n, like.shape[-2], 4, self.hidden)
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
