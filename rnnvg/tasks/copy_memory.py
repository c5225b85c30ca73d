"""Copy memory: symbols, a long blank, and then the same symbols again.

Hochreiter & Schmidhuber 1997 posed its ancestor; the layouts here are those since used. "single" is Arjovsky, Shah,
Bengio 2016 (amarshah/complex_RNN): S symbols, T - 1 blanks, one delimiter, S blanks; "row" is Bai, Kolter, Koltun 2018
(locuslab/TCN): the delimiter stays on through the recall. In both the sequence is T + 2S steps long, blanks are due
until the delimiter has been seen, and symbol i, seen at step i, is due at step T + S + i: every distance is T + S.
"""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import torch
from torch import Tensor

from rnnvg.errors import check_int, check_name
from rnnvg.tasks.task import Batch, Description, Task
from rnnvg.tasks.worked import tokens

DELIMITERS = ("single", "row")
SCORED = ("all", "recall")
BLANK = 0

ABOUT = Description(
    name="copy",
    label="Copy memory",
    kind="tokens",
    metric="recall_accuracy",
    unit="nats per step",
    solved=0.99,
    settings={
        "delay": "steps between symbols and recall, the first sign among them; every distance is delay + recall",
        "n_symbols": "how many different symbols there are",
        "recall": "how many symbols to recall",
        "delimiter": "the sign to recall: 'single', one step before the recall, or 'row', at every step of it",
        "scored": "which steps are scored: 'all', or 'recall' alone",
    },
)


def make(
    *, delay: int = 20, n_symbols: int = 8, recall: int = 1, delimiter: str = "single", scored: str = "all"
) -> Task:
    """Makes the task.

    Inputs [T, B] tokens: 0 is blank, 1 to K are the symbols, K + 1 the delimiter; targets are blanks and symbols.

    Raises:
        InputError: a length or count below its least value (two symbols, else one), or no layout of that name.
    """
    delay = check_int("delay", delay, least=1)
    n_symbols = check_int("n_symbols", n_symbols, least=2)
    recall = check_int("recall", recall, least=1)
    delimiter = check_name("delimiter", delimiter, DELIMITERS)
    scored = check_name("scored", scored, SCORED)
    steps = delay + 2 * recall
    price, formula = recall_price(n_symbols, recall, steps, scored), f"ln {n_symbols}"
    if scored == "all":
        formula = f"{'' if recall == 1 else f'{recall} '}ln {n_symbols} / {steps}"
    return Task(
        about=ABOUT,
        settings={"delay": delay, "n_symbols": n_symbols, "recall": recall, "delimiter": delimiter, "scored": scored},
        n_inputs=n_symbols + 2,
        n_outputs=n_symbols + 1,
        steps=steps,
        distances=np.full(recall, delay + recall),
        baseline=1 / n_symbols,
        baseline_loss=price,
        baseline_text=(
            f"Blanks until the recall and then a guess among {n_symbols} symbols recalls 1 in {n_symbols} at "
            f"{formula} = {price:.4g} nats a step."
        ),
        draw=partial(_draw, steps, n_symbols, recall, delimiter, scored),
        # By a longer delay alone.
        draw_longer=partial(_draw, 4 * steps, n_symbols, recall, delimiter, scored),
        show=partial(_show, n_symbols, recall),
        due=symbols_due,
    )


def recall_price(n_symbols: int, recall: int, steps: int, scored: str) -> float:
    """What guessing the symbols costs, in nats a scored step, where all else is known."""
    guessing = math.log(n_symbols)
    return guessing if scored == "recall" else recall * guessing / steps


def symbols_due(batch: Batch) -> Tensor:
    """The steps where a symbol is due, bool [T, B]."""
    return batch.targets != BLANK


def _draw(
    steps: int, n_symbols: int, recall: int, delimiter: str, scored: str, size: int, generator: torch.Generator
) -> Batch:
    symbols = torch.randint(1, n_symbols + 1, (recall, size), generator=generator)
    inputs = torch.full((steps, size), BLANK)
    inputs[:recall] = symbols
    first_due = steps - recall
    last_sign = first_due if delimiter == "single" else steps
    inputs[first_due - 1 : last_sign] = n_symbols + 1
    targets = torch.full((steps, size), BLANK)
    targets[first_due:] = symbols
    weight = None
    if scored == "recall":
        weight = torch.zeros(steps, size)
        weight[first_due:] = 1
    return Batch(inputs, targets, weight)


def _show(n_symbols: int, recall: int, batch: Batch) -> str:
    steps = len(batch.inputs)
    blank, sign = ".", "!"
    signs = [blank, *(str(symbol) for symbol in range(1, n_symbols + 1)), sign]
    first_due = steps - recall
    symbols, verb = ("symbol", "is") if recall == 1 else (f"{recall} symbols", "are")
    return (
        f"{tokens(batch, signs, signs, [recall - 1, first_due - 1, first_due])}\n\nThe {symbols} at the start "
        f"{verb} due after the sign {sign!r}, {steps - recall} steps after being seen ({blank!r} is a blank)."
    )
