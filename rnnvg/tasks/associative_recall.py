"""Multi-query associative recall (MQAR): pairs of a key and a value, and later each key again; which value was its own?

Arora et al. 2023 (Zoology); Ba et al. 2016 asked for a single pair. The first 2D steps hold D pairs with distinct keys, a
key and then its value; in the rest of the sequence each key comes once more, in any order at places drawn uniformly, and its
value is due at once. Blanks fill the other steps. (The original puts most queries soon after the pairs.)
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch

from rnnvg.errors import check_int
from rnnvg.tasks import scoring
from rnnvg.tasks.answers import Answers
from rnnvg.tasks.task import Batch
from rnnvg.tasks.worked import shown_steps, table


class AssociativeRecall(Answers):
    """Inputs [T, B] tokens: 0 is blank, 1 to n_keys the keys, then the values; scored where a key is asked for.

    `targets` [T, B] holds the value's class, 0 to n_values - 1, where it is scored, and 0 elsewhere.

    Raises:
        InputError: a count below its least value, more pairs than keys, or a length too short to ask for all of them.
    """

    ABOUT: Mapping[str, str] = {
        "pairs": "pairs of a key and a value to remember",
        "n_keys": "how many different keys there are; those of a sequence are distinct",
        "n_values": "how many different values there are; several keys may have the same",
        "length": "steps of a sequence, at least 3 times `pairs`: the pairs, and then the queries among blanks",
    }
    name = "associative-recall"
    kind = "tokens"

    def __init__(self, *, pairs: int = 4, n_keys: int = 8, n_values: int = 8, length: int = 32) -> None:
        self.n_keys = check_int("n_keys", n_keys, least=1)
        self.n_values = check_int("n_values", n_values, least=2)
        self.pairs = check_int("pairs", pairs, least=1, most=self.n_keys)
        self.length = self.steps = check_int("length", length, least=3 * self.pairs)
        self.n_inputs = 1 + self.n_keys + self.n_values
        self.n_outputs = self.n_values

    @property
    def distances(self) -> np.ndarray:
        """Every possible distance from a value to the step where it is due, [T - 2]; its key is one step further off."""
        return np.arange(1, self.length - 1)

    @property
    def baseline(self) -> float:
        return 1 / self.n_values

    @property
    def baseline_loss(self) -> float:
        return math.log(self.n_values)

    @property
    def baseline_text(self) -> str:
        k = self.n_values
        return f"A guess among {k} values is right in 1 of {k} at ln {k} = {self.baseline_loss:.4g} nats a query."

    def batch(self, size: int, generator: torch.Generator) -> Batch:
        """`size` fresh sequences."""
        size = check_int("size", size, least=1)
        scoring.check_generator(generator)
        keys = _shuffled(self.n_keys, size, generator)[: self.pairs] + 1
        classes = torch.randint(self.n_values, (self.pairs, size), generator=generator)
        # Places come in random order, so that keys are asked for in one.
        start = 2 * self.pairs
        places = _shuffled(self.length - start, size, generator)[: self.pairs] + start
        sequences = torch.arange(size)
        inputs = torch.zeros(self.length, size, dtype=torch.int64)
        inputs[0:start:2] = keys
        inputs[1:start:2] = classes + self.n_keys + 1
        inputs[places, sequences] = keys
        targets = torch.zeros(self.length, size, dtype=torch.int64)
        targets[places, sequences] = classes
        weight = torch.zeros(self.length, size)
        weight[places, sequences] = 1
        return Batch(inputs, targets, weight)

    def probe(self, n: int, generator: torch.Generator) -> Batch:
        """`n` sequences of four times the training length, with the same number of pairs."""
        return AssociativeRecall(**{**self.settings, "length": 4 * self.length}).batch(n, generator)

    def example(self, generator: torch.Generator | None = None) -> str:
        """One sequence as a table: pairs, queries and the values that are due; keys are letters, values numbers."""
        batch = self.batch(1, generator or scoring.seeded(0))
        keys = [_letters(key) for key in range(self.n_keys)]
        signs = [".", *keys, *(str(value) for value in range(self.n_values))]
        assert batch.weight is not None
        asked = batch.weight[:, 0].nonzero()[:, 0].tolist()
        due = batch.targets[:, 0].tolist()
        tokens = batch.inputs[:, 0].tolist()
        rows = {
            "step": [str(step) for step in range(self.length)],
            "input": [signs[token] for token in tokens],
            "target": [signs[1 + self.n_keys + due[step]] if step in asked else "" for step in range(self.length)],
        }
        first = asked[0]
        seen = tokens.index(tokens[first]) + 1
        return (
            f"{table(rows, shown_steps(self.length, [*range(2 * self.pairs), *asked]))}\n\n"
            f"Each key (a letter) is followed by its value (a number), which is due when the key comes again: "
            f"{signs[tokens[first]]} at step {first} asks for {signs[tokens[seen]]}, seen {first - seen} steps before "
            f"('.' is a blank)."
        )


def _shuffled(n: int, size: int, generator: torch.Generator) -> torch.Tensor:
    """`size` orders of 0 to n - 1, [n, B]."""
    return torch.rand(n, size, generator=generator, dtype=torch.float64).argsort(0)


def _letters(number: int) -> str:
    """a to z, then aa, ab and so on."""
    name = ""
    while number >= 0:
        name = chr(ord("a") + number % 26) + name
        number = number // 26 - 1
    return name
