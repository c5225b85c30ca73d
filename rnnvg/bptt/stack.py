"""Layers with closed forms along one trajectory: what a module's steps pass on, and the products with its step Jacobians.

A segment is a run of steps whose gates stand in memory; a layer reads the one below, masked where dropout was active.
Axes: T steps, c steps of a segment, B sequences, N state coordinates, n adjoints or tangents carried together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rnnvg.bptt.cells import Buffers, Cell, LastingBuffers, StateViews, Trajectory, steps_of
from rnnvg.bptt.cells.linear import ElementwiseCell
from rnnvg.bptt.segments import KEEP_BYTES, Coordinate, Linearization, Segment, split_steps
from rnnvg.errors import InputError

WITHOUT = "`trajectory` was False, and only adjoints can be asked for; linearise with trajectory=True."

# A segment's gates should stay in a core's own cache between the passes over them, and its products be large enough.
SEGMENT_NUMBERS = 2**18
# Where factors alone are kept there are fewer passes over a segment, and more is lost with each that is begun.
RUN_NUMBERS = 2**20
# Multiplications up to which a step's pull takes less time than the dozen small operations beside it.
CHEAP_WORK = 2**21
# So many of a segment's steps are cut out of it one by one before all are.
FEW_STEPS = 16


class ModuleLinearization(Linearization):
    """A stack of closed-form layers along its trajectory.

    The states and gates come from a loop of one small product and a few elementwise operations a step, after one product
    for all inputs of a segment. That costs what PyTorch's fused forward pass costs, and leaves the gates, which the fused
    pass does not show.
    """

    def __init__(
        self,
        layers: Sequence[Cell],
        inputs: Tensor,
        states: Sequence[tuple[Tensor, ...]],
        keep_bytes: int = KEEP_BYTES,
        masks: Sequence[Tensor] | None = None,
        trajectory: bool = True,
    ) -> None:
        self.layers = list(layers)
        self.inputs = inputs
        self.diagonal = len(self.layers) == 1 and isinstance(self.layers[0], ElementwiseCell)
        self.masks = [None] * (len(layers) - 1) if masks is None else _checked(masks, layers, inputs)
        self.places, coordinates = places_of(layers)
        super().__init__(
            n_steps=inputs.shape[0],
            batch=inputs.shape[1],
            coordinates=coordinates,
            output=self.places[-1][0],
            n_inputs=inputs.shape[2],
            like=states[-1][0],
        )
        widest = max(layer.widest for layer in layers)
        self.work = max(layer.widest * max(part.width for part in layer.parts) for layer in layers)
        self.bounds = split_steps(self.n_steps, SEGMENT_NUMBERS // (self.batch * widest))
        self._buffers = [Buffers() for _ in layers]
        per_step = sum(layer.kept for layer in layers)
        keep = self.n_steps * self.batch * per_step * inputs.element_size() <= keep_bytes
        self._kept: list[Trajectory] | None = None
        self._checkpoints: list[Sequence[tuple[Tensor, ...]]] = []
        self._factors: ModuleSegment | None = None
        runs = split_steps(self.n_steps, RUN_NUMBERS // (self.batch * widest))
        if keep and not trajectory and len(runs) > 1 and all(layer.lasting for layer in layers):
            self._factors = self._run_for_factors(states, runs)
            return
        if keep:
            self._kept = self._run(0, inputs, states, [Buffers() for _ in layers])
            for path in self._kept:
                self._note_nonfinite(path.states[0][1:], 0)
            return
        for start, stop in self.bounds:
            self._checkpoints.append(states)
            paths = self._run(start, inputs[start:stop], states, self._buffers)
            states = [tuple(part[-1].clone() for part in path.states) for path in paths]
            for path in paths:
                self._note_nonfinite(path.states[0][1:], start)

    @torch.no_grad()
    def _run(
        self, start: int, x: Tensor, states: Sequence[tuple[Tensor, ...]], buffers: Sequence[Buffers]
    ) -> list[Trajectory]:
        """Every layer's trajectory over one segment."""
        paths: list[Trajectory] = []
        for index, (layer, state, new) in enumerate(zip(self.layers, states, buffers, strict=True)):
            paths.append(layer.run(_read_by(index, start, x, paths, self.masks), state, new))
        return paths

    @torch.no_grad()
    def _run_for_factors(self, states: Sequence[tuple[Tensor, ...]], bounds: list[tuple[int, int]]) -> ModuleSegment:
        """Every step's factors, each segment's made while its gates are in the cache, as one segment without trajectories."""
        buffers = [LastingBuffers(self.n_steps) for _ in self.layers]
        steps: list[list[Any]] = [[] for _ in self.layers]
        for start, stop in bounds:
            paths = self._run(start, self.inputs[start:stop], states, buffers)
            for layer, path, new, own in zip(self.layers, paths, buffers, steps, strict=True):
                own += steps_of(layer.factors(path, new))
                self._note_nonfinite(path.states[0][1:], start)
            states = [tuple(part[-1] for part in path.states) for path in paths]
        self.bounds = [(0, self.n_steps)]
        return ModuleSegment(self, 0, self.inputs, [], self._buffers, steps=steps)

    def outputs(self) -> Tensor:
        """What the module gives, [T, B, P]: the top layer's h after every step."""
        if self._kept is not None:
            return self._kept[-1].states[0][1:]
        if self._factors is not None:
            raise InputError(WITHOUT)
        found = self.inputs.new_empty(self.n_steps, self.batch, self.n_outputs, dtype=self.dtype)
        for (start, stop), states in zip(self.bounds, self._checkpoints, strict=True):
            found[start:stop] = self._run(start, self.inputs[start:stop], states, self._buffers)[-1].states[0][1:]
        return found

    def segment(self, index: int, reuse: bool = False) -> ModuleSegment:
        return self._segment(index, self._buffers if reuse else [Buffers() for _ in self.layers], None)

    def changed_segment(self, index: int, change: str) -> ModuleSegment:
        return self._segment(index, self._buffers, change)

    def _segment(self, index: int, buffers: list[Buffers], change: str | None) -> ModuleSegment:
        if self._factors is not None:
            if change is not None:
                raise InputError(WITHOUT)
            return self._factors
        start, stop = self.bounds[index]
        x = self.inputs[start:stop]
        if self._kept is not None:
            paths = [path.between(start, stop) for path in self._kept]
        else:
            paths = self._run(start, x, self._checkpoints[index], buffers)
        return ModuleSegment(self, start, x, paths, buffers, change)

    def states(self) -> Iterator[tuple[int, Tensor]]:
        for segment in self.segments(reuse=True):
            assert isinstance(segment, ModuleSegment)
            yield segment.start, torch.cat([part[1:] for path in segment.paths for part in path.states], -1)

    def view(self, vectors: Tensor) -> list[StateViews]:
        """Layer by layer, the parts of `vectors` [n, B, N] that a pull reads or writes."""
        rows = vectors.view(-1, self.size)
        return [
            StateViews(tuple([vectors[..., each] for each in place]), tuple([rows[:, each] for each in place]))
            for place in self.places
        ]


