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
    """What the core is handed for `inputs`, [T, B, E] on the model's device: dropout off, no graph, modes put back.

    >>> import torch
    >>> from rnnvg import models, tasks
    >>> task = tasks.make("adding", length=5)
    >>> models.encoded(models.build(task, "gru", hidden=4), task.batch(3, torch.Generator()).inputs).shape
    torch.Size([5, 3, 2])
    """
    with evaluating(model) as device:
        return model.encode(inputs.to(device))


def loss_gradient(model: SequenceModel, task: Task, batch: Batch) -> Tensor:
    """dL/d(output) of the core, [T, B, H], of the task's own loss on `batch`, dropout off.

    >>> import torch
    >>> from rnnvg import models, tasks
    >>> task = tasks.make("adding", length=5)
    >>> models.loss_gradient(models.build(task, "gru", hidden=4), task, task.batch(3, torch.Generator())).shape
    torch.Size([5, 3, 4])
    """
    with evaluating(model) as device:
        batch = batch.to(device)
        outputs = model.core(model.encode(batch.inputs))[0]
    return at_outputs(model, task, batch, outputs)


def at_outputs(model: SequenceModel, task: Task, batch: Batch, outputs: Tensor) -> Tensor:
    """dL/d(output) of the core where it gave `outputs`, [T, B, H], in the mode that the model is in."""
    outputs = outputs.detach().requires_grad_()
    with torch.enable_grad():
        return torch.autograd.grad(task.loss(model.readout(outputs), batch), outputs)[0]
