"""The adjoint recursion in log space: how a gradient goes back through a linearised recurrence, step by step.

    delta(S, k) = J_{S-k+1}^T ... J_S^T dL_S/ds_S        each source apart (Hochreiter 1991; Bengio et al. 1994)
    dL/ds_t = J_{t+1}^T dL/ds_{t+1} + d+L/ds_t           or added up as one (Pascanu, Mikolov and Bengio 2013)

Covectors enter at any steps, in rows: a row that a second covector enters holds the sum. After each step an adjoint is divided
by its norm and the log of that is kept, so 10^-3000 is measured as well as 10^-3, and denormal numbers never slow it down.
Axes: T steps, B sequences, N state coordinates, n rows under way, c steps of a block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from rnnvg.bptt.logscale import nonzero, scaled_vectors, unit_vectors
from rnnvg.bptt.segments import Linearization, Segment

# Adjoints of so many steps wait until they are handed on together: what is done with them costs some twenty small operations.
WAITING_NUMBERS, WAITING_STEPS = 2**20, 128
# What an adjoint is divided by need not be its norm exactly, only be known exactly. Where squares leave the dtype's range
# the norm reads 0 or inf: these bounds then bring the adjoint back to where the next step's squares are in range.
SCALES = {torch.float32: (1e-30, 1e30), torch.float64: (1e-200, 1e200)}


class Entry(NamedTuple):
    """Covectors that enter the adjoint of one step's state: exp(log) vectors, [r, B'] float64 and [r, B', N].

    rows: which rows they enter; sequences: [B'] which sequences, None for all. Vectors are of length about 1, or 0 at any log.
    """

    rows: slice
    sequences: Tensor | None
    log: Tensor
    vectors: Tensor


class Block(NamedTuple):
    """Adjoints exp(log_scale) vectors of the states after steps last, last - 1, ...: [c, n, B] and [c, n, B, N].

    Void when the next block is asked for.

    segment: that the steps lie in, where blocks are asked for by segment; None for the initial state (last = -1, c = 1).
    inputs: adjoints of these steps' inputs on the same scale, [c, n, B, I], where they are asked for.
    unit: every vector has length 1.
    """

    segment: Segment | None
    last: int
    log_scale: Tensor
    vectors: Tensor
    inputs: Tensor | None
    unit: bool

    @property
    def first(self) -> int:
        """The earliest step."""
        return self.last - len(self.vectors) + 1


Entries = Callable[[int], Sequence[Entry]]


def adjoints(
    linear: Linearization,
    entries: Entries,
    last: int,
    rows: int,
    *,
    inputs: bool = False,
    by_segment: bool = False,
    change: str | None = None,
    before: Callable[[int, Tensor, Tensor], None] | None = None,
) -> Iterator[Block]:
    """The adjoints of all states from step `last` back to the initial state, in blocks, latest first.

    Args:
        linear: the linearised recurrence.
        entries: step -> covectors that enter there. Rows begin in order: none before the rows above it.
        last: the latest step at which anything enters.
        rows: how many there are.
        inputs: whether the inputs' adjoints are asked for.
        by_segment: no block reaches over the border between two segments of `linear`.
        change: of the backward pass, one of those that the cells of `linear` name.
        before: called with a step, vectors and log scale of the rows that covectors enter there, as they are before that.
    """
    if last < 0:
        return iter(())
    return _Recursion(linear, last, rows, inputs, before).run(entries, last, by_segment, change)


class Sources:
    """Covectors dL_S/ds_S [S, B, N] (float64 or complex128) at steps [S, B] (-1: none), each source in a row of its own.

    Attributes:
        order: [rows] the source in each row, the latest first, so that those under way are a prefix.
        silent: [S] sources without a row: those without any gradient, an exact zero at every distance.
        last: the latest step, -1 where there is none.

    `keep_silent` follows those too.
    """

    def __init__(self, linear: Linearization, steps: np.ndarray, covectors: Tensor, keep_silent: bool = False) -> None:
        unit, log = unit_vectors(covectors)
        self._unit, self._log = unit.to(linear.dtype), log
        self.silent = torch.isneginf(log).all(1).cpu().numpy() & (not keep_silent)
        followed = np.flatnonzero(~self.silent)
        self.order = followed[np.argsort(-steps[followed].max(1), kind="stable")]
        self.last = int(steps[followed].max(initial=-1))
        self._entering: dict[int, list[tuple[int, np.ndarray]]] = {}
        for row, source in enumerate(self.order):
            for step in sorted(set(steps[source].tolist())):
                if step >= 0:
                    which = np.flatnonzero(steps[source] == step)
                    self._entering.setdefault(step, []).append((row, which))

    def __call__(self, t: int) -> list[Entry]:
        found = []
        for row, which in self._entering.get(t, ()):
            at = slice(int(self.order[row]), int(self.order[row]) + 1)
            log, unit = self._log[at], self._unit[at]
            if len(which) == log.shape[1]:
                found.append(Entry(slice(row, row + 1), None, log, unit))
            else:
                sequences = torch.from_numpy(which).to(log.device)
                found.append(Entry(slice(row, row + 1), sequences, log[:, sequences], unit[:, sequences]))
        return found


class Summed:
    """The direct gradients of all steps' losses in one row, where they add up: the gradient of the summed loss.

    Args:
        output_grad: at the output of every step, [T, B, P].
        state_grads: step -> direct gradient of the whole state after it, [B, N], added to that.
    """

    def __init__(self, linear: Linearization, output_grad: Tensor, state_grads: Mapping[int, Tensor]) -> None:
        self._linear, self._output_grad, self._state_grads = linear, output_grad, state_grads
        self.last = linear.n_steps - 1
        self._start, self._scaled, self._log = linear.n_steps, output_grad, output_grad  # of the steps looked up last
        self._silent: list[bool] = []

    def __call__(self, t: int) -> list[Entry]:
        if t < self._start:
            self._look_up(max(0, t + 1 - WAITING_STEPS), t + 1)
        k = t - self._start
        if self._silent[k] and t < self.last:
            return []
        return [Entry(slice(0, 1), None, self._log[k : k + 1], self._scaled[k : k + 1])]

    def _look_up(self, start: int, stop: int) -> None:
        direct = self._linear.covectors(self._output_grad[start:stop])
        for t, grad in self._state_grads.items():
            if start <= t < stop:
                direct[t - start] += grad.to(direct.dtype)
        scaled, self._log = scaled_vectors(direct)
        self._start, self._scaled = start, scaled.to(self._linear.dtype)
        self._silent = torch.isneginf(self._log).all(1).tolist()


class _Recursion:
    """The moving parts: a ring of slots, the adjoint under way in slot `at`, those that wait behind it."""

    def __init__(
        self,
        linear: Linearization,
        last: int,
        rows: int,
        inputs: bool,
        before: Callable[[int, Tensor, Tensor], None] | None,
    ) -> None:
        self.linear, self.with_inputs, self.before = linear, inputs, before
        B = linear.batch
        self.waiting = max(1, min(WAITING_STEPS, last + 1, WAITING_NUMBERS // max(1, rows * B * linear.size)))
        shape = (self.waiting + 1, rows, B)
        self.slots = torch.zeros(*shape, linear.size, dtype=linear.dtype, device=linear.device)
        self.scales = torch.ones(*shape, 1, dtype=linear.dtype.to_real(), device=linear.device)
        # Of the adjoints that wait, in the order in which they came, and of the one under way.
        self.logs = torch.zeros(shape, dtype=torch.float64, device=linear.device)
        self.begun = np.zeros((rows, B), dtype=bool)
        self.inputs: list[Tensor] = []
        self.under_way = 0
        self.cuts: dict[int, tuple[Any, Tensor, Tensor] | None] = {}
        self.at = 0
        self.done = 0  # adjoints that wait
        self.known = 0  # how many of those have their successor's log scale written
        self.unit = True
        self.smallest, self.largest = SCALES[self.scales.dtype]

    def run(self, entries: Entries, last: int, by_segment: bool, change: str | None) -> Iterator[Block]:
        t = last
        with torch.no_grad():
            for segment in self.linear.segments(t + 1, backwards=True, reuse=True, change=change):
                while t >= segment.start:
                    found = entries(t)
                    if found:
                        rows = max(entry.rows.stop for entry in found)
                        if rows > self.under_way:
                            if self.done:
                                yield self._block(segment, t)
                            self.under_way = rows
                            self.cuts = dict.fromkeys(range(len(self.slots)))
                        for entry in found:
                            self._enter(t, entry)
                    self._step(segment, t)
                    t -= 1
                    if self.done == self.waiting:
                        yield self._block(segment, t)
                if by_segment and self.done:
                    yield self._block(segment, t)
            if self.done:
                yield self._block(None, t)
            vectors = self.slots[self.at : self.at + 1, : self.under_way]
            yield Block(None, -1, self.logs[:1, : self.under_way], vectors, None, self.unit)

    def _enter(self, t: int, entry: Entry) -> None:
        """Write covectors into the adjoint under way, or add them to what is there."""
        self._know()
        which = slice(None) if entry.sequences is None else entry.sequences
        numbers = which if entry.sequences is None else entry.sequences.cpu().numpy()
        begun = self.begun[entry.rows, numbers]
        vectors, log = self.slots[self.at, entry.rows], self.logs[self.done, entry.rows]
        if self.before is not None:
            self.before(t, vectors, log)
        if not begun.any():
            zero = torch.isneginf(entry.log)
            vectors[:, which] = entry.vectors
            log[:, which] = entry.log.masked_fill(zero, 0.0)  # a zero stays zero at any scale
            if entry.sequences is not None or bool(zero.any()):
                self.unit = False  # the other sequences' adjoints are zero until they begin
        else:
            self._join(vectors, log, which, entry)
            self.unit = False
        self.begun[entry.rows, numbers] = True

    def _join(self, vectors: Tensor, log: Tensor, which: Any, entry: Entry) -> None:
        """Add covectors to rows of the adjoint under way [r, B, N] on the larger of the two scales."""
        there, there_log = vectors[:, which], log[:, which]
        if float(self.scales[self.at, entry.rows].min()) > 2 * self.smallest:  # of length about 1, as the other is
            joint = torch.maximum(there_log, entry.log)
        else:
            size = there.abs().amax(-1, keepdim=True)
            there, there_log = there / nonzero(size), there_log + size.double().log().squeeze(-1)
            joint = torch.maximum(there_log, entry.log)
            joint = torch.where(torch.isneginf(joint), 0.0, joint)
        weight, its = ((each - joint).exp_().to(there.dtype).unsqueeze(-1) for each in (there_log, entry.log))
        vectors[:, which] = (there * weight).addcmul_(entry.vectors, its)
        log[:, which] = joint

    def _step(self, segment: Segment, t: int) -> None:
        """From the adjoint of s_t to that of s_{t-1}, one slot on."""
        before, _, _ = self.cuts[self.at] or self._cut(self.at)
        self.at = (self.at + 1) % len(self.slots)
        out, after, scale = self.cuts[self.at] or self._cut(self.at)
        segment.pull(t, before, out, inputs=self.with_inputs)
        if self.with_inputs:
            self.inputs.append(segment.input_adjoint())
        torch.linalg.vector_norm(after, dim=-1, keepdim=True, out=scale)
        after.div_(scale.clamp_(self.smallest, self.largest))
        self.done += 1

    def _cut(self, at: int) -> tuple[Any, Tensor, Tensor]:
        """Views of a slot for the rows under way, made once and used until another row begins."""
        slot, scale = self.slots[at, : self.under_way], self.scales[at, : self.under_way]
        found = self.cuts[at] = self.linear.view(slot), slot, scale
        return found

    def _know(self) -> None:
        """Write the log scales of all adjoints since the last time, up to the one under way."""
        new, n = self.done - self.known, self.under_way
        if not new:
            return
        if new == 1 and not self.unit:
            latest = self.scales[self.at, :n, :, 0].to(torch.float64).log_()
            torch.add(self.logs[self.known, :n], latest, out=self.logs[self.done, :n])
            self.known = self.done
            return
        scales = self._ring(self.scales, self.at - new + 1, new)[..., 0].to(torch.float64)
        if self.unit:
            # Too small or too large to be brought to length 1, exactly 0, or nan: the length has to be taken itself.
            low, high = (float(each) for each in torch.aminmax(scales))
            self.unit = 2 * self.smallest < low and high < self.largest / 2
        logs = scales.log_().cumsum_(0).add_(self.logs[self.known, :n])
        self.logs[self.known + 1 : self.done + 1, :n] = logs
        self.known = self.done

    def _block(self, segment: Segment | None, t: int) -> Block:
        """The adjoints that wait; that of s_t, under way, is not one of them."""
        self._know()
        n, used = self.under_way, self.done
        log_scale = self.logs[:used, :n].clone()
        self.logs[0] = self.logs[used]
        vectors = self._ring(self.slots, self.at - used, used)
        inputs = torch.stack(self.inputs) if self.with_inputs else None
        self.inputs.clear()
        self.done = self.known = 0
        return Block(segment, t + used, log_scale, vectors, inputs, self.unit)

    def _ring(self, slots: Tensor, first: int, count: int) -> Tensor:
        """`count` slots from `first` on, for the rows under way, round the end of the ring."""
        first, n = first % len(slots), self.under_way
        end = first + count
        if end <= len(slots):
            return slots[first:end, :n]
        return torch.cat([slots[first:, :n], slots[: end - len(slots), :n]])
