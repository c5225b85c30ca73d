"""Temporal order: two or three rare symbols among distractors; in which order did they come?

Hochreiter & Schmidhuber 1997 (section 5.6): every symbol is one of four distractors, but for the rare X or Y at one
step of each window, a start E and a final trigger B. "2-symbol" is their experiment 6a (windows at 10 to 20 % and 50 to
60 % of the sequence, 4 classes), "3-bit" their 6b (10 to 20 %, 33 to 43 %, 66 to 76 %, 8 classes), as Pascanu, Mikolov,
Bengio 2013 call them. The original's sequences are 100 to 110 steps long; these all have one length, and at 100 its windows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch

from rnnvg.errors import check_int, check_name
from rnnvg.tasks import scoring
from rnnvg.tasks.answers import Answers, last_step
from rnnvg.tasks.task import Batch
from rnnvg.tasks.worked import shown_steps, table

# Variant -> first and last step of each window, in percent of the length.
WINDOWS = {"2-symbol": ((10, 20), (50, 60)), "3-bit": ((10, 20), (33, 43), (66, 76))}
SYMBOLS = ("a", "b", "c", "d", "X", "Y", "E", "B")
DISTRACTORS, RARE, START, TRIGGER = 4, 4, 6, 7


class TemporalOrder(Answers):
    """Inputs [T, B] tokens: 0 to 3 the distractors, 4 X, 5 Y, 6 the start, 7 the trigger; scored at the trigger, the end.

    `targets` [T, B] repeats the class at every step: X is 0, Y is 1, the first rare symbol the highest binary digit.

    Raises:
        InputError: `length` is below 10 or there is no variant of that name.
    """

    ABOUT: Mapping[str, str] = {
        "length": "steps of a sequence; the class is due at the last one",
        "variant": "'2-symbol' (4 classes) or '3-bit' (8 classes): how many rare symbols there are",
    }
    name = "temporal-order"
    kind = "tokens"
    metric = "accuracy"
    n_inputs = len(SYMBOLS)

    def __init__(self, *, length: int = 50, variant: str = "2-symbol") -> None:
        self.length = self.steps = check_int("length", length, least=10)
        self.variant = check_name("variant", variant, WINDOWS)
        self.n_outputs = 2 ** len(WINDOWS[self.variant])

    @property
    def windows(self) -> list[tuple[int, int]]:
        """The first and last step of each window."""
        return [(first * self.length // 100, last * self.length // 100) for first, last in WINDOWS[self.variant]]

    @property
    def distances(self) -> np.ndarray:
        """Every possible distance from a rare symbol to the last step."""
        steps = np.concatenate([np.arange(first, last + 1) for first, last in self.windows])
        return np.unique(self.length - 1 - steps)

    @property
    def baseline(self) -> float:
        return 1 / self.n_outputs

    @property
    def baseline_loss(self) -> float:
        return math.log(self.n_outputs)

    @property
    def baseline_text(self) -> str:
        k = self.n_outputs
        return f"A guess among {k} orders is right in 1 of {k} at ln {k} = {self.baseline_loss:.4g} nats."

    def batch(self, size: int, generator: torch.Generator) -> Batch:
        """`size` fresh sequences."""
        size = check_int("size", size, least=1)
        scoring.check_generator(generator)
        sequences = torch.arange(size)
        inputs = torch.randint(DISTRACTORS, (self.length, size), generator=generator)
        inputs[0], inputs[-1] = START, TRIGGER
        classes = torch.zeros(size, dtype=torch.int64)
        for first, last in self.windows:
            places = torch.randint(first, last + 1, (size,), generator=generator)
            rare = torch.randint(2, (size,), generator=generator)
            inputs[places, sequences] = RARE + rare
            classes = 2 * classes + rare
        return Batch(inputs, classes.repeat(self.length, 1), last_step(self.length, size))

    def probe(self, n: int, generator: torch.Generator) -> Batch:
        """`n` sequences of four times the training length, the windows as much wider and further apart."""
        return TemporalOrder(length=4 * self.length, variant=self.variant).batch(n, generator)

    def example(self, generator: torch.Generator | None = None) -> str:
        """One sequence as a table: what is seen, and the order that is due."""
        batch = self.batch(1, generator or scoring.seeded(0))
        tokens = batch.inputs[:, 0].tolist()
        places = [step for step, token in enumerate(tokens) if token in (RARE, RARE + 1)]
        order = "".join(SYMBOLS[tokens[place]] for place in places)
        rows = {
            "step": [str(step) for step in range(self.length)],
            "input": [SYMBOLS[token] for token in tokens],
            "target": [""] * (self.length - 1) + [order],
        }
        away = [str(self.length - 1 - place) for place in places]
        return (
            f"{table(rows, shown_steps(self.length, places))}\n\n"
            f"The order {order} (class {int(batch.targets[-1, 0])} of {self.n_outputs}) is due at the last step, "
            f"{', '.join(away[:-1])} and {away[-1]} steps after X and Y were seen; the small letters are distractors."
        )
