"""From what was seen in a few passes to a verdict: which symptom counts from which threshold on, and what to try first.

Causes come before effects: saturated units make gradients vanish, so where both are found the units are named first.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Collection
from dataclasses import dataclass

from torch import nn

from rnnvg.depth.gradients import NATS_PER_DECADE
from rnnvg.depth.probe import LayerView, Observation

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
    "explodes": 4.0,  # decades
    "collapsed": 1e-3,  # a layer's weight gain relative to the median of the others
    "shrinking": 0.5,  # of a layer's weight norm, over the trial updates
    "plateau": 1e-3,  # relative fall of the loss over the trial updates
}
FEWEST_ITEMS = 8  # a ReLU is silent on one item half of the time
_FEWEST_STEPS = 8  # shorter sequences have no early steps to speak of


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
    called: bool
    connected: bool


@dataclass(frozen=True)
class Case:
    """All that the rules look at."""

    before: Observation
    layers: tuple[LayerHealth, ...]
    ratio: float  # log10, first layer's adjoint over the last one's; the larger of before and after the trial
    loss: tuple[float, float]
    frozen: dict[str, str]  # layer -> why its weights cannot move
    updates: int


def weight_gain(layer: LayerView) -> float:
    """Root mean square weight times sqrt(fan-in), the largest of the layer's matrices; nan for an embedding."""
    if isinstance(layer.module, (nn.Embedding, nn.EmbeddingBag)):
        return math.nan
    gains = [float(each.detach().double().norm()) / math.sqrt(each.shape[0]) for each in layer.weights]
    return max(gains)


def log10_ratio(seen: Observation, zero: Collection[str] = ()) -> float:
    """First layer's adjoint over the last one's, decades; nan where there are not two.

    Nothing comes back through a layer whose weights start at `zero`, whatever the depth: the ratio is taken before it.
    """
    before = itertools.takewhile(lambda layer: layer.name not in zero, seen.layers)
    logs = [layer.log_adjoint for layer in before if not math.isnan(layer.log_adjoint)]
    if len(logs) < 2 or math.isinf(logs[-1]):
        return math.nan
    return (logs[0] - logs[-1]) / NATS_PER_DECADE


def findings(case: Case) -> tuple[Finding, ...]:
    """What is wrong, the cause to mend first at the front."""
    found = [rule(case) for rule in RULES]
    return tuple(each for each in found if each is not None)


def _not_finite(case: Case) -> Finding | None:
    at = [each.name for each in case.layers if math.isinf(each.log10_gradient) and each.log10_gradient > 0]
    if math.isfinite(case.loss[0]) and not at:
        return None
    what = (
        f"The loss is {case.loss[0]:g}" if not math.isfinite(case.loss[0]) else f"The gradient of {at[0]} is not finite"
    )
    return Finding(
        "exploding-gradients",
        tuple(at),
        math.inf,
        THRESHOLDS["explodes"],
        f"{what} on this batch, with weights that are finite.",
        "Initialise with He or Xavier weights, standardise the inputs, lower the learning rate; look for log(0) in the loss.",
    )


def _frozen(case: Case) -> Finding | None:
    if not case.frozen:
        return None
    names = tuple(case.frozen)
    return Finding(
        "frozen-layer",
        names,
        0.0,
        0.0,
        f"The weights of {_listed(names)} cannot move: {case.frozen[names[0]]}.",
        "If that is not meant: set requires_grad, hand all parameters to the optimiser, and look for detach() or no_grad().",
    )


