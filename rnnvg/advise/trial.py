"""One remedy and one seed: the network is built, measured, trained and measured again.

All trials of a seed draw the same sequences, and where a remedy leaves the network's shape alone the same weights: they are
a pair. Everything is drawn from seeds that are functions of the trial's own; torch's random state and threads are put back.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

from rnnvg import models, training
from rnnvg.advise.cause import cause_of
from rnnvg.advise.predict import predicted_rate
from rnnvg.advise.remedies import NONE, REMEDIES
from rnnvg.advise.settings import Settings, subseed
from rnnvg.bptt import GradientProfile, gradient_profile
from rnnvg.models import SequenceModel
from rnnvg.models.own_cells import OwnCore
from rnnvg.tasks import Batch, Task

# What clipping is for: a network whose gradient grows by this over a training sequence (see `_explode`).
EXPLODING_GROWTH = 1e4
EXPLODING_STEPS = 100
EXPLODING_LR = 0.01
EXPLODING = ("exploding", "exploding-clipped")


def run_trial(settings: Settings, remedy: str, seed: int) -> dict[str, Any]:
    """One trial as JSON values.

    Args:
        remedy: a name of REMEDIES, "none" among them, or one of EXPLODING.

    Returns:
        remedy, seed, status ("ok", "diverged"), reason, predicted (nats a step), start and end (rate, last, first_below,
        censored; None where nothing finite is left), steps, solved_at, metric, value, seconds; of "none" also cause, and of
        "clipping" equal_weights.
    """
    began = time.perf_counter()
    with _own_arithmetic():
        found = _explode(settings, remedy, seed) if remedy in EXPLODING else _apply(settings, remedy, seed)
    return {"remedy": remedy, "seed": seed, **found, "seconds": round(time.perf_counter() - began, 3)}


def _apply(settings: Settings, name: str, seed: int) -> dict[str, Any]:
    remedy, task = REMEDIES[name], settings.make_task()
    probe = task.probe(settings.sequences, _generator("probe", seed))
    network = settings.network(remedy)
    torch.manual_seed(subseed("weights", seed))
    model = models.build(task, **network)
    encoded = models.encoded(model, probe.inputs)
    predicted = predicted_rate(
        network,
        n_inputs=encoded.shape[2],
        input_square=float(encoded.double().square().mean()),
        steps=len(encoded),
    )
    found: dict[str, Any] = {"predicted": predicted, "start": _horizon(settings, model, probe, seed)}
    if name == NONE:
        found["cause"] = cause_of(model, encoded)
    clip = remedy.training.get("clip")
    if clip is not None:
        found["equal_weights"] = clipped_at_equal_weights(settings, model, task, probe, clip)
    result = training.fit(
        model,
        task,
        steps=settings.steps,
        batch=settings.batch,
        lr=settings.lr / remedy.training.get("lr_over", 1.0),
        clip=clip,
        generator=_generator("batches", seed),
        eval_every=max(1, min(50, settings.steps // 4)),
    )
    return found | {
        "end": _horizon(settings, model, probe, seed),
        "status": result.status,
        "reason": result.reason,
        "steps": result.steps,
        "solved_at": result.solved_at,
        "metric": task.metric,
        "value": _finite(result.score.get(task.metric, math.nan)),
    }


def _explode(settings: Settings, name: str, seed: int) -> dict[str, Any]:
    """A ReLU network whose recurrent matrix stretches, trained by plain gradient descent, with clipping and without."""
    task = settings.make_task()
    probe = task.probe(settings.sequences, _generator("probe", seed))
    torch.manual_seed(subseed("weights", seed))
    model = models.build(task, "rnn-relu", hidden=settings.hidden, init="identity")
    gain = exploding_gain(task.steps)
    with torch.no_grad():
        model.core.get_parameter("weight_hh_l0").mul_(gain)
    start = _horizon(settings, model, probe, seed)
    clip = REMEDIES["clipping"].training["clip"] if name == EXPLODING[1] else None
    result = training.fit(
        model,
        task,
        steps=EXPLODING_STEPS,
        batch=settings.batch,
        lr=EXPLODING_LR,
        optimizer="sgd",
        clip=clip,
        generator=_generator("batches", seed),
        eval_every=EXPLODING_STEPS,
    )
    return {
        "predicted": math.log(gain),
        "start": start,
        "end": _horizon(settings, model, probe, seed),
        "status": result.status,
        "reason": result.reason,
        "steps": result.steps,
        "solved_at": result.solved_at,
        "metric": task.metric,
        "value": _finite(result.score.get(task.metric, math.nan)),
    }


def exploding_gain(steps: int) -> float:
    """What the identity is multiplied by, so that a gradient grows by EXPLODING_GROWTH over so many steps."""
    return EXPLODING_GROWTH ** (1 / steps)


def clipped_at_equal_weights(
    settings: Settings, model: SequenceModel, task: Task, probe: Batch, clip: float
) -> dict[str, float]:
    """The gradient of one batch before and after clipping, and the curve of each: clipping is one factor for all of it.

    The clip is taken at a tenth of the gradient's norm where that is the smaller, so that it always acts.

    Returns:
        norm before, factor, cosine between the two gradients, largest difference of the two curves (nats), change of the
        log horizon.
    """
    encoded = models.encoded(model, probe.inputs)
    parameters = list(model.parameters())
    direct = models.loss_gradient(model, task, probe).double()
    outputs, _ = model(probe.inputs)
    model.zero_grad()
    task.loss(outputs, probe).backward()
    before = _flat(parameters)
    limit = min(clip, float(before.norm()) / 10)
    nn.utils.clip_grad_norm_(parameters, limit)
    after = _flat(parameters)
    model.zero_grad()
    factor = float(after.norm() / before.norm())
    curves = [_profile(settings, model, encoded, scale * direct) for scale in (1.0, factor)]
    logs = [each.log_gain()[0] for each in curves]
    horizons = [each.horizon(settings.threshold) for each in curves]
    return {
        "norm": float(before.norm()),
        "factor": factor,
        "cosine": float(torch.dot(before, after) / (before.norm() * after.norm())),
        "largest_difference": float(np.nanmax(np.abs(np.subtract(*logs)), initial=0.0)),
        "log_horizon_change": math.log1p(horizons[1].last) - math.log1p(horizons[0].last),
    }


def _flat(parameters: list[nn.Parameter]) -> torch.Tensor:
    return torch.cat([each.grad.flatten().double() for each in parameters if each.grad is not None])


def _profile(
    settings: Settings, model: SequenceModel, encoded: torch.Tensor, output_grad: torch.Tensor | None = None
) -> GradientProfile:
    own = isinstance(model.core, OwnCore)
    recurrence: Any = model.core.step if own else model.core
    state = encoded.new_zeros(encoded.shape[1], model.core.hidden_size) if own else None
    with torch.no_grad():
        return gradient_profile(recurrence, encoded, state, output_grad=output_grad, sources="last", wrt=settings.wrt)


def _horizon(settings: Settings, model: SequenceModel, probe: Batch, seed: int) -> dict[str, Any] | None:
    """The horizon of the loss at the last probe step, for random covectors; None where no gradient is finite."""
    gain = _profile(settings, model, models.encoded(model, probe.inputs))
    if not (gain.log_gain() > -math.inf).any():
        return None
    found = gain.horizon(settings.threshold)
    return {
        "rate": _finite(found.rate),
        "last": found.last,
        "first_below": found.first_below,
        "censored": found.censored,
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _generator(purpose: str, seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(subseed(purpose, seed))


@contextmanager
def _own_arithmetic() -> Iterator[None]:
    """One thread and a random state of its own, whoever calls: the same numbers in any process."""
    threads = torch.get_num_threads()
    with torch.random.fork_rng(devices=[]):
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)
