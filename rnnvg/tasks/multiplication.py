"""The multiplication problem: the product of two marked numbers, due at the last step.

Hochreiter & Schmidhuber 1997 (section 5.5): the adding problem's sequences with a target that no sum of what was seen gives
away. The layouts are those of `adding`. The product of two U[0, 1] has mean 1/4 and variance 1/9 - 1/16 = 7/144.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import torch

from rnnvg.errors import check_int, check_name
from rnnvg.tasks import adding
from rnnvg.tasks.task import Batch, Description, Task

ABOUT = Description(
    name="multiplication",
    label="Multiplication",
    kind="numbers",
    metric="mse",
    unit="mean squared error",
    solved=0.003,  # 6 % of what remembering nothing costs
    settings={
        "length": "steps of a sequence; the product is due at the last one",
        "marks": adding.ABOUT.settings["marks"],
    },
)


def make(*, length: int = 50, marks: str = "one-in-each-half") -> Task:
    """Makes the task.

    Inputs [T, B, 2]: a number from U[0, 1] and a mark at every step, two marks a sequence; scored at the last step.

    The target is the product of the two marked numbers. `targets` [T, B] repeats it at every step, `weight` picks the last.

    Raises:
        InputError: `length` is below 2 or `marks` is not the name of a layout.
    """
    length = check_int("length", length, least=2)
    marks = check_name("marks", marks, adding.MARKS)
    return Task(
        about=ABOUT,
        settings={"length": length, "marks": marks},
        n_inputs=2,
        n_outputs=1,
        steps=length,
        distances=np.arange(length),
        baseline=7 / 144,
        baseline_loss=7 / 144,
        baseline_text="Always predicting 1/4, the mean of the product, has a mean squared error of 7/144 = 0.0486.",
        draw=partial(_draw, length, marks),
        draw_longer=partial(_draw, 4 * length, marks),
        show=_show,
    )


def _draw(length: int, marks: str, size: int, generator: torch.Generator) -> Batch:
    batch = adding.draw(length, marks, size, generator)
    values, marked = batch.inputs.unbind(-1)
    product = torch.where(marked > 0, values, 1.0).prod(0)
    return replace(batch, targets=product.repeat(length, 1))


def _show(batch: Batch) -> str:
    shown, (first, second), away = adding.as_table(batch)
    return (
        f"{shown}\n\nThe two marked values multiply to {first:.4f} x {second:.4f} = {float(batch.targets[-1, 0]):.4f}, "
        f"due at the last step, {away} steps after they were seen."
    )
