"""The adjoint recursion in log space: how a gradient goes back through a linearised recurrence, step by step.

    delta(S, k) = J_{S-k+1}^T ... J_S^T dL_S/ds_S        each source apart (Hochreiter 1991; Bengio et al. 1994)
    dL/ds_t = J_{t+1}^T dL/ds_{t+1} + d+L/ds_t           or added up as one (Pascanu, Mikolov and Bengio 2013)

Covectors enter at any steps, in rows: a row that a second covector enters holds the sum. After each step an adjoint is divided
by its norm and the log of that is kept, so 10^-3000 is measured as well as 10^-3, and denormal numbers never slow it down.
Axes: T steps, B sequences, N state coordinates, n rows under way, c steps of a block.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rnnvg.bptt.diagonal_adjoints import DiagonalRecursion
from rnnvg.bptt.entries import WAITING_NUMBERS, WAITING_STEPS, Block, Entries, Entry, Sources, Summed
from rnnvg.bptt.logscale import lengths, nonzero
from rnnvg.bptt.segments import Linearization, Segment
from rnnvg.bptt.threads import threads_for
from rnnvg.pytorch import vector_norm

__all__ = ["Block", "Entries", "Entry", "Sources", "Summed", "adjoints"]

# What an adjoint is divided by need not be its norm exactly, only be known exactly. Where squares leave the dtype's range
# the norm reads 0 or inf: these bounds then bring the adjoint back to where the next step's squares are in range.
SCALES = {torch.float32: (1e-30, 1e30), torch.float64: (1e-200, 1e200)}
# Nor need it be divided after every step: so many steps go by at once while all lengths stay within these bounds, which
# leave twenty-eight orders of magnitude in float32 for a coordinate that is small now and large later.
RUN_STEPS, RUN_SCALES = 64, {torch.float32: (1e-10, 1e10), torch.float64: (1e-60, 1e60)}
# Rows carried along before they begin, of those that have; and how many steps are too few to wait together.
SPARE, FEW_STEPS = 16, 32
# Of that room, in logs, the next run is to take so much at the rate of the last one: what leaves it is pulled once more.
FILLED, EPS = 0.75, 1e-12


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
    lengths: bool = False,
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
        lengths: that adjoints of length 1 may come without their vectors: their log scale is all that is wanted.
    """
    if last < 0:
        return iter(())
    if linear.diagonal and change is None and isinstance(entries, Sources):
        return DiagonalRecursion(linear, last, rows, inputs=inputs, vectors=not lengths).run(entries, last)
    return _Recursion(linear, last, rows, inputs, before, lengths and not inputs).run(entries, last, by_segment, change)


