"""First symbol: one of three symbols, noise, and at the end: which was the first one?"""

import math
from functools import partial

import numpy as np
import torch

from rnnvg.errors import check_int
from rnnvg.tasks.scoring import last_step
from rnnvg.tasks.task import Batch, Description, Task

SYMBOLS = 3
ABOUT = Description(
    name="first-symbol",
    label="First symbol",
    kind="tokens",
    metric="accuracy",
    unit="nats per sequence",
    solved=0.95,
    settings={"length": "steps of a sequence"},
)


def make(*, length: int = 8) -> Task:
    length = check_int("length", length, least=2)
    return Task(
        about=ABOUT,
        settings={"length": length},
        n_inputs=SYMBOLS,
        n_outputs=SYMBOLS,
        steps=length,
        distances=np.array([length - 1]),
        baseline=1 / SYMBOLS,
        baseline_loss=math.log(SYMBOLS),
        baseline_text="A guess among 3 symbols is right in 1 of 3.",
        draw=partial(draw, length),
        draw_longer=partial(draw, 4 * length),
    )


def draw(length: int, size: int, generator: torch.Generator) -> Batch:
    inputs = torch.randint(SYMBOLS, (length, size), generator=generator)
    return Batch(inputs, inputs[0].repeat(length, 1), last_step(length, size))
