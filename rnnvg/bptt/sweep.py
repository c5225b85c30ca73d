"""The adjoint recursion in log space: how much of a gradient survives k steps back.

    delta(S, k) = J_{S-k+1}^T ... J_S^T dL_S/ds_S        (Hochreiter 1991; Pascanu, Mikolov and Bengio 2013)

Linearised recurrence in, logs of norms out. No modules, tasks or files here. After each step the adjoint is divided by its
norm and the log of that is kept, so 10^-3000 is measured as well as 10^-3, and denormal numbers never slow it
down. Each source is followed on its own; sources are never summed.
Axes: S sources, n of them under way, T steps, B sequences, N state coordinates, K distances.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from rnnvg.bptt.segments import Linearization, Segment

# Adjoints of so many steps wait until their norms are written together: writing costs some twenty small operations.
WAITING_NUMBERS, WAITING_STEPS = 2**20, 128
# What an adjoint is divided by need not be its norm exactly, only be known exactly. Where squares leave the dtype's range
# the norm reads 0 or inf: these bounds then bring the adjoint back to where the next step's squares are in range.
SCALES = {torch.float32: (1e-30, 1e30), torch.float64: (1e-200, 1e200)}


def sweep(
    linear: Linearization, sources: np.ndarray, covectors: Tensor, columns: list[slice] | None, n_distances: int
) -> np.ndarray:
    """ln ||dL_S / d(what is asked for, k steps before the source)||.

    Args:
        linear: the linearised recurrence.
        sources: step of each source in each sequence, [S, B] int64; -1 where a sequence has none.
        covectors: dL_S/ds_S, [S, B, N], float64 (or complex128).
        columns: the state columns whose norm is asked for, or None for the input's.
        n_distances: K, at least max(source) + 2.

    Returns:
        [S, K, B] float64: -inf is an exact zero; nan lies before the start, or behind a state that is not finite.
    """
    return _Sweep(linear, sources, covectors, columns, n_distances).run()


class _Sweep:
    """One sweep's moving parts. Row t + 1 of `rows` is step t until the end, when it becomes distance S - t."""

    def __init__(
        self,
        linear: Linearization,
        sources: np.ndarray,
        covectors: Tensor,
        columns: list[slice] | None,
        n_distances: int,
    ) -> None:
        self.linear, self.sources, self.columns = linear, sources, columns
        S, B = sources.shape
        self.rows = np.full((S, n_distances, B), np.nan)
        log_start, unit = log_length(covectors)
        self.unit = unit.to(linear.dtype)
        zero = torch.isneginf(log_start)
        self.log_start = log_start.masked_fill(zero, 0.0)  # a zero covector stays zero at any scale
        # A source without any gradient is an exact zero at every distance, and need not be followed.
        silent = zero.all(1).cpu().numpy()
        self.rows[silent] = -np.inf
        if columns is None:
            self.rows[silent, 0] = np.nan  # the initial state has no input
        followed = np.flatnonzero(~silent)
        # Latest source first, so that those under way are a prefix.
        self.order = followed[np.argsort(-sources[followed].max(1), kind="stable")]
        self.first = int(sources[followed].max(initial=-1))
        S = len(self.order)
        per_step = max(1, S * B * linear.size)
        self.waiting = max(1, min(WAITING_STEPS, WAITING_NUMBERS // per_step))
        shape = (self.waiting + 1, S, B)
        # A ring: the adjoint under way lies in slot `at`, those that wait for their norms to be written behind it.
        self.slots = torch.zeros(*shape, linear.size, dtype=linear.dtype, device=linear.device)
        self.scales = torch.ones(*shape, 1, dtype=linear.dtype.to_real(), device=linear.device)
        self.inputs: list[Tensor] = []
        self.log_scale = torch.zeros(S, B, dtype=torch.float64, device=linear.device)
        self.under_way = 0
        self.views: list[Any] = []
        self.pairs: list[tuple[Tensor, Tensor]] = []
        self.at = 0
        self.done = 0  # adjoints that wait
        self.whole = columns == [slice(0, linear.size)]
        self.unit_length = not bool(zero[torch.from_numpy(followed)].any())  # of every adjoint under way
        self.smallest, self.largest = SCALES[self.scales.dtype]

    def run(self) -> np.ndarray:
        if self.first < 0:
            return self._by_distance()
        events = self._events()
        t = self.first
        with torch.no_grad():
            for segment in self.linear.segments(t + 1, backwards=True, reuse=True):
                while t >= segment.start:
                    if t in events:
                        self._flush(t)
                        self._start(events[t])
                    self._step(segment, t)
                    t -= 1
                    if self.done == self.waiting:
                        self._flush(t)
            self._flush(t)
            if self.columns is not None:
                last = self.slots[self.at : self.at + 1, : self.under_way]
                self._write(t, t + 1, last, self.log_scale[: self.under_way].unsqueeze(0))
        return self._by_distance()

    def _events(self) -> dict[int, list[tuple[int, np.ndarray]]]:
        """Step -> [(position in sweep order, sequences)] of the sources that begin there."""
        found: dict[int, list[tuple[int, np.ndarray]]] = {}
        for position, source in enumerate(self.order):
            for step in np.unique(self.sources[source]):
                if step >= 0:
                    found.setdefault(int(step), []).append((position, np.flatnonzero(self.sources[source] == step)))
        return found

    def _start(self, beginning: list[tuple[int, np.ndarray]]) -> None:
        for position, which in beginning:
            source, start = int(self.order[position]), self.log_start[self.order[position]]
            self.under_way = max(self.under_way, position + 1)
            if len(which) == self.sources.shape[1]:
                self.slots[self.at, position] = self.unit[source]
                self.log_scale[position] = start
            else:  # the other sequences' adjoints are zero until they begin
                sequences = torch.from_numpy(which)
                self.slots[self.at, position, sequences] = self.unit[source, sequences]
                self.log_scale[position, sequences] = start[sequences]
                self.unit_length = False
        self._cut()

    def _step(self, segment: Segment, t: int) -> None:
        """From the adjoint of s_t to that of s_{t-1}, one slot on."""
        at, self.at = self.at, (self.at + 1) % len(self.slots)
        segment.pull(t, self.views[at], self.views[self.at], inputs=self.columns is None)
        if self.columns is None:
            self.inputs.append(segment.input_adjoint())
        after, scale = self.pairs[self.at]
        torch.linalg.vector_norm(after, dim=-1, keepdim=True, out=scale)
        after.div_(scale.clamp_(self.smallest, self.largest))
        self.done += 1

    def _cut(self) -> None:
        """Views of the slots for the sources now under way, made once and used until another source begins."""
        n = self.under_way
        self.views = [self.linear.view(slot[:n]) for slot in self.slots]
        self.pairs = [(slot[:n], scale[:n]) for slot, scale in zip(self.slots, self.scales, strict=True)]

    def _flush(self, t: int) -> None:
        """Write the norms of the adjoints that wait; that of s_t, under way, is not one of them."""
        n, used = self.under_way, self.done
        if not used:
            return
        scales = self._ring(self.scales, self.at - used + 1)[..., 0].to(torch.float64)
        if self.unit_length:
            # Too small or too large to be brought to length 1, exactly 0, or nan: the length has to be taken itself.
            low, high = (float(each) for each in torch.aminmax(scales))
            self.unit_length = 2 * self.smallest < low and high < self.largest / 2
        logs = scales.log_().cumsum_(0).add_(self.log_scale[:n])
        before = torch.cat([self.log_scale[:n].unsqueeze(0), logs[:-1]])
        if self.columns is None:
            vectors = torch.stack(self.inputs)
            self.inputs.clear()
        else:
            vectors = self._ring(self.slots, self.at - used)
        self._write(t + 1, t + 1 + used, vectors, before)
        self.log_scale[:n] = logs[-1]
        self.done = 0

    def _ring(self, slots: Tensor, first: int) -> Tensor:
        """The `done` slots from `first` on, for the sources under way, round the end of the ring."""
        first, n = first % len(slots), self.under_way
        end = first + self.done
        if end <= len(slots):
            return slots[first:end, :n]
        return torch.cat([slots[first:, :n], slots[: end - len(slots), :n]])

    def _write(self, first: int, end: int, vectors: Tensor, log_scale: Tensor) -> None:
        """Rows of steps first..end-1 from their adjoints [steps, n, B, N], latest step first."""
        if self.whole and self.unit_length:
            values = log_scale  # all of the vector is asked for, and it was divided by its norm
        else:
            parts = [vectors] if self.columns is None else [vectors[..., each] for each in self.columns]
            logs = [log_length(part)[0] for part in parts]
            values = (logs[0] if len(logs) == 1 else _log_root_of_squares(logs)) + log_scale
        values = values.flip(0).transpose(0, 1)
        self.rows[self.order[: self.under_way], first + 1 : end + 1] = values.cpu().numpy()

    def _by_distance(self) -> np.ndarray:
        """Turn rows by step into rows by distance from each sequence's own source, in place."""
        distance = np.arange(self.rows.shape[1])
        for source, steps in enumerate(self.sources):
            row = steps[None, :] + 1 - distance[:, None]
            found = np.take_along_axis(self.rows[source], np.maximum(row, 0), 0)
            self.rows[source] = np.where((row >= 0) & (steps >= 0), found, np.nan)
        return self.rows


def log_length(vectors: Tensor) -> tuple[Tensor, Tensor]:
    """ln of the length of vectors [..., N] in float64, -inf for 0, and the vectors at length 1; no square leaves the range."""
    wide = vectors.to(torch.complex128 if vectors.dtype.is_complex else torch.float64)
    largest = wide.abs().amax(-1, keepdim=True)
    safe = torch.where(largest == 0, 1.0, largest)
    wide = wide / safe
    norm = torch.linalg.vector_norm(wide, dim=-1, keepdim=True)
    return (norm.log() + safe.log()).squeeze(-1), wide / torch.where(norm == 0, 1.0, norm)


def _log_root_of_squares(logs: list[Tensor]) -> Tensor:
    """ln of the length of a vector from those of its parts."""
    return 0.5 * torch.logsumexp(2 * torch.stack(logs), 0)