class _Recursion:
    """The moving parts: a ring of slots, the adjoint under way in slot `at`, those that wait behind it."""

    def __init__(
        self,
        linear: Linearization,
        last: int,
        rows: int,
        inputs: bool,
        before: Callable[[int, Tensor, Tensor], None] | None,
        lengths: bool,
    ) -> None:
        self.linear, self.with_inputs, self.before = linear, inputs, before
        B = linear.batch
        self.rows = rows
        self.waiting = max(1, min(WAITING_STEPS, last + 1, WAITING_NUMBERS // max(1, rows * B * linear.size)))
        # Where few adjoints have room and their lengths alone are wanted, two slots stay in the cache and only scales wait.
        self.lengths, self.scales_wait = lengths, lengths and self.waiting < FEW_STEPS
        self.undivided: list[tuple[Tensor, Tensor]] = []  # vectors that wait, and what is left to divide them by
        if self.scales_wait:  # odd, because slots and scales are counted by one number
            self.waiting = (
                (min(WAITING_STEPS, WAITING_NUMBERS // (rows * B)) - 1) | 1 if rows * B < WAITING_NUMBERS else 1
            )
        self.n_scales = self.waiting + 1  # len() of a tensor takes as long as a small operation
        self.n_slots = 2 if self.scales_wait else self.n_scales
        shape = (self.n_scales, rows, B)
        self.slots = torch.zeros(self.n_slots, rows, B, linear.size, dtype=linear.dtype, device=linear.device)
        self.scales = torch.ones(*shape, 1, dtype=linear.dtype.to_real(), device=linear.device)
        # Of the adjoints that wait, in the order in which they came, and of the one under way.
        self.logs = torch.zeros(shape, dtype=torch.float64, device=linear.device)
        self.begun = np.zeros((rows, B), dtype=bool)
        self.inputs: list[Tensor] = []
        self.under_way = 0  # rows that are carried along, of which so many have begun and the others are zero:
        self.entered = 0
        self.cuts: dict[int, tuple[Any, Tensor, Tensor] | None] = {}
        self.at = 0
        self.done = 0  # adjoints that wait
        self.known = 0  # how many of those have their successor's log scale written
        self.unit = True
        self.smallest, self.largest = SCALES[self.scales.dtype]
        self.run_scales, self.pace = RUN_SCALES[self.scales.dtype], 8

    def run(self, entries: Entries, last: int, by_segment: bool, change: str | None) -> Iterator[Block]:
        t, threads = last, self._threads()
        with torch.no_grad():
            for segment in self.linear.segments(t + 1, backwards=True, reuse=True, change=change):
                while t >= segment.start:
                    found = entries(t)
                    if found:
                        rows = max(entry.rows.stop for entry in found)
                        if rows > self.under_way:
                            if self.done:
                                yield self._block(segment, t)
                            self._carry(rows)
                            threads = self._threads()
                        self.entered = max(self.entered, rows)
                        for entry in found:
                            self._enter(t, entry)
                        if self.scales_wait and not self.unit:
                            yield from self._wait_no_more(segment, t)
                    ahead = 1 if found or self.scales_wait or not segment.cheap else self._ahead(segment, entries, t)
                    with threads:
                        t -= self._run(segment, t, ahead) if ahead > 1 else self._step(segment, t)
                    if self.scales_wait and not self.unit:
                        yield from self._wait_no_more(segment, t)
                    if self.done == self.waiting:
                        yield self._block(segment, t)
                if by_segment and self.done:
                    yield self._block(segment, t)
            if self.done:
                yield self._block(None, t)
            vectors = self._ring(self.slots, self.at % self.n_slots, 1)
            yield Block(None, -1, self.logs[:1, : self.under_way], vectors, None, self.unit)

    def _carry(self, rows: int) -> None:
        """Carry so many rows along, and a few more that are zero until they begin: blocks end where rows are added."""
        before, self.under_way = self.under_way, min(self.rows, rows + rows // SPARE)
        self.logs[0, before : self.under_way] = -torch.inf
        self.cuts = dict.fromkeys(range(self.n_scales))

    def _wait_no_more(self, segment: Segment, t: int) -> Iterator[Block]:
        """From an adjoint on whose length is not 1 vectors are needed too: one step at a time, for which there are slots."""
        if self.waiting > 1:
            if self.done:
                yield self._block(segment, t, unit=True)
            self.waiting = 1

    def _enter(self, t: int, entry: Entry) -> None:
        """Write covectors into the adjoint under way, or add them to what is there."""
        self._know()
        which = slice(None) if entry.sequences is None else entry.sequences
        numbers = which if entry.sequences is None else entry.sequences.cpu().numpy()
        begun = self.begun[entry.rows, numbers]
        vectors, log = self.slots[self.at % self.n_slots, entry.rows], self.logs[self.done, entry.rows]
        if self.before is not None:
            self.before(t, vectors, log)
        if not begun.any():
            zero = torch.isneginf(entry.log)
            if not self.begun[entry.rows].any():
                log.zero_()
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

    def _threads(self) -> AbstractContextManager[None]:
        work = self.linear.work
        return (
            nullcontext()
            if work is None
            else threads_for(work * self.linear.batch * self.under_way, self.linear.device)
        )

    def _ahead(self, segment: Segment, entries: Entries, t: int) -> int:
        """How many steps can go by at once: to the next covector, the segment's start, or the end of the free slots."""
        most = min(self.pace, t - segment.start + 1, self.waiting - self.done, self.n_scales - 1 - self.at)
        return next((count for count in range(1, most) if entries(t - count)), most)

    def _run(self, segment: Segment, t: int, count: int) -> int:
        """The adjoints of the states before steps t, t-1, ..., one slot each; the number of those steps, at most `count`.

        They are pulled as they are, measured together, and end where a length leaves the bounds.
        """
        at, n = self.at, self.under_way
        slots = () if segment.by_runs else range(at, at + count + 1)
        views = [(self.cuts[slot] or self._cut(slot))[0] for slot in slots]
        vectors = self.slots[at : at + count + 1, :n]
        inputs = segment.pull_run(t, views, vectors, self.with_inputs)
        norms = lengths(vectors)
        low, high = self.run_scales
        smallest, largest = (float(each) for each in torch.aminmax(norms[1:]))
        used = count
        if low < smallest and largest < high:
            change = max(-math.log(smallest), math.log(largest)) / count
            self.pace = min(RUN_STEPS, 2 * count + 1, int(FILLED * math.log(high) / max(change, EPS)) + 1)
            dead = None
        else:
            dead = ~(norms[:1] > 0)  # zero or nan, and so at all steps to come
            inside = ((norms[1:] > low) & (norms[1:] < high) | dead).flatten(1).all(1).cpu().numpy()
            used = count if inside.all() else int(inside.argmin())
            self.pace = min(RUN_STEPS, count + count // 4 + 1) if used == count else max(2, used)
            if not used:
                return self._step(segment, t)
            norms = norms[: used + 1].masked_fill_(dead & (norms[: used + 1] == 0), 1.0)
        if self.lengths:  # and the others perhaps never
            vectors[used] /= norms[used]
            self.undivided.append((vectors[1:used], norms[1:used]))
        else:
            vectors[1 : used + 1] /= norms[1:]
        scales = self.scales[at + 1 : at + used + 1, :n]
        torch.div(norms[1:], norms[:-1], out=scales)
        scales[0] = norms[1]
        if dead is not None:
            scales.masked_fill_(dead, self.smallest)
        if inputs is not None:
            inputs[1:used] /= norms[1:used]
            self.inputs.append(inputs[:used])
        self.at, self.done = at + used, self.done + used
        return used

    def _step(self, segment: Segment, t: int) -> int:
        """From the adjoint of s_t to that of s_{t-1}, one slot on."""
        before, _, _ = self.cuts[self.at] or self._cut(self.at)
        self.at = (self.at + 1) % self.n_scales
        out, after, scale = self.cuts[self.at] or self._cut(self.at)
        segment.pull(t, before, out, inputs=self.with_inputs)
        if self.with_inputs:
            self.inputs.append(segment.input_adjoint().unsqueeze(0))
        vector_norm(after, dim=-1, keepdim=True, out=scale)
        if self.scales_wait and self.unit:
            self.unit = self._bring_to_one(scale[: self.entered])
        after.div_(scale.clamp_(self.smallest, self.largest))
        self.done += 1
        return 1

    def _cut(self, at: int) -> tuple[Any, Tensor, Tensor]:
        """Views of a slot for the rows under way, made once and used until another row begins."""
        slot, scale = self.slots[at % self.n_slots, : self.under_way], self.scales[at, : self.under_way]
        found = self.cuts[at] = self.linear.view(slot), slot, scale
        return found

    def _know(self) -> None:
        """Write the log scales of all adjoints since the last time, up to the one under way."""
        new, n = self.done - self.known, self.under_way
        if not new:
            return
        if new == 1 and (self.scales_wait or not self.unit):
            latest = self.scales[self.at, :n, :, 0].to(torch.float64).log_()
            torch.add(self.logs[self.known, :n], latest, out=self.logs[self.done, :n])
            self.known = self.done
            return
        scales = self._ring(self.scales, self.at - new + 1, new)[..., 0].to(torch.float64)
        if self.unit and not self.scales_wait:
            self.unit = self._bring_to_one(scales[:, : self.entered])
        logs = scales.log_().cumsum_(0).add_(self.logs[self.known, :n])
        self.logs[self.known + 1 : self.done + 1, :n] = logs
        self.known = self.done

    def _bring_to_one(self, scales: Tensor) -> bool:
        """Whether division by these gives length 1; where they are too small or too large, 0, or nan, it does not."""
        low, high = (float(each) for each in torch.aminmax(scales))
        return 2 * self.smallest < low and high < self.largest / 2

    def _block(self, segment: Segment | None, t: int, unit: bool = False) -> Block:
        """The adjoints that wait; that of s_t, under way, is not one of them. `unit`: that alone has another length than 1."""
        self._know()
        unit = unit or self.unit
        n, used = self.under_way, self.done
        log_scale = self.logs[:used, :n].clone()
        self.logs[0] = self.logs[used]
        kept = 0 if self.lengths and unit else used
        if kept:
            for waiting, norms in self.undivided:
                waiting /= norms
        self.undivided.clear()
        vectors = self._ring(self.slots, self.at - used, kept)
        inputs = torch.cat(self.inputs) if self.with_inputs else None
        self.inputs.clear()
        self.done = self.known = 0
        return Block(segment, t + used, log_scale, vectors, inputs, unit)

    def _ring(self, slots: Tensor, first: int, count: int) -> Tensor:
        """`count` slots from `first` on, for the rows under way, round the end of the ring."""
        size, n = slots.shape[0], self.under_way
        first = first % size
        end = first + count
        if end <= size:
            return slots[first:end, :n]
        return torch.cat([slots[first:, :n], slots[: end - size, :n]])
