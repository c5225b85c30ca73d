"""Gradients through modules that run both ways: each direction of each layer is a recurrence of its own.

A loss at step s reaches the states of the forward direction at s and before, those of the backward direction at s and after;
in a stack, through a layer that reads both, every step on both sides. So distance is signed: s - t, positive into the past.
What passes between layers is the gradient of a layer's inputs, at every step at once.
Axes: L layers, S sources, r of them at a time, T steps, B sequences, I input, P output of one direction, K distances.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeGuard

import numpy as np
import torch
from torch import Tensor, nn

from rnnvg.bptt import arguments
from rnnvg.bptt.adjoints import Entry, Sources, adjoints
from rnnvg.bptt.autograd_check import BothWaysOrigin
from rnnvg.bptt.cells import read_cells
from rnnvg.bptt.logscale import log_norm, log_norm_of_parts, scaled_vectors
from rnnvg.bptt.result import GradientProfile
from rnnvg.bptt.segments import KEEP_BYTES, state_columns
from rnnvg.bptt.stack import ModuleLinearization
from rnnvg.bptt.sweep import block_log_norms
from rnnvg.errors import InputError, check_int, check_name
from rnnvg.pytorch import from_numpy

DIRECTIONS = ("forward", "backward")


def runs_both_ways(recurrence: object) -> TypeGuard[nn.RNNBase]:
    return isinstance(recurrence, nn.RNNBase) and recurrence.bidirectional


def way_of(wrt: str, layer: int | None, direction: str | None) -> int | None:
    """Whose states are meant, 0 the forward direction's; None for the input, which both directions read."""
    if wrt == "input":
        if direction is not None or layer is not None:
            raise InputError("`direction` and `layer` pick states, and `wrt` is 'input'; pass None for both.")
        return None
    if direction is None:
        raise InputError(
            "`recurrence` is bidirectional: pass direction='forward' or direction='backward' for the states of one direction, "
            "or wrt='input' for both sides of each source."
        )
    return DIRECTIONS.index(check_name("direction", direction, DIRECTIONS))


