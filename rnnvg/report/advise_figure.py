"""The forest plot of remedies: rates predicted and measured, horizons against the network as it is, steps to solve."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rnnvg.bptt.plots import BLUE, GREEN, ORANGE
from rnnvg.report import style

if TYPE_CHECKING:
    from rnnvg.advise import Advice, Effect

LOOKS: dict[str, tuple[str, str, float, str]] = {
    "start": (BLUE, "o", -0.14, "before training"),
    "end": (GREEN, "D", 0.14, "after training"),
}
ROOM = 1.35  # beyond the finite ends, as a factor, for arrows of intervals without an end


def remedies(advice: Advice) -> Figure:
    """A row a remedy, in the order in which they are proposed, the network as it is at the top."""
    effects = advice.effects()
    figure = Figure(figsize=(11.0, 0.29 * len(effects) + 1.5), layout="constrained")
    axes: Any = figure.subplots(1, 3, sharey=True, width_ratios=(1.1, 1.5, 1.0))
    _rates(axes[0], effects, advice)
    _horizons(axes[1], effects)
    _steps(axes[2], effects, advice.settings.steps)
    axes[0].set_yticks(range(len(effects)), [_label(each) for each in effects])
    axes[0].set_ylim(len(effects) - 0.5, -0.5)
    for ax in axes:
        ax.tick_params(axis="y", length=0)
        ax.axhline(0.5, color=style.MUTED, linewidth=0.8)
    style.legend_above(
        figure,
        [
            style.mark("|", "predicted by theory", color=style.INK, markersize=11, markeredgewidth=1.8),
            *(style.mark(marker, label, color=colour) for colour, marker, _, label in LOOKS.values()),
            style.mark("x", "not solved", color=ORANGE),
            style.mark("$*$", "aims at the cause", color=style.INK, markersize=6),
        ],
    )
    return figure


def _label(effect: Effect) -> str:
    star = " *" if effect.aims_at_cause else ""
    return f"{effect.change}{star}"


def _rates(ax: Axes, effects: Sequence[Effect], advice: Advice) -> None:
    colour, marker = LOOKS["start"][:2]
    for row, each in enumerate(effects):
        rates = [(trial["start"] or {}).get("rate") for trial in advice.of(each.remedy)]
        seen = [rate for rate in rates if rate is not None]
        ax.plot(seen, [row] * len(seen), marker, color=colour, markersize=5, alpha=0.65, markeredgewidth=0)
        if each.predicted is not None:
            ax.plot(each.predicted, row, "|", color=style.INK, markersize=13, markeredgewidth=1.8)
    ax.axvline(0, color=style.MUTED, linewidth=0.9)
    ax.set_xlabel("decay before training\n(nats a step; one point per seed)")
    ax.set_title("Rate")


def _horizons(ax: Axes, effects: Sequence[Effect]) -> None:
    changes = [change for each in effects[1:] for when in LOOKS if (change := each.log_change(when))]
    ends = [value for change in changes for value in change if math.isfinite(value)]
    low, high = min([0.0, *ends]) - math.log(ROOM), max([0.0, *ends]) + math.log(ROOM)
    for row, each in enumerate(effects[1:], start=1):
        for when, (colour, marker, offset, _) in LOOKS.items():
            change = each.log_change(when)
            if each.silent[when]:
                note = f"no gradient left in {each.silent[when]} of {each.seeds}"
                ax.text(0, row + offset, f"  {note}", color=colour, fontsize="small", va="center")
            if change is not None:
                _interval(ax, row + offset, change, (low, high), colour, marker)
    ax.axvline(0, color=style.MUTED, linewidth=0.9)
    ax.set_xlim(low, high)
    ticks = [tick for tick in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500) if low <= math.log(tick) <= high]
    ax.set_xticks([math.log(tick) for tick in ticks], [f"{tick:g}" for tick in ticks])
    ax.set_xlabel("times as far as without it\n(range over seeds; arrow: no end)")
    ax.set_title("Memory horizon")


def _interval(
    ax: Axes, row: float, change: tuple[float, float, float], room: tuple[float, float], colour: str, marker: str
) -> None:
    middle, low, high = change
    left, right = max(low, room[0]), min(high, room[1])
    ax.plot([left, right], [row, row], color=colour, linewidth=1.6, solid_capstyle="butt")
    for end, at, sign in ((low, left, "<"), (high, right, ">")):
        if math.isinf(end):
            ax.plot(at, row, sign, color=colour, markersize=6, clip_on=False)
    if math.isfinite(middle):
        ax.plot(middle, row, marker, color=colour, markersize=6)


def _steps(ax: Axes, effects: Sequence[Effect], budget: int) -> None:
    for row, each in enumerate(effects):
        solved = [step for step in each.steps_to_solve if step is not None]
        missing = each.seeds - len(solved)
        # Points at one place would lie on each other.
        spread = np.linspace(-0.2, 0.2, each.seeds) if each.seeds > 1 else np.zeros(1)
        ax.plot(solved, row + spread[: len(solved)], "D", color=GREEN, markersize=4.5, alpha=0.8, markeredgewidth=0)
        ax.plot([1.08 * budget] * missing, row + spread[len(solved) :], "x", color=ORANGE, markersize=4.5)
    ax.axvline(budget, color=style.MUTED, linewidth=0.9, linestyle=(0, (4, 2)))
    ax.set_xlim(0, 1.16 * budget)
    ax.set_xlabel("training steps until solved\n(dashed: the budget)")
    ax.set_title("Learning")