def _tiny(case: Case) -> Finding | None:
    gains = sorted(each.gain for each in case.layers if not math.isnan(each.gain))
    if not gains or not case.ratio < THRESHOLDS["shrinks"]:
        return None
    median = gains[len(gains) // 2]
    if median >= THRESHOLDS["gain"] or gains[-1] == 0:
        return None
    return Finding(
        "tiny-initialisation",
        tuple(each.name for each in case.layers if each.gain < THRESHOLDS["gain"]),
        median,
        THRESHOLDS["gain"],
        f"Weights have a typical gain of {median:.2g} (root mean square x sqrt(fan-in); Xavier's is 1), and "
        f"{_ratio(case)} of the last layer's gradient reaches the first.",
        "Initialise with He weights for ReLU, Xavier or orthogonal for tanh; or put batch norm before the activations.",
    )


def _collapsed(case: Case) -> Finding | None:
    judged = [each for each in case.layers if not math.isnan(each.gain)]
    shares = {}
    for each in judged:
        others = sorted(other.gain_after for other in judged if other is not each)
        beside = others[len(others) // 2] if others else 0.0
        kept = each.gain_after / each.gain if each.gain else 1.0
        if each.gain_after < THRESHOLDS["collapsed"] * beside:
            shares[each.name] = each.gain_after / beside
        elif kept < THRESHOLDS["shrinking"]:
            shares[each.name] = kept
    if not shares:
        return None
    worst = min(shares, key=lambda name: shares[name])
    return Finding(
        "collapsed-weights",
        tuple(shares),
        shares[worst],
        THRESHOLDS["collapsed"],
        f"After {case.updates} trial updates the weights of {worst} are at {shares[worst]:.1g} of what they were or of what "
        "other layers have.",
        "Lower the weight decay, and draw the weights anew: a layer of zeros passes nothing on and gets nothing back.",
    )


def _dead(case: Case) -> Finding | None:
    bad = [each for each in case.layers if each.dead >= THRESHOLDS["dead"]]
    if not bad:
        return None
    worst = max(bad, key=lambda each: each.dead)
    return Finding(
        "dead-relus",
        tuple(each.name for each in bad),
        worst.dead,
        THRESHOLDS["dead"],
        f"{worst.dead:.0%} of the ReLUs after {worst.name} are 0 for every item of the batch, and pass no gradient.",
        "Start biases at 0 and weights with He's; lower the learning rate; or use a leaky ReLU, whose slope is never 0.",
    )


def _saturated(case: Case) -> Finding | None:
    bad = [each for each in case.layers if each.saturated >= THRESHOLDS["saturated"]]
    if not bad:
        return None
    worst = max(bad, key=lambda each: each.saturated)
    return Finding(
        "saturated-units",
        tuple(each.name for each in bad),
        worst.saturated,
        THRESHOLDS["saturated"],
        f"{worst.saturated:.0%} of the activations after {worst.name} have a slope below a twentieth of its largest.",
        "Draw smaller weights (Xavier), start biases at 0, standardise the inputs; or put batch norm before the activations.",
    )


def _through_time(case: Case) -> Finding | None:
    for layer in case.before.layers:
        # Gates open as they learn: how an LSTM starts says little about how it ends, so only plain cells are judged.
        plain = isinstance(layer.module, (nn.RNN, nn.RNNCell))
        decades = layer.log_through_time / NATS_PER_DECADE
        if plain and layer.steps >= _FEWEST_STEPS and decades < THRESHOLDS["vanishes"]:
            return Finding(
                "vanishing-through-time",
                (layer.name,),
                decades,
                THRESHOLDS["vanishes"],
                f"The first of {layer.steps} steps of {layer.name} get 10^{decades:.0f} of the gradient that the last get.",
                "Use a gated cell (GRU, or LSTM with a forget bias of 1), or orthogonal recurrent weights.",
            )
    return None


def _vanishing(case: Case) -> Finding | None:
    if not case.ratio < THRESHOLDS["vanishes"]:
        return None
    before, after = case.loss
    fall = (before - after) / abs(before) if before else 0.0
    plateau = f" The loss fell by {max(fall, 0):.1%} in {case.updates} updates." if fall < THRESHOLDS["plateau"] else ""
    layers = [each for each in case.layers if not math.isnan(each.log10_adjoint)]
    return Finding(
        "vanishing-gradients",
        (layers[0].name,),
        case.ratio,
        THRESHOLDS["vanishes"],
        f"{_ratio(case)} of the gradient at {layers[-1].name} reaches {layers[0].name}.{plateau}",
        "Use ReLUs with He weights, batch norm before the activations, or residual connections around them.",
    )


def _exploding(case: Case) -> Finding | None:
    if not case.ratio > THRESHOLDS["explodes"]:
        return None
    layers = [each for each in case.layers if not math.isnan(each.log10_adjoint)]
    return Finding(
        "exploding-gradients",
        (layers[0].name,),
        case.ratio,
        THRESHOLDS["explodes"],
        f"The gradient at {layers[0].name} is {_ratio(case)} of that at {layers[-1].name}.",
        "Draw smaller weights (He or Xavier), add residual connections, and clip the gradient's norm meanwhile.",
    )


# Causes first. A layer that is frozen is frozen whatever else is wrong; tiny weights leave ReLUs to their biases, so half of
# them die of it; dead and saturated units make gradients vanish.
RULES: tuple[Callable[[Case], Finding | None], ...] = (
    _not_finite,
    _frozen,
    _tiny,
    _dead,
    _saturated,
    _collapsed,
    _through_time,
    _vanishing,
    _exploding,
)


def _ratio(case: Case) -> str:
    if math.isinf(case.ratio):
        return "nothing" if case.ratio < 0 else "infinitely much"
    return f"{10**case.ratio:.2g}" if abs(case.ratio) < 3 else f"10^{case.ratio:.0f}"


def _listed(names: tuple[str, ...] | list[str]) -> str:
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"
