"""Why a run's gradient vanishes, measured on a few of its probe sequences: a tidy table beside its curves.

At every checkpoint the leading Lyapunov exponents; before and after training the split of the decay; before it what theory
says; after it the map of sources and steps, the gradient in units of the state's spread, and what the last steps add to the
update. Together they cost about a second a run.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import nn

from rnnvg.bench import measure
from rnnvg.bptt import attribute_decay, lyapunov_spectrum, temporal_contributions, theory
from rnnvg.bptt.curves import mean_log_gain
from rnnvg.bptt.invariant import covariance_weighted
from rnnvg.errors import InputError
from rnnvg.horizon import NATS_PER_DECADE
from rnnvg.models import encoded, has_recurrence, loss_gradient

if TYPE_CHECKING:
    from rnnvg.models import SequenceModel
    from rnnvg.tasks import Batch, Task

COLUMNS = ("step", "quantity", "part", "distance", "value", "stderr")
EXPONENTS = 3
SPECTRUM_SEQUENCES, SEQUENCES, MAP_SEQUENCES = 2, 4, 4
DISTANCES = 80  # a curve is kept at so many
SOURCES = 24  # rows of the map
Row = tuple[Any, ...]


def at_checkpoint(model: SequenceModel, task: Task, probe: Batch, step: int) -> list[Row]:
    """The leading exponents over two training lengths after a quarter of burn-in: quantity "exponent", part 1, 2, ..."""
    if not isinstance(model.core, nn.RNNBase):  # cells of our own, whose gates the analyzer does not know
        return []
    length = min(int(probe.inputs.shape[0]), 2 * task.steps)
    inputs = encoded(model, probe.inputs[:, :SPECTRUM_SEQUENCES])[:length]
    size = model.core.num_layers * model.core.hidden_size * (2 if isinstance(model.core, nn.LSTM) else 1)
    found = lyapunov_spectrum(model.core, inputs, n_exponents=min(EXPONENTS, size), burn_in=length // 4)
    mean = found.exponents.mean(0)
    error = np.sqrt((found.stderr**2).sum(0)) / len(found.exponents)
    return [(step, "exponent", n + 1, None, _short(mean[n]), _short(error[n])) for n in range(len(mean))]


def before_training(model: SequenceModel, probe: Batch, init: str) -> list[Row]:
    """The attribution at step 0, and the wide-limit prediction where the initialisation is one that theory covers."""
    if not isinstance(model.core, nn.RNNBase):
        return []
    rows = _attribution(model, probe, 0)
    if init in ("default", "forget-bias"):
        inputs = encoded(model, probe.inputs)
        try:
            found = theory.predict_for(model.core, inputs, steps=len(inputs))
        except InputError:  # several layers, for one
            return rows
        rows += _curve(0, "theory", "", found.log_gain)
        rows.append((0, "edge", "", None, _short(found.edge), None))
    return rows


def after_training(model: SequenceModel, task: Task, probe: Batch, step: int, seed: int) -> list[Row]:
    """The attribution at the end, the map of sources, the gradient in units of the state's spread, and recent steps.

    Of a network whose gates the analyzer does not know the map alone, and of one without a recurrence that by the input.
    """
    few = _first(probe, MAP_SEQUENCES)
    wrt = "state" if has_recurrence(model.core) else "input"
    by_source = _map(step, measure.profile(model, task, few, wrt, seed, min(SOURCES, few.inputs.shape[0])))
    if not isinstance(model.core, nn.RNNBase):
        return by_source
    rows = _attribution(model, probe, step) + by_source
    whole = measure.profile(model, task, probe, "state", seed)
    rows += _curve(step, "covariance", "", covariance_weighted(whole).mean_log_gain())
    share = recent_share(model, task, _first(probe, SEQUENCES))
    return rows if share is None else [*rows, (step, "recent", share[0], None, _short(share[1]), None)]


def recent_share(model: SequenceModel, task: Task, probe: Batch) -> tuple[int, float] | None:
    """How many last steps, and the fraction of the core's update that they make, for the task's own loss on `probe`.

    None where the task has a loss at several steps of a sequence: the last steps of one loss are then the first of another.
    """
    grad = loss_gradient(model, task, probe)
    found = temporal_contributions(model.core, encoded(model, probe.inputs), output_grad=grad)
    if found.losses is None:
        return None
    last = min(10, found.n_steps)
    share = found.fraction(last)
    return None if math.isnan(share) else (last, share)


def _attribution(model: SequenceModel, probe: Batch, step: int) -> list[Row]:
    found = attribute_decay(model.core, encoded(model, probe.inputs[:, :SEQUENCES]))
    rows = _curve(step, "log_gain", "", found.log_gain())
    for name in found.parts:
        rows += _curve(step, "nats", name, found.nats_so_far(name).mean(1))
    for name, share in found.shares.items():
        rows += _curve(step, "share", name, _seen_mean(share))
    for name in found.counterfactuals:
        rows += _curve(step, "counterfactual", name, found.log_gain(name))
    for gate in found.gates:
        known = {"mean": gate.mean, "closed": gate.closed, "open": gate.open, "time constant": gate.time_constant}
        rows += [
            (step, "gate", f"{gate.layer}/{gate.name}/{name}", None, _short(value), None)
            for name, value in known.items()
            if value is not None
        ]
    if found.time_constant is not None:
        rows.append((step, "time constant", "measured", None, _short(found.time_constant), None))
    return rows


def _seen_mean(rows: np.ndarray) -> np.ndarray:
    seen = np.isfinite(rows)
    return np.where(seen.any(1), np.where(seen, rows, 0.0).sum(1) / np.maximum(seen.sum(1), 1), np.nan)


def _curve(step: int, quantity: str, part: str, values: np.ndarray) -> list[Row]:
    """`values` by distance at DISTANCES evenly spread distances; what is not a number is left out."""
    kept = np.unique(np.linspace(0, len(values) - 1, DISTANCES).round().astype(int))
    return [(step, quantity, part, int(k), _short(float(values[k])), None) for k in kept if not math.isnan(values[k])]


def _map(step: int, profile: Any) -> list[Row]:
    """quantity "map" ("map by input" by the input), part = the source's step, distance; value in decades relative to one step
    back."""
    past = profile.distance >= 0
    gain = profile.log_gain()[:, past] / NATS_PER_DECADE
    quantity = "map by input" if profile.wrt == "input" else "map"
    rows: list[Row] = []
    for row, source in enumerate(profile.sources):
        mean = mean_log_gain(gain[row : row + 1])
        stride = max(1, (int(profile.sources.max()) + 1) // DISTANCES)
        rows += [
            (step, quantity, int(source), int(k), _short(float(mean[k])), None)
            for k in range(0, int(source) + 1, stride)
            if not math.isnan(mean[k])
        ]
    return rows


def _first(probe: Batch, n: int) -> Batch:
    weight = probe.weight
    return replace(
        probe,
        inputs=probe.inputs[:, :n],
        targets=probe.targets[:, :n],
        weight=None if weight is None else weight[:, :n],
    )


def _short(value: float) -> float:
    """Five digits are more than these few sequences know."""
    return float(f"{value:.5g}")
