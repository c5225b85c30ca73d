"""Symptoms across layers, and the order of all symptoms: which counts from which threshold on, and what to try first.

Causes come before effects: saturated units make gradients vanish, so where both are found the units are named first.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Collection

from rnnvg.depth import symptoms_in_time, symptoms_not_finite
from rnnvg.depth.probe import Observation
from rnnvg.depth.verdict import FEWEST_ITEMS, THRESHOLDS, Case, Finding, LayerHealth, first_three
from rnnvg.horizon import NATS_PER_DECADE

__all__ = ["FEWEST_ITEMS", "THRESHOLDS", "Case", "Finding", "LayerHealth", "findings", "log10_ratio"]


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


def _frozen(case: Case) -> Finding | None:
    if not case.frozen:
        return None
    names = tuple(case.frozen)
    return Finding(
        "frozen-layer",
        names,
        0.0,
        0.0,
        f"The weights of {first_three(names)} cannot move: {case.frozen[names[0]]}.",
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
    own = {each.name for each in case.before.layers if not type(each.module).__module__.startswith("torch.nn.")}
    shares = {}
    for each in judged:
        others = sorted(other.gain_after for other in judged if other is not each)
        beside = others[len(others) // 2] if others else 0.0
        kept = each.gain_after / each.gain if each.gain else 1.0
        if each.gain == 0 and each.name in own:
            continue  # a learned first state or position starts at 0 on purpose
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
    return _units(
        case,
        "dead-relus",
        "dead",
        "of the ReLUs after {} are 0 for every item of the batch, and pass no gradient.",
        "Start biases at 0 and weights with He's; lower the learning rate; or use a leaky ReLU, whose slope is never 0.",
    )


def _saturated(case: Case) -> Finding | None:
    return _units(
        case,
        "saturated-units",
        "saturated",
        "of the activations after {} have a slope below a twentieth of its largest.",
        "Draw smaller weights (Xavier), start biases at 0, standardise the inputs; or put batch norm before the activations.",
    )


def _units(case: Case, name: str, kind: str, evidence: str, remedy: str) -> Finding | None:
    """Layers of which too large a share of units is `kind`, an attribute of LayerHealth."""
    shares = {each.name: getattr(each, kind) for each in case.layers if getattr(each, kind) >= THRESHOLDS[kind]}
    if not shares:
        return None
    worst = max(shares, key=lambda layer: shares[layer])
    share = shares[worst]
    return Finding(name, tuple(shares), share, THRESHOLDS[kind], f"{share:.0%} {evidence.format(worst)}", remedy)


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


# Causes first. What is not finite makes all else meaningless. A layer that is frozen is frozen whatever else is wrong; tiny
# weights leave ReLUs to their biases, so half of them die of it; dead, stuck and saturated units make gradients vanish.
RULES: tuple[Callable[[Case], Finding | None], ...] = (
    symptoms_not_finite.weights,
    symptoms_not_finite.batch,
    symptoms_in_time.exploding,
    symptoms_not_finite.loss,
    symptoms_not_finite.gradients,
    _frozen,
    _tiny,
    _dead,
    symptoms_in_time.stuck_gates,
    _saturated,
    _collapsed,
    symptoms_in_time.vanishing,
    _vanishing,
    _exploding,
    symptoms_not_finite.trial,
)


def _ratio(case: Case) -> str:
    if math.isinf(case.ratio):
        return "nothing" if case.ratio < 0 else "infinitely much"
    return f"{10**case.ratio:.2g}" if abs(case.ratio) < 3 else f"10^{case.ratio:.0f}"
