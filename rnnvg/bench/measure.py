"""What is measured of a network at one checkpoint: gradient against distance on fixed held-out sequences, and horizons.

And of its training, once: the time of a step that does nothing else.
"""

from __future__ import annotations

import copy
import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from rnnvg.bptt import input_profile
from rnnvg.bptt.profile import gradient_profiles
from rnnvg.horizon import NATS_PER_DECADE, THRESHOLDS, memory_horizon
from rnnvg.models import encoded, has_recurrence, recurrence

if TYPE_CHECKING:
    from rnnvg.bptt import GradientProfile
    from rnnvg.bptt.arguments import Sources
    from rnnvg.models import SequenceModel
    from rnnvg.tasks import Batch, Task

REPEATS = 5  # of the step whose time is the floor


def profile(
    model: SequenceModel, task: Task, probe: Batch, wrt: str, seed: int, sources: Sources | None = None
) -> GradientProfile:
    """The gradient profile of a model's recurrent core on `probe`, dropout off; `sources` None: the task's own.

    One random unit covector a source and sequence, from a generator seeded `seed`: the same at every checkpoint.
    """
    return profiles(model, task, probe, [wrt], seed, sources)[0]


def profiles(
    model: SequenceModel, task: Task, probe: Batch, wrt: Sequence[str], seed: int, sources: Sources | None = None
) -> list[GradientProfile]:
    """`profile` by each of `wrt`; of a core whose equations are known from one pass."""
    inputs = encoded(model, probe.inputs)
    chosen = task.probe_sources if sources is None else sources

    def generator() -> torch.Generator:
        return torch.Generator().manual_seed(seed)

    apart = [each for each in wrt if each == "input" and not isinstance(model.core, nn.RNNBase)]
    together = [each for each in wrt if each not in apart]
    found = [input_profile(model.core, inputs, sources=chosen, layout="TBI", generator=generator()) for _ in apart]
    if together:
        core, state = recurrence(model.core, inputs)
        found += gradient_profiles(core, inputs, state, together, sources=chosen, generator=generator())
    return [next(each for each in found if each.wrt == name) for name in wrt]


def measurable(model: SequenceModel, wrt: Sequence[str]) -> list[str]:
    """What of `wrt` a network has: one without a recurrence has the input alone, and that is measured in any case."""
    return list(wrt) if has_recurrence(model.core) else ["input"]


def curve(profile: GradientProfile, step: int) -> pd.DataFrame:
    """`profile.curve()` with the training step of the checkpoint and what the gradient is with respect to."""
    # None of these networks sees the future.
    frame = profile.curve().query("distance >= 0").reset_index(drop=True)
    frame.insert(0, "step", step)
    frame.insert(1, "wrt", profile.wrt)
    return frame


def horizons(curves: pd.DataFrame, status: str) -> list[tuple[Any, ...]]:
    """Rows of horizons.csv: for each checkpoint, wrt and threshold. A run without a curve has rows without numbers."""
    rows: list[tuple[Any, ...]] = []
    for _, each in curves.groupby(["step", "wrt"], sort=False):
        step, wrt = each["step"].iloc[0], each["wrt"].iloc[0]
        distance, log10_gain = each["distance"].to_numpy(), each["log10_gain"].to_numpy()
        log_gain = np.full(distance.max() + 1, math.nan)
        log_gain[distance] = log10_gain * NATS_PER_DECADE
        for threshold in THRESHOLDS:
            if np.isnan(log_gain).all():
                rows.append((step, wrt, threshold, None, None, None, None, None, status))
                continue
            found = memory_horizon(log_gain, threshold)
            numbers = (found.last, found.first_below, found.censored, found.rate, found.e_fold)
            rows.append((step, wrt, threshold, *numbers, status))
    return rows


def residuals(model: SequenceModel, task: Task, probe: Batch, seed: int) -> dict[str, Any]:
    """How far the profile of two probe sequences is from float64 autograd, as `GradientProfile.verify` finds it.

    Returns:
        residual (largest relative difference of a norm), compared and skipped (entries), weights (largest relative
        difference between summed temporal contributions and `.grad`), dtype.
    """
    two = replace(probe, inputs=probe.inputs[:, :2], targets=probe.targets[:, :2], weight=None)
    found = profile(model, task, two, measurable(model, ["state"])[0], seed).verify()
    return {
        "residual": found.residual,
        "compared": len(found.log_norm),
        "skipped": found.skipped,
        "weights": max(found.weights.values(), default=None),
        "dtype": found.dtype,
    }


def seconds_a_step(model: SequenceModel, task: Task, batch: Batch, optimizer: type[torch.optim.Optimizer]) -> float:
    """The floor of a training: the median time of PyTorch's own forward, loss, backward and update on `batch`, in a copy.

    Measured in the process that trained, on the same shapes, right after the training: what is spent above it is this house's.
    """
    model = copy.deepcopy(model).train()
    device = next(model.parameters()).device
    batch, steps = batch.to(device), optimizer(model.parameters(), lr=1e-6)  # type: ignore[call-arg]
    taken = []
    for _ in range(1 + REPEATS):
        synchronize(device)
        start = time.perf_counter()
        steps.zero_grad()
        task.loss(model(batch.inputs)[0], batch).backward()
        steps.step()
        synchronize(device)
        taken.append(time.perf_counter() - start)
    return statistics.median(taken[1:])  # the first one makes the optimiser's state


def synchronize(device: torch.device) -> None:
    """Waits for what a GPU was given to do; a CPU is never behind."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
