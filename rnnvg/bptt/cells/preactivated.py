"""What recurrences of several state parts share, whose input enters by preactivations W x + b alone.

Each of them has a file of its own with its equations; here is the order of work.
Axes: c steps of a segment, B sequences, I input, H hidden, n adjoints, G preactivations.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from rnnvg.bptt.cells.cell import Cell
from rnnvg.bptt.cells.linear import ones
from rnnvg.bptt.cells.parts import Buffers, Part, StateViews, Trajectory


class Preactivations:
    """What a pull leaves: the adjoints of the preactivations, [n, B, G H]."""

    def __init__(self) -> None:
        self.adjoint: Any = None


class PreactivatedCell(Cell):
    """A subclass gives `advance`, `factors`, `backwards`, `forwards`, and `recurrent_inputs` of its matrices."""

    def __init__(self, weight: Tensor, bias: Tensor, parts: tuple[Part, ...], gates: int) -> None:
        self.weight, self.bias, self.parts = weight, bias, parts
        self.n_inputs, self.like = weight.shape[1], weight
        hidden = parts[0].width
        self.widest, self.kept = gates * hidden, (2 * gates + len(parts) + 1) * hidden

    def advance(self, driven: Tensor, state: tuple[Tensor, ...]) -> tuple[Any, tuple[Tensor, ...]]:
        """The step's values and the state after it, from W x + b [B, G H] and the state before."""
        raise NotImplementedError

    def backwards(self, step: Any, a: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Adjoints of the preactivations [..., B, G H] and of the state before, from those of the state after."""
        raise NotImplementedError

    def forwards(self, step: Any, v: tuple[Tensor, ...], driven: Tensor | float) -> tuple[Tensor, ...]:
        """The tangent of the state after, from that of the state before and of W x."""
        raise NotImplementedError

    def run(self, x: Tensor, state: tuple[Tensor, ...], new: Buffers) -> Trajectory:
        driven = F.linear(x, self.weight, self.bias)
        states, values = [state], []
        for each in driven.unbind():
            step, state = self.advance(each, state)
            states.append(state)
            values.append(step)
        parts = tuple(torch.stack(part) for part in zip(*states, strict=True))
        return Trajectory(parts, type(values[0])(*(torch.stack(each) for each in zip(*values, strict=True))))

    def new_delta(self, like: Tensor, new: Buffers) -> Preactivations:
        return Preactivations()

    def _after(self, a: StateViews, above: Tensor | None) -> tuple[Tensor, ...]:
        return tuple(a.parts) if above is None else (a.parts[0] + above, *a.parts[1:])

    def into_gates(self, step: Any, a: StateViews, delta: Preactivations, above: Tensor | None) -> None:
        delta.adjoint, _ = self.backwards(step, self._after(a, above))

    def pull(self, step: Any, a: StateViews, out: StateViews, delta: Preactivations, above: Tensor | None) -> None:
        delta.adjoint, before = self.backwards(step, self._after(a, above))
        for part, found in zip(out.parts, before, strict=True):
            part.copy_(found)

    def input_adjoint(self, delta: Preactivations) -> Tensor:
        return delta.adjoint @ self.weight

    def push(self, step: Any, v: tuple[Tensor, ...], v_x: Tensor | None) -> tuple[Tensor, ...]:
        return self.forwards(step, v, 0.0 if v_x is None else v_x @ self.weight.t())

    def recurrent_inputs(self, path: Trajectory) -> dict[str, tuple[slice, Tensor]]:
        """Recurrent matrix -> the preactivations [rows] that it adds to, and what it is multiplied by [c, B, H]."""
        raise NotImplementedError

    def contributions(
        self, x: Tensor, path: Trajectory, a: StateViews, delta: Preactivations, above: Tensor | None
    ) -> dict[str, tuple[Tensor, Tensor]]:
        found = {"weight_ih": (delta.adjoint, x), "bias": (delta.adjoint, ones(x))}
        for name, (rows, value) in self.recurrent_inputs(path).items():
            found[name] = (delta.adjoint[..., rows], value)
        return found


def sigmoid_slope(z: Tensor) -> Tensor:
    """sigmoid'(z) to full relative precision."""
    return torch.sigmoid(z) * torch.sigmoid(-z)


def tanh_slope(z: Tensor) -> Tensor:
    """tanh'(z) to full relative precision."""
    return 4 * sigmoid_slope(2 * z)
