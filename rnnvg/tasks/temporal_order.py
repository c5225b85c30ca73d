"""Temporal order: two or three rare symbols among distractors; in which order did they come?

Hochreiter & Schmidhuber 1997 (section 5.6): every symbol is one of four distractors, but for the rare X or Y at one
step of each window, a start E and a final trigger B. "2-symbol" is their experiment 6a (windows at 10 to 20 % and 50 to
60 % of the sequence, 4 classes), "3-bit" their 6b (10 to 20 %, 33 to 43 %, 66 to 76 %, 8 classes), as Pascanu, Mikolov,
Bengio 2013 call them. "2-symbol-wide" has wider windows (6 to 24 % and 50 to 80 %), those of cybertronai/schmidhuber-problems
at length 50. The original's sequences are 100 to 110 steps long; these all have one length, and at 100 its windows.
"""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import torch

from rnnvg.errors import check_int, check_name
from rnnvg.tasks.scoring import last_step
from rnnvg.tasks.task import Batch, Description, Task
from rnnvg.tasks.worked import only_at, shown_steps, table

# Variant -> first and last step of each window, in percent of the length.
WINDOWS = {
    "2-symbol": ((10, 20), (50, 60)),
    "3-bit": ((10, 20), (33, 43), (66, 76)),
    "2-symbol-wide": ((6, 24), (50, 80)),
}
SYMBOLS = ("a", "b", "c", "d", "X", "Y", "E", "B")
DISTRACTORS, RARE, START, TRIGGER = 4, 4, 6, 7

ABOUT = Description(
    name="temporal-order",
    label="Temporal order",
    kind="tokens",
    metric="accuracy",
    unit="nats per scored step",
    solved=0.99,
    settings={
        "length": "steps of a sequence; the class is due at the last one",
        "variant": "'2-symbol' or '2-symbol-wide' (4 classes), '3-bit' (8 classes): how many rare symbols, and where",
    },
)


def make(*, length: int = 50, variant: str = "2-symbol") -> Task:
    """Makes the task.

    Inputs [T, B] tokens: 0 to 3 the distractors, 4 X, 5 Y, 6 the start, 7 the trigger; scored at the trigger, the end.

    `targets` [T, B] repeats the class at every step: X is 0, Y is 1, the first rare symbol the highest binary digit.

    Raises:
        InputError: `length` is below 10 (17 for "2-symbol-wide") or there is no variant of that name.
    """
    variant = check_name("variant", variant, WINDOWS)
    # The first window starts after the first step.
    length = check_int("length", length, least=math.ceil(100 / WINDOWS[variant][0][0]))
    classes = 2 ** len(WINDOWS[variant])
    price = math.log(classes)
    places = np.concatenate([np.arange(first, last + 1) for first, last in windows(length, variant)])
    return Task(
        about=ABOUT,
        settings={"length": length, "variant": variant},
        n_inputs=len(SYMBOLS),
        n_outputs=classes,
        steps=length,
        distances=np.unique(length - 1 - places),
        baseline=1 / classes,
        baseline_loss=price,
        baseline_text=f"A guess among {classes} orders is right in 1 of {classes} at ln {classes} = {price:.4g} nats.",
        draw=partial(_draw, length, variant),
        # The windows are as much wider and further apart.
        draw_longer=partial(_draw, 4 * length, variant),
        show=partial(_show, classes),
    )


def windows(length: int, variant: str) -> list[tuple[int, int]]:
    """The first and last step of each window of a rare symbol."""
    return [(first * length // 100, last * length // 100) for first, last in WINDOWS[variant]]


def _draw(length: int, variant: str, size: int, generator: torch.Generator) -> Batch:
    sequences = torch.arange(size)
    inputs = torch.randint(DISTRACTORS, (length, size), generator=generator)
    inputs[0], inputs[-1] = START, TRIGGER
    classes = torch.zeros(size, dtype=torch.int64)
    for first, last in windows(length, variant):
        places = torch.randint(first, last + 1, (size,), generator=generator)
        rare = torch.randint(2, (size,), generator=generator)
        inputs[places, sequences] = RARE + rare
        classes = 2 * classes + rare
    return Batch(inputs, classes.repeat(length, 1), last_step(length, size))


def _show(classes: int, batch: Batch) -> str:
    length = len(batch.inputs)
    tokens = batch.inputs[:, 0]
    places = ((tokens == RARE) | (tokens == RARE + 1)).nonzero()[:, 0].tolist()
    order = "".join(SYMBOLS[tokens[place]] for place in places)
    rows = {"step": str, "input": lambda step: SYMBOLS[tokens[step]], "target": only_at(length - 1, order)}
    away = [str(length - 1 - place) for place in places]
    return (
        f"{table(rows, shown_steps(length, places))}\n\n"
        f"The order {order} (class {int(batch.targets[-1, 0])} of {classes}) is due at the last step, "
        f"{', '.join(away[:-1])} and {away[-1]} steps after X and Y were seen; the small letters are distractors."
    )
