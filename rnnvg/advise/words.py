"""Advice in sentences, every claim of them counted from the trials."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from rnnvg.advise.remedies import NONE
from rnnvg.advise.trial import EXPLODING_GROWTH, exploding_gain
from rnnvg.training.remedy import CELL, EXPLOSION, GATES, MATRIX, SATURATION

if TYPE_CHECKING:
    from rnnvg.advise.advice import Advice, Effect

CAUSES = {
    MATRIX: "the recurrent matrix takes most of the gradient",
    SATURATION: "saturated units take most of the gradient",
    GATES: "the gates take most of the gradient",
    EXPLOSION: "the gradient explodes",
    CELL: "the gradient vanishes, and which part of such a cell takes it is not known",
    "": "nothing: the gradient neither vanishes nor explodes",
}


def sentences(advice: Advice) -> list[str]:
    """Cause, what helped and what did not, clipping, and what to try first; a line each."""
    base, *others = advice.effects()
    lines = [
        f"Cause: {CAUSES[advice.cause]} (seed 0, {advice.of(NONE)[0]['cause']['sentence']}).",
        f"As it is: a horizon of {base.horizon['start']} (steps) at the start and {base.horizon['end']} after training; "
        f"{_solved(base)}.",
    ]
    for each in others:
        lines.append(f"{each.change[0].upper()}{each.change[1:]}: {_reach(each)}; {_solved(each)}.")
    lines += clipping(advice)
    first = advice.first()
    tried = f"Try first: {first.change} (--remedies {first.remedy})." if first else "None of these helped here."
    return [*lines, tried]


def _reach(effect: Effect) -> str:
    parts = []
    for when, label in (("start", "at the start"), ("end", "after training")):
        change, silent = effect.log_change(when), effect.silent[when]
        if silent:
            parts.append(f"no gradient left in {silent} of {effect.seeds} seeds {label}")
        if change is not None:
            parts.append(f"{factor(change)} {label}")
    return ", ".join(parts)


def factor(change: tuple[float, float, float]) -> str:
    """A change of the log horizon in a sentence, with its interval.

    >>> factor((math.log(2), 0.0, math.inf)), factor((0.0, 0.0, 0.0)), factor((0.0, math.log(0.5), 0.0))
    ('2 times as far [1, inf]', 'as far as without it', 'as far as without it [0.5, 1]')
    """
    middle, low, high = change
    if math.isnan(middle):
        return "censored in both"
    if middle == math.inf:  # only a lower bound is known
        return f"more than {_exp(low)} times as far"
    how = "as far as without it" if _exp(middle) == "1" else f"{_exp(middle)} times as far"
    return how if low == high else f"{how} [{_exp(low)}, {_exp(high)}]"


def ratio(change: tuple[float, float, float]) -> str:
    """The same in a table's cell.

    >>> ratio((math.log(2), 0.0, math.inf)), ratio((0.0, 0.0, 0.0)), ratio((math.inf, math.log(27), math.inf))
    ('2 [1, inf]', '1', '> 27')
    """
    middle, low, high = change
    if math.isnan(middle):
        return "censored in both"
    if middle == math.inf:
        return f"> {_exp(low)}"
    return _exp(middle) if low == high else f"{_exp(middle)} [{_exp(low)}, {_exp(high)}]"


def _exp(value: float) -> str:
    return "inf" if value > 700 else f"{math.exp(value):.2g}"


def _solved(effect: Effect) -> str:
    end = "" if effect.value is None else f", median score {effect.value:.3g}"
    lost = f", {effect.diverged} diverged" if effect.diverged else ""
    if not effect.solved:
        return f"solved in 0 of {effect.seeds} seeds{end}{lost}"
    steps = [each for each in effect.steps_to_solve if each is not None]
    span = f"step {steps[0]}" if len(set(steps)) == 1 else f"steps {min(steps)} to {max(steps)}"
    return f"solved in {effect.solved} of {effect.seeds} seeds at {span}{lost}"


def clipping(advice: Advice) -> list[str]:
    """What clipping does at equal weights, and for a network that explodes; empty where it was not applied."""
    found = advice.exploding()
    if not found:
        return []
    equal = [each["equal_weights"] for each in advice.of("clipping")]
    worst = max(each["largest_difference"] for each in equal)
    gain = exploding_gain(advice.settings.make_task().steps)
    free, clipped = found["exploding"], found["exploding-clipped"]
    ends = [
        f"{sum(each['status'] != 'ok' for each in trials)} of {len(trials)} seeds diverged and {_error(trials)}"
        for trials in (free, clipped)
    ]
    return [
        f"Clipping at equal weights: one factor ({min(each['factor'] for each in equal):.2g} at the least) for the whole "
        f"gradient, cosine {min(each['cosine'] for each in equal):.6f}, and no distance changes by more than {worst:.0e} "
        "nats: it is no remedy for a gradient that vanished.",
        f"What clipping is for: where a recurrent matrix of {gain:.3g} times the identity has the gradient grow "
        f"{EXPLODING_GROWTH:g}-fold over a sequence, {ends[0]} without clipping and {ends[1]} with it.",
    ]


def _error(trials: list[dict]) -> str:
    values = sorted(each["value"] for each in trials if each["value"] is not None)
    if not values:
        return "no score is finite"
    return f"the median {trials[0]['metric']} is {values[len(values) // 2]:.3g}"
