"""Delayed recall: one symbol, a delay, and a query that asks for it.

The plainest question to a memory, after the latching problem of Bengio, Simard, Frasconi 1994: which of K symbols was it?
The delay is drawn for each sequence, uniform from `shortest` to `delay`, so that one training covers all of them and
the accuracy of one network can be read off against the delay. The query is the last step, the symbol stands d steps
before it, and every other step is blank; the symbol is due at the query.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch

from rnnvg.errors import check_int
from rnnvg.tasks import scoring
from rnnvg.tasks.answers import Answers, last_step
from rnnvg.tasks.copy_memory import BLANK
from rnnvg.tasks.task import Batch
from rnnvg.tasks.worked import shown_steps, table


class DelayedRecall(Answers):
    """Inputs [T, B] tokens: 0 is blank, 1 to K are the symbols, K + 1 the query; scored at the last step, the query.

    `targets` [T, B] repeats the class, 0 to K - 1 for symbols 1 to K, at every step.

    Raises:
        InputError: a delay below 1, `shortest` above `delay`, fewer than two symbols.
    """

    ABOUT: Mapping[str, str] = {
        "delay": "the longest delay: steps from the symbol to the query",
        "shortest": "the shortest delay; each sequence has its own, uniform between the two",
        "n_symbols": "how many different symbols there are",
    }
    name = "delayed-recall"
    kind = "tokens"

    def __init__(self, *, delay: int = 40, shortest: int = 1, n_symbols: int = 8) -> None:
        self.delay = check_int("delay", delay, least=1)
        self.shortest = check_int("shortest", shortest, least=1, most=self.delay)
        self.n_symbols = check_int("n_symbols", n_symbols, least=2)
        self.steps = self.delay + 1
        self.n_inputs = self.n_symbols + 2
        self.n_outputs = self.n_symbols

    @property
    def distances(self) -> np.ndarray:
        """Every possible distance from the symbol to the query, [delays]."""
        return np.arange(self.shortest, self.delay + 1)

    @property
    def baseline(self) -> float:
        return 1 / self.n_symbols

    @property
    def baseline_loss(self) -> float:
        return math.log(self.n_symbols)

    @property
    def baseline_text(self) -> str:
        k = self.n_symbols
        return f"A guess among {k} symbols recalls 1 in {k} at ln {k} = {self.baseline_loss:.4g} nats."

    def batch(self, size: int, generator: torch.Generator) -> Batch:
        """`size` fresh sequences."""
        size = check_int("size", size, least=1)
        scoring.check_generator(generator)
        classes = torch.randint(self.n_symbols, (size,), generator=generator)
        delays = torch.randint(self.shortest, self.delay + 1, (size,), generator=generator)
        inputs = torch.full((self.steps, size), BLANK)
        inputs[self.delay - delays, torch.arange(size)] = classes + 1
        inputs[-1] = self.n_symbols + 1
        return Batch(inputs, classes.repeat(self.steps, 1), last_step(self.steps, size))

    def probe(self, n: int, generator: torch.Generator) -> Batch:
        """`n` sequences of four times the training length, the symbol at the first step."""
        return self.at(4 * self.steps - 1).batch(n, generator)

    def at(self, delay: int) -> DelayedRecall:
        """The same task at one delay alone."""
        return DelayedRecall(delay=delay, shortest=delay, n_symbols=self.n_symbols)

    def example(self, generator: torch.Generator | None = None) -> str:
        """One sequence as a table: what is seen, and what is due at the query."""
        batch = self.batch(1, generator or scoring.seeded(0))
        signs = [".", *(str(symbol) for symbol in range(1, self.n_symbols + 1)), "?"]
        tokens = batch.inputs[:, 0].tolist()
        place = next(step for step, token in enumerate(tokens) if token != BLANK)
        symbol = signs[tokens[place]]
        rows = {
            "step": [str(step) for step in range(self.steps)],
            "input": [signs[token] for token in tokens],
            "target": [""] * self.delay + [symbol],
        }
        return (
            f"{table(rows, shown_steps(self.steps, [place]))}\n\n"
            f"The symbol {symbol} is due at the query '?', here {self.delay - place} steps after being seen; the delay is "
            f"any number of steps from {self.shortest} to {self.delay} ('.' is a blank)."
        )
