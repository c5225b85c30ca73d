"""Parity: has the number of ones so far been odd?

One bit of memory, and every input matters at every distance: turning any bit round turns every later answer round
(Hochreiter & Schmidhuber 1997 warn that short parities are found by guessing weights). Scored at every step, a network
can learn it from short distances on; scored at the last alone there is no way up, and gradient descent often never finds it.
"""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import torch

from rnnvg.errors import check_int, check_name
from rnnvg.tasks.scoring import last_step
from rnnvg.tasks.task import Batch, Description, Task
from rnnvg.tasks.worked import tokens

SCORED = ("all", "last")

ABOUT = Description(
    name="parity",
    label="Parity",
    kind="tokens",
    metric="accuracy",
    unit="nats per scored step",
    solved=0.99,
    settings={"length": "bits of a sequence", "scored": "which steps are scored: 'all', or the 'last' alone"},
)


def make(*, length: int = 20, scored: str = "all") -> Task:
    """Makes the task.

    Inputs [T, B] tokens, 0 or 1 with equal chances; targets 1 where an odd number of ones has been read, this one too.

    Every bit counts at every step: distances 0 to T - 1.

    Raises:
        InputError: `length` is below 2 or `scored` is not the name of a choice.
    """
    length = check_int("length", length, least=2)
    scored = check_name("scored", scored, SCORED)
    if scored == "last":
        share, price = 1 / 2, math.log(2)
        guess = "A guess between odd and even is right in 1 of 2"
    else:
        share, price = (1 + (length - 1) / 2) / length, math.log(2) * (length - 1) / length
        guess = f"Reading off the first bit, and then a guess at every step, is right at {100 * share:.4g} %"
    return Task(
        about=ABOUT,
        settings={"length": length, "scored": scored},
        n_inputs=2,
        n_outputs=2,
        steps=length,
        distances=np.arange(length),
        baseline=share,
        baseline_loss=price,
        baseline_text=f"{guess} at {price:.4g} nats a step.",
        draw=partial(_draw, length, scored),
        draw_longer=partial(_draw, 4 * length, scored),
        show=_show,
    )


def _draw(length: int, scored: str, size: int, generator: torch.Generator) -> Batch:
    bits = torch.randint(2, (length, size), generator=generator)
    return Batch(bits, bits.cumsum(0) % 2, None if scored == "all" else last_step(length, size))


def _show(batch: Batch) -> str:
    ones = int(batch.inputs[:, 0].sum())
    return (
        f"{tokens(batch, '01', '01', [], around=7)}\n\n"
        f"Of all {len(batch.inputs)} bits {ones} {'is' if ones == 1 else 'are'} 1, which is {'odd' if ones % 2 else 'even'}: "
        f"{int(batch.targets[-1, 0])} is due at the last step."
    )
