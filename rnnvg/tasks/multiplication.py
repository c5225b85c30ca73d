"""The multiplication problem: the product of two marked numbers, due at the last step.

Hochreiter & Schmidhuber 1997 (section 5.5): the adding problem's sequences with a target that no sum of what was seen gives
away. The layouts are those of `adding`. The product of two U[0, 1] has mean 1/4 and variance 1/9 - 1/16 = 7/144.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rnnvg.tasks import scoring
from rnnvg.tasks.adding import Adding
from rnnvg.tasks.task import Batch
from rnnvg.tasks.worked import shown_steps, table

# Mean squared error that counts as solved: 6 % of what remembering nothing costs.
SOLVED = 0.003


class Multiplication:
    """Inputs [T, B, 2]: a number from U[0, 1] and a mark at every step, two marks a sequence; scored at the last step.

    The target is the product of the two marked numbers. `targets` [T, B] repeats it at every step, `weight` picks the last.

    Raises:
        InputError: `length` is below 2 or `marks` is not the name of a layout.
    """

    ABOUT: Mapping[str, str] = {
        "length": "steps of a sequence; the product is due at the last one",
        "marks": Adding.ABOUT["marks"],
    }

    name = "multiplication"
    kind = "numbers"
    n_inputs = 2
    n_outputs = 1
    metric = "mse"
    better = "lower"
    baseline = 7 / 144
    baseline_loss = 7 / 144
    baseline_text = "Always predicting 1/4, the mean of the product, has a mean squared error of 7/144 = 0.0486."
    best_loss = 0.0
    probe_sources = "last"

    def __init__(self, *, length: int = 50, marks: str = "one-in-each-half") -> None:
        self.pairs = Adding(length=length, marks=marks)
        self.steps = self.pairs.steps

    @property
    def settings(self) -> dict[str, Any]:
        return self.pairs.settings

    @property
    def distances(self) -> np.ndarray:
        """Every possible distance from a mark to the last step, [T]."""
        return self.pairs.distances

    def batch(self, size: int, generator: torch.Generator) -> Batch:
        """`size` fresh sequences: those of `adding`, with the product due."""
        return _multiplied(self.pairs.batch(size, generator))

    def probe(self, n: int, generator: torch.Generator) -> Batch:
        """`n` sequences of four times the training length."""
        return _multiplied(self.pairs.probe(n, generator))

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Mean squared error of `outputs` [T, B, 1] at the last step."""
        return self.pairs.loss(outputs, batch)

    def score(self, model: nn.Module, generator: torch.Generator, n: int = 1000) -> dict[str, float]:
        """Mean squared error on `n` fresh sequences, as "mse" and as "loss"."""
        return scoring.squared_error(self, model, generator, n)

    def solved(self, score: Mapping[str, float]) -> bool:
        """Whether the mean squared error is at most 0.003."""
        return score["mse"] <= SOLVED

    def example(self, generator: torch.Generator | None = None) -> str:
        """One sequence as a table: values, marks and the product that is due."""
        batch = self.batch(1, generator or scoring.seeded(0))
        values, marks = batch.inputs[:, 0].T.tolist()
        marked = [step for step, mark in enumerate(marks) if mark]
        due = float(batch.targets[-1, 0])
        rows = {
            "step": [str(step) for step in range(self.steps)],
            "value": [f"{value:.2f}" for value in values],
            "mark": [str(int(mark)) for mark in marks],
            "target": [""] * (self.steps - 1) + [f"{due:.2f}"],
        }
        away = " and ".join(str(self.steps - 1 - step) for step in marked)
        return (
            f"{table(rows, shown_steps(self.steps, marked))}\n\n"
            f"The two marked values multiply to {values[marked[0]]:.4f} x {values[marked[1]]:.4f} = {due:.4f}, due at the "
            f"last step, {away} steps after they were seen."
        )


def _multiplied(batch: Batch) -> Batch:
    values, marks = batch.inputs.unbind(-1)
    product = torch.where(marks > 0, values, 1.0).prod(0)
    return replace(batch, targets=product.repeat(len(values), 1))
