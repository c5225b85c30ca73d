"""What recurrences of several state parts share, whose input enters by preactivations W x + b alone.

Each of them has a file of its own with its equations; here is the order of work.
Axes: c steps of a segment, B sequences, I input, H hidden, n adjoints, G preactivations.
"""

from __future__ import annotations

from itertools import repeat
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
    """A subclass gives `roll`, `factors`, `cut_adjoint`, `cut_pre`, `gate`, `carry`, `forwards`, and `recurrent_inputs` of
    its matrices.

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

    def cut_adjoint(self, a: Tensor) -> tuple[Tensor, ...]:
        """Adjoints of states side by side [..., n, B, N] in the views that `gate` and `carry` read and write.

        Making a view costs half of what is computed in it: they are made for all steps of a run at once.
        """
        raise NotImplementedError

    def cut_pre(self, pre: Tensor) -> tuple[Tensor, ...]:
        """Adjoints of the preactivations [..., n, B, G H] in such views, and any memory that a step needs besides."""
        raise NotImplementedError

    def gate(self, step: Any, a: tuple[Tensor, ...], pre: tuple[Tensor, ...], out: tuple[Tensor, ...]) -> None:
        """Adjoints of the preactivations into `pre`, from those of the state after; `out` is memory for what `carry` needs."""
        raise NotImplementedError

    def carry(self, step: Any, pre: tuple[Tensor, ...], out: tuple[Tensor, ...]) -> None:
        """The adjoint of the state before into `out`, after `gate`."""
        raise NotImplementedError

    def forwards(self, step: Any, v: tuple[Tensor, ...], driven: Tensor | float) -> tuple[Tensor, ...]:
        """The tangent of the state after, from that of the state before and of W x."""
        raise NotImplementedError

    def run(self, x: Tensor, state: tuple[Tensor, ...], new: Buffers) -> Trajectory:
        first = torch.cat(state, -1)
        states = states_from("states", first, x.shape[0], new)
        pre = F.linear(x, self.weight, self.bias)
        with torch.inference_mode():  # a sixth off each small operation
            values = self.roll(pre, states)
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
        self._gate(step, a, delta, above)

    def pull(self, step: Any, a: StateViews, out: StateViews, delta: Preactivations, above: Tensor | None) -> None:
        found, pre, views = self._gate(step, a, delta, above)
        self.carry(step, pre, views)
        for part, each in zip(out.parts, self.cut(found), strict=True):
            part.copy_(each)

    def _gate(
        self, step: Any, a: StateViews, delta: Preactivations, above: Tensor | None
    ) -> tuple[Tensor, tuple[Tensor, ...], tuple[Tensor, ...]]:
        """`gate` in memory of its own: for the adjoint of the state before, and views of both."""
        after = torch.cat(self._after(a, above), -1)
        before = torch.empty_like(after)
        delta.adjoint = self.new_pre(*after.shape[:2])
        pre, views = self.cut_pre(delta.adjoint), self.cut_adjoint(before)
        self.gate(step, self.cut_adjoint(after), pre, views)
        return before, pre, views

    def pull_run(self, factors: Any, vectors: Tensor, inputs: bool) -> Tensor | None:
        count = len(vectors) - 1
        pre = self.new_pre(*vectors.shape[1:3])  # of one step, which stays in the cache and is cut up once
        states, into, rows = by_step(self.cut_adjoint(vectors)), self.cut_pre(pre), as_rows(pre)
        found = self.weight.new_empty(count, len(rows), self.n_inputs) if inputs else None
        of_inputs = repeat(None) if found is None else found.unbind()
        with torch.inference_mode():  # a sixth off each small operation
            for step, a, out, of_input in zip(reversed(steps_of(factors)), states, states[1:], of_inputs, strict=False):
                self.gate(step, a, into, out)
                self.carry(step, into, out)
                if of_input is not None:
                    torch.mm(rows, self.weight, out=of_input)
        return None if found is None else found.view(*vectors[1:].shape[:3], self.n_inputs)

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


def by_step(views: tuple[Tensor, ...]) -> list[tuple[Tensor, ...]]:
    """Views of c steps [c, ...] as those of each step."""
    return list(zip(*(each.unbind() for each in views), strict=True))


def blocks(new: Buffers, name: str, like: Tensor, *shape: int) -> Tensor:
    """Memory [c, B, G, H] for `shape`, each of G blocks in one piece: what is computed of it for all steps is quicker so."""
    c, batch, count, hidden = shape
    return new(name, like, count, c, batch, hidden).permute(1, 2, 0, 3)


def as_rows(vectors: Tensor) -> Tensor:
    """Adjoints [..., n, B, width] as [..., n B, width]: a product of two matrices costs half of one of three axes."""
    return vectors.flatten(-3, -2)


def sigmoid_slope(z: Tensor) -> Tensor:
    """sigmoid'(z) to full relative precision."""
    return torch.sigmoid(z) * torch.sigmoid(-z)


def tanh_slope(z: Tensor) -> Tensor:
    """tanh'(z) to full relative precision."""
    return slope_of_tanh(z, torch.empty_like(z))
