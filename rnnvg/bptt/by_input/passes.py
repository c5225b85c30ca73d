"""Sources followed one at a time through the graph of one forward pass: logs of the gradient's norms by step.

How small a gradient one backward pass can hold, and which of its zeros are zeros: a vector-Jacobian product is linear in its
covector, so multiplied by a large power of two it reaches that much further down before it underflows. What still falls below
the range is not observed. A zero further out than an entry that has nearly run out of range is one of those; any other zero
is exact.
Axes: T steps, B sequences, P numbers of one step's output.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rnnvg.bptt.by_input.layout import Layout
from rnnvg.bptt.by_input.subject import Forward
from rnnvg.bptt.logscale import log_norm
from rnnvg.horizon import NATS_PER_DECADE

ROUNDING = 1e4  # a gradient from the future below so many units of rounding is rounding


class Passes:
    """Backward passes through one forward pass, and what they ran into.

    Attributes:
        n_steps, batch, width: T, B, P.
        narrowest: the least precise dtype that a gradient passes through.
        first_nonfinite: [B] the first step whose output is inf or nan; -1 where there is none.
    """

    def __init__(self, forward: Forward, axes: Layout) -> None:
        self.forward, self.axes = forward, axes
        leaf = forward.leaves[0]
        self.n_steps = len(forward.leaves) if len(forward.leaves) > 1 else leaf.shape[axes.leaf_time]
        self.one_output = axes.out_time is None
        last = axes.at_source(forward.output.detach(), self.n_steps - 1)
        self.batch, self.width = last.shape
        self.narrowest = narrowest_dtype(forward.output, forward.leaves)
        self.first_nonfinite = self._first_nonfinite()
        self._below, self._of, self._lost, self._sources = 0, 0, 0, 0
        self._smallest: Range | None = None

    def _first_nonfinite(self) -> np.ndarray:
        if self.axes.out_time is None:
            bad = ~torch.isfinite(self.axes.at_source(self.forward.output, 0)).all(1)
            return np.where(bad.cpu().numpy(), self.n_steps - 1, -1)
        both = self.forward.output.movedim((self.axes.out_time, self.axes.out_batch), (0, 1))
        bad = ~torch.isfinite(both).reshape(self.n_steps, self.batch, -1).all(2).cpu().numpy()
        return np.where(bad.any(0), bad.argmax(0), -1)

    def log_norms(self, source: int, covector: Tensor, *, counted: bool = True) -> np.ndarray:
        """ln ||d <covector, output at source> / d(leaf at step t)||, [T, B]; nan where it is not observed.

        The notes are about sources that are counted.
        """
        output = self.axes.at_source(self.forward.output, source)
        wanted = torch.isfinite(output.detach()).all(1)
        result = np.full((self.n_steps, self.batch), np.nan)
        self._sources += self.batch * counted
        for exponent in exponents_to_try(self.narrowest):
            scaled = (covector * 2.0**exponent).to(output.dtype) * wanted.unsqueeze(1)
            found = self.forward.gradient(output, scaled)
            if found is None:
                result[:, wanted.cpu().numpy()] = -np.inf
                return result
            rows = self.axes.by_step(found)
            taken = wanted & torch.isfinite(rows).all(2).all(0)
            columns = taken.cpu().numpy()
            limits = Range(self.narrowest, exponent)
            logs = (log_norm(rows[:, taken]) - exponent * LN2).cpu().numpy()
            result[:, columns], below = observed(logs, source, limits)
            if counted:
                self._count(below, limits)
            wanted = wanted & ~taken
            if not bool(wanted.any()):
                break
        self._lost += int(wanted.sum()) * counted
        return result

    def _count(self, below: np.ndarray, limits: Range) -> None:
        self._below, self._of = self._below + int(below.sum()), self._of + below.size
        if below.any() and (self._smallest is None or limits.floor > self._smallest.floor):
            self._smallest = limits

    def notes(self) -> list[str]:
        """What the passes ran into, in sentences."""
        found: list[str] = []
        width = str(self.narrowest).removeprefix("torch.")
        shape = list(self.forward.output.shape)
        if self.one_output and len(shape) > 2:
            found.append(
                f"The output {shape} has no axis of {self.n_steps} steps: all of it is taken as one output of each sequence; "
                "pass outputs= for a part of it."
            )
        if self.forward.drew:
            found.append("The model draws random numbers: this is the gradient along one draw of them.")
        if self.narrowest != torch.float64:
            found.append(f"Gradients pass through {width}: relative rounding {torch.finfo(self.narrowest).eps:.0e}.")
        if self._smallest is not None:
            found.append(
                f"{self._below} of {self._of} gradients are below {self._smallest}, where {width}'s range ends here: nan, "
                "which is not zero."
            )
        if (self.first_nonfinite >= 0).any():
            found.append(
                f"The output of {int((self.first_nonfinite >= 0).sum())} of {self.batch} sequences is not finite."
            )
        if self._lost:
            found.append(f"The gradient of {self._lost} of {self._sources} sources and sequences is not finite.")
        return found


class Future:
    """What the sources see of the future: the largest of it, and how far ahead it reaches."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.rounding = math.log(ROUNDING * torch.finfo(dtype).eps)
        self._worst, self._source, self._ahead, self._reach = -math.inf, 0, 0, 0

    def see(self, logs: np.ndarray, source: int) -> None:
        """Logs of norms [T, B] of the gradient of the output at `source`."""
        ahead = logs[source + 1 :]
        if not ahead.size:
            return
        largest: np.ndarray = np.fmax.reduce(logs, axis=0)
        share = np.where(
            np.isneginf(ahead) | np.isnan(ahead), -np.inf, ahead - np.where(np.isneginf(largest), 0, largest)
        )
        by_step = share.max(1)
        seen = np.flatnonzero(by_step >= self.rounding)
        if seen.size:
            self._reach = max(self._reach, int(seen[-1]) + 1)
        if by_step.max() > self._worst:
            self._worst, self._source, self._ahead = float(by_step.max()), source, int(by_step.argmax()) + 1

    @property
    def leaks(self) -> bool:
        return self._reach > 0

    def __str__(self) -> str:
        return (
            f"the gradient of its output at step {self._source} by the input {_steps(self._ahead)} later is "
            f"{math.exp(self._worst):.2g} of its largest"
        )

    def notes(self) -> list[str]:
        if self.leaks:
            return [f"The model sees up to {_steps(self._reach)} into the future: {self}."]
        if self._worst > -math.inf:
            return [
                f"Gradients by future inputs are at most {math.exp(self._worst):.0e} of the largest: rounding, as a fast "
                "Fourier transform leaves it; values as small in the past are rounding too."
            ]
        return []


