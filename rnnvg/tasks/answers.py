"""What tasks have in common whose answer is a class: cross-entropy, the share of answers that are right, solved at 99 %."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from rnnvg.tasks import scoring
from rnnvg.tasks.task import Batch

# Share of right answers that counts as solved.
SOLVED = 0.99


class Answers:
    """A task with class ids for targets; subclasses have the rest of `rnnvg.tasks.Task`, and a setting is an attribute.

    Attributes:
        ABOUT: name of a setting -> what it means.
        solved_from: the score that counts as solved.
    """

    ABOUT: Mapping[str, str]
    steps: int
    metric = "recall_accuracy"
    better = "higher"
    best_loss: float | None = 0.0
    probe_sources = "last"
    solved_from = SOLVED

    @property
    def settings(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.ABOUT}

    def batch(self, size: int, generator: torch.Generator) -> Batch:
        raise NotImplementedError

    def asked(self, batch: Batch) -> Tensor:
        """The steps whose answers count for the metric, bool [T, B]: the scored ones."""
        return torch.ones_like(batch.targets).bool() if batch.weight is None else batch.weight > 0

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Cross-entropy of logits [T, B, O], a mean over scored steps, in nats."""
        return scoring.cross_entropy(outputs, batch)

    def score(self, model: nn.Module, generator: torch.Generator, n: int = 1000) -> dict[str, float]:
        """On `n` fresh sequences: "loss" in nats, and the metric, the share of answers that are right."""
        nats = scored = right = asked = 0.0
        with scoring.evaluating(model) as device:
            for size in scoring.sizes(n, self.steps):
                batch = self.batch(size, generator).to(device)
                outputs = model(batch.inputs)[0]
                nats += float(self.loss(outputs, batch)) * scoring.n_scored(batch)
                scored += scoring.n_scored(batch)
                chosen = self.asked(batch)
                right += int((outputs.argmax(-1) == batch.targets)[chosen].sum())
                asked += int(chosen.sum())
        return {"loss": nats / scored, self.metric: right / asked}

    def solved(self, score: Mapping[str, float]) -> bool:
        """Whether the share of right answers is high enough."""
        return score[self.metric] >= self.solved_from


def last_step(steps: int, size: int) -> Tensor:
    """A weight [T, B] that scores the last step alone."""
    weight = torch.zeros(steps, size)
    weight[-1] = 1
    return weight
