"""Any recurrence written as `step(x_t, state) -> state`, linearised by automatic differentiation one step at a time.

The function is called on whole batches, with the real tensors and outside vmap, so it may branch on what it sees.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from rnnvg.bptt.segments import Coordinate, Kind, Linearization, Segment, split_steps
from rnnvg.bptt.tensors import check_finite, check_has_values, check_tensor, members, shape_of, tensors_of
from rnnvg.errors import InputError
from rnnvg.pytorch import gradients

KINDS: tuple[Kind, ...] = ("hidden", "cell")
SEGMENT_STEPS = 256


class StepLinearization(Linearization):
    """step(x_t, state) along its own trajectory; the first tensor of the state is the output."""

    def __init__(self, step: Callable[..., Any], inputs: Tensor, state: Any, keep_bytes: int) -> None:
        self.step, self.inputs = step, inputs
        self._is_tensor = isinstance(state, Tensor)
        parts, self._shapes = _initial(state, inputs)
        _check_inputs(inputs, parts[0].shape[0])
        widths = [part.shape[1] for part in parts]
        edges = [sum(widths[:index]) for index in range(len(widths) + 1)]
        self.columns = [slice(edges[index], edges[index + 1]) for index in range(len(widths))]
        super().__init__(
            n_steps=inputs.shape[0],
            batch=parts[0].shape[0],
            coordinates=tuple(
                Coordinate(0, KINDS[index] if index < len(KINDS) else "other", columns)
                for index, columns in enumerate(self.columns)
            ),
            output=self.columns[0],
            n_inputs=inputs[0].numel() // inputs.shape[1] if inputs.is_floating_point() else None,
            like=parts[0],
        )
        self.bounds = split_steps(self.n_steps, SEGMENT_STEPS)
        whole = self.n_steps * self.batch * self.size * parts[0].element_size()
        self._kept: list[Tensor] | None = [] if whole <= keep_bytes else None
        self._checkpoints: list[Tensor] = []
        current = torch.cat(parts, -1)
        for start, stop in self.bounds:
            self._checkpoints.append(current)
            states = self._forward(start, stop, current)
            self._note_nonfinite(states[1:], start)
            current = states[-1].clone()  # a view would keep the whole segment's states alive
            if self._kept is not None:
                self._kept.append(states)

    def call(self, t: int, x: Tensor, state: Tensor) -> Tensor:
        """The step on a state of N columns, back as N columns; the function's own shapes are checked."""
        state = state.clone()  # a step that writes in place writes here
        parts = tuple(
            torch.unflatten(state[:, columns], 1, shape)
            for columns, shape in zip(self.columns, self._shapes, strict=True)
        )
        after = self.step(x, parts[0] if self._is_tensor else parts)
        got = tensors_of(after)
        if not got:
            raise InputError(
                f"`recurrence` returned a {type(after).__name__} at step {t}; return the state as it was given."
            )
        wanted, found = [list(part.shape) for part in parts], [list(part.shape) for part in got]
        if wanted != found:
            raise InputError(
                f"`recurrence` changes the state's shape at step {t}: it was given {_words(wanted)} and returned "
                f"{_words(found)}; return the same."
            )
        if self._is_tensor != isinstance(after, Tensor):
            given, returned = ("a tensor", "a tuple") if self._is_tensor else ("a tuple", "a tensor")
            raise InputError(
                f"`recurrence` was given {given} as its state and returned {returned} at step {t}; return the same."
            )
        return torch.cat([part.to(state.dtype).flatten(1) for part in got], -1)

    @torch.no_grad()
    def _forward(self, start: int, stop: int, state: Tensor) -> Tensor:
        """States [c+1, B, N], the one before step `start` first."""
        states = torch.empty(stop - start + 1, self.batch, self.size, dtype=self.dtype, device=self.device)
        states[0] = state
        for t in range(start, stop):
            states[t - start + 1] = self.call(t, self.inputs[t], states[t - start])
        return states

    def segment(self, index: int, reuse: bool = False) -> StepSegment:
        start, stop = self.bounds[index]
        kept = self._kept
        states = kept[index] if kept is not None else self._forward(start, stop, self._checkpoints[index])
        return StepSegment(self, start, states)

    def states(self) -> Iterator[tuple[int, Tensor]]:
        for index, (start, _) in enumerate(self.bounds):
            yield start, self.segment(index).states[1:]


