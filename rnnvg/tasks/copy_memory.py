"""Copy memory: symbols, a long blank, and then the same symbols again.

Hochreiter & Schmidhuber 1997 posed its ancestor; the layouts here are those since used. "single" is Arjovsky, Shah,
Bengio 2016 (amarshah/complex_RNN): S symbols, T - 1 blanks, one delimiter, S blanks; "row" is Bai, Kolter, Koltun 2018
(locuslab/TCN): the delimiter stays on through the recall. In both the sequence is T + 2S steps long, blanks are due
until the delimiter has been seen, and symbol i, seen at step i, is due at step T + S + i: every distance is T + S.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rnnvg.errors import check_int, check_name
from rnnvg.tasks import scoring
from rnnvg.tasks.task import Batch
from rnnvg.tasks.worked import shown_steps, table

DELIMITERS = ("single", "row")
SCORED = ("all", "recall")
BLANK = 0
# Share of symbols recalled that counts as solved.
SOLVED = 0.99


class CopyMemory:
    """Inputs [T, B] tokens: 0 is blank, 1 to K are the symbols, K + 1 the delimiter; targets are blanks and symbols.

    Raises:
        InputError: a length or count below its least value (two symbols, else one), or no layout of that name.
    """

    ABOUT: Mapping[str, str] = {
        "delay": "steps between symbols and recall, the first sign among them; every distance is delay + recall",
        "n_symbols": "how many different symbols there are",
        "recall": "how many symbols to recall",
        "delimiter": "the sign to recall: 'single', one step before the recall, or 'row', on through all of it",
        "scored": "which steps are scored: 'all', or 'recall' alone",
    }

    name = "copy"
    kind = "tokens"
    metric = "recall_accuracy"
    better = "higher"
    best_loss = 0.0
    probe_sources = "last"

    def __init__(
        self,
        *,
        delay: int = 20,
        n_symbols: int = 8,
        recall: int = 1,
        delimiter: str = "single",
        scored: str = "all",
    ) -> None:
        self.delay = check_int("delay", delay, least=1)
        self.n_symbols = check_int("n_symbols", n_symbols, least=2)
        self.recall = check_int("recall", recall, least=1)
        self.delimiter = check_name("delimiter", delimiter, DELIMITERS)
        self.scored = check_name("scored", scored, SCORED)
        self.steps = self.delay + 2 * self.recall
        self.n_inputs = self.n_symbols + 2
        self.n_outputs = self.n_symbols + 1

    @property
    def settings(self) -> dict[str, Any]:
        return {
            "delay": self.delay,
            "n_symbols": self.n_symbols,
            "recall": self.recall,
            "delimiter": self.delimiter,
            "scored": self.scored,
        }

    @property
    def distances(self) -> np.ndarray:
        """From each symbol to the step where it is due, [recall]."""
        return np.full(self.recall, self.delay + self.recall)

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
        return f"Blanks until the recall and then a guess among {k} symbols recalls 1 in {k} at {self._price()} a step."

    def _price(self) -> str:
        if self.scored == "recall":
            return f"ln {self.n_symbols} = {self.baseline_loss:.4g} nats"
        count = "" if self.recall == 1 else f"{self.recall} "
        return f"{count}ln {self.n_symbols} / {self.steps} = {self.baseline_loss:.4g} nats"

    def batch(self, size: int, generator: torch.Generator) -> Batch:
        """`size` fresh sequences."""
        size = check_int("size", size, least=1)
        scoring.check_generator(generator)
        symbols = torch.randint(1, self.n_symbols + 1, (self.recall, size), generator=generator)
        inputs = torch.full((self.steps, size), BLANK)
        inputs[: self.recall] = symbols
        first_due = self.steps - self.recall
        last_sign = first_due if self.delimiter == "single" else self.steps
        inputs[first_due - 1 : last_sign] = self.n_symbols + 1
        targets = torch.full((self.steps, size), BLANK)
        targets[first_due:] = symbols
        weight = None
        if self.scored == "recall":
            weight = torch.zeros(self.steps, size)
            weight[first_due:] = 1
        return Batch(inputs, targets, weight)

    def probe(self, n: int, generator: torch.Generator) -> Batch:
        """`n` sequences of four times the training length, by a longer delay alone."""
        longer = CopyMemory(**{**self.settings, "delay": 4 * self.steps - 2 * self.recall})
        return longer.batch(n, generator)

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Cross-entropy of logits [T, B, K + 1], a mean over scored steps, in nats."""
        return scoring.cross_entropy(outputs, batch)

    def score(self, model: nn.Module, generator: torch.Generator, n: int = 1000) -> dict[str, float]:
        """On `n` fresh sequences: "loss", and "recall_accuracy", the share of symbols recalled."""
        loss, right = 0.0, 0
        with scoring.evaluating(model) as device:
            for size in scoring.sizes(n, self.steps):
                batch = self.batch(size, generator).to(device)
                outputs = model(batch.inputs)[0]
                loss += float(self.loss(outputs, batch)) * size
                recalled = outputs[-self.recall :].argmax(-1) == batch.targets[-self.recall :]
                right += int(recalled.sum())
        return {"loss": loss / n, "recall_accuracy": right / (n * self.recall)}

    def solved(self, score: Mapping[str, float]) -> bool:
        """Whether at least 99 % of the symbols are recalled."""
        return score["recall_accuracy"] >= SOLVED

    def example(self, generator: torch.Generator | None = None) -> str:
        """One sequence as a table: what is seen and what is due at each step."""
        batch = self.batch(1, generator or scoring.seeded(0))
        blank, sign = ".", "!"
        signs = [blank, *(str(symbol) for symbol in range(1, self.n_symbols + 1)), sign]
        first_due = self.steps - self.recall
        unscored = first_due if self.scored == "recall" else 0
        due = [signs[token] for token in batch.targets[:, 0].tolist()]
        rows = {
            "step": [str(step) for step in range(self.steps)],
            "input": [signs[token] for token in batch.inputs[:, 0].tolist()],
            "target": [""] * unscored + due[unscored:],
        }
        wanted = [self.recall - 1, first_due - 1, first_due]
        seen, told = ("symbol", "is") if self.recall == 1 else (f"{self.recall} symbols", "are")
        return (
            f"{table(rows, shown_steps(self.steps, wanted))}\n\n"
            f"The {seen} at the start {told} due after the sign {sign!r}, "
            f"{self.delay + self.recall} steps after being seen ({blank!r} is a blank)."
        )