def _steps(n: int) -> str:
    return f"{n} step" if n == 1 else f"{n} steps"


LN2 = math.log(2)
# The largest power of two that a covector is multiplied by, in what the pass computes with: room is left for growth.
EXPONENTS = {torch.float64: 800, torch.float32: 80, torch.bfloat16: 80, torch.float16: 8}


@dataclass(frozen=True)
class Range:
    """The range of a pass in `dtype` whose covector was multiplied by 2**`exponent`.

    Attributes:
        floor: ln of the smallest gradient that it holds to full precision.
        near_floor: a zero beyond a gradient below this one may have been rounded to zero.
    """

    dtype: torch.dtype
    exponent: int

    @property
    def floor(self) -> float:
        info = torch.finfo(self.dtype)
        return math.log(info.tiny) - math.log(info.eps) - self.exponent * LN2

    @property
    def near_floor(self) -> float:
        return self.floor * 2 / 3

    def __str__(self) -> str:
        return f"1e{math.ceil(self.floor / NATS_PER_DECADE)}"


def exponents_to_try(dtype: torch.dtype) -> tuple[int, ...]:
    """Powers of two for the covector, first the one that reaches furthest down, then those for gradients that explode."""
    most = EXPONENTS[dtype]
    return (most, 0, -most)


def narrowest_dtype(output: Tensor, leaves: list[Tensor]) -> torch.dtype:
    """The least precise dtype that a gradient passes through between an output and the leaves."""
    targets = {torch.autograd.graph.get_gradient_edge(leaf).node for leaf in leaves}
    users: dict[object, list[torch.autograd.graph.Node]] = {}
    root = output.grad_fn
    assert root is not None
    stack, seen = [root], {root}
    while stack:
        node = stack.pop()
        for after, _ in node.next_functions:
            if after is None:
                continue
            users.setdefault(after, []).append(node)
            if after not in seen:
                seen.add(after)
                stack.append(after)
    stack = [node for node in targets if node in users]
    on_path = set(stack)
    passed: list[Any] = []
    while stack:
        for node in users.get(stack.pop(), []):
            if node not in on_path:
                on_path.add(node)
                stack.append(node)
                passed.append(node)
    found = {output.dtype, *(leaf.dtype for leaf in leaves)}
    if all(hasattr(node, "_input_metadata") for node in passed):
        found |= {each.dtype for node in passed for each in node._input_metadata if each is not None}
    else:
        found |= _seen_in_a_pass(output, leaves, passed)
    known = [dtype for dtype in found if dtype in EXPONENTS]
    return max(known, key=lambda dtype: (torch.finfo(dtype).eps, -torch.finfo(dtype).max))


def _seen_in_a_pass(output: Tensor, leaves: list[Tensor], nodes: list[Any]) -> set[torch.dtype]:
    """The dtypes of gradients that arrive at `nodes`; PyTorch 2.3 lets only a backward pass see them."""
    found: set[torch.dtype] = set()

    def look(gradients: tuple[Tensor | None, ...]) -> None:
        found.update(each.dtype for each in gradients if each is not None)

    hooks = [node.register_prehook(look) for node in nodes]
    try:
        torch.autograd.grad(output, leaves, torch.zeros_like(output), retain_graph=True, allow_unused=True)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def observed(logs: np.ndarray, source: int, limits: Range) -> tuple[np.ndarray, np.ndarray]:
    """Logs of norms [T, B] with nan for what lies below the range, and which entries those are.

    Args:
        logs: -inf where the pass gave 0.
        source: the step of the loss; entries are followed from there outwards, on either side.
    """
    below = (logs < limits.floor) & ~np.isneginf(logs)
    smallest = np.where(np.isneginf(logs) | np.isnan(logs), np.inf, logs)
    nearer = np.empty_like(logs)
    nearer[source:] = np.minimum.accumulate(smallest[source:], 0)
    nearer[: source + 1] = np.minimum.accumulate(smallest[: source + 1][::-1], 0)[::-1]
    below |= np.isneginf(logs) & (nearer < limits.near_floor)
    return np.where(below, np.nan, logs), below
