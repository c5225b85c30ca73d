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

# Adjoints of so many steps wait for one batched norm; more would push the segment's factors out of the cache.
WAITING_NUMBERS, WAITING_STEPS = 2**17, 32
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
        self.log_start, unit = log_length(covectors)
        self.unit = unit.to(linear.dtype)
        # A source without any gradient is an exact zero at every distance, and need not be followed.
        silent = torch.isneginf(self.log_start).all(1).cpu().numpy()
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
        self.slots = torch.zeros(*shape, linear.size, dtype=linear.dtype, device=linear.device)
        self.scales = torch.ones(*shape, 1, dtype=linear.dtype.to_real(), device=linear.device)
        self.inputs = [torch.empty(0)] * self.waiting
        self.log_scale = torch.zeros(S, B, dtype=torch.float64, device=linear.device)
        self.under_way = 0
        self.views: list[Any] = []
        self.pairs: list[tuple[Tensor, Tensor]] = []
        self.done = 0  # slots filled since the last flush
        self.whole = columns == [slice(0, linear.size)]
        self.unit_length = True  # of every adjoint under way
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
                self._write(t, t + 1, self.slots[:1, : self.under_way], self.log_scale[: self.under_way].unsqueeze(0))
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
            sequences, source = torch.from_numpy(which), int(self.order[position])
            self.under_way = max(self.under_way, position + 1)
            self.slots[0, position, sequences] = self.unit[source, sequences]
            start = self.log_start[source, sequences]
            nothing = torch.isinf(start)  # of this sequence: a zero covector stays zero
            self.log_scale[position, sequences] = torch.where(nothing, 0.0, start)
            self.unit_length = self.unit_length and not bool(nothing.any())
            if len(which) < self.sources.shape[1]:  # the other sequences' adjoints are zero until they begin
                self.unit_length = False
        self._cut()

    def _step(self, segment: Segment, t: int) -> None:
        """From the adjoint of s_t to that of s_{t-1}, one slot on."""
        j = self.done
        segment.pull(t, self.views[j], self.views[j + 1], inputs=self.columns is None)
        if self.columns is None:
            self.inputs[j] = segment.input_adjoint()
        after, scale = self.pairs[j + 1]
        torch.linalg.vector_norm(after, dim=-1, keepdim=True, out=scale)
        after.div_(scale.clamp_(self.smallest, self.largest))
        self.done += 1

    def _cut(self) -> None:
        """Views of the slots for the sources now under way, made once and used until another source begins."""
        n = self.under_way
        self.views = [self.linear.view(slot[:n]) for slot in self.slots]
        self.pairs = [(slot[:n], scale[:n]) for slot, scale in zip(self.slots, self.scales, strict=True)]

    def _flush(self, t: int) -> None:
        """Write the norms of the waiting slots; the adjoint of s_t, not written yet, becomes the first slot."""
        n, used = self.under_way, self.done
        if not used:
            return
        scales = self.scales[1 : used + 1, :n, :, 0].to(torch.float64)
        if self.unit_length and not bool(((scales > 2 * self.smallest) & (scales < self.largest / 2)).all()):
            self.unit_length = (
                False  # something was too small or too large to be brought to length 1, exactly 0, or nan
            )
        logs = scales.log_().cumsum_(0).add_(self.log_scale[:n])
        before = torch.cat([self.log_scale[:n].unsqueeze(0), logs[:-1]])
        vectors = torch.stack(self.inputs[:used]) if self.columns is None else self.slots[:used, :n]
        self._write(t + 1, t + 1 + used, vectors, before)
        self.log_scale[:n] = logs[-1]
        self.slots[0, :n] = self.slots[used, :n]
        self.done = 0

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