class StepSegment(Segment):
    """Vector-Jacobian and Jacobian-vector products of single steps, from states [c+1, B, N]."""

    def __init__(self, whole: StepLinearization, start: int, states: Tensor) -> None:
        self.start, self.stop = start, start + states.shape[0] - 1
        self._whole, self.states = whole, states
        self._input_adjoint: Tensor | None = None

    @torch.enable_grad()
    def _linearised(self, t: int, inputs: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """Input, state before and state after step t, joined by autograd; the state after must be the one seen before."""
        x = self._whole.inputs[t].detach()
        if inputs and x.is_floating_point():
            x.requires_grad_()
        before = self.states[t - self.start].detach().clone().requires_grad_()
        after = self._whole.call(t, x.clone(), before)
        if not after.requires_grad:
            self._check_forgets(t, x, before, after)
            after = after + 0 * before  # a zero Jacobian
        tolerance = 1e3 * torch.finfo(after.dtype).eps
        if not torch.allclose(after.detach(), self.states[t - self.start + 1], tolerance, tolerance, equal_nan=True):
            raise InputError(
                f"`recurrence` gave another state at step {t} when it was called again on the same input and state; "
                "make it a pure function (switch dropout and other noise off)."
            )
        return x, before, after

    def _check_forgets(self, t: int, x: Tensor, before: Tensor, after: Tensor) -> None:
        """A result without a graph is right where the step ignores its state, or cuts the gradient off at this step alone."""
        elsewhere = self._whole.call(t, x.detach().clone(), before.detach() + 0.01)
        other = t - 1 if t else min(1, self._whole.n_steps - 1)
        cut_here_alone = self._whole.call(other, self._whole.inputs[other].clone(), before).requires_grad
        if not cut_here_alone and not torch.equal(elsewhere, after):
            raise InputError(
                f"`recurrence` returned a state that autograd cannot follow at step {t}, though it changes with the state it "
                "was given; take torch.no_grad(), .detach() and .item() out of the step."
            )

    def pull(self, t: int, a: Tensor, out: Tensor, inputs: bool = True) -> None:
        x, before, after = self._linearised(t, inputs)
        wrt = (before, x) if x.requires_grad else (before,)
        into_x: list[Tensor] = []
        for index in range(a.shape[0]):
            keep = index < a.shape[0] - 1
            found = gradients(after, wrt, a[index], retain=keep)
            out[index] = 0 if found[0] is None else found[0]
            if x.requires_grad:
                into_x.append(torch.zeros_like(x) if found[1] is None else found[1])
        self._input_adjoint = torch.stack(into_x).flatten(2) if into_x else None

    def input_adjoint(self) -> Tensor:
        assert self._input_adjoint is not None
        return self._input_adjoint

    def push(self, t: int, v: Tensor) -> Tensor:
        """By two reverse passes: u -> J^T u is linear, and its own pullback is v -> J v (the "double backward" trick)."""
        _, before, after = self._linearised(t)
        with torch.enable_grad():
            dual = torch.zeros_like(after, requires_grad=True)
            (pulled,) = gradients(after, [before], dual, create=True)
            if pulled is None or not pulled.requires_grad:
                return torch.zeros_like(v)
            columns = [gradients(pulled, [dual], each, retain=True)[0] for each in v]
        return torch.stack([torch.zeros_like(v[0]) if column is None else column for column in columns])


def _initial(state: object, inputs: object) -> tuple[list[Tensor], list[tuple[int, ...]]]:
    """The parts of the initial state as [B, H] each, and the shape of one sequence's."""
    batch = inputs.shape[1] if isinstance(inputs, Tensor) and inputs.ndim > 1 else -1

    def fits(part: Tensor) -> bool:
        two = part.ndim == 2 or (part.ndim > 2 and len(part) == batch)
        return not part.is_nested and part.numel() > 0 and two

    parts = tensors_of(state)
    if not parts or not all(fits(part) for part in parts):
        found = "None" if state is None else " and ".join(str(shape_of(part)) for part in members(state)) or repr(state)
        raise InputError(
            f"`state` is {found}; a step function needs its initial state: a tensor [B, H], or a tuple of them with the "
            "output first."
        )
    for part in parts:
        check_has_values("state", check_tensor("state", part, "[B, H]"))
    first = parts[0]
    if first.dtype not in (torch.float32, torch.float64):
        raise InputError(f"`state` has dtype {first.dtype}; pass float32 or float64.")
    for part in parts[1:]:
        if part.shape[0] != first.shape[0] or part.dtype != first.dtype or part.device != first.device:
            raise InputError(
                f"`state` holds {list(first.shape)} {first.dtype} on {first.device} and {list(part.shape)} {part.dtype} on "
                f"{part.device}; pass tensors of one batch size, dtype and device."
            )
    for part in parts:
        check_finite("state", part)
    return [part.detach().flatten(1) for part in parts], [tuple(part.shape[1:]) for part in parts]


def _check_inputs(inputs: Tensor, batch: int) -> None:
    found = shape_of(inputs)
    if isinstance(found, str) or len(found) < 2 or 0 in found:
        raise InputError(f"`inputs` is {found}; pass [T, B, I] with at least one step: step t is handed inputs[t].")
    check_has_values("inputs", check_tensor("inputs", inputs, "[T, B, I]"))
    if inputs.shape[1] != batch:
        raise InputError(f"`inputs` has {inputs.shape[1]} sequences and `state` {batch}; pass the same number.")
    if inputs.is_floating_point():
        check_finite("inputs", inputs)


def _words(shapes: list[list[int]]) -> str:
    return " and ".join(str(shape) for shape in shapes)
