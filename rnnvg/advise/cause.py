"""Why the network's gradient does not reach back: the cause, named from the attribution of its decay."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rnnvg.bptt import attribute_decay, gradient_profile
from rnnvg.missing import finite
from rnnvg.models import SequenceModel, recurrence
from rnnvg.training.remedy import CELL, EXPLOSION, GATES, MATRIX, SATURATION

KEPT = 1.0  # nats over the whole sequence: less decay or growth is no cause of anything
# Gated cells: the counterfactual that would give most back -> what that says.
_GATED = {
    "tanh slopes 1": SATURATION,
    "gates held": GATES,
    "forget gate open": GATES,
    "reset gate open": GATES,
    "all gates open": GATES,
}


def cause_of(model: SequenceModel, encoded: Tensor) -> dict[str, Any]:
    """Name the cause for one network with an nn.RNN, nn.LSTM or nn.GRU; of other cells' no part is known.

    A vanilla network's nats are split exactly: the part that takes more is the cause. A gated one's cause is what its largest
    counterfactual changes. A gradient that grows by more than KEPT nats explodes, whatever takes part of it.

    Args:
        encoded: what the core is handed, [T, B, E].

    Returns:
        cause ("recurrent matrix", "saturation", "gates", "explosion", of other cells "cell", or ""), nats (over all steps),
        steps, parts (nats of each part of a vanilla network, or what each counterfactual of a gated one gives back), sentence.
    """
    if not isinstance(model.core, nn.RNNBase):
        return _of_another_cell(model, encoded)
    with torch.no_grad():
        found = attribute_decay(model.core, encoded)
    total = float(found.log_gain()[-1])
    if found.parts:
        parts = found.nats()
    else:
        parts = {change: float(found.log_gain(change)[-1]) - total for change in found.counterfactuals}
    return {
        "cause": name_cause(total, parts, bool(found.parts)),
        "nats": finite(total),
        "steps": found.steps,
        "parts": {name: value for name, value in parts.items() if math.isfinite(value)},
        "sentence": str(found),
    }


def _of_another_cell(model: SequenceModel, encoded: Tensor) -> dict[str, Any]:
    core, state = recurrence(model.core, encoded)
    with torch.no_grad():
        profile = gradient_profile(core, encoded, state)
    steps = len(encoded) - 1
    total = float(np.nanmean(profile.log_gain()[0, steps]))
    cause = EXPLOSION if total > KEPT else "" if total > -KEPT else CELL
    sentence = f"over {steps} steps the gradient changes by {total:.3g} nats"
    return {"cause": cause, "nats": finite(total), "steps": steps, "parts": {}, "sentence": sentence}


def name_cause(total: float, parts: dict[str, float], exact: bool) -> str:
    """The cause by its numbers.

    Args:
        total: nats over all steps.
        parts: of a vanilla network what each part adds (`exact`), else what each counterfactual gives back.

    >>> name_cause(-50, {"saturation": -2, "matrix": -48}, True), name_cause(8, {"saturation": -2, "matrix": 10}, True)
    ('recurrent matrix', 'explosion')
    """
    if total > KEPT:
        return EXPLOSION
    if total > -KEPT:
        return ""
    if exact:
        return MATRIX if parts["matrix"] <= parts["saturation"] else SATURATION
    given = {name: value for name, value in parts.items() if math.isfinite(value)}
    return _GATED[max(given, key=lambda name: given[name])] if given else GATES
