"""The training loop itself: steps, held-out scores, checkpoints, and what an interruption leaves behind.

Training batches, held-out data and dropout draw from three different generators, so that looking at a network more
often does not change how it learns.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from rnnvg.models import SequenceModel
from rnnvg.pytorch import fork_rng
from rnnvg.seeds import seed_of
from rnnvg.training import give_up, resume
from rnnvg.training.descent import Descent
from rnnvg.training.resume import Generators, Parts

if TYPE_CHECKING:
    from rnnvg.tasks import Batch, Task

# Training losses are averaged over this many steps for the history; progress is reported as often, or each 0.2 s.
TRAIN_ROW_EVERY = 20
TELL_SECONDS = 0.2


@dataclass(frozen=True)
class FitArguments:
    """What a training does apart from its batches: fit()'s arguments, checked."""

    steps: int
    clip: float
    eval_every: int
    eval_size: int
    stop_when_solved: bool
    decay: float | None
    decay_every: int | None
    warmup: int
    penalty: Callable[[Batch, int], Tensor] | None
    give_up: bool
    checkpoints: frozenset[int]
    on_checkpoint: Callable[[int, SequenceModel], object] | None
    on_progress: Callable[[int, int, float], object] | None
    resume: Path | None
    resume_every: float


class Loop:
    """One training, from wherever its parts stand to the end.

    Args:
        settings: what the numbers depend on, to be kept in the resume file.
    """

    def __init__(self, task: Task, arguments: FitArguments, parts: Parts, settings: dict[str, Any]) -> None:
        self.task, self.arguments, self.parts, self.settings = task, arguments, parts, settings
        self.model, self.progress = parts.model, parts.progress
        self.descent = Descent(parts.optimizer, arguments.clip)
        self.device = self.descent.parameters[0].device
        self.seed = parts.generator.initial_seed()
        # The generators' states at the start of the step under way; None between steps.
        self.before: Generators | None = None
        # False while weights, place in the text and progress do not belong to the same step.
        self.whole = True
        self.since = self.reported = self.kept = time.perf_counter()

    def run(self) -> dict[str, float]:
        """Trains to the end and gives the final held-out score."""
        progress, arguments = self.progress, self.arguments
        try:
            self.model.train()
            while True:
                last = progress.step >= arguments.steps
                if (last or progress.step % arguments.eval_every == 0) and progress.evaluated < progress.step:
                    self._evaluate()
                self._judge()
                over = last or bool(progress.reason) or (arguments.stop_when_solved and progress.solved_at is not None)
                over = over or progress.given_up
                if (over or progress.step in arguments.checkpoints) and progress.measured < progress.step:
                    self._checkpoint()
                if over:
                    break
                self._keep_now_and_then()
                self._step()
            return self._finish()
        except KeyboardInterrupt:
            self._keep_at_interrupt()
            raise

    def _step(self) -> None:
        parts, progress = self.parts, self.progress
        self.before = parts.generators() if self.arguments.resume else None
        batch, state = parts.feed.draw()
        batch = batch if self.device.type == "cpu" else batch.to(self.device)
        outputs, state = self.model(batch.inputs, state)
        loss = self.task.loss(outputs, batch)
        penalty = None if self.arguments.penalty is None else self.arguments.penalty(batch, progress.step)
        value = self.descent.gradient(loss, penalty=penalty)
        with self._changing():
            progress.pending.append(value)
            if self.descent.fault is None:
                with self._warming_up():
                    self.descent.update()
                parts.feed.advance(state)
                progress.step += 1
                if self.arguments.decay_every is not None and progress.step % self.arguments.decay_every == 0:
                    self._decay()
                if progress.step % TRAIN_ROW_EVERY == 0:
                    self._train_row(progress.step)
            else:
                what, found = self.descent.fault
                progress.reason = f"The {what} was {found} at step {progress.step + 1}."
                self._train_row(progress.step + 1)
        self.before = None
        self._report(value)

    @contextmanager
    def _warming_up(self) -> Generator[None]:
        """The learning rate of a step among the first `warmup`, and the whole one afterwards."""
        share = (self.progress.step + 1) / max(1, self.arguments.warmup)
        if share >= 1:
            yield
            return
        whole = [group["lr"] for group in self.parts.optimizer.param_groups]
        for group in self.parts.optimizer.param_groups:
            group["lr"] *= share
        try:
            yield
        finally:
            for group, lr in zip(self.parts.optimizer.param_groups, whole, strict=True):
                group["lr"] = lr

    def _evaluate(self) -> None:
        progress = self.progress
        if not self._finite_weights():
            progress.reason = f"A weight was not finite after step {progress.step}."
            return
        score = self._score("valid", self.task.score)
        with self._changing():
            self._rows("valid", score)
            if self.arguments.decay_every is None and not score["loss"] < progress.best:
                self._decay()
            progress.best = min(progress.best, score["loss"])
            if progress.solved_at is None and self.task.solved(score):
                progress.solved_at = progress.step
            progress.evaluated = progress.step

    def _decay(self) -> None:
        if self.arguments.decay is not None:
            for group in self.parts.optimizer.param_groups:
                group["lr"] *= self.arguments.decay

    def _judge(self) -> None:
        """The look of the stopping rule, once, where it is asked for and due."""
        progress, steps = self.progress, self.arguments.steps
        due = give_up.due(steps)
        if not self.arguments.give_up or progress.verdict is not None or progress.step < due or progress.reason:
            return
        if because := give_up.why_not(self.task.name, self.model):
            verdict = give_up.not_applied(because)
        elif progress.solved_at is not None:
            verdict = give_up.not_applied(f"the task was solved by step {progress.solved_at:,}")
        elif progress.step > due:
            verdict = give_up.not_applied(f"the training was past step {due:,} when it was asked for")
        elif progress.step >= steps:
            verdict = give_up.not_applied(f"a budget of {steps:,} has no tenth to look at")
        elif not self._finite_weights():
            verdict = give_up.not_applied(f"at step {due:,} a weight is not finite")
        else:
            self._stop_clock()
            with fork_rng(devices=[]):
                generator = derived_generator("give-up", self.seed)
                verdict = give_up.look(self.model, self.task, progress.step, steps, generator)
            self.since = time.perf_counter()
            self.model.train()
        progress.verdict = verdict

    def _checkpoint(self) -> None:
        if self.arguments.on_checkpoint is not None and self._finite_weights():
            self._stop_clock()
            with fork_rng(devices=[]):
                self.arguments.on_checkpoint(self.progress.step, self.model)
            self.since = time.perf_counter()
            self.model.train()
        self.progress.measured = self.progress.step

    def _finish(self) -> dict[str, float]:
        score = self._score("test", self.task.final_score)
        with self._changing():
            if self.progress.pending:
                self._train_row(self.progress.step)
            self._rows("test", score)
        self._stop_clock()
        return score

    def _score(self, name: str, score: Callable[..., dict[str, float]]) -> dict[str, float]:
        generator = derived_generator(name, self.seed)
        with fork_rng(devices=[]):
            return score(self.model, generator, self.arguments.eval_size)

    def _train_row(self, step: int) -> None:
        pending = self.progress.pending
        self.progress.rows.append((step, "train", "loss", math.fsum(pending) / len(pending)))
        pending.clear()

    def _rows(self, split: str, score: dict[str, float]) -> None:
        self.progress.rows.extend((self.progress.step, split, metric, float(value)) for metric, value in score.items())

    def _finite_weights(self) -> bool:
        return all(bool(parameter.isfinite().all()) for parameter in self.descent.parameters)

    def _report(self, loss: float) -> None:
        if self.arguments.on_progress is None:
            return
        now, step = time.perf_counter(), self.progress.step
        if step % TRAIN_ROW_EVERY == 0 or step == self.arguments.steps or now - self.reported > TELL_SECONDS:
            self.reported = now
            self.arguments.on_progress(step, self.arguments.steps, loss)

    def _stop_clock(self) -> None:
        now = time.perf_counter()
        self.progress.seconds += now - self.since
        self.since = now

    def _keep_now_and_then(self) -> None:
        if self.arguments.resume and time.perf_counter() - self.kept > self.arguments.resume_every:
            self._keep(self.arguments.resume)

    def _keep_at_interrupt(self) -> None:
        # An interrupt may fall anywhere. Before the optimiser's update a step can be done again from the generators'
        # states at its start; inside it there is nothing whole to write, and the last file stands.
        if self.arguments.resume and self.whole:
            try:
                self._keep(self.arguments.resume)
            except OSError as error:
                warnings.warn(
                    f"The training could not be kept in {self.arguments.resume}: {error}", RuntimeWarning, stacklevel=2
                )

    def _keep(self, path: Path) -> None:
        self._stop_clock()
        resume.write(path, self.settings, self.parts, self.before or self.parts.generators())
        self.kept = time.perf_counter()

    @contextmanager
    def _changing(self) -> Generator[None]:
        self.whole = False
        yield
        self.whole = True


def derived_generator(name: str, seed: int) -> torch.Generator:
    """A generator whose seed is a function of a name and another seed."""
    return torch.Generator().manual_seed(seed_of(f"{name} {seed}"))
