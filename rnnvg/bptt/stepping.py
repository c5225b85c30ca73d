"""A module run step by step by its own forward pass, for everything that checks closed forms against autograd.

The state is a flat list: the first part of every layer, then the second of every layer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from rnnvg.bptt import arguments
from rnnvg.bptt.cells import read_cells

Step = Callable[[Tensor, list[Tensor]], list[Tensor]]


def map_state(state: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """`change` applied to every tensor of a state: None, a tensor or a tuple of them."""
    if state is None or isinstance(state, Tensor):
        return None if state is None else change(state)
    return tuple(change(part) for part in state)


def widened(part: Tensor) -> Tensor:
    """A part of a state in double precision, complex where it is."""
    return part.detach().to(torch.complex128 if part.is_complex() else torch.float64)


def initial_parts(module: nn.Module, state: Any, inputs: Tensor) -> list[Tensor]:
    """The state that `module` begins from, as the flat list; zeros where `state` is None."""
    layers = arguments.module_state(module, state, inputs)
    return [part for each in zip(*layers, strict=True) for part in each]


def module_step(module: nn.Module) -> Step:
    """One step of a module with closed forms: x [B, I] and the parts before it -> the parts after it."""
    cells = read_cells(module)
    layers, stacked, several = len(cells), hasattr(module, "num_layers"), len(cells[0].parts) > 1

    def step(x: Tensor, parts: list[Tensor]) -> list[Tensor]:
        if not stacked:
            after = module(x, tuple(parts) if several else parts[0])
            return list(after) if several else [after]
        stacks = [torch.stack(parts[start : start + layers]) for start in range(0, len(parts), layers)]
        sequence = x.unsqueeze(1 if getattr(module, "batch_first", False) else 0)
        _, after = module(sequence, tuple(stacks) if several else stacks[0])
        return [part for each in (after if several else (after,)) for part in each.unbind()]

    return step


def whole_state(parts: list[Tensor], layers: int) -> Tensor:
    """The flat list as a linearisation has the state, [B, N]: layer by layer."""
    return torch.cat([part for layer in range(layers) for part in parts[layer::layers]], -1)
