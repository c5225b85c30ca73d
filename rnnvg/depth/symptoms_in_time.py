"""Symptoms inside and along recurrent layers: stuck gates, and a gradient that grows or vanishes through time."""

from __future__ import annotations

import math
from collections.abc import Iterator

from torch import nn

from rnnvg.depth.adjoints import log_root_sum
from rnnvg.depth.probe import LayerView
from rnnvg.depth.recurrent import EARLY, Course
from rnnvg.depth.verdict import FEWEST_STEPS, THRESHOLDS, Case, Finding
from rnnvg.horizon import NATS_PER_DECADE


def exploding(case: Case) -> Finding | None:
    """A state that is not finite, or a gradient that is much larger at some step than at those next to the loss."""
    if case.weights or case.batch:
        return None
    for layer, course in _courses(case):
        if course.first_nonfinite >= 0 and layer.clean_inputs:
            return Finding(
                "exploding-through-time",
                (layer.name,),
                math.inf,
                THRESHOLDS["grows"],
                f"The state of {_where(layer, course)} is not finite from step {course.first_nonfinite} of {course.steps} on.",
                _SMALLER,
            )
    grown = {}
    for layer, course in _courses(case):
        grown[_where(layer, course)] = (course.growth, layer, course.steps)
    for layer in case.before.layers:
        if layer.log_by_call:
            grown[layer.name] = (growth_by_call(layer), layer, len(layer.log_by_call))
    grown = {where: each for where, each in grown.items() if each[0] > THRESHOLDS["grows"]}
    if not grown:
        return None
    where = max(grown, key=lambda each: grown[each][0])
    decades, layer, steps = grown[where]
    return Finding(
        "exploding-through-time",
        (layer.name,),
        decades,
        THRESHOLDS["grows"],
        f"Going back over {steps} steps the gradient of {where} grows to {_power(decades)} times what it is at the last ones.",
        _SMALLER,
    )


_SMALLER = "Start with orthogonal recurrent weights, or smaller ones; and clip the gradient's norm meanwhile."


def stuck_gates(case: Case) -> Finding | None:
    worst: tuple[float, LayerView, Course] | None = None
    for layer, course in _courses(case):
        if not course.stuck:
            continue
        gate = max(course.stuck.values())
        if course.all_stuck >= THRESHOLDS["stuck"] or gate >= THRESHOLDS["stuck gate"]:
            severity = max(course.all_stuck, gate)
            worst = (severity, layer, course) if worst is None or severity > worst[0] else worst
    if worst is None:
        return None
    _, layer, course = worst
    shares = ", ".join(f"{name} {share:.0%}" for name, share in course.stuck.items())
    together = course.all_stuck >= THRESHOLDS["stuck"]
    return Finding(
        "saturated-gates",
        (layer.name,),
        course.all_stuck if together else max(course.stuck.values()),
        THRESHOLDS["stuck" if together else "stuck gate"],
        f"Gates of {_where(layer, course)} stand where their slope is below a twentieth of its largest: {shares} of all values"
        f"{_inputs(layer)}.",
        "Standardise the inputs, start the gates' biases near 0 (the forget gate's at 1), and draw smaller weights.",
    )


def _inputs(layer: LayerView) -> str:
    """The size of what it was handed, where that is to blame."""
    data = layer.handed[0].inputs
    data = getattr(data, "data", data)
    size = float(data.double().square().mean().sqrt())
    return f"; its inputs have a root mean square of {size:.3g}" if size > 3 else ""


def vanishing(case: Case) -> Finding | None:
    found = None
    for name, where, steps, decades in vanished(case, gated=False):
        if found is None or decades < found.value:
            found = Finding(
                "vanishing-through-time",
                (name,),
                decades,
                THRESHOLDS["vanishes"],
                f"The first of {steps} steps of {where} get {_power(decades)} of the gradient that the last get.",
                "Use a gated cell (GRU, or LSTM with a forget bias of 1), or orthogonal recurrent weights.",
            )
    return found


def vanished(case: Case, gated: bool) -> Iterator[tuple[str, str, int, float]]:
    """(layer, the layer and its part, steps, decades) where the first steps get next to nothing.

    Gates open as they learn: how an LSTM starts says little about how it ends. So gated layers, and those of one's own kind,
    are judged by the gates being shut (`gated` False), and those with gates half open are given with `gated` True. A vanilla
    layer whose loss looks at every step still learns from its first steps.
    """
    for layer, course in _courses(case):
        if course.steps < FEWEST_STEPS or not course.first_step < THRESHOLDS["vanishes"]:
            continue
        plain = isinstance(layer.module, nn.RNN)
        judged = layer.lost_early if plain else course.rate < THRESHOLDS["shuts"]
        if judged is not gated:
            yield layer.name, _where(layer, course), course.steps, course.first_step
    for layer in case.before.layers:
        if layer.log_by_call and (decades := first_call(layer)) < THRESHOLDS["vanishes"]:
            rate = NATS_PER_DECADE * decades / len(layer.log_by_call)
            judged = isinstance(layer.module, nn.RNNCell) or rate < THRESHOLDS["shuts"]
            if judged is not gated:
                yield layer.name, layer.name, len(layer.log_by_call), decades


def growth_by_call(layer: LayerView) -> float:
    """Decades from the last call that gets a gradient to the one that gets most."""
    seen = [each for each in layer.log_by_call if each > -math.inf]
    if not seen:
        return math.nan
    return (max(seen) - seen[-1]) / NATS_PER_DECADE


def first_call(layer: LayerView) -> float:
    """Decades from the call that gets most to the mean of the first tenth."""
    logs = layer.log_by_call
    top, early = max(logs), logs[: max(1, int(EARLY * len(logs)))]
    if not math.isfinite(top):
        return math.nan
    return (log_root_sum(early) - 0.5 * math.log(len(early)) - top) / NATS_PER_DECADE


def _courses(case: Case) -> Iterator[tuple[LayerView, Course]]:
    for layer in case.before.layers:
        for course in case.courses.get(layer.name, ()):
            yield layer, course


def _where(layer: LayerView, course: Course) -> str:
    return f"{layer.name} ({course.where})" if course.where else layer.name


def _power(decades: float) -> str:
    return "nothing" if decades == -math.inf else f"10^{decades:.0f}"
