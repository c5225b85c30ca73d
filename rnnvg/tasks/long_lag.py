"""Long lag without noise: the next symbol is always clear, but for the last one, which is the first one again.

Hochreiter & Schmidhuber 1997, experiment 2a: of two sequences x a1 a2 ... x and y a1 a2 ... y one is read, and after every
symbol the next is to be said. Each follows from the one before, except whether x or y is due at the end, `lag` symbols after
it was read at the start. That is a small part of the loss and the whole question: `last_weight` is how many times the last
step counts, as cybertronai/schmidhuber-problems (noise-free-long-lag) has it with 100. The accuracy is that of the last step.
"""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import torch
from torch import Tensor

from rnnvg.errors import check_float, check_int
from rnnvg.tasks.scoring import last_step
from rnnvg.tasks.task import Batch, Description, Task
from rnnvg.tasks.worked import tokens

KEYS = ("x", "y")

ABOUT = Description(
    name="long-lag",
    label="Long lag",
    kind="tokens",
    metric="accuracy",
    unit="nats per weighted step",
    solved=0.99,
    settings={
        "lag": "symbols from the first x or y to its coming again; all between are the same in every sequence",
        "last_weight": "how many times as much the last step counts in the loss as any other",
    },
)


def make(*, lag: int = 50, last_weight: float = 1.0) -> Task:
    """Inputs [T, B] tokens, T = `lag`: 0 (x) or 1 (y) at the first step, then 2, 3, ... to `lag`; the next one is always due.

    `targets` [T, B] holds the next symbol, at the last step x or y again. Profiles are taken on sequences of 4 `lag` steps,
    which go through the symbols between again and again.

    Raises:
        InputError: `lag` is below 2, `last_weight` is not above 0.
    """
    lag = check_int("lag", lag, least=2)
    last_weight = check_float("last_weight", last_weight, above=0)
    price = last_weight * math.log(2) / (lag - 1 + last_weight)
    return Task(
        about=ABOUT,
        settings={"lag": lag, "last_weight": last_weight},
        n_inputs=lag + 1,
        n_outputs=lag + 1,
        steps=lag,
        distances=np.array([lag - 1]),
        baseline=0.5,
        baseline_loss=price,
        baseline_text=(
            f"Saying every symbol but the last, and guessing that one, is right there in 1 of 2 at {price:.4g} nats a step."
        ),
        draw=partial(_draw, lag, lag, last_weight),
        draw_longer=partial(_draw, lag, 4 * lag, last_weight),
        due=_due,
        show=_show,
    )


def _draw(lag: int, steps: int, last_weight: float, size: int, generator: torch.Generator) -> Batch:
    key = torch.randint(2, (1, size), generator=generator)
    between = torch.arange(steps - 1) % (lag - 1) + 2  # round and round, where there are more steps than symbols
    symbols = torch.cat([key, between[:, None].expand(-1, size), key])
    return Batch(symbols[:-1], symbols[1:], 1 + (last_weight - 1) * last_step(steps, size))


def _due(batch: Batch) -> Tensor:
    due = torch.zeros_like(batch.targets, dtype=torch.bool)
    due[-1] = True
    return due


def _show(batch: Batch) -> str:
    lag = len(batch.inputs)
    names = [*KEYS, *(f"a{number}" for number in range(1, lag))]
    last = names[int(batch.targets[-1, 0])]
    return (
        f"{tokens(batch, names, names, [0])}\n\n"
        f"Every next symbol follows from the one before, but the last: it is {last} because the first was, "
        f"{lag} symbols earlier."
    )
