"""Parity: has the number of ones so far been odd?

One bit of memory, and every input matters at every distance: turning any bit round turns every later answer round
(Hochreiter & Schmidhuber 1997 warn that short parities are found by guessing weights). Scored at every step, a network
can learn it from short distances on; scored at the last alone there is no way up, and gradient descent often never finds it.
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

SCORED = ("all", "last")


class Parity(Answers):
    """Inputs [T, B] tokens, 0 or 1 with equal chances; targets 1 where an odd number of ones has been read, this one too.

    Raises:
        InputError: `length` is below 2 or `scored` is not the name of a choice.
    """

    ABOUT: Mapping[str, str] = {
        "length": "bits of a sequence",
        "scored": "which steps are scored: 'all', or the 'last' alone",
    }
    name = "parity"
    kind = "tokens"
    metric = "accuracy"
    n_inputs = 2
    n_outputs = 2

    def __init__(self, *, length: int = 20, scored: str = "all") -> None:
        self.length = self.steps = check_int("length", length, least=2)
        self.scored = check_name("scored", scored, SCORED)

    @property
    def distances(self) -> np.ndarray:
        """Every bit counts at every step: 0 to T - 1, [T]."""
        return np.arange(self.length)

    @property
    def baseline(self) -> float:
        return 1 / 2 if self.scored == "last" else (1 + (self.length - 1) / 2) / self.length

    @property
    def baseline_loss(self) -> float:
        return math.log(2) if self.scored == "last" else math.log(2) * (self.length - 1) / self.length

    @property
    def baseline_text(self) -> str:
        price = f"at {self.baseline_loss:.4g} nats a step"
        if self.scored == "last":
            return f"A guess between odd and even is right in 1 of 2 {price}."
        return f"Reading off the first bit, and then a guess at every step, is right at {100 * self.baseline:.4g} % {price}."

    def batch(self, size: int, generator: torch.Generator) -> Batch:
        """`size` fresh sequences."""
        size = check_int("size", size, least=1)
        scoring.check_generator(generator)
        bits = torch.randint(2, (self.length, size), generator=generator)
        return Batch(bits, bits.cumsum(0) % 2, None if self.scored == "all" else last_step(self.length, size))

    def probe(self, n: int, generator: torch.Generator) -> Batch:
        """`n` sequences of four times the training length."""
        return Parity(length=4 * self.length, scored=self.scored).batch(n, generator)

    def example(self, generator: torch.Generator | None = None) -> str:
        """One sequence as a table: bits, and what is due."""
        batch = self.batch(1, generator or scoring.seeded(0))
        bits, due = batch.inputs[:, 0].tolist(), batch.targets[:, 0].tolist()
        unscored = 0 if self.scored == "all" else self.length - 1
        rows = {
            "step": [str(step) for step in range(self.length)],
            "input": [str(bit) for bit in bits],
            "target": [""] * unscored + [str(bit) for bit in due[unscored:]],
        }
        ones = sum(bits)
        return (
            f"{table(rows, shown_steps(self.length, [], around=7))}\n\n"
            f"Of all {self.length} bits {ones} {'is' if ones == 1 else 'are'} 1, which is {'odd' if ones % 2 else 'even'}: "
            f"{due[-1]} is due at the last step."
        )
