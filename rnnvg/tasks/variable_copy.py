"""Copy memory with a delay that nobody knows beforehand: symbols, some blanks, the sign, and the symbols again.

The copy task with a delay drawn for each sequence, uniform from `shortest` to `delay` (Henaff, Szlam, LeCun 2016): a
network that counts steps does not solve it, it has to wait for the sign. The sequence is delay + 2S steps long however
early the sign comes; symbol i, seen at step i, is due at step d + S + i, and blanks everywhere else.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch

from rnnvg.errors import check_int, check_name
from rnnvg.tasks.copy_memory import BLANK, SCORED, recall_price, symbols_due
from rnnvg.tasks.task import Batch, Description, Task
from rnnvg.tasks.worked import tokens

ABOUT = Description(
    name="variable-copy",
    label="Variable copy",
    kind="tokens",
    metric="recall_accuracy",
    unit="nats per scored step",
    solved=0.99,
    settings={
        "delay": "the longest delay: steps between symbols and recall, the sign among them",
        "shortest": "the shortest delay; each sequence has its own, uniform between the two",
        "n_symbols": "how many different symbols there are",
        "recall": "how many symbols to recall",
        "scored": "which steps are scored: 'all', or 'recall' alone",
    },
)


def make(*, delay: int = 20, shortest: int = 1, n_symbols: int = 8, recall: int = 1, scored: str = "all") -> Task:
    """Makes the task.

    Inputs [T, B] tokens: 0 is blank, 1 to K are the symbols, K + 1 the sign; targets are blanks and symbols.

    Raises:
        InputError: a length or count below its least value, or `shortest` above `delay`.
    """
    delay = check_int("delay", delay, least=1)
    shortest = check_int("shortest", shortest, least=1, most=delay)
    n_symbols = check_int("n_symbols", n_symbols, least=2)
    recall = check_int("recall", recall, least=1)
    scored = check_name("scored", scored, SCORED)
    steps = delay + 2 * recall
    price = recall_price(n_symbols, recall, steps, scored)
    # Of the longer sequences all have the delay that fills them: the recall ends them.
    longer = 4 * steps - 2 * recall
    return Task(
        about=ABOUT,
        settings={"delay": delay, "shortest": shortest, "n_symbols": n_symbols, "recall": recall, "scored": scored},
        n_inputs=n_symbols + 2,
        n_outputs=n_symbols + 1,
        steps=steps,
        distances=np.arange(shortest, delay + 1) + recall,
        baseline=1 / n_symbols,
        baseline_loss=price,
        baseline_text=(
            f"Blanks, and after the sign a guess among {n_symbols} symbols recalls 1 in {n_symbols} at {price:.4g} nats a "
            "step."
        ),
        draw=partial(_draw, delay, shortest, n_symbols, recall, scored),
        draw_longer=partial(_draw, longer, longer, n_symbols, recall, scored),
        show=partial(_show, delay, shortest, n_symbols, recall),
        due=symbols_due,
    )


def _draw(
    delay: int, shortest: int, n_symbols: int, recall: int, scored: str, size: int, generator: torch.Generator
) -> Batch:
    steps = delay + 2 * recall
    symbols = torch.randint(1, n_symbols + 1, (recall, size), generator=generator)
    delays = torch.randint(shortest, delay + 1, (size,), generator=generator)
    sequences = torch.arange(size)
    due = delays + recall + torch.arange(recall)[:, None]
    inputs = torch.full((steps, size), BLANK)
    inputs[:recall] = symbols
    inputs[due[0] - 1, sequences] = n_symbols + 1
    targets = torch.full((steps, size), BLANK)
    targets[due, sequences] = symbols
    weight = (targets != BLANK).float() if scored == "recall" else None
    return Batch(inputs, targets, weight)


def _show(delay: int, shortest: int, n_symbols: int, recall: int, batch: Batch) -> str:
    signs = [".", *(str(symbol) for symbol in range(1, n_symbols + 1)), "!"]
    due = batch.targets[:, 0].nonzero()[:, 0].tolist()
    symbols, verb = ("symbol", "is") if recall == 1 else (f"{recall} symbols", "are")
    return (
        f"{tokens(batch, signs, signs, [recall - 1, due[0] - 1, *due])}\n\n"
        f"The {symbols} at the start {verb} due after the sign '!', here {due[0]} steps after being seen; the sign comes "
        f"after any number of steps from {shortest} to {delay} ('.' is a blank)."
    )
