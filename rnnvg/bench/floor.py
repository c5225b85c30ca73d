"""The floor of a training: PyTorch's own forward, loss, backward and optimiser step, and nothing else, for as many steps.

Measured in the process that trained, on the same shapes, right after the training: what is spent above it is this house's.
"""

from __future__ import annotations

import copy
import statistics
import time
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from rnnvg.models import SequenceModel
    from rnnvg.tasks import Batch, Task

REPEATS = 5


def seconds_a_step(model: SequenceModel, task: Task, batch: Batch, optimizer: type[torch.optim.Optimizer]) -> float:
    """The median time of one step on `batch`, in a copy of the model."""
    model = copy.deepcopy(model).train()
    device = next(model.parameters()).device
    batch, steps = batch.to(device), optimizer(model.parameters(), lr=1e-6)  # type: ignore[call-arg]
    taken = []
    for _ in range(1 + REPEATS):
        synchronize(device)
        start = time.perf_counter()
        steps.zero_grad()
        task.loss(model(batch.inputs)[0], batch).backward()
        steps.step()
        synchronize(device)
        taken.append(time.perf_counter() - start)
    return statistics.median(taken[1:])  # the first one makes the optimiser's state


def synchronize(device: torch.device) -> None:
    """Waits for what a GPU was given to do; a CPU is never behind."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
