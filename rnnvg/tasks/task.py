"""What a task is: batches whose dependency distances and baseline are known before anything is trained.

Axes: T steps, B sequences, I inputs, O outputs. Time comes first everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from rnnvg.errors import check_int

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor, nn

    from rnnvg.text.vocabulary import Vocabulary


@dataclass(frozen=True)
class Metric:
    """A score that decides.

    Attributes:
        label: how a sentence names it.
        short: how a table's head names it.
        better: the better direction.

    >>> from rnnvg import tasks
    >>> tasks.METRICS["mse"].better
    'lower'
    """

    label: str
    short: str
    better: Literal["lower", "higher"]


METRICS = {
    "mse": Metric("mean squared error", "MSE", "lower"),
    "accuracy": Metric("accuracy", "accuracy", "higher"),
    "recall_accuracy": Metric("recall accuracy", "recall", "higher"),
    "perplexity": Metric("perplexity", "perplexity", "lower"),
}


@dataclass(frozen=True)
class Batch:
    """Sequences to learn from or to be scored on.

    Attributes:
        inputs: [T, B, I] float32 numbers or [T, B] int64 token ids.
        targets: [T, B], what is due at each step: float32 numbers or int64 class ids.
        weight: [T, B] float32, 1 where the step is scored and 0 where it is not; None where every step is.

    >>> from rnnvg import tasks
    >>> import torch
    >>> batch = tasks.make("adding", length=10).batch(4, torch.Generator().manual_seed(0))
    >>> batch.inputs.shape, batch.targets.shape
    (torch.Size([10, 4, 2]), torch.Size([10, 4]))
    """

    inputs: Tensor
    targets: Tensor
    weight: Tensor | None = None

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on another device."""
        weight = None if self.weight is None else self.weight.to(device)
        return replace(self, inputs=self.inputs.to(device), targets=self.targets.to(device), weight=weight)


@dataclass(frozen=True, kw_only=True)
class Description:
    """What all tasks of one name have in common, whatever their settings.

    Attributes:
        name: the name that `tasks.make` knows it by; of a task from elsewhere its import path, "package.module:task".
        label: what a heading calls it.
        kind: "numbers" (inputs [T, B, I] float32) or "tokens" (inputs [T, B] int64).
        metric: the score that decides, one of METRICS. With "mse" the answer is a number and the loss the squared error,
            otherwise it is a class and the loss the cross-entropy.
        unit: of the training loss, as an axis names it.
        solved: the value of `metric` that counts as having learned the task, or a better one; None: it has no end.
        settings: name -> what it means.
        probe_sources: where the loss is applied on probe sequences: "last", or a number of steps evenly spread.

    >>> from rnnvg import tasks
    >>> tasks.make("adding", length=10).about.label
    'Adding problem'
    """

    name: str
    label: str
    kind: Literal["numbers", "tokens"]
    metric: str
    unit: str
    solved: float | None
    settings: Mapping[str, str]
    probe_sources: str | int = "last"

    @property
    def better(self) -> str:
        """ "lower" or "higher", the better direction of `metric`."""
        return METRICS[self.metric].better


