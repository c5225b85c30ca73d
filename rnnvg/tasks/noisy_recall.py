"""Noisy recall: a sign at the first step, noise at every step after it, and at the end: which sign was it?

The latching problem of Bengio, Simard, Frasconi 1994: a memory that only sums what it sees drowns in the noise, one that
latches does not. The first number is +1 or -1, with a mark beside it; all later ones are drawn from N(0, noise^2). What is
due at the last step, `delay` steps later, is the class of the sign.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch

from rnnvg.errors import check_float, check_int
from rnnvg.tasks import scoring
from rnnvg.tasks.answers import Answers, last_step
from rnnvg.tasks.task import Batch
from rnnvg.tasks.worked import shown_steps, table


class NoisyRecall(Answers):
    """Inputs [T, B, 2]: a number and a mark at every step; scored at the last step, class 0 for -1 and 1 for +1.

    `targets` [T, B] repeats the class at every step, `weight` picks the last.

    Raises:
        InputError: `delay` is below 1 or `noise` is not above 0.
    """

    ABOUT: Mapping[str, str] = {
        "delay": "steps from the sign to the last step, where it is due; every one of them brings noise",
        "noise": "standard deviation of the noise; the sign is +1 or -1",
    }
    name = "noisy-recall"
    kind = "numbers"
    n_inputs = 2
    n_outputs = 2
    baseline = 1 / 2
    baseline_loss = math.log(2)
    baseline_text = "A guess between the two signs is right in 1 of 2 at ln 2 = 0.6931 nats."

    def __init__(self, *, delay: int = 40, noise: float = 0.5) -> None:
        self.delay = check_int("delay", delay, least=1)
        self.noise = check_float("noise", noise, above=0)
        self.steps = self.delay + 1

    @property
    def distances(self) -> np.ndarray:
        """From the sign to the last step, [1]."""
        return np.array([self.delay])

    def batch(self, size: int, generator: torch.Generator) -> Batch:
        """`size` fresh sequences."""
        size = check_int("size", size, least=1)
        scoring.check_generator(generator)
        classes = torch.randint(2, (size,), generator=generator)
        inputs = torch.zeros(self.steps, size, 2)
        inputs[..., 0] = self.noise * torch.randn(self.steps, size, generator=generator)
        inputs[0, :, 0] = 2.0 * classes - 1
        inputs[0, :, 1] = 1
        return Batch(inputs, classes.repeat(self.steps, 1), last_step(self.steps, size))

    def probe(self, n: int, generator: torch.Generator) -> Batch:
        """`n` sequences of four times the training length."""
        return NoisyRecall(delay=4 * self.steps - 1, noise=self.noise).batch(n, generator)

    def example(self, generator: torch.Generator | None = None) -> str:
        """One sequence as a table: numbers, mark and the sign that is due."""
        batch = self.batch(1, generator or scoring.seeded(0))
        numbers, marks = batch.inputs[:, 0].T.tolist()
        due = "+" if batch.targets[-1, 0] else "-"
        rows = {
            "step": [str(step) for step in range(self.steps)],
            "value": [f"{number:+.2f}" for number in numbers],
            "mark": [str(int(mark)) for mark in marks],
            "target": [""] * self.delay + [due],
        }
        return (
            f"{table(rows, shown_steps(self.steps, [], around=3))}\n\n"
            f"The sign of the marked number is due at the last step, {self.delay} steps after being seen; every number "
            f"between is noise with a standard deviation of {self.noise:g}."
        )
