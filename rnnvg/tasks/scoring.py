"""Losses averaged over scored steps, held-out scores, and the care that evaluating someone's model needs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from rnnvg.errors import InputError, check_int

if TYPE_CHECKING:
    from rnnvg.tasks.task import Batch, Task

# Steps x sequences that a model is scored on at once: bounds memory where sequences are long.
SCORED_AT_ONCE = 100_000


def check_generator(generator: object) -> torch.Generator:
    """`generator` where it is a torch.Generator on the CPU, the only kind whose draws agree between machines."""
    if not isinstance(generator, torch.Generator):
        raise InputError(
            f"`generator` must be a torch.Generator; got {type(generator).__name__}. "
            "Pass torch.Generator().manual_seed(0)."
        )
    if generator.device.type != "cpu":
        raise InputError(
            f"`generator` must be on the CPU, where draws agree between machines; got one on {generator.device}."
        )
    return generator


def seeded(seed: int) -> torch.Generator:
    """A fresh generator on the CPU."""
    return torch.Generator().manual_seed(seed)


def last_step(steps: int, size: int) -> Tensor:
    """A weight [T, B] that scores the last step alone."""
    weight = torch.zeros(steps, size)
    weight[-1] = 1
    return weight


def weighted_mean(values: Tensor, weight: Tensor | None) -> Tensor:
    """Mean of `values` [T, B] over the steps that `weight` [T, B] marks; over all of them where it is None."""
    return values.mean() if weight is None else (values * weight).sum() / weight.sum()


def n_scored(batch: Batch) -> float:
    """How many steps of a batch are scored, over all its sequences."""
    return float(batch.targets.numel()) if batch.weight is None else float(batch.weight.sum())


def squared_error(outputs: Tensor, batch: Batch) -> Tensor:
    """Mean squared error of numbers [T, B, 1] over the scored steps."""
    return weighted_mean((outputs.squeeze(-1) - batch.targets).square(), batch.weight)


def cross_entropy(outputs: Tensor, batch: Batch) -> Tensor:
    """Mean cross-entropy in nats of logits [T, B, O] over the scored steps."""
    each = nn.functional.cross_entropy(outputs.flatten(0, 1), batch.targets.flatten(), reduction="none")
    return weighted_mean(each.view_as(batch.targets), batch.weight)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[torch.device]:
    """Puts a model in evaluation mode without gradients, and its mode back afterwards; gives the device that it is on."""
    # Every module's own mode is kept: a frozen part that was in evaluation mode must stay so.
    modes = [(module, module.training) for module in model.modules()]
    first = next(model.parameters(), None)
    try:
        model.eval()
        with torch.no_grad():
            yield torch.device("cpu") if first is None else first.device
    finally:
        for module, mode in modes:
            module.training = mode


def sizes(n: int, steps: int) -> Iterator[int]:
    """`n` sequences of `steps` in parts small enough to score at once.

    >>> list(sizes(250, 1000))
    [100, 100, 50]
    """
    left = check_int("n", n, least=1)
    most = max(1, SCORED_AT_ONCE // steps)
    while left:
        size = min(left, most)
        yield size
        left -= size


def due(task: Task, batch: Batch) -> Tensor:
    """The steps whose answers count for an accuracy, bool [T, B]."""
    if task.due is not None:
        return task.due(batch)
    return torch.ones_like(batch.targets).bool() if batch.weight is None else batch.weight > 0


def _right(task: Task, answers: Tensor, batch: Batch) -> Tensor:
    """Which answers [T, B] are right, bool."""
    if task.allowed is None:
        return answers == batch.targets
    return task.allowed(batch).gather(-1, answers[..., None]).squeeze(-1)


def score(task: Task, model: nn.Module, generator: torch.Generator, n: int) -> dict[str, float]:
    """On `n` held-out sequences: "loss", and the metric: the loss itself, or the share of answers that are right."""
    loss = scored = right = answers = 0.0
    check_generator(generator)
    if task.held_out is None:
        batches = (task.batch(size, generator) for size in sizes(n, task.steps))
    else:
        batches = task.held_out(check_int("n", n, least=1), generator)
    with evaluating(model) as device:
        for drawn in batches:
            batch = drawn.to(device)
            outputs = model(batch.inputs)[0]
            loss += float(task.loss(outputs, batch)) * n_scored(batch)
            scored += n_scored(batch)
            if task.metric != "mse":
                chosen = due(task, batch)
                right += int(_right(task, outputs.argmax(-1), batch)[chosen].sum())
                answers += int(chosen.sum())
    mean = loss / scored
    return {"loss": mean, task.metric: mean if task.metric == "mse" else right / answers}
