"""A few real updates on a copy: whether weights move, and where they go."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rnnvg.depth.probe import LayerView
from rnnvg.depth.symptoms import weight_gain


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
        moves[layer.name].gain = weight_gain(layer)
    return moves


def _norm(tensors: list[Any]) -> float:
    return math.sqrt(sum(float(each.detach().double().pow(2).sum()) for each in tensors))
