"""Noisy recall: a sign at the first step, noise at every step after it, and at the end: which sign was it?

The latching problem of Bengio, Simard, Frasconi 1994: a memory that only sums what it sees drowns in the noise, one that
latches does not. The first number is +1 or -1, with a mark beside it; all later ones are drawn from N(0, noise^2). What is
due at the last step, `delay` steps later, is the class of the sign.
"""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import torch

from rnnvg.errors import check_float, check_int
from rnnvg.tasks.scoring import last_step
from rnnvg.tasks.task import Batch, Description, Task
from rnnvg.tasks.worked import only_at, shown_steps, table

ABOUT = Description(
    name="noisy-recall",
    label="Noisy recall",
    kind="numbers",
    metric="recall_accuracy",
    unit="nats per scored step",
    solved=0.99,
    settings={
        "delay": "steps from the sign to the last step, where it is due; each of them carries noise",
        "noise": "standard deviation of the noise; the sign is +1 or -1",
    },
)


def make(*, delay: int = 40, noise: float = 0.5) -> Task:
    """Makes the task.

    Inputs [T, B, 2]: a number and a mark at every step; scored at the last step, class 0 for -1 and 1 for +1.

    `targets` [T, B] repeats the class at every step, `weight` picks the last.

    Raises:
        InputError: `delay` is below 1 or `noise` is not above 0.
    """
    delay = check_int("delay", delay, least=1)
    noise = check_float("noise", noise, above=0)
    return Task(
        about=ABOUT,
        settings={"delay": delay, "noise": noise},
        n_inputs=2,
        n_outputs=2,
        steps=delay + 1,
        distances=np.array([delay]),
        baseline=1 / 2,
        baseline_loss=math.log(2),
        baseline_text="A guess between the two signs is right in 1 of 2 at ln 2 = 0.6931 nats.",
        draw=partial(_draw, delay + 1, noise),
        draw_longer=partial(_draw, 4 * (delay + 1), noise),
        show=partial(_show, noise),
    )


def _draw(steps: int, noise: float, size: int, generator: torch.Generator) -> Batch:
    classes = torch.randint(2, (size,), generator=generator)
    inputs = torch.zeros(steps, size, 2)
    inputs[..., 0] = noise * torch.randn(steps, size, generator=generator)
    inputs[0, :, 0] = 2.0 * classes - 1
    inputs[0, :, 1] = 1
    return Batch(inputs, classes.repeat(steps, 1), last_step(steps, size))


def _show(noise: float, batch: Batch) -> str:
    steps = len(batch.inputs)
    numbers, marks = batch.inputs[:, 0].T
    rows = {
        "step": str,
        "value": lambda step: f"{float(numbers[step]):+.2f}",
        "mark": lambda step: str(int(marks[step])),
        "target": only_at(steps - 1, "+" if batch.targets[-1, 0] else "-"),
    }
    return (
        f"{table(rows, shown_steps(steps, [], around=3))}\n\nThe sign of the marked number is due at the last step, "
        f"{steps - 1} steps after being seen; every number between is noise with a standard deviation of {noise:g}."
    )
