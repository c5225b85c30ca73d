"""fit(): a model trained on a task. One optimiser step is the unit of budget; seconds are a result."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd
import torch

from rnnvg.errors import InputError, bounded, check_float, check_int, check_name, shown
from rnnvg.models import SequenceModel, check_fits, check_task
from rnnvg.training import names, penalties
from rnnvg.training import resume as resume_file
from rnnvg.training.device import check_device
from rnnvg.training.feed import DrawnFeed, StreamedFeed
from rnnvg.training.loop import FitArguments, Loop, derived_generator
from rnnvg.training.resume import Parts, Progress

if TYPE_CHECKING:
    from rnnvg.tasks import Task

# Sequences at a time; more do not fit any machine, however short they are.
LARGEST_BATCH = 10**9
OPTIMIZERS = {name: getattr(torch.optim, kind) for name, kind in names.OPTIMIZERS.items()}


@dataclass(frozen=True)
class TrainingResult:
    """What a training came to.

    Attributes:
        history: tidy, one number a row: step, split, metric, value. "train" rows are the mean loss of the last 20
            steps or fewer, "valid" rows held-out scores while training, "test" rows the final score.
        status: "ok", "diverged" where a loss, gradient or weight stopped being finite, or "given-up" by the rule of
            rnnvg.training.give_up.
        reason: what happened and at which step; empty where the status is "ok".
        steps: optimiser steps done.
        solved_at: the first evaluated step whose held-out score counts as solved; None where none did.
        score: the final held-out score by metric, on data used nowhere else; of a text its whole test split.
        seconds: wall time over all sittings, evaluation included, on_checkpoint and the look of `give_up` left out.
        verdict: what the rule of `give_up` saw and said; None where it was not asked for, or its step not reached.

    >>> import torch
    >>> from rnnvg import models, tasks, training
    >>> task = tasks.make("adding", length=5)
    >>> model = models.build(task, "gru", hidden=4)
    >>> found = training.fit(model, task, steps=3, batch=4, generator=torch.Generator().manual_seed(0))
    >>> found.solved_at is None, sorted(found.score)
    (True, ['loss', 'mse'])
    """

    history: pd.DataFrame
    status: Literal["ok", "diverged", "given-up"]
    reason: str
    steps: int
    solved_at: int | None
    score: dict[str, float]
    seconds: float
    verdict: dict[str, Any] | None = None


def fit(
    model: SequenceModel,
    task: Task,
    *,
    steps: int,
    batch: int = 50,
    lr: float = 0.005,
    optimizer: str = "adam",
    clip: float | None = 1.0,
    generator: torch.Generator,
    bptt: int | None = None,
    eval_every: int = 100,
    eval_size: int = 1000,
    checkpoints: Sequence[int] = (),
    on_checkpoint: Callable[[int, SequenceModel], object] | None = None,
    on_progress: Callable[[int, int, float], object] | None = None,
    stop_when_solved: bool = True,
    decay: float | None = None,
    decay_every: int | None = None,
    warmup: int | None = None,
    omega: float | None = None,
    flossing: int | None = None,
    give_up: bool = False,
    resume: str | Path | None = None,
    resume_every: float = 60.0,
    device: str | None = None,
) -> TrainingResult:
    """Trains a model in place.

    The same model, generator seed and global torch seed (dropout draws from it) give the same numbers, bit for bit on
    one machine with one number of threads; so does a training that was interrupted and taken up from its resume file.

    Args:
        model: from rnnvg.models.build or load.
        task: sequences are drawn by task.batch; one that is `streamed` is read on and on, its state carried over.
        steps: budget in optimiser steps; 0 scores and measures the model as it is.
        batch: sequences a step.
        lr: learning rate.
        optimizer: "adam", "rmsprop" or "sgd" (without momentum), otherwise with PyTorch's defaults.
        clip: the gradient is scaled down to this global norm before each step (Pascanu, Mikolov, Bengio 2013); None:
            it is not.
        generator: draws the training batches; held-out data come from other generators derived from its seed.
        bptt: steps a window of a streamed text (None: task.steps).
        eval_every: steps between scores on held-out data; the first and last step are scored too.
        eval_size: held-out sequences a score, always the same ones.
        checkpoints: steps, from 0 to `steps`, after which on_checkpoint(step, model) is called; it is also called
            once after the last step done. It may change the model's mode and draw from torch's global generator.
            Weights that are not finite are not handed out: there is nothing to measure.
        on_progress: called as on_progress(step, steps, loss) every 20 steps or 0.2 seconds, and at the last.
        stop_when_solved: end at the first held-out score that counts as solved.
        decay: factor in (0, 1) on the learning rate after each held-out loss that is not the lowest so far; None: none.
        decay_every: steps after which `decay` comes instead, again and again, whatever the held-out loss.
        warmup: steps over which the learning rate rises evenly to `lr`; None: it starts there.
        omega: weight of Pascanu's regulariser, added to the loss (rnnvg.training.penalties.omega); None: none.
        flossing: steps of gradient flossing before training (rnnvg.training.penalties.floss; a checkpoint at step 0 sees the
            network after it), and one every ten steps during it; None: none.
        give_up: look once, at a tenth of `steps`, and end there where the rule of rnnvg.training.give_up says so. The look
            draws sequences of its own and does not change how the network learns. Where the rule does not hold (another
            task than those that it is from, no recurrence), the training goes on and the verdict says why.
        resume: a file to go on from where it is there. It is written every `resume_every` seconds and on
            KeyboardInterrupt (unless that falls into the optimiser's own update: the last one then stands), and removed
            at the end. Checkpoints before the step that it holds are not repeated.
        resume_every: seconds.
        device: "cpu" or "cuda", where the model is brought and left; None: it stays where it is. Batches are drawn on the CPU
            all the same.

    Raises:
        InputError: an argument out of its range, a model that does not fit the task, a resume file of other settings.
        KeyboardInterrupt: passed on.
        OSError: the resume file cannot be written.

    >>> import torch
    >>> from rnnvg import models, tasks, training
    >>> task = tasks.make("adding", length=5)
    >>> model = models.build(task, "gru", hidden=4)
    >>> found = training.fit(model, task, steps=3, batch=4, generator=torch.Generator().manual_seed(0))
    >>> found.status, found.steps
    ('ok', 3)
    """
    _check_kinds(model, checkpoints)
    check_task(task)
    arguments = FitArguments(
        steps=check_int("steps", steps, least=0),
        clip=math.inf if clip is None else check_float("clip", clip, above=0),
        eval_every=check_int("eval_every", eval_every, least=1),
        eval_size=check_int("eval_size", eval_size, least=1, ceiling=LARGEST_BATCH),
        stop_when_solved=bool(stop_when_solved),
        decay=None if decay is None else check_float("decay", decay, above=0, below=1),
        decay_every=_decay_every(decay, decay_every),
        checkpoints=frozenset(
            check_int("checkpoints", step, least=0, most=steps) for step in bounded("checkpoints", checkpoints)
        ),
        on_checkpoint=on_checkpoint,
        on_progress=on_progress,
        warmup=0 if warmup is None else check_int("warmup", warmup, least=1),
        penalty=penalties.penalty(
            model,
            task,
            None if omega is None else check_float("omega", omega, above=0),
            flossing is not None and check_int("flossing", flossing, least=1) > 0,
        ),
        give_up=bool(give_up),
        resume=None if resume is None else Path(resume),
        resume_every=check_float("resume_every", resume_every, above=0),
    )
    batch = check_int("batch", batch, least=1, ceiling=LARGEST_BATCH)
    lr = check_float("lr", lr, above=0)
    check_name("optimizer", optimizer, OPTIMIZERS)
    check_fits(model.spec, task)
    if device is not None:
        model.to(check_device(device))
    _check_generator(generator)
    if arguments.resume is not None:
        resume_file.check_path(arguments.resume)
    window = _window(task, bptt)
    feed = DrawnFeed(task, batch, generator) if window is None else StreamedFeed(task, batch, window)
    parts = Parts(model, OPTIMIZERS[optimizer](model.parameters(), lr=lr), feed, generator, Progress())
    settings = {
        "task": {"name": task.name, **task.settings},
        "model": model.spec,
        "seed": generator.initial_seed(),
        "steps": arguments.steps,
        "batch": batch,
        "lr": lr,
        "optimizer": optimizer,
        "clip": clip,
        "bptt": window,
        "eval_every": arguments.eval_every,
        "eval_size": arguments.eval_size,
        "stop_when_solved": arguments.stop_when_solved,
        "decay": decay,
        "decay_every": decay_every,
        "warmup": warmup,
        "omega": omega,
        "flossing": flossing,
    }
    settings = json.loads(json.dumps(settings))  # as they will be read back: lists for tuples
    taken_up = False
    if arguments.resume is not None:
        taken_up = resume_file.restore(arguments.resume, settings, parts, arguments.give_up)
    if flossing is not None and not taken_up:
        penalties.floss(model, task, flossing, derived_generator("flossing", generator.initial_seed()))
    mode = model.training
    try:
        score = Loop(task, arguments, parts, settings).run()
    finally:
        model.train(mode)
    if arguments.resume is not None:
        resume_file.remove(arguments.resume)
    if not arguments.give_up:  # a sitting before this one may have looked
        parts.progress.verdict = None
    return _result(parts.progress, score)


def _check_kinds(model: object, checkpoints: object) -> None:
    if not isinstance(model, SequenceModel):
        raise InputError(f"`model` is a {type(model).__name__}; pass one from rnnvg.models.build or load.")
    if not isinstance(checkpoints, Iterable) or isinstance(checkpoints, torch.Tensor):
        raise InputError(f"`checkpoints` is a {type(checkpoints).__name__}; pass a list of training steps.")


def _check_generator(generator: object) -> None:
    if not isinstance(generator, torch.Generator) or generator.device.type != "cpu":
        raise InputError(
            f"`generator` must be a torch.Generator on the CPU; got {shown(generator)}. "
            "Pass torch.Generator().manual_seed(0)."
        )


def _decay_every(decay: float | None, every: int | None) -> int | None:
    if every is not None and decay is None:
        raise InputError("`decay_every` says when `decay` comes, and `decay` is None. Pass decay=0.5, for example.")
    return None if every is None else check_int("decay_every", every, least=1)


def _window(task: Task, bptt: int | None) -> int | None:
    if task.streamed:
        return check_int("bptt", task.steps if bptt is None else bptt, least=1)
    if bptt is not None:
        if task.vocabulary is not None:
            raise InputError(
                "`bptt` cuts a text that is read as one sequence; got it with batching 'sentences'. Pass bptt=None."
            )
        raise InputError(f"`bptt` cuts a text into windows; task {task.name!r} is not a text. Pass bptt=None.")
    return None


def _result(progress: Progress, score: dict[str, float]) -> TrainingResult:
    verdict = progress.verdict
    status: Any = "diverged" if progress.reason else "given-up" if progress.given_up else "ok"
    return TrainingResult(
        history=pd.DataFrame(progress.rows, columns=["step", "split", "metric", "value"]),
        status=status,
        reason=progress.reason or (verdict.because if verdict is not None and verdict.given_up else ""),
        steps=progress.step,
        solved_at=progress.solved_at,
        score=score,
        seconds=progress.seconds,
        verdict=None if verdict is None else verdict.to_dict(),
    )
