"""What recurrences of several state parts share, whose input enters by preactivations W x + b alone.

Each of them has a file of its own with its equations; here is the order of work.
Axes: c steps of a segment, B sequences, I input, H hidden, n adjoints, G preactivations.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from rnnvg.bptt.cells.cell import Cell, steps_of
from rnnvg.bptt.cells.linear import ones
from rnnvg.bptt.cells.parts import Buffers, Part, StateViews, Trajectory, slope_of_tanh, states_from


class Preactivations:
    """What a pull leaves: the adjoints of the preactivations, [n, B, G H]."""

    def __init__(self) -> None:
        self.adjoint: Any = None


class PreactivatedCell(Cell):
    """A subclass gives `roll`, `factors`, `back`, `forwards`, and `recurrent_inputs` of its matrices.

    The state's parts lie side by side in one tensor, so that what happens to two of them is one operation.
    """

    by_runs = True

    def __init__(self, weight: Tensor, bias: Tensor, parts: tuple[Part, ...], gates: int, kept: int) -> None:
        self.weight, self.bias, self.parts, self.gates_count = weight, bias, parts, gates
        self.n_inputs, self.like = weight.shape[1], weight
        hidden = parts[0].width
        self.widest, self.kept = gates * hidden, kept * hidden

    def roll(self, pre: Tensor, states: Tensor) -> Any:
        """The values of c steps; `states` [c+1, B, N], the first of them there already, are written.

        `pre` [c, B, G H] holds W x + b and is written over with the preactivations.
        """
        raise NotImplementedError

    def back(self, step: Any, a: tuple[Tensor, ...], pre: Tensor, out: StateViews | None) -> None:
        """Adjoints of the preactivations into `pre` [n, B, G H] and, where asked for, of the state before into `out`."""
        raise NotImplementedError

    def forwards(self, step: Any, v: tuple[Tensor, ...], driven: Tensor | float) -> tuple[Tensor, ...]:
        """The tangent of the state after, from that of the state before and of W x."""
        raise NotImplementedError

    def run(self, x: Tensor, state: tuple[Tensor, ...], new: Buffers) -> Trajectory:
        first = torch.cat(state, -1)
        states = states_from("states", first, x.shape[0], new)
        values = self.roll(F.linear(x, self.weight, self.bias), states)
        return Trajectory(self.cut(states), values)

    def cut(self, states: Tensor) -> tuple[Tensor, ...]:
        """The parts of states side by side, [..., N]."""
        return states.chunk(len(self.parts), -1)

    def new_delta(self, like: Tensor, new: Buffers) -> Preactivations:
        return Preactivations()

    def new_pre(self, *shape: int) -> Tensor:
        return self.weight.new_empty(*shape, self.gates_count * self.parts[0].width)

    def _after(self, a: StateViews, above: Tensor | None) -> tuple[Tensor, ...]:
        return tuple(a.parts) if above is None else (a.parts[0] + above, *a.parts[1:])

    def into_gates(self, step: Any, a: StateViews, delta: Preactivations, above: Tensor | None) -> None:
        delta.adjoint = self.new_pre(*a.parts[0].shape[:2])
        self.back(step, self._after(a, above), delta.adjoint, None)

    def pull(self, step: Any, a: StateViews, out: StateViews, delta: Preactivations, above: Tensor | None) -> None:
        delta.adjoint = self.new_pre(*a.parts[0].shape[:2])
        self.back(step, self._after(a, above), delta.adjoint, out)

    def pull_run(self, factors: Any, views: list[StateViews], vectors: Tensor, inputs: bool) -> Tensor | None:
        pre = self.new_pre(len(views) - 1, *vectors.shape[1:3])
        for k, (step, adjoint) in enumerate(zip(reversed(steps_of(factors)), pre.unbind(), strict=True)):
            self.back(step, views[k].parts, adjoint, views[k + 1])
        return pre @ self.weight if inputs else None

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


def rows(vectors: Tensor) -> Tensor:
    """[n, B, width] as [n B, width]: a product of two matrices costs half of what one of three axes does."""
    return vectors[0] if vectors.shape[0] == 1 else vectors.flatten(0, 1)


def sigmoid_slope(z: Tensor) -> Tensor:
    """sigmoid'(z) to full relative precision."""
    return torch.sigmoid(z) * torch.sigmoid(-z)


def tanh_slope(z: Tensor) -> Tensor:
    """tanh'(z) to full relative precision."""
    return slope_of_tanh(z, torch.empty_like(z))
