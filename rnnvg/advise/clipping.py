"""What clipping does at equal weights: one factor for the whole gradient, and nothing to any distance."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import nn

from rnnvg import models
from rnnvg.bptt import GradientProfile, gradient_profile
from rnnvg.models import SequenceModel
from rnnvg.tasks import Batch, Task


def at_equal_weights(
    model: SequenceModel, task: Task, probe: Batch, clip: float, wrt: str, threshold: float
) -> dict[str, float]:
    """The gradient of one batch before and after clipping, and the curve of each.

    The clip is taken at a tenth of the gradient's norm where that is the smaller, so that it always acts.

    Returns:
        norm before, factor, cosine between the two gradients, largest difference of the two curves (nats), change of the
        log horizon.
    """
    encoded = models.encoded(model, probe.inputs)
    parameters = list(model.parameters())
    direct = models.loss_gradient(model, task, probe).double()
    outputs, _ = model(probe.inputs)
    model.zero_grad()
    task.loss(outputs, probe).backward()
    before = _flat(parameters)
    limit = min(clip, float(before.norm()) / 10)
    nn.utils.clip_grad_norm_(parameters, limit)
    after = _flat(parameters)
    model.zero_grad()
    factor = float(after.norm() / before.norm())
    profiles = [_profile(model, encoded, scale * direct, wrt) for scale in (1.0, factor)]
    logs = [each.log_gain()[0] for each in profiles]
    horizons = [each.horizon(threshold) for each in profiles]
    return {
        "norm": float(before.norm()),
        "factor": factor,
        "cosine": float(torch.dot(before, after) / (before.norm() * after.norm())),
        "largest_difference": float(np.nanmax(np.abs(np.subtract(*logs)), initial=0.0)),
        "log_horizon_change": math.log1p(horizons[1].last) - math.log1p(horizons[0].last),
    }


def _profile(model: Any, encoded: torch.Tensor, output_grad: torch.Tensor, wrt: str) -> GradientProfile:
    with torch.no_grad():
        core, state = models.recurrence(model.core, encoded)
        return gradient_profile(core, encoded, state, output_grad=output_grad, sources="last", wrt=wrt)


def _flat(parameters: list[nn.Parameter]) -> torch.Tensor:
    return torch.cat([each.grad.flatten().double() for each in parameters if each.grad is not None])
