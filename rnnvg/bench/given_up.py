"""Runs that the stopping rule ends (rnnvg.training.give_up): what is said of them, and of those that it does not hold for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rnnvg import models, tasks
from rnnvg.bench.spec import GIVEN_UP, RunSpec


def not_applied(specs: Iterable[RunSpec]) -> list[str]:
    """A sentence for each task or cell among `specs` that the rule is asked for and does not hold for."""
    reasons: dict[tuple[str, str], tuple[str, str]] = {}
    found: dict[tuple[str, str], list[RunSpec]] = {}
    for spec in [spec for spec in specs if spec.training.give_up]:
        kind = (spec.task["name"], spec.cell)
        if kind not in reasons:
            reasons[kind] = _why_not(spec)
        if reasons[kind][1]:
            found.setdefault(reasons[kind], []).append(spec)
    return [
        f"Nothing is given up of {who} ({len(runs)} run{'s' * (len(runs) > 1)}), because {because}."
        for (who, because), runs in found.items()
    ]


def done_again(runs: Sequence[str]) -> str:
    """What is said where runs that were given up are to be done to their end."""
    many = len(runs) > 1
    named = f"{runs[0]}{f' and {len(runs) - 1} more' if many else ''}"
    return f"{named} {'were' if many else 'was'} given up and {'are' if many else 'is'} done again, to the end."


def saving(results: Sequence[Mapping[str, Any]]) -> str:
    """How many runs were given up and what was not done for it, in a sentence; "" where none was."""
    ended = [each for each in results if each["status"] == GIVEN_UP]
    if not ended:
        return ""
    left = sum(each["spec"]["training"]["steps"] - each["steps"] for each in ended)
    seconds = sum(
        (each["spec"]["training"]["steps"] - each["steps"]) * each["training_seconds"] / each["steps"] for each in ended
    )
    many = len(ended) > 1
    return (
        f"{len(ended)} of {len(results)} runs {'were' if many else 'was'} given up at a tenth of the budget and "
        f"count{'s' * (not many)} as not solved; the {left:,} steps that were not done take at most about {seconds:.0f} s"
    )


def _why_not(spec: RunSpec) -> tuple[str, str]:
    """The task or cell that the rule does not hold for, and why; the latter "" where it holds for both."""
    from rnnvg.training import give_up

    if because := give_up.why_not(spec.task["name"]):
        return spec.task["name"], because
    model = models.blueprint(tasks.make(**spec.task), spec.cell, hidden=spec.hidden, layers=spec.layers)
    return spec.cell, give_up.why_not(spec.task["name"], model)
