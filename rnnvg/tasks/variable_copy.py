"""Copy memory with a delay that nobody knows beforehand: symbols, some blanks, the sign, and the symbols again.

The copy task with a delay drawn for each sequence, uniform from `shortest` to `delay` (Henaff, Szlam, LeCun 2016): a
network that counts steps does not solve it, it has to wait for the sign. The sequence is delay + 2S steps long however
early the sign comes; symbol i, seen at step i, is due at step d + S + i, and blanks everywhere else.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from rnnvg.errors import check_int, check_name
from rnnvg.tasks import scoring
from rnnvg.tasks.answers import Answers
from rnnvg.tasks.copy_memory import BLANK, SCORED
from rnnvg.tasks.task import Batch
from rnnvg.tasks.worked import shown_steps, table


class VariableCopy(Answers):
    """Inputs [T, B] tokens: 0 is blank, 1 to K are the symbols, K + 1 the sign; targets are blanks and symbols.

    Raises:
        InputError: a length or count below its least value, or `shortest` above `delay`.
    """

    ABOUT: Mapping[str, str] = {
        "delay": "the longest delay: steps between symbols and recall, the sign among them",
        "shortest": "the shortest delay; each sequence has its own, uniform between the two",
        "n_symbols": "how many different symbols there are",
        "recall": "how many symbols to recall",
        "scored": "which steps are scored: 'all', or 'recall' alone",
    }
    name = "variable-copy"
    kind = "tokens"

    def __init__(
        self, *, delay: int = 20, shortest: int = 1, n_symbols: int = 8, recall: int = 1, scored: str = "all"
    ) -> None:
        self.delay = check_int("delay", delay, least=1)
        self.shortest = check_int("shortest", shortest, least=1, most=self.delay)
        self.n_symbols = check_int("n_symbols", n_symbols, least=2)
        self.recall = check_int("recall", recall, least=1)
        self.scored = check_name("scored", scored, SCORED)
        self.steps = self.delay + 2 * self.recall
        self.n_inputs = self.n_symbols + 2
        self.n_outputs = self.n_symbols + 1

    @property
    def distances(self) -> np.ndarray:
        """Every possible distance from a symbol to the step where it is due, [delays]."""
        return np.arange(self.shortest, self.delay + 1) + self.recall

    @property
    def baseline(self) -> float:
        return 1 / self.n_symbols

    @property
    def baseline_loss(self) -> float:
        guessing = math.log(self.n_symbols)
        return guessing if self.scored == "recall" else self.recall * guessing / self.steps

    @property
    def baseline_text(self) -> str:
        k = self.n_symbols
        price = f"{self.baseline_loss:.4g} nats a step"
        return f"Blanks, and after the sign a guess among {k} symbols recalls 1 in {k} at {price}."

    def batch(self, size: int, generator: torch.Generator) -> Batch:
        """`size` fresh sequences."""
        size = check_int("size", size, least=1)
        scoring.check_generator(generator)
        symbols = torch.randint(1, self.n_symbols + 1, (self.recall, size), generator=generator)
        delays = torch.randint(self.shortest, self.delay + 1, (size,), generator=generator)
        sequences = torch.arange(size)
        due = delays + self.recall + torch.arange(self.recall)[:, None]
        inputs = torch.full((self.steps, size), BLANK)
        inputs[: self.recall] = symbols
        inputs[due[0] - 1, sequences] = self.n_symbols + 1
        targets = torch.full((self.steps, size), BLANK)
        targets[due, sequences] = symbols
        weight = (targets != BLANK).float() if self.scored == "recall" else None
        return Batch(inputs, targets, weight)

    def asked(self, batch: Batch) -> Tensor:
        """The steps where a symbol is due."""
        return batch.targets != BLANK

    def probe(self, n: int, generator: torch.Generator) -> Batch:
        """`n` sequences of four times the training length, all with the delay that fills it: the recall ends them."""
        delay = 4 * self.steps - 2 * self.recall
        return VariableCopy(**{**self.settings, "delay": delay, "shortest": delay}).batch(n, generator)

    def example(self, generator: torch.Generator | None = None) -> str:
        """One sequence as a table: what is seen and what is due at each step."""
        batch = self.batch(1, generator or scoring.seeded(0))
        signs = [".", *(str(symbol) for symbol in range(1, self.n_symbols + 1)), "!"]
        due = batch.targets[:, 0].nonzero()[:, 0].tolist()
        rows = {
            "step": [str(step) for step in range(self.steps)],
            "input": [signs[token] for token in batch.inputs[:, 0].tolist()],
            "target": [signs[token] if self.scored == "all" or token else "" for token in batch.targets[:, 0].tolist()],
        }
        seen, told = ("symbol", "is") if self.recall == 1 else (f"{self.recall} symbols", "are")
        return (
            f"{table(rows, shown_steps(self.steps, [self.recall - 1, due[0] - 1, *due]))}\n\n"
            f"The {seen} at the start {told} due after the sign '!', here {due[0]} steps after being seen; the sign comes "
            f"after any number of steps from {self.shortest} to {self.delay} ('.' is a blank)."
        )
