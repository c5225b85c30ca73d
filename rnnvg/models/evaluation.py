"""A trained model looked at from outside: what its core is handed, and the gradient of a loss at the core's output."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from rnnvg.models.sequence_model import SequenceModel
from rnnvg.tasks.scoring import evaluating

if TYPE_CHECKING:
    from rnnvg.tasks import Batch, Task


def encoded(model: SequenceModel, inputs: Tensor) -> Tensor:
    """What the core is handed for `inputs`, [T, B, E] on the model's device: dropout off, no graph, modes put back."""
    with evaluating(model) as device:
        return model.encode(inputs.to(device))


def loss_gradient(model: SequenceModel, task: Task, batch: Batch) -> Tensor:
    """dL/d(output) of the core, [T, B, H], of the task's own loss on `batch`, dropout off."""
    with evaluating(model) as device:
        batch = batch.to(device)
        outputs = model.core(model.encode(batch.inputs))[0]
    return at_outputs(model, task, batch, outputs)


def at_outputs(model: SequenceModel, task: Task, batch: Batch, outputs: Tensor) -> Tensor:
    """dL/d(output) of the core where it gave `outputs`, [T, B, H], in the mode that the model is in."""
    outputs = outputs.detach().requires_grad_()
    with torch.enable_grad():
        return torch.autograd.grad(task.loss(model.readout(outputs), batch), outputs)[0]
