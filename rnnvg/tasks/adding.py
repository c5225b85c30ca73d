"""The adding problem: the sum of two marked numbers, due at the last step.

Hochreiter & Schmidhuber 1997 (section 5.4) posed it; the layouts here are the ones since used. "one-in-each-half" is
Arjovsky, Shah, Bengio 2016 (amarshah/complex_RNN): one mark uniform in each half. "anywhere" is Bai, Kolter, Koltun
2018 (locuslab/TCN): two different steps, uniform over all. The 1997 original drew values from [-1, 1], lengths from
[T, 1.1 T], marked the ends with -1 and scaled the sum.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rnnvg.errors import check_int, check_name
from rnnvg.tasks import scoring
from rnnvg.tasks.task import Batch
from rnnvg.tasks.worked import shown_steps, table

MARKS = ("one-in-each-half", "anywhere")
# Mean squared error that counts as solved: 6 % of what remembering nothing costs.
SOLVED = 0.01


class Adding:
    """Inputs [T, B, 2]: a number from U[0, 1] and a mark at every step, two marks a sequence; scored at the last step.

    The target is the sum of the two marked numbers. `targets` [T, B] repeats it at every step, `weight` picks the last.

    Raises:
        InputError: `length` is below 2 or `marks` is not the name of a layout.
    """

    ABOUT: Mapping[str, str] = {
        "length": "steps of a sequence; the sum is due at the last one",
        "marks": "where the two marks may fall: 'one-in-each-half' or 'anywhere' (two different steps)",
    }

    name = "adding"
    kind = "numbers"
    n_inputs = 2
    n_outputs = 1
    metric = "mse"
    better = "lower"
    # Var[u1 + u2] = 1/12 + 1/12.
    baseline = 1 / 6
    baseline_loss = 1 / 6
    baseline_text = "Always predicting 1, the mean of the sum, has a mean squared error of 1/6."
    best_loss = 0.0
    probe_sources = "last"

    def __init__(self, *, length: int = 50, marks: str = "one-in-each-half") -> None:
        self.steps = check_int("length", length, least=2)
        self.marks = check_name("marks", marks, MARKS)

    @property
    def settings(self) -> dict[str, Any]:
        return {"length": self.steps, "marks": self.marks}

    @property
    def distances(self) -> np.ndarray:
        """Every possible distance from a mark to the last step, [T]."""
        return np.arange(self.steps)

    def batch(self, size: int, generator: torch.Generator) -> Batch:
        """`size` fresh sequences."""
        size = check_int("size", size, least=1)
        scoring.check_generator(generator)
        steps, half = self.steps, self.steps // 2
        values = torch.rand(steps, size, generator=generator)
        if self.marks == "anywhere":
            first = torch.randint(steps, (size,), generator=generator)
            # Uniform over the other steps: skip over the first mark.
            second = torch.randint(steps - 1, (size,), generator=generator)
            second += second >= first
        else:
            first = torch.randint(half, (size,), generator=generator)
            second = torch.randint(half, steps, (size,), generator=generator)
        sequences = torch.arange(size)
        marks = torch.zeros(steps, size)
        marks[first, sequences] = 1
        marks[second, sequences] = 1
        targets = (values[first, sequences] + values[second, sequences]).repeat(steps, 1)
        weight = torch.zeros(steps, size)
        weight[-1] = 1
        return Batch(torch.stack([values, marks], dim=-1), targets, weight)

    def probe(self, n: int, generator: torch.Generator) -> Batch:
        """`n` sequences of four times the training length."""
        return Adding(length=4 * self.steps, marks=self.marks).batch(n, generator)

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Mean squared error of `outputs` [T, B, 1] at the last step."""
        return scoring.weighted_mean((outputs.squeeze(-1) - batch.targets).square(), batch.weight)

    def score(self, model: nn.Module, generator: torch.Generator, n: int = 1000) -> dict[str, float]:
        """Mean squared error on `n` fresh sequences, as "mse" and as "loss"."""
        return scoring.squared_error(self, model, generator, n)

    def solved(self, score: Mapping[str, float]) -> bool:
        """Whether the mean squared error is at most 0.01."""
        return score["mse"] <= SOLVED

    def example(self, generator: torch.Generator | None = None) -> str:
        """One sequence as a table: values, marks and the sum that is due."""
        batch = self.batch(1, generator or scoring.seeded(0))
        values, marks = batch.inputs[:, 0].T.tolist()
        marked = [step for step, mark in enumerate(marks) if mark]
        rows = {
            "step": [str(step) for step in range(self.steps)],
            "value": [f"{value:.2f}" for value in values],
            "mark": [str(int(mark)) for mark in marks],
            "target": [""] * (self.steps - 1) + [f"{float(batch.targets[-1, 0]):.2f}"],
        }
        away = " and ".join(str(self.steps - 1 - step) for step in marked)
        return (
            f"{table(rows, shown_steps(self.steps, marked))}\n\n"
            f"The two marked values add up to {values[marked[0]]:.4f} + {values[marked[1]]:.4f} "
            f"= {float(batch.targets[-1, 0]):.4f}, due at the last step, {away} steps after they were seen."
        )
