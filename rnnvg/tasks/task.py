"""What a task is: batches whose dependency distances and baseline are known before anything is trained.

Axes: T steps, B sequences, I inputs, O outputs. Time comes first everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor, nn


@dataclass(frozen=True)
class Batch:
    """Sequences to learn from or to be scored on.

    Attributes:
        inputs: [T, B, I] float32 numbers or [T, B] int64 token ids.
        targets: [T, B], what is due at each step: float32 numbers or int64 class ids.
        weight: [T, B] float32, 1 where the step is scored and 0 where it is not; None where every step is.
    """

    inputs: Tensor
    targets: Tensor
    weight: Tensor | None = None

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on another device."""
        weight = None if self.weight is None else self.weight.to(device)
        return replace(self, inputs=self.inputs.to(device), targets=self.targets.to(device), weight=weight)


class Task(Protocol):
    """Something that must be remembered, and what remembering nothing costs.

    Attributes:
        name: the name that `tasks.make` knows it by.
        settings: every setting by name; `tasks.make(task.name, **task.settings)` gives the same task again.
        kind: "numbers" (inputs [T, B, I] float32) or "tokens" (inputs [T, B] int64).
        n_inputs: I, or the number of tokens.
        n_outputs: width of the readout.
        steps: T of a training sequence.
        distances: the distances in steps that the task asks to bridge; None where they are unknown.
        metric: the score that decides.
        better: "lower" or "higher", the better direction of `metric`.
        baseline: what remembering nothing scores, in units of `metric`.
        baseline_loss: the same in units of the training loss.
        baseline_text: one sentence: what the baseline does.
        best_loss: the lowest possible expected loss where it is known.
        probe_sources: where the loss is applied on probe sequences: "last", or a number of steps evenly spread.
    """

    @property
    def name(self) -> str: ...
    @property
    def settings(self) -> dict[str, Any]: ...
    @property
    def kind(self) -> str: ...
    @property
    def n_inputs(self) -> int: ...
    @property
    def n_outputs(self) -> int: ...
    @property
    def steps(self) -> int: ...
    @property
    def distances(self) -> np.ndarray | None: ...
    @property
    def metric(self) -> str: ...
    @property
    def better(self) -> str: ...
    @property
    def baseline(self) -> float: ...
    @property
    def baseline_loss(self) -> float: ...
    @property
    def baseline_text(self) -> str: ...
    @property
    def best_loss(self) -> float | None: ...
    @property
    def probe_sources(self) -> str | int: ...

    def batch(self, size: int, generator: torch.Generator) -> Batch:
        """`size` fresh training sequences, drawn on the CPU: the same seed gives the same batch everywhere."""
        ...

    def probe(self, n: int, generator: torch.Generator) -> Batch:
        """`n` held-out sequences for gradient profiles, longer than the training ones so that horizons fit in."""
        ...

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        """The training loss of `outputs` [T, B, O], a mean over scored steps."""
        ...

    def score(self, model: nn.Module, generator: torch.Generator, n: int) -> dict[str, float]:
        """Held-out scores by name, "loss" and `metric` among them; the model's mode is left as it was."""
        ...

    def solved(self, score: Mapping[str, float]) -> bool:
        """Whether a score from `score` counts as having learned the task."""
        ...

    def example(self, generator: torch.Generator | None = None) -> str:
        """A worked example in plain text."""
        ...
