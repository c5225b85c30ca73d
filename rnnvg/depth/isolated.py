"""A copy of someone's model to try things on: nothing that is done to it reaches the original or the program around it.

And a trial of it: a few real updates, whether weights move, and where they go.
"""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rnnvg.depth.probe import LayerView
from rnnvg.errors import InputError


@contextmanager
def isolated(model: nn.Module) -> Iterator[None]:
    """Random states of torch, NumPy and Python seeded, and put back afterwards; gradients on, whatever they were outside.

    A model may draw from any of the three: dropout from torch's, teacher forcing often from Python's.
    """
    devices = sorted({each.device.index or 0 for each in model.parameters() if each.device.type == "cuda"})
    python, numbers = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=devices), torch.inference_mode(False), torch.enable_grad():
            torch.manual_seed(0)
            random.seed(0)
            np.random.seed(0)
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numbers)


def copied(model: nn.Module, optimizer: Any, batch: Any) -> tuple[nn.Module, Any, Any]:
    """Copies of all three, taken together: the optimiser's copy holds the copied weights.

    Weights that a wrapper or a parametrization computed for a recurrent module stand in it as results of autograd, which
    copy.deepcopy refuses; their copies are constants until the module computes them again.

    Raises:
        InputError: one of them cannot be copied.
    """
    memo: dict[int, Any] = {}
    for module in model.modules():
        if isinstance(module, nn.RNNBase):
            _remember(memo, (*module._flat_weights, *vars(module).values()))
    try:
        return copy.deepcopy((getattr(model, "_orig_mod", model), optimizer, batch), memo)
    except Exception as error:  # whatever a user's own classes raise: there is nothing to diagnose without a copy
        raise InputError(
            f"The model, its optimiser or the batch cannot be copied ({type(error).__name__}: {error}); pass ones that "
            "copy.deepcopy takes."
        ) from None


def _remember(memo: dict[int, Any], values: tuple) -> None:
    for value in values:
        if isinstance(value, Tensor) and not value.is_leaf:
            memo[id(value)] = value.detach().clone()


def scripted_part(model: nn.Module) -> str | None:
    """The name of the first part that torch.jit made ("`model`" for all of it), or None."""
    for name, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            return f"`{name or 'model'}`"
    return None


@dataclass
class Move:
    """How a layer's weights moved over the trial: mean length of an update over theirs, and their gain at the end."""

    ratio: float = 0.0
    gain: float = math.nan


def trial(
    layers: Sequence[LayerView], optimise: torch.optim.Optimizer, compute: Callable[[], Tensor], updates: int
) -> dict[str, Move]:
    """Take `updates` steps; layer -> how it moved. No gradient of anything but what the optimiser holds is written to."""
    parameters = [each for group in optimise.param_groups for each in group["params"] if each.requires_grad]

    def closure() -> Tensor:
        # Not loss.backward(): what else the user's loss depends on would have its gradients written to.
        with torch.enable_grad():
            loss = compute()
            grads = (
                torch.autograd.grad(loss, parameters, allow_unused=True) if loss.requires_grad and parameters else []
            )
        for parameter, grad in zip(parameters, grads, strict=False):
            parameter.grad = grad
        return loss.detach()

    moves = {layer.name: Move() for layer in layers}
    for _ in range(updates):
        was = {layer.name: [each.detach().clone() for each in layer.weights] for layer in layers}
        optimise.step(closure)  # type: ignore[arg-type]
        for layer in layers:
            steps = [now.detach() - then for now, then in zip(layer.weights, was[layer.name], strict=True)]
            length = _norm(was[layer.name])
            moves[layer.name].ratio += _norm(steps) / length / updates if length else 0.0
    for layer in layers:
        moves[layer.name].gain = layer.gain
    return moves


def _norm(tensors: list[Any]) -> float:
    return math.sqrt(sum(float(each.detach().double().pow(2).sum()) for each in tensors))
