"""Selective copying: symbols scattered among blanks, all to be recalled in their order at the end.

Jing et al. 2019 (their denoise task); Gu & Dao 2023 made it a test of whether a recurrence can choose by content what
it keeps: with the symbols at places that differ from sequence to sequence, a fixed delay line does not solve it. The
first `length` steps hold S symbols at distinct places drawn uniformly; then S signs, and symbol i is due at sign i.
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


class SelectiveCopy(Answers):
    """Inputs [T, B] tokens: 0 is blank, 1 to K are the symbols, K + 1 the sign; targets are blanks and symbols.

    Raises:
        InputError: a length or count below its least value, or more symbols to recall than there are steps for.
    """

    ABOUT: Mapping[str, str] = {
        "length": "steps over which the symbols are scattered; the recall follows them",
        "n_symbols": "how many different symbols there are",
        "recall": "how many symbols are scattered, and recalled in their order",
        "scored": "which steps are scored: 'all', or 'recall' alone",
    }
    name = "selective-copy"
    kind = "tokens"

    def __init__(self, *, length: int = 20, n_symbols: int = 8, recall: int = 2, scored: str = "recall") -> None:
        self.length = check_int("length", length, least=1)
        self.n_symbols = check_int("n_symbols", n_symbols, least=2)
        self.recall = check_int("recall", recall, least=1, most=self.length)
        self.scored = check_name("scored", scored, SCORED)
        self.steps = self.length + self.recall
        self.n_inputs = self.n_symbols + 2
        self.n_outputs = self.n_symbols + 1

    @property
    def distances(self) -> np.ndarray:
        """Every possible distance from a symbol to the step where it is due, [length - recall + 1].

        Symbol i has i others before it and recall - 1 - i behind it, so that each of them reaches the same distances.
        """
        return np.arange(self.recall, self.length + 1)

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
        return (
            f"A guess among {k} symbols at every sign, and blanks before, recalls 1 in {k} at {self.baseline_loss:.4g} nats "
            "a step."
        )

    def batch(self, size: int, generator: torch.Generator) -> Batch:
        """`size` fresh sequences."""
        size = check_int("size", size, least=1)
        scoring.check_generator(generator)
        symbols = torch.randint(1, self.n_symbols + 1, (self.recall, size), generator=generator)
        order = torch.rand(self.length, size, generator=generator, dtype=torch.float64).argsort(0)
        places = order[: self.recall].sort(0).values
        inputs = torch.full((self.steps, size), BLANK)
        inputs[places, torch.arange(size)] = symbols
        inputs[self.length :] = self.n_symbols + 1
        targets = torch.full((self.steps, size), BLANK)
        targets[self.length :] = symbols
        weight = (targets != BLANK).float() if self.scored == "recall" else None
        return Batch(inputs, targets, weight)

    def asked(self, batch: Batch) -> Tensor:
        """The steps where a symbol is due."""
        return batch.targets != BLANK

    def probe(self, n: int, generator: torch.Generator) -> Batch:
        """`n` sequences of four times the training length, the same number of symbols scattered more widely."""
        return SelectiveCopy(**{**self.settings, "length": 4 * self.steps - self.recall}).batch(n, generator)

    def example(self, generator: torch.Generator | None = None) -> str:
        """One sequence as a table: what is seen and what is due at each step."""
        batch = self.batch(1, generator or scoring.seeded(0))
        signs = [".", *(str(symbol) for symbol in range(1, self.n_symbols + 1)), "!"]
        tokens = batch.inputs[:, 0].tolist()
        places = [step for step in range(self.length) if tokens[step] != BLANK]
        rows = {
            "step": [str(step) for step in range(self.steps)],
            "input": [signs[token] for token in tokens],
            "target": [signs[token] if self.scored == "all" or token else "" for token in batch.targets[:, 0].tolist()],
        }
        away = ", ".join(str(self.length + i - place) for i, place in enumerate(places))
        seen, told = ("symbol", "is") if self.recall == 1 else ("symbols", "are")
        return (
            f"{table(rows, shown_steps(self.steps, [*places, self.length]))}\n\n"
            f"The scattered {seen} {told} due at the signs '!', here {away} steps after being seen ('.' is a blank)."
        )
