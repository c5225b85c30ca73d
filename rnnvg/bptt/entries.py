"""What goes into the adjoint recursion and what comes out of it: covectors that enter at steps, and blocks of adjoints.

Axes: S sources, T steps, B sequences, N state coordinates, n rows under way, c steps of a block.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from rnnvg.bptt.logscale import scaled_vectors, unit_vectors
from rnnvg.bptt.segments import Linearization, Segment

# Adjoints of so many steps wait until they are handed on together: what is done with them costs some twenty small operations.
WAITING_NUMBERS, WAITING_STEPS = 2**20, 128


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
    vectors: none of them, [0, n, B, N], where they have length 1 and `lengths` of `adjoints` asks for no more.
    unit: every vector of a row that has begun has length 1.
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
        return self.last - self.log_scale.shape[0] + 1


Entries = Callable[[int], Sequence[Entry]]


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
        found: list[Entry] = []
        for row, which in self._entering.get(t, ()):
            at = slice(int(self.order[row]), int(self.order[row]) + 1)
            log, unit = self._log[at], self._unit[at]
            if len(which) == log.shape[1]:
                found.append(Entry(slice(row, row + 1), None, log, unit))
            else:
                sequences = torch.as_tensor(which).to(log.device)
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
        self._silent = np.zeros(0, dtype=bool)

    def __call__(self, t: int) -> list[Entry]:
        if not self._start <= t < self._start + len(self._silent):  # whoever looks ahead comes back to later steps
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
        self._silent = torch.isneginf(self._log).all(1).cpu().numpy()