def _read_by(index: int, start: int, inputs: Tensor, paths: list[Trajectory], masks: Sequence[Tensor | None]) -> Tensor:
    """What layer `index` reads at the steps of a segment from `start` on, [c, B, I]."""
    if not index:
        return inputs
    below, mask = paths[index - 1].states[0][1:], masks[index - 1]
    return below if mask is None else below * mask[start : start + len(below)]


def _checked(masks: Sequence[Tensor], layers: Sequence[Cell], inputs: Tensor) -> list[Tensor | None]:
    wanted = [[*inputs.shape[:2], layer.parts[0].width] for layer in layers[:-1]]
    found = [list(mask.shape) for mask in masks]
    if found != wanted:
        raise InputError(f"`masks` have shapes {found}; pass one for each border between two layers: {wanted}.")
    return [mask.detach().to(inputs) for mask in masks]


def places_of(layers: Sequence[Cell]) -> tuple[list[tuple[slice, ...]], tuple[Coordinate, ...]]:
    """Layer by layer the columns of the state's parts, and the same as coordinates."""
    places: list[tuple[slice, ...]] = []
    coordinates: list[Coordinate] = []
    at = 0
    for index, layer in enumerate(layers):
        columns: list[slice] = []
        for kind, width in layer.parts:
            columns.append(slice(at, at + width))
            coordinates.append(Coordinate(index, kind, columns[-1]))
            at += width
        places.append(tuple(columns))
    return places, tuple(coordinates)


def _between(factors: Any, start: int, stop: int) -> Any:
    """Named factors [c, B, ...] of the steps start..stop-1 of a segment."""
    return type(factors)(*(each[start:stop] for each in factors))


class Local(NamedTuple):
    """One layer's adjoints over a run of steps, with their factors: of its state after each step [c, B, ...], of its
    preactivations, and what comes from the layer above."""

    factors: Any
    states: StateViews
    delta: Any
    above: Tensor | None


