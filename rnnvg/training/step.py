"""One step of a training, the same for every training in the house: the gradient of a loss, clipped, and what is wrong."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn


def clipped_gradient(
    loss: Tensor,
    optimizer: torch.optim.Optimizer,
    parameters: Iterable[Tensor],
    clip: float,
    *,
    penalty: Tensor | None = None,
    before_clipping: Callable[[], object] | None = None,
) -> tuple[float, float]:
    """The gradient of `loss` in every parameter's .grad, scaled down to the norm `clip` where it is longer.

    Args:
        clip: inf for none (Pascanu, Mikolov and Bengio 2013).
        penalty: is learned from too, and is no part of the loss that is given back.
        before_clipping: called when the gradient is there.

    Returns:
        The loss, and the gradient's norm before it was clipped.
    """
    optimizer.zero_grad()
    (loss if penalty is None else loss + penalty).backward()
    if before_clipping is not None:
        before_clipping()
    norm = nn.utils.clip_grad_norm_(parameters, clip)
    value, length = torch.stack((loss.detach(), norm)).tolist()
    return value, length


def not_finite(loss: float, norm: float) -> tuple[str, float] | None:
    """What is not finite of a step, and its value: the weights must stay as they are. None where all is well."""
    if not math.isfinite(loss):
        return "loss", loss
    return None if math.isfinite(norm) else ("gradient's norm", norm)
