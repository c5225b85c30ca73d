"""What a diagnosis is made of: thresholds, findings, a layer's numbers, and all that the rules look at.

Rules are in symptoms (across layers), symptoms_in_time (inside and along recurrent layers) and not_finite.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rnnvg.depth.not_finite import Place
from rnnvg.depth.probe import Observation
from rnnvg.depth.recurrent import Course

# Each is far from what a network at work shows: a residual network of 20 blocks with batch norm has no dead unit on 64 images,
# first-to-last ratios of 10 to 20 and weight gains of 0.6 to 1.4.
THRESHOLDS = {
    # Share of a layer's ReLUs that are 0 for every item. PyTorch's default lets the signal shrink until biases decide, layer
    # after layer: half of the units are then silent, by chance up to two thirds, in networks that still learn.
    "dead": 0.75,
    "saturated": 0.5,  # share of a layer's values where the slope is below a twentieth of its largest
    "gain": 0.4,  # root mean square weight x sqrt(fan-in); PyTorch's default is 0.58, Xavier's 1, He's 1.4
    "shrinks": -2.0,  # decades from last to first layer at which small weights are to blame
    "vanishes": -3.0,  # decades from last to first layer, or from the last step to the first
    "explodes": 4.0,  # decades from last to first layer
    "grows": 3.0,  # decades through time: an orthogonal matrix grows by none, PyTorch's own weights lose some
    # Nats a step below which a gated layer shuts its past out. Gates start half open (ln 1/2 = -0.69) and open as they learn.
    "shuts": -1.0,
    "stuck": 0.5,  # share of the values of all gates of a layer where the slope is flat, those that hold a memory left out
    "stuck gate": 0.9,  # the same of one gate alone
    "collapsed": 1e-3,  # a layer's weight gain relative to the median of the others
    "shrinking": 0.5,  # of a layer's weight norm, over the trial updates
    "plateau": 1e-3,  # relative fall of the loss over the trial updates
}
FEWEST_ITEMS = 8  # a ReLU is silent on one item half of the time
FEWEST_STEPS = 8  # shorter sequences have no early steps to speak of


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        name: of the cause.
        layers: where.
        value, threshold: the number that decided, and the one it was held against.
        evidence: one sentence with the numbers.
        remedy: what to try first.
    """

    name: str
    layers: tuple[str, ...]
    value: float
    threshold: float
    evidence: str
    remedy: str


@dataclass(frozen=True)
class LayerHealth:
    """One layer's numbers. nan where there is none to have.

    Attributes:
        name, kind: of the module.
        trainable: whether any of its weight matrices is asked for a gradient.
        gain: root mean square weight times the square root of the fan-in, 1 for Xavier; nan for an embedding.
        log10_gradient: of the loss by its weight matrices.
        log10_adjoint: of the loss by its output, all items and calls together.
        update_ratio: length of a trial update over that of the weights, mean over the updates.
        gain_after: `gain` after the trial updates.
        dead: largest share of dead ReLUs among the activations that follow it.
        saturated: largest share of saturated values among the activations that follow it.
        stuck_gates: share of the values of its gates at which no gradient passes and no memory is held.
        log10_first_step: gradient of one loss at the first tenth of the steps over the largest at any step.
        log10_growth: the largest at any step over that at the steps next to the loss.
        called, connected: whether it ran, and whether the loss depends on its weights.
    """

    name: str
    kind: str
    trainable: bool
    gain: float
    log10_gradient: float
    log10_adjoint: float
    update_ratio: float
    gain_after: float
    dead: float
    saturated: float
    stuck_gates: float
    log10_first_step: float
    log10_growth: float
    called: bool
    connected: bool


@dataclass(frozen=True)
class Case:
    """All that the rules look at.

    Attributes:
        before: the watched pass.
        layers: its layers, with what the trial showed of them.
        courses: layer -> its course through time, one for each of its layers, directions and calls.
        weights, batch: where numbers are not finite.
        ratio: log10, first layer's adjoint over the last one's; the larger of before and after the trial.
        loss: before and after the trial.
        frozen: layer -> why its weights cannot move.
        updates: of the trial.
        optimiser: whether it is the user's own.
    """

    before: Observation
    layers: tuple[LayerHealth, ...]
    courses: Mapping[str, Sequence[Course]]
    weights: tuple[Place, ...]
    batch: tuple[Place, ...]
    ratio: float
    loss: tuple[float, float]
    frozen: dict[str, str]
    updates: int
    optimiser: bool


def first_three(names: Sequence[str]) -> str:
    """The first three names, and how many more there are."""
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"
