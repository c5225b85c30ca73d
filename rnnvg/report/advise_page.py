"""The page of an advice: what keeps the gradient from reaching back, what each remedy did, and what to try first."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd

from rnnvg.report import advise_figure, style, wording
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


def page(advice: Advice) -> Page:
    """The page: finding, table and figure; the numbers and sentences of every remedy behind them."""
    from rnnvg.advise.words import sentences

    effects = advice.effects()
    with style.applied():
        figure = advise_figure.remedies(advice)
    alt = f"Rates, horizons and steps to solve of {wording.count(len(effects) - 1, 'remedy', 'remedies')}."
    picture = Picture.of(figure, "advise-remedies", CAPTION, alt, labels=figure.axes[0])
    every = shown(effects)
    best = shown(leading(advice))[FIRST_COLUMNS]
    count = (
        f"The network as it is, and {len(best) - 1} of {len(effects) - 1} remedies. "
        if len(best) < len(effects)
        else ""
    )
    first = Section(
        "finding",
        "What came out",
        "",
        picture,
        [finding(advice)],
        [Table(best, f"{count}{TABLE.partition('; rates')[0]}.")],
    )
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
            "rate predicted": "" if each.predicted is None else f"{each.predicted:.3f}",
            "measured": "" if each.measured is None else f"{each.measured:.3f}",
            "half-life": "" if each.measured is None else wording.half_life(each.measured),
            "horizon before": each.horizon["start"],
            "after": each.horizon["end"],
            "times as far, before": times(each, "start"),
            "times as far, after": times(each, "end"),
            "solved": f"{each.solved} of {each.seeds}",
            "median steps": f"{each.median_steps:.0f}" if math.isfinite(each.median_steps) else "",
            "score": "" if each.value is None else wording.number(each.value),
        }
        for each in effects
    ]
    return pd.DataFrame(rows)
