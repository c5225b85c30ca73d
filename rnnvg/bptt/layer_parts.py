"""What the closed forms of all layers are made of: weights, memory, trajectories, views, exact slopes.

Axes: c steps of a segment, B sequences, I input, H hidden, P output (H, or proj_size), n adjoints, G gates.

Slopes are never taken from the activation: 1 - tanh(z)^2 is exactly 0 in float32 from |z| = 9 on, and a gradient read
from it would be called zero where it is small. With p = sigmoid(-|z|) <= 1/2, sigmoid'(z) = p - p^2, and tanh'(z) =
4 sigmoid'(2z): both keep their relative precision until the number itself leaves the dtype's range.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

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


def slope_of_tanh(z: Tensor, out: Tensor) -> Tensor:
    """d tanh(z)/dz to full relative precision, into `out`."""
    torch.copysign(z, -1.0, out=out).mul_(2).sigmoid_()
    return out.addcmul_(out, out, value=-1).mul_(4)


class Trajectory(NamedTuple):
    """What one layer went through over a segment.

    preactivations and activations: of the gates, as the layer's `factors` needs them; hidden [c+1, B, P] and cell
    [c+1, B, H] or None: the state before the segment first.
    """

    preactivations: tuple[Tensor, ...]
    activations: tuple[Tensor, ...]
    hidden: Tensor
    cell: Tensor | None = None

    def between(self, start: int, stop: int) -> Trajectory:
        """The part from step `start` to before step `stop`."""
        cell = None if self.cell is None else self.cell[start : stop + 1]
        before, after = ([each[start:stop] for each in found] for found in (self.preactivations, self.activations))
        return Trajectory(tuple(before), tuple(after), self.hidden[start : stop + 1], cell)


def products(x: Tensor, weight: Tensor, bias: Tensor | None, out: Tensor) -> Tensor:
    """W x + b for every step and sequence, [c, B, G H], into `out`."""
    rows, found = x.reshape(-1, x.shape[-1]), out.view(-1, weight.shape[0])
    if bias is None:
        torch.mm(rows, weight.t(), out=found)
    else:
        torch.addmm(bias, rows, weight.t(), out=found)
    return out


def states_from(name: str, first: Tensor, steps: int, new: Buffers) -> Tensor:
    states = new(name, first, steps + 1, *first.shape)
    states[0] = first
    return states
