"""One remedy and one seed as a run of the benchmark's: what its files say, and what is looked at beside it.

The prediction, the cause and what clipping does at equal weights are of the network as it starts, drawn again from the
run's own seeds.
"""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from rnnvg import models
from rnnvg.advise.cause import cause_of
from rnnvg.advise.predict import predicted_rate
from rnnvg.advise.remedies import CLIP, NONE, REMEDIES
from rnnvg.advise.settings import Settings
from rnnvg.bench import RunSpec, Store, execute, tables
from rnnvg.bptt import GradientProfile, gradient_profile
from rnnvg.bptt.threads import OneThread
from rnnvg.horizon import NATS_PER_DECADE, memory_horizon
from rnnvg.missing import finite
from rnnvg.models import SequenceModel
from rnnvg.tasks import Batch, Task

# What clipping is for: a ReLU network whose recurrent matrix stretches, so that its gradient grows by this over a training
# sequence, trained by plain gradient descent.
EXPLODING_GROWTH = 1e4
EXPLODING_STEPS = 100
EXPLODING_LR = 0.01
EXPLODING = ("exploding", "exploding-clipped")


def spec_of(settings: Settings, remedy: str, seed: int) -> RunSpec:
    """The run of a trial.

    Args:
        remedy: a name of REMEDIES, "none" among them, or one of EXPLODING.
    """
    if remedy not in EXPLODING:
        return settings.spec(remedy, seed)
    return settings.spec(
        NONE,
        seed,
        **{
            "cell": "rnn-relu",
            "init": "identity",
            "t_max": None,
            "gain": exploding_gain(settings.make_task().steps),
            "training.steps": EXPLODING_STEPS,
            "training.lr": EXPLODING_LR,
            "training.optimizer": "sgd",
            "training.clip": CLIP if remedy == EXPLODING[1] else None,
            "training.eval_every": EXPLODING_STEPS,
        },
    )


def exploding_gain(steps: int) -> float:
    """What the identity is multiplied by, so that a gradient grows by EXPLODING_GROWTH over so many steps."""
    return EXPLODING_GROWTH ** (1 / steps)


def run_trial(settings: Settings, remedy: str, seed: int, directory: str | Path | None = None) -> dict[str, Any]:
    """Do the run in this process, where `directory` (None: nowhere) does not hold it yet, and read it; see `read_trial`.

    >>> from rnnvg.advise.settings import settings
    >>> found = run_trial(settings({"name": "adding", "length": 6}, hidden=4, steps=2), "none", seed=0)
    >>> found["remedy"], found["status"]
    ('none', 'ok')
    """
    if directory is None:
        with tempfile.TemporaryDirectory() as folder:
            return run_trial(settings, remedy, seed, folder)
    execute(spec_of(settings, remedy, seed), directory)
    return read_trial(settings, remedy, seed, Store(directory))


def read_trial(settings: Settings, remedy: str, seed: int, store: Store) -> dict[str, Any]:
    """What came of a run that is done, as JSON values.

    Returns:
        remedy, seed, status ("ok", "diverged", "failed"), reason, predicted (nats a step), start and end (rate, last,
        first_below, censored; None where nothing finite is left), steps, solved_at, metric, value, seconds; of "none" also
        cause, and of "clipping" equal_weights.
    """
    spec = spec_of(settings, remedy, seed)
    result = store.result(spec.id)
    assert result is not None
    curves = tables.to_frame(store.folder(spec.id) / "curve.csv")
    steps = result["steps"]
    metric = settings.make_task().metric
    return {
        "remedy": remedy,
        "seed": seed,
        **_at_the_start(settings, remedy, spec),
        "start": _horizon(curves, settings, 0),
        "end": None if steps is None else _horizon(curves, settings, steps),
        "status": result["status"],
        "reason": result["reason"],
        "steps": steps,
        "solved_at": result["solved_at"],
        "metric": metric,
        "value": (result["score"] or {}).get(metric),
        "seconds": result["seconds"],
    }


def _at_the_start(settings: Settings, remedy: str, spec: RunSpec) -> dict[str, Any]:
    """What is known of the network before it is trained, its weights drawn as the run draws them."""
    if remedy in EXPLODING:
        return {"predicted": math.log(float(spec.gain or 1))}
    task = settings.make_task()
    probe = task.probe(settings.sequences, torch.Generator().manual_seed(spec.subseed("probe")))
    with OneThread(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(spec.subseed("weights"))
        model = models.build(task, spec.cell, **{**spec.network, "constraint": None})
        encoded = models.encoded(model, probe.inputs)
        predict = REMEDIES[remedy].predict or predicted_rate
        found: dict[str, Any] = {
            "predicted": predict(
                _network(spec),
                n_inputs=encoded.shape[2],
                input_square=float(encoded.double().square().mean()),
                steps=len(encoded),
            )
        }
        if remedy == NONE:
            found["cause"] = cause_of(model, encoded)
        if remedy == "clipping":
            found["equal_weights"] = at_equal_weights(model, task, probe, CLIP, settings.wrt, settings.threshold)
    return found


def _network(spec: RunSpec) -> dict[str, Any]:
    """What theory goes by."""
    network = {"cell": spec.cell, "hidden": spec.hidden, "init": spec.init}
    return network if spec.t_max is None else {**network, "t_max": spec.t_max}


def _horizon(curves: Any, settings: Settings, step: int) -> dict[str, Any] | None:
    """The horizon of a checkpoint's curve; None where there is none or no gradient is left in it."""
    rows = curves[(curves["step"] == step) & (curves["wrt"] == settings.wrt)]
    if not len(rows):
        return None
    log_gain = np.full(int(rows["distance"].max()) + 1, math.nan)
    log_gain[rows["distance"].to_numpy(dtype=int)] = rows["log10_gain"].to_numpy(dtype=float) * NATS_PER_DECADE
    if not (log_gain > -math.inf).any():
        return None
    found = memory_horizon(log_gain, settings.threshold)
    return {
        "rate": finite(found.rate),
        "last": found.last,
        "first_below": found.first_below,
        "censored": found.censored,
    }


def at_equal_weights(
    model: SequenceModel, task: Task, probe: Batch, clip: float, wrt: str, threshold: float
) -> dict[str, float]:
    """The gradient of one batch before and after clipping, and the curve of each.

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
    profiles = [_profile(model, encoded, scale * direct, wrt) for scale in (1.0, factor)]
    logs = [each.log_gain()[0] for each in profiles]
    horizons = [each.horizon(threshold) for each in profiles]
    return {
        "norm": float(before.norm()),
        "factor": factor,
        "cosine": float(torch.dot(before, after) / (before.norm() * after.norm())),
        "largest_difference": float(np.nanmax(np.abs(np.subtract(*logs)), initial=0.0)),
        "log_horizon_change": math.log1p(horizons[1].last) - math.log1p(horizons[0].last),
    }


def _profile(model: Any, encoded: torch.Tensor, output_grad: torch.Tensor, wrt: str) -> GradientProfile:
    with torch.no_grad():
        core, state = models.recurrence(model.core, encoded)
        return gradient_profile(core, encoded, state, output_grad=output_grad, sources="last", wrt=wrt)


def _flat(parameters: list[nn.Parameter]) -> torch.Tensor:
    return torch.cat([each.grad.flatten().double() for each in parameters if each.grad is not None])
