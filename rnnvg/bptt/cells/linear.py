"""What recurrences that are linear in their state share: s' = A(x) s + b(x), whose Jacobian A is of the input alone.

Each of them has a file of its own with its equations; here is the order of work. The gates and drives of a whole segment are
computed at once, the states step by step. A pull multiplies by A^T and remembers the adjoint; what the input gets of it is
computed only where it is asked for.
Axes: c steps of a segment, B sequences, N state coordinates, I input, n adjoints.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from rnnvg.bptt.cells.cell import Cell, Paths, steps_of
from rnnvg.bptt.cells.parts import Buffers, Part, StateViews, Trajectory, states_from


class Pulled:
    """What a pull leaves: the step's factors and the adjoint of the state after it."""

    def __init__(self) -> None:
        self.step: Any = None
        self.a: Any = None


class LinearCell(Cell):
    """A subclass gives `drive`, `advance`, `carried`, `of_input`, `to_input` and `contributions`; `pushed` where A v differs.

    The values of a trajectory are its factors, with the state before each step in front.
    """

    by_runs = True

    def __init__(self, size: int, n_inputs: int, like: Tensor, widest: int = 0, kept: int = 0) -> None:
        self.parts = (Part("hidden", size),)
        self.n_inputs, self.like = n_inputs, like
        self.widest, self.kept = widest or 3 * size, kept or 6 * size

    def drive(self, x: Tensor) -> Any:
        """Everything of a step that the state plays no part in, for inputs [c, B, I]: a named tuple whose field `before`,
        the state before the step, is still to be filled."""
        raise NotImplementedError

    def advance(self, step: Any, s: Tensor) -> Tensor:
        """The state after a step, [B, N]."""
        raise NotImplementedError

    def carried(self, step: Any, a: Tensor) -> Tensor:
        """A^T a, for adjoints [..., B, N]."""
        raise NotImplementedError

    def pushed(self, step: Any, v: Tensor) -> Tensor:
        """A v, for tangents [..., B, N]; a real diagonal and I - b k k^T are their own transposes."""
        return self.carried(step, v)

    def of_input(self, step: Any, a: Tensor) -> Tensor:
        """The adjoint of the step's input, [..., B, I], from that of the state after it."""
        raise NotImplementedError

    def to_input(self, step: Any, v_x: Tensor) -> Tensor:
        """What a tangent of the input makes of the state after the step, [..., B, N]."""
        raise NotImplementedError

    def run(self, x: Tensor, state: tuple[Tensor, ...], new: Buffers) -> Trajectory:
        values = self.drive(x)
        states = states_from("states", state[0], x.shape[0], new)
        rows = zip(*(each.unbind() for each in values[1:]), strict=True)
        for k, row in enumerate(rows):
            states[k + 1] = self.advance(type(values)(states[k], *row), states[k])
        return Trajectory((states,), values._replace(before=states[:-1]))

    def factors(self, path: Trajectory, new: Buffers, change: str | None = None) -> Any:
        return path.values

    def new_delta(self, like: Tensor, new: Buffers) -> Pulled:
        return Pulled()

    def into_gates(self, step: Any, a: StateViews, delta: Pulled, above: Tensor | None) -> None:
        delta.step, delta.a = step, tuple(a.parts) if above is None else (a.parts[0] + above, *a.parts[1:])

    def pull(self, step: Any, a: StateViews, out: StateViews, delta: Pulled, above: Tensor | None) -> None:
        self.into_gates(step, a, delta, above)
        out.parts[0].copy_(self.carried(step, delta.a[0]))

    def input_adjoint(self, delta: Pulled) -> Tensor:
        return self.of_input(delta.step, delta.a[0])

    def pull_run(self, factors: Any, vectors: Tensor, inputs: bool) -> Tensor | None:
        self.carry_run(factors, vectors)
        return self.of_inputs(factors, vectors[:-1]) if inputs else None

    def of_inputs(self, factors: Any, vectors: Tensor) -> Tensor:
        """Adjoints of the inputs [c, n, B, I] of those of the states after the steps [c, n, B, N], both latest first."""
        rows = type(factors)(*(each.unsqueeze(1) for each in factors))
        return self.of_input(rows, vectors.flip(0)).flip(0)

    def carry_run(self, factors: Any, vectors: Tensor) -> None:
        """vectors[k + 1] = A^T vectors[k], [c+1, n, B, N], through c steps from the latest back."""
        for k, step in enumerate(reversed(steps_of(factors))):
            vectors[k + 1] = self.carried(step, vectors[k])

    def push(self, step: Any, v: tuple[Tensor, ...], v_x: Tensor | None) -> tuple[Tensor, ...]:
        after = self.pushed(step, v[0])
        return (after if v_x is None else after + self.to_input(step, v_x),)

    def paths(self, step: Any, a: StateViews, delta: Pulled, above: Tensor | None) -> Paths:
        return {"carry": (self.carried(step, delta.a[0]),)}


class ElementwiseCell(LinearCell):
    """A is diagonal: the values have a field `decay`, its factors [c, B, M], each that of N / M coordinates side by side;
    `driven` gives b(x) of them all."""

    def driven(self, values: Any) -> Tensor:
        """b(x), [c, B, N]."""
        raise NotImplementedError

    def decays(self, values: Any) -> Tensor:
        """The diagonals [c, B, M] as `DiagonalSteps.decays` gives them."""
        return values.decay

    def run(self, x: Tensor, state: tuple[Tensor, ...], new: Buffers) -> Trajectory:
        values = self.drive(x)
        states = states_from("states", state[0], x.shape[0], new)
        driven, decay = self.driven(values), values.decay
        rows, added = (_by_factor(each, decay) for each in (states, driven))
        decays = decay if rows is states else decay.unsqueeze(-1)
        with torch.inference_mode():  # a sixth off each small operation
            before = rows.unbind()
            for s, factor, each, after in zip(before, decays.unbind(), added.unbind(), before[1:], strict=False):
                if driven.dtype.is_complex:  # which addcmul is slow at
                    torch.mul(factor, s, out=after).add_(each)
                else:
                    torch.addcmul(each, factor, s, out=after)
        return Trajectory((states,), values._replace(before=states[:-1]))

    def carried(self, step: Any, a: Tensor) -> Tensor:
        return times(a, step.decay.conj())

    def pushed(self, step: Any, v: Tensor) -> Tensor:
        return times(v, step.decay)


def _by_factor(vectors: Tensor, decay: Tensor) -> Tensor:
    """Vectors [..., N] as [..., M, N / M] for factors [..., M] that are neither one nor N."""
    count = decay.shape[-1]
    return vectors if count in (1, vectors.shape[-1]) else torch.unflatten(vectors, -1, (count, -1))


def times(vectors: Tensor, decay: Tensor) -> Tensor:
    """Vectors [..., N] times factors [..., M], each that of N / M coordinates side by side."""
    cut = _by_factor(vectors, decay)
    return vectors * decay if cut is vectors else (cut * decay.unsqueeze(-1)).flatten(-2)


def ones(x: Tensor) -> Tensor:
    """[c, B, 1]"""
    return x.new_ones(*x.shape[:-1], 1)


def outer(left: Tensor, right: Tensor) -> Tensor:
    """left (x) right as one row, [..., L R]."""
    return (left.unsqueeze(-1) * right.unsqueeze(-2)).flatten(-2)


def initial(state: Tensor | None, x: Tensor, size: int, dtype: torch.dtype | None = None) -> Tensor:
    """The state handed in, or zeros [B, size]."""
    return x.new_zeros(x.shape[0], size, dtype=dtype) if state is None else state
