"""Symptoms of numbers that are not finite: in the weights, the batch, the loss, the gradient, or after a few updates.

Where the weights are not finite nothing else is; a batch that is not finite is named before what it makes of the loss.
"""

from __future__ import annotations

import math

from rnnvg.depth.probe import LayerView
from rnnvg.depth.verdict import THRESHOLDS, Case, Finding, first_three


def weights(case: Case) -> Finding | None:
    if not case.weights:
        return None
    first, *others = case.weights
    also = (
        f"; and so {'are' if len(others) > 1 else 'is'} {first_three([each.name for each in others])}" if others else ""
    )
    return _finding(
        "non-finite-weights",
        tuple(dict.fromkeys(each.name.rpartition(".")[0] or each.name for each in case.weights)),
        sum(each.count for each in case.weights),
        f"{first}{also}.",
        "Go back to the last weights that were finite; clip the gradient and lower the learning rate, and look at the loss of "
        "the step before.",
    )


def batch(case: Case) -> Finding | None:
    """A NaN that the loss never sees, such as one in the padding, is none of its faults."""
    if not case.batch or case.weights or (math.isfinite(case.loss[0]) and not _gradients_at(case)):
        return None
    first, *others = case.batch
    also = f"; {first_three([each.name for each in others])} too" if others else ""
    return _finding(
        "non-finite-batch",
        (),
        sum(each.count for each in case.batch),
        f"{first}{also}, so the loss is {case.loss[0]:g}"
        + (" and gradients are not finite." if math.isfinite(case.loss[0]) else "."),
        "Look for missing values, divisions by a standard deviation of 0 and logs of 0 where the data is made, and drop or "
        "fill in those items.",
    )


def loss(case: Case) -> Finding | None:
    if math.isfinite(case.loss[0]) or case.batch or case.weights:
        return None
    first = first_layer(case)
    if first is None or first.not_finite is None:
        where = "Every layer gives out finite numbers, so it is the loss itself that does not."
        remedy = "Look for log(0), a division by 0 or the mean of nothing in the loss; cross_entropy takes logits."
    else:
        where = (
            f"{str(first.not_finite)[0].upper()}{str(first.not_finite)[1:]}; it is the first layer of which that is so."
        )
        remedy = "Initialise with He or Xavier weights, standardise the inputs, lower the learning rate."
    return _finding(
        "non-finite-loss",
        () if first is None else (first.name,),
        case.loss[0],
        f"The loss is {case.loss[0]:g} on this batch, with weights that are finite. {where}",
        remedy,
    )


def gradients(case: Case) -> Finding | None:
    at = _gradients_at(case)
    if not at or not math.isfinite(case.loss[0]) or case.batch or case.weights:
        return None
    return Finding(
        "exploding-gradients",
        at,
        math.inf,
        THRESHOLDS["explodes"],
        f"The gradient of {at[0]} is not finite on this batch, with weights and a loss that are finite.",
        "Initialise with He or Xavier weights, standardise the inputs; look for the slope of sqrt or norm at 0 in the loss.",
    )


def trial(case: Case) -> Finding | None:
    """A loss that leaves the finite numbers by the user's own optimiser; a rate that was only assumed proves nothing."""
    if not case.optimiser or not math.isfinite(case.loss[0]) or math.isfinite(case.loss[1]):
        return None
    return _finding(
        "non-finite-loss",
        (),
        case.loss[1],
        f"The loss is {case.loss[0]:.3g} before and {case.loss[1]:g} after {case.updates} updates of the optimiser.",
        "Lower the learning rate, or clip the gradient's norm.",
    )


def first_layer(case: Case) -> LayerView | None:
    """The first layer that gives out a number that is not finite."""
    return next((layer for layer in case.before.layers if layer.not_finite is not None), None)


def _gradients_at(case: Case) -> tuple[str, ...]:
    return tuple(each.name for each in case.layers if math.isinf(each.log10_gradient) and each.log10_gradient > 0)


def _finding(name: str, layers: tuple[str, ...], value: float, evidence: str, remedy: str) -> Finding:
    return Finding(name, layers, float(value), 0.0, evidence, remedy)
