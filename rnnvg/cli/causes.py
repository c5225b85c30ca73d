"""Why a network's gradient decays, and what theory says of it, as a terminal or a program reads it."""

from __future__ import annotations

import math
import textwrap
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch

from rnnvg import models
from rnnvg.bench import causes, measure
from rnnvg.bptt import DecayAttribution, attribute_decay
from rnnvg.bptt.theory import WidePrediction, overlay, predict_for
from rnnvg.bptt.theory.overlay import Overlay
from rnnvg.cli import network, output
from rnnvg.errors import InputError
from rnnvg.horizon import half_life
from rnnvg.models import SequenceModel
from rnnvg.report import terminal
from rnnvg.report.wording import steps as in_steps
from rnnvg.tasks import Batch, Task

NETWORKS = 5  # a standard error over fewer says little


@dataclass(frozen=True)
class Why:
    """An attribution, and how many last steps make which fraction of the update by the task's own loss (None: no update)."""

    attribution: DecayAttribution
    recent: tuple[int, float] | None


@dataclass(frozen=True)
class Theory:
    """Several networks' curves beside the predicted one."""

    overlay: Overlay
    prediction: WidePrediction


def why(model: SequenceModel, task: Task, probe: Batch) -> Why:
    """The attribution of a loss at the last step of the probe sequences."""
    return Why(
        attribute_decay(model.core, models.encoded(model, probe.inputs)), causes.recent_share(model, task, probe)
    )


def theory(rest: dict[str, Any], seed: int, sequences: int, weighted: bool) -> Theory:
    """The prediction for the network that is asked for, and NETWORKS of its kind measured as they start.

    Args:
        rest: the options `which_task`, `network` and `device` by name.
        seed: of the first network; the others take the next ones.
        sequences: held-out sequences a network.
        weighted: --weights was given.

    Raises:
        InputError: trained weights, or a network that the theory does not cover.
    """
    if weighted:
        raise InputError(
            "`--theory` is of networks as they start, and --weights brings a trained one. Leave out one of the two."
        )
    profiles, prediction = [], None
    for each in range(seed, seed + NETWORKS):
        model, task, spec = network.from_options(None, rest, each, lambda line: None)
        probe = task.probe(sequences, torch.Generator().manual_seed(spec.subseed("probe")))
        if prediction is None:
            inputs = models.encoded(model, probe.inputs)
            steps = max(2, min(len(inputs), model.core.hidden_size))  # the theory ends at the width
            prediction = predict_for(model.core, inputs, steps=steps)
        profiles.append(measure.profile(model, task, probe, "state", spec.subseed("covectors")))
    assert prediction is not None
    return Theory(overlay(profiles, prediction), prediction)


def why_as_text(reasons: Why) -> str:
    """The sentence, what the last steps add to the update, and the gates."""
    attribution, width = reasons.attribution, output.width()
    lines = ["Why, for a loss at the last step", textwrap.fill(f"{attribution}.", width)]
    if reasons.recent is not None:
        last, share = reasons.recent
        lines.append(
            textwrap.fill(
                f"By the task's own loss the last {last} steps make {100 * share:.3g} % of the update.", width
            )
        )
    constant = attribution.time_constant
    rows = [
        {
            "layer": gate.layer,
            "gate": gate.name,
            "mean": f"{gate.mean:.3f}",
            "below 0.1": f"{100 * gate.closed:.1f} %",
            "above 0.9": f"{100 * gate.open:.1f} %",
            "implied time constant": "" if gate.time_constant is None else in_steps(gate.time_constant),
        }
        for gate in attribution.gates
    ]
    lines += ["", terminal.as_text(pd.DataFrame(rows), width)]
    if attribution.shares:
        measured = "none: an exponential does not fit" if constant is None else f"{in_steps(constant)} steps"
        lines.append(f"Measured time constant of the whole gradient: {measured}.")
    return "\n".join(lines)


def why_as_json(reasons: Why) -> dict[str, Any]:
    """The same for programs: sentence, nats or shares, counterfactuals in nats, gates, recent."""
    attribution = reasons.attribution
    return {
        "sentence": str(attribution),
        "nats": attribution.nats(),
        "shares": attribution.mean_shares(),
        "log_gain": float(attribution.log_gain()[-1]),
        "counterfactuals": {name: float(attribution.log_gain(name)[-1]) for name in attribution.counterfactuals},
        "gates": output.rows(attribution.gate_frame()),
        "time_constant": attribution.time_constant,
        "recent": None if reasons.recent is None else {"steps": reasons.recent[0], "fraction": reasons.recent[1]},
    }


def theory_as_text(theory_beside: Theory) -> str:
    """Measured and predicted rate with the z-score, and a warning past the edge."""
    beside, width = theory_beside.overlay, output.width()
    last = int(beside.distance[-1])
    lines = [
        f"Theory, {beside.n_models} networks as they start, up to distance {last}",
        textwrap.fill(f"{beside}.", width),
    ]
    if math.isfinite(beside.rate_z) and abs(beside.rate_z) > 3:
        lines.append(
            textwrap.fill(
                "That is more than three standard errors: the theory is for wide networks and for inputs that are independent "
                "from step to step.",
                width,
            )
        )
    if theory_beside.prediction.warning is not None:
        lines.append(textwrap.fill(f"Warning: {theory_beside.prediction.warning}", width))
    return "\n".join(lines)


def theory_as_json(theory_beside: Theory) -> dict[str, Any]:
    """The same for programs, with the whole overlay."""
    beside, prediction = theory_beside.overlay, theory_beside.prediction
    names = ("rate", "rate_stderr", "predicted_rate", "rate_z", "n_models")
    return {
        **{name: getattr(beside, name) for name in names},
        "half_life": half_life(beside.rate),
        "predicted_half_life": half_life(beside.predicted_rate),
        "q": prediction.q,
        "edge": prediction.edge,
        "warning": prediction.warning,
        "overlay": output.rows(beside.to_frame()),
    }