@dataclass(frozen=True, kw_only=True, eq=False)
class Task:
    """Something that must be remembered, and what remembering nothing costs.

    A function from settings to one of these is a task: see `rnnvg.tasks.adding`.

    Attributes:
        about: what does not depend on the settings.
        settings: every setting by name; `tasks.make(task.name, **task.settings)` gives the same task again.
        n_inputs: I, or the number of tokens.
        n_outputs: width of the readout: 1 for a number, else the number of classes.
        steps: T of a training sequence.
        distances: the distances in steps that the task asks to bridge; None where they are unknown.
        baseline: what remembering nothing scores, in units of the metric.
        baseline_loss: the same in units of the training loss.
        baseline_text: one sentence: what the baseline does.
        draw: (size, generator) -> `size` fresh training sequences.
        draw_longer: the same for sequences of at least four times the length, for gradient profiles.
        best_loss: the lowest possible expected loss where it is known.
        show: a worked example in plain text, from a batch of one sequence; None: a table of inputs and targets.
        due: the steps whose answers count for an accuracy, bool [T, B]; None: the scored ones.
        allowed: the classes that count as right at each step, bool [T, B, O]; None: the target alone.
        held_out: (n, generator) -> batches to score on; None: `n` fresh sequences.
        windows: (batch, steps, split) -> consecutive windows of a text, so that a state can be carried from one to the next;
            None: every training sequence starts from a zero state.
        vocabulary: the words behind token ids, where there are words.

    >>> from rnnvg import tasks
    >>> task = tasks.make("copy", delay=20, n_symbols=8)
    >>> task.baseline, task.n_outputs
    (0.125, 9)
    """

    about: Description
    settings: Mapping[str, Any]
    n_inputs: int
    n_outputs: int
    steps: int
    distances: np.ndarray | None
    baseline: float
    baseline_loss: float
    baseline_text: str
    draw: Callable[[int, torch.Generator], Batch]
    draw_longer: Callable[[int, torch.Generator], Batch]
    best_loss: float | None = 0.0
    show: Callable[[Batch], str] | None = None
    due: Callable[[Batch], Tensor] | None = None
    allowed: Callable[[Batch], Tensor] | None = None
    held_out: Callable[[int, torch.Generator], Iterator[Batch]] | None = None
    windows: Callable[[int, int, str], Iterator[Batch]] | None = None
    vocabulary: Vocabulary | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        return self.about.name

    @property
    def kind(self) -> str:
        return self.about.kind

    @property
    def metric(self) -> str:
        return self.about.metric

    @property
    def better(self) -> str:
        return self.about.better

    @property
    def probe_sources(self) -> str | int:
        return self.about.probe_sources

    @property
    def streamed(self) -> bool:
        """Whether training reads one long sequence on and on, the state carried over."""
        return self.windows is not None

    def batch(self, size: int, generator: torch.Generator) -> Batch:
        """`size` fresh training sequences, drawn on the CPU: the same seed gives the same batch everywhere."""
        from rnnvg.tasks import scoring

        return self.draw(check_int("size", size, least=1), scoring.check_generator(generator))

    def probe(self, n: int, generator: torch.Generator) -> Batch:
        """`n` held-out sequences for gradient profiles, longer than the training ones so that horizons fit in."""
        from rnnvg.tasks import scoring

        return self.draw_longer(check_int("n", n, least=1), scoring.check_generator(generator))

    def stream(self, batch: int, bptt: int | None = None, split: str = "train") -> Iterator[Batch]:
        """A split once through: `batch` equal parts side by side, in consecutive windows of `bptt` steps.

        The caller carries the state from window to window. The last window may be shorter; what is left over at the end
        of the split is not read. Only where `streamed`.
        """
        assert self.windows is not None
        steps = check_int("bptt", self.steps if bptt is None else bptt, least=1)
        return self.windows(check_int("batch", batch, least=1), steps, split)

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        """The training loss of `outputs` [T, B, O], a mean over scored steps: squared error, or cross-entropy in nats."""
        from rnnvg.tasks import scoring

        return (scoring.squared_error if self.metric == "mse" else scoring.cross_entropy)(outputs, batch)

    def score(self, model: nn.Module, generator: torch.Generator, n: int = 1000) -> dict[str, float]:
        """Held-out scores by name, "loss" and the metric; the model's mode is left as it was."""
        from rnnvg.tasks import scoring

        return scoring.score(self, model, generator, n)

    def final_score(self, model: nn.Module, generator: torch.Generator, n: int = 1000) -> dict[str, float]:
        """The score at the end of a training, on data used nowhere else."""
        return self.score(model, generator, n)

    def solved(self, score: Mapping[str, float]) -> bool:
        """Whether a score from `score` counts as having learned the task."""
        if self.about.solved is None:
            return False
        value = score[self.metric]
        return value <= self.about.solved if self.better == "lower" else value >= self.about.solved

    def example(self, generator: torch.Generator | None = None) -> str:
        """A worked example in plain text."""
        from rnnvg.tasks import scoring, worked

        return (self.show or worked.plain)(self.batch(1, generator or scoring.seeded(0)))
