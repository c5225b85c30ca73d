"""How small a gradient one backward pass can hold, and which of its zeros are zeros.

A vector-Jacobian product is linear in its covector: multiplied by a large power of two it reaches that much further down
before it underflows. What still falls below the range is not observed. A zero further out than an entry that has nearly run
out of range is one of those; any other zero is exact.
Axes: T steps, B sequences.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

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
        return f"1e{math.ceil(self.floor / math.log(10))}"


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
