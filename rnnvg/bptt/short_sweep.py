"""The adjoint recursion where few numbers a step leave each operation's own cost: nothing but a step's pull is done at a step.

What `sweep` gives for a stack of closed forms whose factors lie in memory whole.
Axes: S sources, T steps, B sequences, N state coordinates, n rows, c steps of a run.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rnnvg.bptt.adjoints import RUN_SCALES
from rnnvg.bptt.cells import Buffers, Cell, StateViews, steps_of
from rnnvg.bptt.logscale import nonzero, unit_vectors
from rnnvg.bptt.sweep import by_distance
from rnnvg.pytorch import from_numpy, vector_norm

RUN_STEPS = 32  # cut up once, before the first run
FILLED = 0.75  # of the room for a run's lengths, in logs, that the next one is to take at the rate of the last


def short_sweep(
    layers: Sequence[Cell],
    factors: Sequence[Any],
    masks: Sequence[Tensor | None],
    steps: np.ndarray,
    covectors: Tensor,
    n_distances: int,
) -> np.ndarray | None:
    """ln ||dL_S / d(state, k steps before the source)||, each source on its own.

    Args:
        layers: bottom first.
        factors: theirs over all steps.
        masks: what layer l's output is multiplied by on its way to layer l + 1, [T, B, P], None for nothing.
        steps, covectors, n_distances: as `sweep` takes them.

    Returns:
        [S, K, B] as `sweep`; None where a gradient left the finite numbers.
    """
    S, B = steps.shape
    unit, log = unit_vectors(covectors)
    silent = torch.isneginf(log).all(1).cpu().numpy()
    rows = np.full((S, n_distances, B), np.nan)  # row t + 1 is step t until the end, when it becomes distance S - t
    rows[silent] = -np.inf
    if not silent.all():
        found = _Recursion(layers, factors, masks, steps[~silent], unit[~silent], log[~silent]).run()
        if found is None:
            return None
        rows[~silent, : found.shape[1]] = found
    return by_distance(rows, steps)


class _Recursion:
    """The moving parts: slots for a run of adjoints, the first of length 1 or 0, and the logs of the rows' scales [n, B].

    A row is zero until its source, inside a run too: what is written of it before that is nobody's.
    """

    def __init__(
        self,
        layers: Sequence[Cell],
        factors: Sequence[Any],
        masks: Sequence[Tensor | None],
        steps: np.ndarray,
        unit: Tensor,
        log: Tensor,
    ) -> None:
        like, (n, batch) = layers[0].like, steps.shape
        self.layers, self.unit, self.log = layers, unit.to(like.dtype), log
        self.factors = [steps_of(each) for each in factors]
        self.masks = [None if mask is None else mask.to(like.dtype).unbind() for mask in masks]
        self.last = int(steps.max())
        self.slots = min(RUN_STEPS, self.last + 1)
        self.widths = [part.width for layer in layers for part in layer.parts]
        self.parts = [like.new_zeros(self.slots + 1, n, batch, width) for width in self.widths]
        self.views: list[list[StateViews]] = []
        self.deltas: list[Any] = []
        at = 0
        for layer in layers:
            own = self.parts[at : at + len(layer.parts)]
            at += len(own)
            whole = zip(*(each.unbind() for each in own), strict=True)
            flat = zip(*(each.flatten(1, 2).unbind() for each in own), strict=True)
            self.views.append([StateViews(*each) for each in zip(whole, flat, strict=True)])
            self.deltas.append(layer.new_delta(own[0][0], Buffers()))
        self.scale = torch.zeros(n, batch, dtype=torch.float64, device=like.device)
        self.rows = np.full((n, self.last + 2, batch), np.nan)
        self.entering = {t: np.nonzero(steps == t) for t in set(steps[steps >= 0].tolist())}
        self.low, self.high = RUN_SCALES[like.dtype]
        self.pace = RUN_STEPS

    def run(self) -> np.ndarray | None:
        """ln of the norms, [n, T + 1, B], those of the initial state first; None where one is not finite."""
        t = self.last
        self._enter(t, 0)
        while t >= 0:
            done = self._steps(t, min(self.pace, t + 1, self.slots))
            if not done:
                return None
            t -= done
        log = self.log.cpu().numpy()
        for step, (row, column) in self.entering.items():
            self.rows[row, step + 1, column] = log[row, column]
        return self.rows

    def _enter(self, t: int, k: int) -> None:
        """Write the covectors of step t into slot k."""
        row, column = self.entering[t]
        where: Any = from_numpy(row), from_numpy(column)
        if len(row) == self.scale.shape[1] and row[0] == row[-1]:  # one source of all sequences
            where = int(row[0])
        for part, its in zip(self.parts, self.unit[where].split_with_sizes(self.widths, -1), strict=True):
            part[k][where] = its
        log = self.log[where]
        self.scale[where] = log.masked_fill(torch.isneginf(log), 0.0)

    def _steps(self, t: int, count: int) -> int:
        """From the adjoint of s_t, in the first slot, to that of s_{t-1}, ... s_{t-count} or fewer, and the last of them to
        the first slot. The number of steps; 0 at the end of the finite numbers."""
        self._pull(t, count)
        parts = [part[: count + 1] for part in self.parts]
        norm = vector_norm(parts[0], dim=-1)
        for part in parts[1:]:  # along another axis than the last a norm takes ten times as long
            norm = torch.hypot(norm, vector_norm(part, dim=-1))
        smallest, largest = (float(each) for each in torch.aminmax(norm))
        used = count
        if self.low < smallest and largest < self.high:
            change = max(-math.log(smallest), math.log(largest), 1e-6) / count
            self.pace = min(RUN_STEPS, int(FILLED * math.log(self.high) / change) + 1)
        else:
            zero = norm == 0
            inside = (norm[1:] > self.low) & (norm[1:] < self.high) | (zero[1:] & zero[:-1])
            good: list[bool] = inside.flatten(1).all(1).cpu().numpy().tolist()
            if False in good:
                used = good.index(False)
                self.pace = max(2, used)
        if not used:
            return self._one(t)
        log = norm[1 : used + 1].double().log().add_(self.scale)
        self.rows[:, t - used + 1 : t + 1] = log.flip(0).transpose(0, 1).cpu().numpy()
        length = nonzero(norm[used])
        self.scale.add_(length.double().log())
        for part in self.parts:
            torch.div(part[used], length.unsqueeze(-1), out=part[0])
        return used

    def _pull(self, t: int, count: int) -> None:
        layers, deltas = self.layers, self.deltas
        top = len(layers) - 1
        for k in range(count):
            step, above = t - k, None
            if k and step in self.entering:
                self._enter(step, k)
            for index in range(top, -1, -1):
                layer, delta, views = layers[index], deltas[index], self.views[index]
                layer.pull(self.factors[index][step], views[k], views[k + 1], delta, above)
                if index:
                    above, mask = layer.input_adjoint(delta), self.masks[index - 1]
                    if mask is not None:
                        above = above.mul_(mask[step])

    def _one(self, t: int) -> int:
        """A step after which a length is out of bounds: too small or too large to be taken by its squares, or exactly 0."""
        unit, log = unit_vectors(torch.cat([part[1] for part in self.parts], -1))
        if not bool(torch.isfinite(unit).all()):
            return 0
        zero, log = torch.isneginf(log), log + self.scale
        self.rows[:, t] = log.cpu().numpy()
        self.scale = torch.where(zero, self.scale, log)
        for part, its in zip(self.parts, unit.split_with_sizes(self.widths, -1), strict=True):
            part[0] = its
        return 1
