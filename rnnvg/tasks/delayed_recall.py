"""Delayed recall: one symbol, a delay, and a query that asks for it.

The plainest question to a memory, after the latching problem of Bengio, Simard, Frasconi 1994: which of K symbols was it?
The delay is drawn for each sequence, uniform from `shortest` to `delay`, so that one training covers all of them and
the accuracy of one network can be read off against the delay. The query is the last step, the symbol stands d steps
before it, and every other step is blank; the symbol is due at the query.
"""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import torch

from rnnvg.errors import check_int
from rnnvg.tasks.copy_memory import BLANK
from rnnvg.tasks.scoring import last_step
from rnnvg.tasks.task import Batch, Description, Task
from rnnvg.tasks.worked import tokens

ABOUT = Description(
    name="delayed-recall",
    label="Delayed recall",
    kind="tokens",
    metric="recall_accuracy",
    unit="nats per scored step",
    solved=0.99,
    settings={
        "delay": "the longest delay: steps from the symbol to the query",
        "shortest": "the shortest delay; each sequence has its own, uniform between the two",
        "n_symbols": "how many different symbols there are",
    },
)


def make(*, delay: int = 40, shortest: int = 1, n_symbols: int = 8) -> Task:
    """Makes the task.

    Inputs [T, B] tokens: 0 is blank, 1 to K are the symbols, K + 1 the query; scored at the last step, the query.

    `targets` [T, B] repeats the class, 0 to K - 1 for symbols 1 to K, at every step.

    Raises:
        InputError: a delay below 1, `shortest` above `delay`, fewer than two symbols.
    """
    delay = check_int("delay", delay, least=1)
    shortest = check_int("shortest", shortest, least=1, most=delay)
    n_symbols = check_int("n_symbols", n_symbols, least=2)
    steps, price = delay + 1, math.log(n_symbols)
    # Of the longer sequences all have their symbol at the first step.
    longer = 4 * steps - 1
    return Task(
        about=ABOUT,
        settings={"delay": delay, "shortest": shortest, "n_symbols": n_symbols},
        n_inputs=n_symbols + 2,
        n_outputs=n_symbols,
        steps=steps,
        distances=np.arange(shortest, delay + 1),
        baseline=1 / n_symbols,
        baseline_loss=price,
        baseline_text=(
            f"A guess among {n_symbols} symbols recalls 1 in {n_symbols} at ln {n_symbols} = {price:.4g} nats."
        ),
        draw=partial(_draw, delay, shortest, n_symbols),
        draw_longer=partial(_draw, longer, longer, n_symbols),
        show=partial(_show, shortest, n_symbols),
    )


def at_delay(task: Task, delay: int) -> Task:
    """The same task at one delay alone."""
    return make(**{**task.settings, "delay": delay, "shortest": delay})


def _draw(delay: int, shortest: int, n_symbols: int, size: int, generator: torch.Generator) -> Batch:
    classes = torch.randint(n_symbols, (size,), generator=generator)
    delays = torch.randint(shortest, delay + 1, (size,), generator=generator)
    inputs = torch.full((delay + 1, size), BLANK)
    inputs[delay - delays, torch.arange(size)] = classes + 1
    inputs[-1] = n_symbols + 1
    return Batch(inputs, classes.repeat(delay + 1, 1), last_step(delay + 1, size))


def _show(shortest: int, n_symbols: int, batch: Batch) -> str:
    delay = len(batch.inputs) - 1
    signs = [".", *(str(symbol) for symbol in range(1, n_symbols + 1)), "?"]
    place = int((batch.inputs[:, 0] != BLANK).nonzero()[0])
    symbol = signs[int(batch.inputs[place, 0])]
    return (
        f"{tokens(batch, signs, signs[1:], [place])}\n\n"
        f"The symbol {symbol} is due at the query '?', here {delay - place} steps after being seen; the delay is "
        f"any number of steps from {shortest} to {delay} ('.' is a blank)."
    )
