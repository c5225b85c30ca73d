"""When a training is given up: one look at a tenth of its budget, at its loss and at how far its gradient reaches.

The rule is "loss and horizon" of the study of early signs (docs/findings.md): a logistic regression on
ln(loss / loss without memory) and ln((1 + horizon) / (1 + the task's own distance)), and the strictest threshold that keeps
95 % of the runs that are solved later. results/early-signs/rule.csv has what it keeps and saves on tasks that it has not seen,
give_up.json (scripts/early_signs_option.py) the numbers here, with what they keep and save on the runs that they are from.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from rnnvg.bptt.profile import gradient_profiles
from rnnvg.errors import InputError
from rnnvg.models import SequenceModel, encoded, has_recurrence, recurrence

if TYPE_CHECKING:
    from rnnvg.tasks import Task

# The tasks that the study had; of others nothing is known.
FAMILIES = ("adding", "copy", "delayed-recall", "temporal-order")
# The look: at this share of the budget, the horizon of so many fresh sequences and the loss of so many.
SHARE, SEQUENCES, LOSS_SEQUENCES = 0.1, 32, 256
# The regression in these units, and the threshold below which a run is given up (rounded to the side of keeping).
INTERCEPT, BY_LOSS, BY_REACH, THRESHOLD = 3.78769, 4.42997, 1.69238, -1.8934


@dataclass(frozen=True)
class Verdict:
    """What the rule says of one training.

    Attributes:
        applied: False where it does not hold for this network, task or moment; `because` says why.
        given_up: whether the training ends here.
        because: why it is not applied, or what was seen, in a sentence.
        step, share: training steps done, and of the budget.
        horizon, distance: steps: the last distance with at least 1/e of the gradient one step back, and the task's own.
        loss: over the loss without memory.
        score, threshold: of the regression; a run below the threshold is given up.
        horizon_needed: the horizon from which on a run with this loss is kept.
    """

    applied: bool
    given_up: bool
    because: str
    step: int | None = None
    share: float | None = None
    horizon: int | None = None
    distance: int | None = None
    loss: float | None = None
    score: float | None = None
    threshold: float | None = None
    horizon_needed: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)


def due(steps: int) -> int:
    """The step of the look in a budget of `steps`.

    >>> due(1500), due(3)
    (150, 1)
    """
    return max(1, round(SHARE * steps))


def own_distance(task: Task) -> int:
    """The 90 % quantile of the distances that a task names."""
    assert task.distances is not None
    return int(sorted(task.distances)[math.ceil(0.9 * len(task.distances)) - 1])


def seen(loss: Any, horizon: Any, distance: Any) -> tuple[Any, Any]:
    """What the regression is on: -ln of the loss (over that without memory), ln of the horizon over the own distance."""
    return -np.log(loss), np.log((1 + horizon) / (1 + distance))


def score(loss: Any, horizon: Any, distance: Any) -> Any:
    """The regression; numbers or arrays.

    >>> bool(score(0.99, 2, 100) < THRESHOLD < score(0.99, 60, 100))
    True
    """
    by_loss, by_reach = seen(loss, horizon, distance)
    return INTERCEPT + BY_LOSS * by_loss + BY_REACH * by_reach


def horizon_needed(loss: float, distance: int) -> int:
    """The smallest horizon with which a network of this loss is kept.

    >>> horizon_needed(1.0, 50), horizon_needed(1.5, 50)
    (1, 5)
    """
    by_loss, _ = seen(loss, 0, distance)
    # Beyond e^30 times the distance it is out of reach anyway, and a number still.
    reach = min(30.0, (THRESHOLD - INTERCEPT - BY_LOSS * float(by_loss)) / BY_REACH)
    return max(0, math.ceil((1 + distance) * math.exp(reach) - 1))


def why_not(task: str, model: SequenceModel | None = None) -> str:
    """Why the rule does not hold for a task of this name or for this network; "" where it does."""
    if task not in FAMILIES:
        return f"the study of its rule has no task {task} (it has {', '.join(FAMILIES)})"
    if model is not None and not has_recurrence(model.core):
        return "the rule looks at the horizon of a state, and this network has none"
    return ""


def not_applied(because: str) -> Verdict:
    """The verdict where the rule does not hold."""
    return Verdict(applied=False, given_up=False, because=because)


def look(model: SequenceModel, task: Task, step: int, steps: int, generator: torch.Generator) -> Verdict:
    """The rule applied to a network after `step` of `steps`; sequences are drawn from `generator`.

    The model is left in evaluation mode; its gradients are not touched.
    """
    model.eval()
    device = next(model.parameters()).device
    probe, many = (task.batch(n, generator).to(device) for n in (SEQUENCES, LOSS_SEQUENCES))
    with torch.no_grad():
        loss = float(task.loss(model(many.inputs)[0], many)) / task.baseline_loss
    inputs = encoded(model, probe.inputs)
    core, state = recurrence(model.core, inputs)
    # The same covectors at every look, as in the study.
    covectors = torch.Generator().manual_seed(0)
    (profile,) = gradient_profiles(core, inputs, state, ["state"], sources="last", generator=covectors)
    try:
        horizon = profile.horizon().last
    except InputError as error:
        return not_applied(f"at step {step:,} there is no horizon: {str(error)[0].lower()}{str(error)[1:].rstrip('.')}")
    if not (math.isfinite(loss) and loss > 0):
        return not_applied(f"at step {step:,} the loss is {loss:g}")
    distance = own_distance(task)
    value = float(score(loss, horizon, distance))
    needed = horizon_needed(loss, distance)
    because = (
        f"At step {step:,} of {steps:,} the horizon is {horizon} of {distance} steps and the loss {loss:.3g} of that without "
        f"memory; with this loss the rule keeps runs from a horizon of {needed} on."
    )
    return Verdict(
        applied=True,
        given_up=value < THRESHOLD,
        because=because,
        step=step,
        share=step / steps,
        horizon=horizon,
        distance=distance,
        loss=loss,
        score=value,
        threshold=THRESHOLD,
        horizon_needed=needed,
    )