class ModuleSegment(Segment):
    """The factors of a run of steps, and the two products with them.

    Attributes, layer by layer: layers, places; factors [c, B, ...] by name; paths: the trajectories; deltas: what the pull
    that came last left.
    """

    def __init__(
        self,
        whole: ModuleLinearization,
        start: int,
        x: Tensor,
        paths: list[Trajectory],
        buffers: list[Buffers],
        change: str | None = None,
        steps: list[list[Any]] | None = None,
    ) -> None:
        self.start, self.stop = start, start + x.shape[0]
        self.layers, self.places, self._masks = whole.layers, whole.places, whole.masks
        self.inputs, self._paths = x, paths
        self.by_runs = len(self.layers) == 1 and self.layers[0].by_runs
        self.cheap = self.layers[0].by_runs or (whole.work is not None and whole.work * whole.batch <= CHEAP_WORK)
        self.factors: list[Any] = []
        if steps is not None:
            self._steps, self._paths = steps, None
        else:
            with torch.no_grad():
                found = zip(self.layers, paths, buffers, strict=True)
                self.factors = [layer.factors(path, new, change) for layer, path, new in found]
        self.deltas: list[Any] = []
        self._buffers = buffers
        self._n, self._singly = -1, 0

    @property
    def paths(self) -> list[Trajectory]:
        if self._paths is None:
            raise InputError(WITHOUT)
        return self._paths

    @cached_property
    def _steps(self) -> list[list[Any]]:
        return [steps_of(each) for each in self.factors]

    def _factors_of(self, index: int, step: int) -> Any:
        """A layer's factors of one step: those of all steps are cut at once, unless hardly any go by singly."""
        if self.by_runs and self._singly < FEW_STEPS:
            self._singly += 1
            return type(self.factors[index])(*(each[step] for each in self.factors[index]))
        return self._steps[index][step]

    def pull_run(self, t: int, views: list[Any], vectors: Tensor, inputs: bool) -> Tensor | None:
        if len(self.layers) > 1 or (inputs and not self.layers[0].by_runs):
            return super().pull_run(t, views, vectors, inputs)
        layer, stop = self.layers[0], t - self.start + 1
        if self.by_runs:
            return layer.pull_run(_between(self.factors[0], stop - len(vectors) + 1, stop), vectors, inputs)
        own = [view[0] for view in views]
        if self._n != vectors.shape[1]:
            self._prepare(views[0])
        (delta,), (new,) = self.deltas, self._buffers
        for step, a, out in zip(reversed(self._steps[0][stop - len(own) + 1 : stop]), own, own[1:], strict=False):
            if not layer.pull_dense(step, a, out, None, new):
                layer.pull(step, a, out, delta, None)
        return None

    def decays(self) -> Tensor:
        layer = self.layers[0]
        assert isinstance(layer, ElementwiseCell)
        return layer.decays(self.factors[0])

    def inputs_of(self, first: int, vectors: Tensor) -> Tensor:
        layer = self.layers[0]
        assert isinstance(layer, ElementwiseCell)
        start = first - self.start
        return layer.of_inputs(_between(self.factors[0], start, start + len(vectors)), vectors)

    def pull(self, t: int, a: list[StateViews], out: list[StateViews], inputs: bool = True) -> None:
        if self._n != a[0].parts[0].shape[0]:
            self._prepare(a)
        step, above = t - self.start, None
        for index in range(len(self.layers) - 1, -1, -1):
            layer, delta = self.layers[index], self.deltas[index]
            factors = self._factors_of(index, step)
            if index == 0 and not inputs and layer.pull_dense(factors, a[0], out[0], above, self._buffers[0]):
                return
            layer.pull(factors, a[index], out[index], delta, above)
            if index:
                above = self._through(index, layer.input_adjoint(delta), step)

    def _prepare(self, a: list[StateViews]) -> None:
        """Memory for what a pull of so many adjoints leaves."""
        self._n = a[0].parts[0].shape[0]
        self.deltas = [
            layer.new_delta(views.parts[0], new)
            for layer, views, new in zip(self.layers, a, self._buffers, strict=True)
        ]

    def input_adjoint(self) -> Tensor:
        return self.layers[0].input_adjoint(self.deltas[0])

    def layer_inputs(self, index: int) -> Tensor:
        """What layer `index` reads, [c, B, I]."""
        return _read_by(index, self.start, self.inputs, self.paths, self._masks)

    def _through(self, index: int, vectors: Tensor, steps: int | slice) -> Tensor:
        """What passes between layer `index` and the one below at a step of the segment (or several), masked."""
        mask = self._masks[index - 1]
        return vectors if mask is None else vectors * mask[self.start : self.stop][steps]

    def local(self, views: list[StateViews], first: int, stop: int) -> list[Local]:
        """Layer by layer the adjoints inside steps first..stop-1, from those of the states after them, [c, B, N] cut up."""
        found: list[Local] = []
        above = None
        for layer, factors, a in reversed(list(zip(self.layers, self.factors, views, strict=True))):
            part = _between(factors, first - self.start, stop - self.start)
            delta = layer.new_delta(a.parts[0], Buffers())
            layer.into_gates(part, a, delta, above)
            found.append(Local(part, a, delta, above))
            if len(found) < len(self.layers):
                steps = slice(first - self.start, stop - self.start)
                above = self._through(len(self.layers) - len(found), layer.input_adjoint(delta), steps)
        return found[::-1]

    def push(self, t: int, v: Tensor) -> Tensor:
        out = torch.empty_like(v)
        below = None
        for index, (layer, place, steps) in enumerate(zip(self.layers, self.places, self._steps, strict=True)):
            if below is not None:
                below = self._through(index, below, t - self.start)
            after = layer.push(steps[t - self.start], tuple(v[..., each] for each in place), below)
            for columns, part in zip(place, after, strict=True):
                out[..., columns] = part
            below = after[0]
        return out
