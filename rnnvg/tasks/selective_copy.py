"""Selective copying: symbols scattered among blanks, all to be recalled in their order at the end.

Jing et al. 2019 (their denoise task); Gu & Dao 2023 made it a test of whether a recurrence can choose by content what
it keeps: with the symbols at places that differ from sequence to sequence, a fixed delay line does not solve it. The
first `length` steps hold S symbols at distinct places drawn uniformly; then S signs, and symbol i is due at sign i.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch

from rnnvg.errors import check_int, check_name
from rnnvg.tasks.copy_memory import BLANK, SCORED, recall_price, symbols_due
from rnnvg.tasks.task import Batch, Description, Task
from rnnvg.tasks.worked import listed, tokens

ABOUT = Description(
    name="selective-copy",
    label="Selective copy",
    kind="tokens",
    metric="recall_accuracy",
    unit="nats per scored step",
    solved=0.99,
    settings={
        "length": "steps over which the symbols are scattered; the recall follows them",
        "n_symbols": "how many different symbols there are",
        "recall": "how many symbols are scattered, and recalled in their order",
        "scored": "which steps are scored: 'all', or 'recall' alone",
    },
)


def make(*, length: int = 20, n_symbols: int = 8, recall: int = 2, scored: str = "recall") -> Task:
    """Makes the task.

    Inputs [T, B] tokens: 0 is blank, 1 to K are the symbols, K + 1 the sign; targets are blanks and symbols.

    Symbol i has i others before it and recall - 1 - i behind it, so that each of them reaches the same distances.

    Raises:
        InputError: a length or count below its least value, or more symbols to recall than there are steps for.
    """
    length = check_int("length", length, least=1)
    n_symbols = check_int("n_symbols", n_symbols, least=2)
    recall = check_int("recall", recall, least=1, most=length)
    scored = check_name("scored", scored, SCORED)
    steps = length + recall
    price = recall_price(n_symbols, recall, steps, scored)
    return Task(
        about=ABOUT,
        settings={"length": length, "n_symbols": n_symbols, "recall": recall, "scored": scored},
        n_inputs=n_symbols + 2,
        n_outputs=n_symbols + 1,
        steps=steps,
        distances=np.arange(recall, length + 1),
        baseline=1 / n_symbols,
        baseline_loss=price,
        baseline_text=(
            f"A guess among {n_symbols} symbols at every sign, and blanks before, recalls 1 in {n_symbols} at {price:.4g} "
            "nats a step."
        ),
        draw=partial(_draw, length, n_symbols, recall, scored),
        # The same number of symbols, scattered more widely.
        draw_longer=partial(_draw, 4 * steps - recall, n_symbols, recall, scored),
        show=partial(_show, n_symbols, recall),
        due=symbols_due,
    )


def _draw(length: int, n_symbols: int, recall: int, scored: str, size: int, generator: torch.Generator) -> Batch:
    symbols = torch.randint(1, n_symbols + 1, (recall, size), generator=generator)
    order = torch.rand(length, size, generator=generator, dtype=torch.float64).argsort(0)
    places = order[:recall].sort(0).values
    inputs = torch.full((length + recall, size), BLANK)
    inputs[places, torch.arange(size)] = symbols
    inputs[length:] = n_symbols + 1
    targets = torch.full((length + recall, size), BLANK)
    targets[length:] = symbols
    weight = (targets != BLANK).float() if scored == "recall" else None
    return Batch(inputs, targets, weight)


def _show(n_symbols: int, recall: int, batch: Batch) -> str:
    length = len(batch.inputs) - recall
    signs = [".", *(str(symbol) for symbol in range(1, n_symbols + 1)), "!"]
    places = (batch.inputs[:length, 0] != BLANK).nonzero()[:, 0].tolist()
    away = listed([length + i - place for i, place in enumerate(places)])
    symbols, verb = ("symbol", "is") if recall == 1 else ("symbols", "are")
    return (
        f"{tokens(batch, signs, signs, [*places, length])}\n\n"
        f"The scattered {symbols} {verb} due at the signs '!', here {away} steps after being seen ('.' is a blank)."
    )
