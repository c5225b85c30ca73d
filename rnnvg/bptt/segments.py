"""What every linearised recurrence is: coordinates, segments of steps, and the two products with a step Jacobian.

Subclasses say how a segment of steps is made (closed forms, a step function, diagonal factors).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from rnnvg.errors import InputError, check_int

KEEP_BYTES = 2**28  # states of every step are kept up to here, and only at checkpoints beyond

Kind = Literal["hidden", "cell", "other"]


@dataclass(frozen=True)
class Coordinate:
    """A block of the state: its layer, what it is ("hidden", "cell" or "other"), and its columns."""

    layer: int
    kind: Kind
    columns: slice


class Segment(Protocol):
    """A run of steps start..stop-1 with everything needed to multiply by their Jacobians.

    `cheap` says that a pull costs so little that several may be tried and thrown away; `by_runs`, that `pull_run` reads the
    vectors alone, so that nobody has to cut them up.
    """

    cheap: bool = False
    by_runs: bool = False
    start: int
    stop: int

    def pull(self, t: int, a: Any, out: Any, inputs: bool = True) -> None:
        """Write J_t^T a to `out`: two different vectors [n, B, N], each as Linearization.view gave it.

        `inputs` says whether input_adjoint will be asked for.
        """
        ...

    def input_adjoint(self) -> Tensor:
        """The adjoint of step t's input, [n, B, I], by the pull that came last."""
        ...

    def pull_run(self, t: int, views: list[Any], vectors: Tensor, inputs: bool) -> Tensor | None:
        """Pull steps t, t-1, ... one after the other, from views[0] into those after it: `vectors` [c+1, n, B, N] cut up
        (no views where `by_runs`).

        Returns the adjoints of the c steps' inputs, [c, n, B, I], where `inputs` asks for them.
        """
        found: list[Tensor] = []
        for k in range(len(views) - 1):
            self.pull(t - k, views[k], views[k + 1], inputs)
            if inputs:
                found.append(self.input_adjoint())
        return torch.stack(found) if inputs else None

    def push(self, t: int, v: Tensor) -> Tensor:
        """J_t v, [n, B, N]."""
        ...


class DiagonalSteps(Segment, Protocol):
    """A segment whose step Jacobians are diagonal."""

    def decays(self) -> Tensor:
        """The diagonals, [c, B, M], each factor that of N / M coordinates side by side; the first two axes of stride 0 or of
        size 1 where they are the same."""
        ...

    def inputs_of(self, first: int, vectors: Tensor) -> Tensor:
        """Adjoints of the inputs of steps first + c - 1, ..., first, latest first, [c, n, B, I], from those of the states
        after them [c, n, B, N]."""
        ...