class BothWays:
    """A bidirectional nn.RNN, nn.LSTM or nn.GRU linearised along its trajectory.

    Attributes:
        n_steps, batch, n_outputs: T, B, 2 P.
        lengths: [B] valid steps; the backward direction begins at each sequence's own last one.
        layers: L pairs of a forward recurrence, and a backward one over the inputs in reversed order.
        first_nonfinite: [2, B] the first step, in its own order, at which a direction's state is not finite, -1 for none;
            of all layers together.
        note: as ModuleLinearization's.
        inputs, states: of the module, time first, and of each direction of each layer.
        made_from: module, inputs and state as they were handed over.
    """

    wide_dtype = torch.float64

    def __init__(self, module: nn.RNNBase, inputs: Tensor, state: Any, lengths: Any = None) -> None:
        arguments.check_module(module, both_ways=True)
        self.made_from = module, inputs, state
        ways = [read_cells(module), read_cells(module, reverse=True)]
        cells = [cell for pair in zip(*ways, strict=True) for cell in pair]
        x = arguments.module_inputs(module, inputs, cells)
        states = arguments.module_state(module, state, x, cells)
        self.inputs, self.states = x, states
        self.n_steps, self.batch = x.shape[0], x.shape[1]
        valid = arguments.check_lengths(lengths, self.n_steps, self.batch)
        self.lengths = np.full(self.batch, self.n_steps) if valid is None else valid
        self._reversed = self._reversal(x.device)
        self.layers: list[tuple[ModuleLinearization, ModuleLinearization]] = []
        for index, pair in enumerate(zip(*ways, strict=True)):
            forward, backward = (
                ModuleLinearization([cell], self.own(x, way), [states[2 * index + way]])
                for way, cell in enumerate(pair)
            )
            self.layers.append((forward, backward))
            x = torch.cat([forward.outputs(), self.own(backward.outputs(), 1)], -1)
        top = self.layers[-1]
        self.dtype, self.device, self.n_outputs = top[0].dtype, top[0].device, x.shape[-1]
        self.note = arguments.dropout_note(module)

    def _reversal(self, device: torch.device) -> Tensor:
        """[T, B]: the step at which a direction's step lies in the other's order; behind the end it stays."""
        t, lengths = np.arange(self.n_steps)[:, None], self.lengths
        return from_numpy(np.where(t < lengths, lengths - 1 - t, t)).to(device)

    def own(self, by_step: Tensor, way: int, axis: int = 0) -> Tensor:
        """A tensor [T, B, ...] (`axis` axes before them) in a direction's own order of steps, and back again."""
        if not way:
            return by_step
        index = self._reversed.view(*(1,) * axis, *self._reversed.shape, *(1,) * (by_step.ndim - axis - 2))
        return by_step.gather(axis, index.expand(by_step.shape))

    @property
    def first_nonfinite(self) -> np.ndarray:
        found: list[np.ndarray] = []
        for way in (0, 1):
            steps = np.stack([pair[way].first_nonfinite.numpy() for pair in self.layers])
            steps = np.where((steps < 0) | (steps >= self.lengths), np.iinfo(np.int64).max, steps).min(0)
            found.append(np.where(steps == np.iinfo(np.int64).max, -1, steps))
        return np.stack(found)

    def check_columns(self, wrt: str, layer: int | None) -> None:
        """Nothing where there are such states."""
        if layer is not None:
            check_int("layer", layer, least=0, most=len(self.layers) - 1)
        if wrt != "input":
            state_columns(self.layers[0][0], wrt, None)

    def profile(
        self, shared: np.ndarray, steps: np.ndarray, outputs: Tensor, wrt: str, way: int | None, layer: int | None
    ) -> GradientProfile:
        """The profile of sources at `steps`, with `shared` as its `sources`; the rest as `log_norms` takes it."""
        log_norm, distance = self.log_norms(steps, outputs, wrt, way, layer)
        forward, backward = self.first_nonfinite
        backward = np.where(backward >= 0, self.lengths - 1 - backward, -1)
        first = np.where((forward < 0) | (backward < 0), np.maximum(forward, backward), np.minimum(forward, backward))
        module, inputs, state = self.made_from
        narrow = arguments.narrow_note(inputs.dtype) if inputs.dtype != self.dtype else ""
        return GradientProfile(
            log_norm=log_norm,
            sources=shared,
            distance=distance,
            wrt=wrt,
            layer=layer,
            first_nonfinite=first if way is None else (forward, backward)[way],
            note=" ".join(filter(None, (self.note, narrow))),
            origin=BothWaysOrigin(
                module, inputs, state, self.lengths, steps, outputs, way, arguments.weight_versions(module)
            ),
        )

    def log_norms(
        self, steps: np.ndarray, outputs: Tensor, wrt: str, way: int | None, layer: int | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """ln ||dL_S / d(wrt)|| against signed distance, [S, K, B], and the distances [K], ascending.

        Args:
            steps: [S, B] of the sources, -1 where a sequence has none.
            outputs: dL_S/d(output), [S, B, 2 P] double.
            wrt: "state", "hidden", "cell" (then with `way`, 0 or 1) or "input".
            layer: one layer's states, or None.
        """
        seen = np.where(steps >= 0, steps, np.nan)
        past, future = int(np.nanmax(seen)), int(np.nanmax(self.lengths - 1 - seen))
        reaches_both = wrt == "input" or len(self.layers) > 1
        first = -(future + (way == 1)) if reaches_both or way == 1 else 0
        last = past + 1 if way != 1 else past if reaches_both else 0
        distance = np.arange(first, last + 1)
        found = np.full((len(steps), len(distance), self.batch), np.nan)
        wanted = [] if wrt == "input" else [layer] if layer is not None else list(range(len(self.layers)))
        width = max(pair[0].inputs.shape[-1] for pair in self.layers)
        at_once = max(1, KEEP_BYTES // (4 * self.n_steps * self.batch * width * outputs.element_size()))
        for start in range(0, len(steps), at_once):
            rows = slice(start, start + at_once)
            by_step = self._by_step(steps[rows], outputs[rows], wrt, way, wanted)
            found[rows] = self._by_distance(by_step, steps[rows], distance, wrt, way)
        self._forget_nonfinite(found, steps, distance, wrt, way)
        return found, distance

    def _by_step(
        self, steps: np.ndarray, outputs: Tensor, wrt: str, way: int | None, wanted: Sequence[int]
    ) -> np.ndarray:
        """By a direction's own steps [r, T + 1, B], the initial state first; of the input [r, T, B]."""
        norms: list[Tensor] = []
        sent: tuple[Tensor, Tensor] | None = None
        lowest = min(wanted, default=0)
        for index in range(len(self.layers) - 1, lowest - 1, -1):
            onwards = index > lowest or wrt == "input"
            arrived: list[tuple[Tensor, ...]] = []
            for this in (0, 1):
                if not onwards and this != way:
                    continue
                linear = self.layers[index][this]
                width = linear.n_outputs
                columns = slice(this * width, (this + 1) * width)
                if sent is None:
                    own = np.where(steps >= 0, self.lengths - 1 - steps if this else steps, -1)
                    entries = Sources(linear, own, linear.covectors(outputs[..., columns]), keep_silent=True)
                else:
                    vectors, log = (self.own(each, this, 1) for each in sent)
                    entries = _EveryStep(linear, vectors, log, columns)
                taken = state_columns(linear, wrt, None) if index in wanted and this == way else None
                by_state, inputs = _walk(linear, entries, len(steps), taken, onwards)
                if by_state is not None:
                    norms.append(by_state)
                if inputs is not None:
                    arrived.append(tuple(self.own(each, this, 1) for each in inputs))
            if onwards:
                sent = _added(arrived)
        if wrt == "input":
            assert sent is not None
            return (sent[1] + log_norm(sent[0])).cpu().numpy()
        return log_norm_of_parts(norms).cpu().numpy()

    def _by_distance(
        self, by_step: np.ndarray, steps: np.ndarray, distance: np.ndarray, wrt: str, way: int | None
    ) -> np.ndarray:
        found = np.full((len(steps), len(distance), self.batch), np.nan)
        for row, source in enumerate(steps):
            t = source[None, :] - distance[:, None]
            index = t if wrt == "input" else self.lengths - t if way == 1 else t + 1
            inside = (index >= 0) & (index < self.lengths + (wrt != "input")) & (source >= 0)
            values = np.take_along_axis(by_step[row], np.clip(index, 0, by_step.shape[1] - 1), 0)
            found[row] = np.where(inside, values, np.nan)
        return found

    def _forget_nonfinite(
        self, found: np.ndarray, steps: np.ndarray, distance: np.ndarray, wrt: str, way: int | None
    ) -> None:
        """nan behind states that are not finite: of one layer the side of its direction, in a stack both sides."""
        for this, first in enumerate(self.first_nonfinite):
            own = self.lengths - 1 - steps if this else steps
            behind = (first >= 0) & (steps >= 0) & ((own >= first) | (len(self.layers) > 1))
            if len(self.layers) > 1 or wrt == "input" or this == way:
                side = slice(None) if len(self.layers) > 1 else distance <= 0 if this else distance >= 0
                kept = found[:, side]
                kept[np.broadcast_to(behind[:, None], kept.shape)] = np.nan
                found[:, side] = kept


class _EveryStep:
    """Covectors of a layer's output at every step, for all rows: exp(log) vectors, [r, T, B, P] and [r, T, B]."""

    def __init__(self, linear: ModuleLinearization, vectors: Tensor, log: Tensor, columns: slice) -> None:
        self._linear, self.order, self.last = linear, np.arange(len(vectors)), linear.n_steps - 1
        self._vectors, extra = scaled_vectors(vectors[..., columns])
        self._log = torch.where(torch.isneginf(extra), extra, log + extra)

    def __call__(self, t: int) -> list[Entry]:
        log = self._log[:, t]
        if t < self.last and bool(torch.isneginf(log).all()):
            return []
        vectors = self._linear.covectors(self._vectors[:, t]).to(self._linear.dtype)
        return [Entry(slice(0, len(log)), None, log, vectors)]


def _walk(
    linear: ModuleLinearization, entries: Any, rows: int, columns: list[slice] | None, inputs: bool
) -> tuple[Tensor | None, tuple[Tensor, Tensor] | None]:
    """ln of the norms over state columns [r, T + 1, B], and the inputs' adjoints exp(log) vectors, [r, T, B, I], [r, T, B].

    Exactly zero after the last step at which anything enters. A state's adjoint is that of what it passes on in its own
    direction: what the layer above reads at the same step is not counted, as in a stack that runs one way.
    """
    shape = (rows, linear.n_steps, linear.batch)
    norms = torch.full((rows, linear.n_steps + 1, linear.batch), -torch.inf, dtype=torch.float64, device=linear.device)
    vectors = torch.zeros(*shape, linear.inputs.shape[-1] if inputs else 0, dtype=linear.dtype, device=linear.device)
    log = torch.zeros(shape, dtype=torch.float64, device=linear.device)
    passed_on: dict[int, Tensor] = {}

    def before(t: int, adjoint: Tensor, scale: Tensor) -> None:
        assert columns is not None
        passed_on[t] = scale + log_norm_of_parts([log_norm(adjoint[..., each]) for each in columns])

    noted = before if columns is not None and isinstance(entries, _EveryStep) else None
    for block in adjoints(linear, entries, entries.last, rows, inputs=inputs, before=noted):
        order = from_numpy(entries.order[: block.log_scale.shape[1]]).to(linear.device)
        if columns is not None:
            values = block_log_norms(linear, block, columns)
            norms[order, block.first + 1 : block.last + 2] = values.flip(0).transpose(0, 1)
        if block.inputs is not None:
            steps = slice(block.first, block.last + 1)
            vectors[order, steps] = block.inputs.flip(0).transpose(0, 1)
            log[order, steps] = block.log_scale.flip(0).transpose(0, 1)
    for t, values in passed_on.items():
        norms[:, t + 1] = values
    return None if columns is None else norms, (vectors, log) if inputs else None


def _added(terms: Sequence[tuple[Tensor, ...]]) -> tuple[Tensor, Tensor]:
    """The sum of exp(log) vectors on the largest scale."""
    parts: list[tuple[Tensor, Tensor]] = []
    for vectors, log in terms:
        scaled, extra = scaled_vectors(vectors)
        parts.append((scaled, torch.where(torch.isneginf(extra), extra, log + extra)))
    joint = torch.stack([log for _, log in parts]).amax(0)
    base = torch.where(torch.isneginf(joint), 0.0, joint)
    total = sum(scaled * (log - base).exp().to(scaled.dtype).unsqueeze(-1) for scaled, log in parts)
    assert isinstance(total, Tensor)
    return total, base
