"""The adding problem: the sum of two marked numbers, due at the last step.

Hochreiter & Schmidhuber 1997 (section 5.4) posed it; the layouts here are the ones since used. "one-in-each-half" is
Arjovsky, Shah, Bengio 2016 (amarshah/complex_RNN): one mark uniform in each half. "anywhere" is Bai, Kolter, Koltun
2018 (locuslab/TCN): two different steps, uniform over all. The 1997 original drew values from [-1, 1], lengths from
[T, 1.1 T], marked the ends with -1 and scaled the sum.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch

from rnnvg.errors import check_int, check_name
from rnnvg.tasks.scoring import last_step
from rnnvg.tasks.task import Batch, Description, Task
from rnnvg.tasks.worked import only_at, shown_steps, table

# Layout of the values -> the least one and the width of their range.
VALUES = {"0 to 1": (0.0, 1.0), "-1 to 1": (-1.0, 2.0)}
MARKS = ("one-in-each-half", "anywhere")

ABOUT = Description(
    name="adding",
    label="Adding problem",
    kind="numbers",
    metric="mse",
    unit="mean squared error",
    solved=0.01,  # 6 % of what remembering nothing costs
    settings={
        "length": "steps of a sequence; the sum is due at the last one",
        "marks": "where the two marks may fall: 'one-in-each-half' or 'anywhere' (two different steps)",
        "values": "the range that the numbers are uniform in: '0 to 1', or '-1 to 1' as in 1997",
    },
)


def make(*, length: int = 50, marks: str = "one-in-each-half", values: str = "0 to 1") -> Task:
    """Makes the task.

    Inputs [T, B, 2]: a uniform number and a mark at every step, two marks a sequence; scored at the last step.

    The target is the sum of the two marked numbers. `targets` [T, B] repeats it at every step, `weight` picks the last.

    Raises:
        InputError: `length` is below 2, or `marks` or `values` is not the name of a layout.
    """
    length = check_int("length", length, least=2)
    marks = check_name("marks", marks, MARKS)
    values = check_name("values", values, VALUES)
    least, width = VALUES[values]
    # Var[u1 + u2] = 1/12 + 1/12 of the squared width.
    price = width**2 / 6
    return Task(
        about=ABOUT,
        settings={"length": length, "marks": marks, "values": values},
        n_inputs=2,
        n_outputs=1,
        steps=length,
        distances=np.arange(length),
        baseline=price,
        baseline_loss=price,
        baseline_text=(
            f"Always predicting {2 * least + width:g}, the mean of the sum, has a mean squared error of "
            f"{'1/6' if width == 1 else '2/3'}."
        ),
        draw=partial(draw, length, marks, values=values),
        draw_longer=partial(draw, 4 * length, marks, values=values),
        show=_show,
    )


def draw(length: int, marks: str, size: int, generator: torch.Generator, values: str = "0 to 1") -> Batch:
    """`size` sequences of `length` steps with marks and values so laid out."""
    half = length // 2
    least, width = VALUES[values]
    numbers = least + width * torch.rand(length, size, generator=generator)
    if marks == "anywhere":
        first = torch.randint(length, (size,), generator=generator)
        # Uniform over the other steps: skip over the first mark.
        second = torch.randint(length - 1, (size,), generator=generator)
        second += second >= first
    else:
        first = torch.randint(half, (size,), generator=generator)
        second = torch.randint(half, length, (size,), generator=generator)
    sequences = torch.arange(size)
    marked = torch.zeros(length, size)
    marked[first, sequences] = 1
    marked[second, sequences] = 1
    targets = (numbers[first, sequences] + numbers[second, sequences]).repeat(length, 1)
    return Batch(torch.stack([numbers, marked], dim=-1), targets, last_step(length, size))


def as_table(batch: Batch) -> tuple[str, list[float], str]:
    """A sequence of marked numbers as a table; the marked values; and how far they are from the end, in words."""
    steps = len(batch.inputs)
    values, marks = batch.inputs[:, 0].T
    marked = marks.nonzero()[:, 0].tolist()
    rows = {
        "step": str,
        "value": lambda step: f"{float(values[step]):.2f}",
        "mark": lambda step: str(int(marks[step])),
        "target": only_at(steps - 1, f"{float(batch.targets[-1, 0]):.2f}"),
    }
    away = " and ".join(str(steps - 1 - step) for step in marked)
    return table(rows, shown_steps(steps, marked)), values[marked].tolist(), away


def _show(batch: Batch) -> str:
    shown, (first, second), away = as_table(batch)
    return (
        f"{shown}\n\nThe two marked values add up to {first:.4f} + {second:.4f} "
        f"= {float(batch.targets[-1, 0]):.4f}, due at the last step, {away} steps after they were seen."
    )