class Linearization:
    """A recurrence linearised along one trajectory of T steps, B sequences, N state coordinates.

    Attributes:
        n_steps, batch, size: T, B, N.
        coordinates: the blocks of the state, in order.
        output: the columns that the recurrence shows to the outside (the top layer's h); there are P.
        n_inputs: I, or None where the recurrence has no input to differentiate by.
        dtype, device: of the states.
        bounds: [(start, stop), ...] of the segments, in order.
        first_nonfinite: [B], the first step whose state is inf or nan, -1 where there is none.
        diagonal: every segment is one of `DiagonalSteps`.
        input_note: what the input is, in a sentence, where that does not go without saying.
        note: what is left out of it, in a sentence; empty where nothing is.
        work: multiplications of the largest product of a step's pull, for one sequence; None where that is not known.
    """

    bounds: list[tuple[int, int]]
    diagonal: bool = False
    input_note: str = ""
    note: str = ""
    work: int | None = None

    def __init__(
        self,
        *,
        n_steps: int,
        batch: int,
        coordinates: tuple[Coordinate, ...],
        output: slice,
        n_inputs: int | None,
        like: Tensor,
    ) -> None:
        self.n_steps, self.batch = n_steps, batch
        self.coordinates, self.output, self.n_inputs = coordinates, output, n_inputs
        self.size = coordinates[-1].columns.stop
        self.dtype, self.device = like.dtype, like.device
        self.first_nonfinite = torch.full((batch,), -1, dtype=torch.int64, device="cpu")
        self._current: tuple[int, Segment] | None = None

    @property
    def n_outputs(self) -> int:
        """P."""
        return self.output.stop - self.output.start

    @property
    def wide_dtype(self) -> torch.dtype:
        """The dtype of covectors: double precision, complex where the states are."""
        return torch.complex128 if self.dtype.is_complex else torch.float64

    def covectors(self, outputs: Tensor) -> Tensor:
        """Covectors of the output [..., B, P] as covectors of the whole state [..., B, N], in double precision."""
        found = outputs.new_zeros(*outputs.shape[:-1], self.size, dtype=self.wide_dtype)
        found[..., self.output] = outputs.to(self.wide_dtype)
        return found

    def segment(self, index: int, reuse: bool = False) -> Segment:
        """Segment `index` of `bounds`. With `reuse` it may take over the memory of the one before, which is then void."""
        raise NotImplementedError

    def changed_segment(self, index: int, change: str) -> Segment:
        """Segment `index` with its Jacobians changed by name (`Cell.changes`), in memory that the next one takes over."""
        raise NotImplementedError

    def segments(
        self, steps: int | None = None, *, backwards: bool = False, reuse: bool = False, change: str | None = None
    ) -> Iterator[Segment]:
        """The segments that hold steps 0..steps-1 (all by default), in order of time or backwards."""
        steps = self.n_steps if steps is None else steps
        indices = [index for index, (start, _) in enumerate(self.bounds) if start < steps]
        for index in reversed(indices) if backwards else indices:
            yield self.segment(index, reuse) if change is None else self.changed_segment(index, change)

    def states(self) -> Iterator[tuple[int, Tensor]]:
        """The first step of every segment and the states after its steps, [c, B, N]; void when the next is asked for.

        Raises:
            InputError: a recurrence that is given by its factors alone has none.
        """
        raise InputError("`profile` is of a recurrence that is given by its factors alone and has no states to vary.")

    def view(self, vectors: Tensor) -> Any:
        """Contiguous `vectors` [n, B, N] in the form that a segment's pull takes: cut up once, used many times."""
        return vectors

    def pullback(self, t: int, a: Tensor) -> Tensor:
        """J_t^T a: the adjoint of the state after step t, [..., B, N], carried to the state before it."""
        flat = self._vectors("a", a)
        out = torch.empty_like(flat)
        self._segment_of(t).pull(t, self.view(flat), self.view(out))
        return out.view(a.shape)

    def pushforward(self, t: int, v: Tensor) -> Tensor:
        """J_t v: a perturbation of the state before step t, [..., B, N], carried to the state after it."""
        return self._segment_of(t).push(t, self._vectors("v", v)).view(v.shape)

    def _vectors(self, name: str, vectors: Tensor) -> Tensor:
        if vectors.ndim < 2 or tuple(vectors.shape[-2:]) != (self.batch, self.size):
            raise InputError(
                f"`{name}` has shape {list(vectors.shape)}; pass [..., {self.batch}, {self.size}]: sequences, coordinates."
            )
        return vectors.reshape(-1, self.batch, self.size).contiguous()

    def _segment_of(self, t: int) -> Segment:
        if not 0 <= t < self.n_steps:
            raise InputError(f"`t` is {t}; pass a step from 0 to {self.n_steps - 1}.")
        index = next(index for index, (_, stop) in enumerate(self.bounds) if t < stop)
        if self._current is None or self._current[0] != index:
            self._current = (index, self.segment(index))
        return self._current[1]

    def _note_nonfinite(self, states: Tensor, start: int) -> None:
        """Remember where `states` [c, B, N] of the steps from `start` on first leave the finite numbers."""
        if bool(torch.isfinite(states.sum())):
            return
        bad = ~torch.isfinite(states).all(-1).cpu()
        step = start + bad.to(torch.uint8).argmax(0)
        earlier = bad.any(0) & ((self.first_nonfinite < 0) | (step < self.first_nonfinite))
        self.first_nonfinite[earlier] = step[earlier]


def split_steps(n_steps: int, length: int) -> list[tuple[int, int]]:
    """[(start, stop), ...] of segments of at most `length` steps (and at least one)."""
    length = max(1, length)
    return [(start, min(start + length, n_steps)) for start in range(0, n_steps, length)]


def state_columns(linear: Linearization, wrt: str, layer: int | None) -> list[slice] | None:
    """The state columns that `wrt` and `layer` name, whole blocks; None for the input."""
    layers = 1 + max(each.layer for each in linear.coordinates)
    if layer is not None:
        check_int("layer", layer, least=0, most=layers - 1)
    if wrt == "input":
        if linear.n_inputs is None:
            raise InputError("`wrt` is 'input', but this recurrence has no input to differentiate by; pass 'state'.")
        if layer is not None:
            raise InputError("`layer` picks a layer's state, and `wrt` is 'input'; pass layer=None.")
        return None
    chosen = [each for each in linear.coordinates if wrt in ("state", each.kind) and layer in (None, each.layer)]
    if not chosen:
        raise InputError(f"`wrt` is {wrt!r}, but this recurrence has no {wrt} state; pass 'state' or 'hidden'.")
    if len(chosen) == len(linear.coordinates):
        return [slice(0, linear.size)]
    return [each.columns for each in chosen]
