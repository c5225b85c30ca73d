"""The page of an advice: what keeps the gradient from reaching back, what each remedy did, and what to try first."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rnnvg.bptt.plots import BLUE, GREEN, ORANGE
from rnnvg.report import style, wording
from rnnvg.report.page import Page, Section, Table
from rnnvg.report.picture import Picture

if TYPE_CHECKING:
    from rnnvg.advise import Advice, Effect

TITLE = "What keeps the gradient from reaching back, and what helps?"
LEAD = (
    "Each remedy changes one thing; the networks of a pair share weights and sequences wherever the change allows it. A "
    "longer horizon is not learning: that is why the steps to solve the task stand beside it."
)
CAPTION = (
    "Each remedy is one row, the network as it is at the top. Left: rate of decay. Middle: horizon relative to the network as "
    "it is, median over paired seeds with their range (from six seeds on an order-statistic interval). Right: training steps "
    "until the task was solved."
)
TABLE = (
    "Horizons in time steps; times as far: against the network as it is, median [range] over paired seeds; rates in nats a "
    "step before training, half-life in steps at the measured one (inf: no decay); * aims at the cause."
)
LEADING = 5  # rows of the first screen's table
FIRST_COLUMNS = ["change", "horizon before", "after", "times as far, after", "solved", "median steps"]

LOOKS: dict[str, tuple[str, str, float, str]] = {
    "start": (BLUE, "o", -0.14, "before training"),
    "end": (GREEN, "D", 0.14, "after training"),
}
ROOM = 1.35  # beyond the finite ends, as a factor, for arrows of intervals without an end


def page(advice: Advice) -> Page:
    """The page: finding, table and figure; the numbers and sentences of every remedy behind them."""
    from rnnvg.advise.words import sentences

    effects = advice.effects()
    with style.applied():
        figure = draw(advice)
    alt = f"Rates, horizons and steps to solve of {wording.count(len(effects) - 1, 'remedy', 'remedies')}."
    picture = Picture.of(figure, "advise-remedies", CAPTION, alt, labels=figure.axes[0])
    every = shown(effects)
    best = shown(leading(advice))[FIRST_COLUMNS]
    count = (
        f"The network as it is, and {len(best) - 1} of {len(effects) - 1} remedies. "
        if len(best) < len(effects)
        else ""
    )
    table = Table(best, f"{count}{TABLE.partition('; rates')[0]}.")
    first = Section("finding", "What came out", "", picture, [finding(advice)], [table])
    words = pd.DataFrame({"what was found": sentences(advice)})
    sections = [
        Section("remedies", "Every remedy in numbers", tables=[Table(every, TABLE)]),
        Section("sentences", "Every remedy in words", tables=[Table(words, "A sentence for each.")], folded=True),
    ]
    if advice.left_out:
        left = [f"{name} {why}." for name, why in advice.left_out.items()]
        sections.append(Section("left-out", "Left out", paragraphs=left))
    return Page(TITLE, LEAD, sections, footer="Written by rnnvg advise. Tables lie beside this page.", first=first)


def leading(advice: Advice) -> list[Effect]:
    """The network as it is, what to try first, and then those that solved the task most often and soonest."""
    base, *others = advice.effects()
    first = advice.first()

    def rank(effect: Effect) -> tuple[bool, int, float, float]:
        reach = effect.log_change("end")
        known = reach is not None and not math.isnan(reach[0])
        return effect != first, -effect.solved, effect.median_steps, -reach[0] if reach and known else math.inf

    return [base, *sorted(others, key=rank)[: LEADING - 1]]


def finding(advice: Advice) -> str:
    """The cause, and what to try first, in a sentence."""
    from rnnvg.advise.words import CAUSES

    cause = CAUSES[advice.cause]
    first = advice.first()
    if first is None:
        return f"{cause[0].upper()}{cause[1:]}; none of the remedies helped here."
    came = f"solved the task in {first.solved} of {wording.count(first.seeds, 'seed')}"
    reached = "made the horizon longer without solving the task"
    return f"{cause[0].upper()}{cause[1:]}; try first: {first.change}, which {came if first.solved else reached}."


def shown(effects: Sequence[Effect]) -> pd.DataFrame:
    """A row a remedy, for readers."""
    from rnnvg.advise.words import ratio

    def times(effect: Effect, when: str) -> str:
        change = effect.log_change(when)
        if effect.silent[when]:
            return f"no gradient left in {effect.silent[when]} of {effect.seeds}"
        return "" if change is None or effect.remedy == "none" else ratio(change)

    rows = [
        {
            "change": each.change + (" *" if each.aims_at_cause else ""),
            "rate predicted": wording.known(each.predicted, "{:.3f}".format),
            "measured": wording.known(each.measured, "{:.3f}".format),
            "half-life": wording.known(each.measured, wording.half_life),
            "horizon before": each.horizon["start"],
            "after": each.horizon["end"],
            "times as far, before": times(each, "start"),
            "times as far, after": times(each, "end"),
            "solved": f"{each.solved} of {each.seeds}",
            "median steps": f"{each.median_steps:.0f}" if math.isfinite(each.median_steps) else "",
            "score": wording.known(each.value),
        }
        for each in effects
    ]
    return pd.DataFrame(rows)


def draw(advice: Advice) -> Figure:
    """Draws rates, horizons and steps to solve: a row a remedy in the order in which they are proposed, the first as it is."""
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
