"""The page of an advice: what keeps the gradient from reaching back, what each remedy did, and what to try first."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pandas as pd

from rnnvg.report import advise_figure, style, wording
from rnnvg.report.page import Page, Section, Table
from rnnvg.report.picture import Picture

if TYPE_CHECKING:
    from rnnvg.advise import Advice, Effect

TITLE = "What keeps the gradient from reaching back, and what helps?"
LEAD = (
    "Each remedy changes one thing; the networks of a pair share weights and sequences wherever the change "
    "allows it. A longer "
    "horizon is not learning: that is why the steps to solve the task stand beside it."
)
CAPTION = (
    "Each remedy is one row, the network as it is at the top. Left: rate of decay, predicted and measured. Middle: horizon "
    "relative to the network as it is, median over paired seeds with their range, from six seeds on an "
    "order-statistic interval. "
    "Right: training steps until the task was solved."
)
TABLE = (
    "What each remedy did. Rates in nats a step before training; horizons in time steps; times as far: median "
    "(range) over paired "
    "seeds; * aims at the cause."
)


def page(advice: Advice) -> Page:
    """The page: finding, table and figure; the sentences of every remedy behind them."""
    from rnnvg.advise.words import sentences

    with style.applied():
        figure = advise_figure.remedies(advice)
    networks = wording.count(advice.seeds, "network")
    alt = f"Rates, horizons and steps to solve of {len(advice.effects()) - 1} remedies, {networks} each."
    picture = Picture.of(figure, "advise-remedies", CAPTION, alt)
    first = Section("remedies", "What came out", "", picture, [finding(advice)], [Table.of(shown(advice), TABLE)])
    every = pd.DataFrame({"what was found": sentences(advice)})
    detail = Section("sentences", "Every remedy in words", tables=[Table.of(every, "A line each.")], folded=True)
    left = [Section("left-out", "Left out", paragraphs=[f"{name} {why}." for name, why in advice.left_out.items()])]
    sections = [detail, *(left if advice.left_out else [])]
    return Page(TITLE, LEAD, sections, footer="Written by rnnvg advise. Tables lie beside this page.", first=first)


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


def shown(advice: Advice) -> pd.DataFrame:
    """A row a remedy, for readers."""
    from rnnvg.advise.words import factor

    def times(effect: Effect, when: str) -> str:
        change = effect.log_change(when)
        if effect.silent[when]:
            return f"no gradient left in {effect.silent[when]} of {effect.seeds}"
        return "" if change is None or effect.remedy == "none" else factor(change)

    rows = [
        {
            "change": each.change + (" *" if each.aims_at_cause else ""),
            "predicted rate": "" if each.predicted is None else f"{each.predicted:.3f}",
            "measured": "" if each.measured is None else f"{each.measured:.3f}",
            "horizon before": each.horizon["start"],
            "after": each.horizon["end"],
            "before, against as it is": times(each, "start"),
            "after, against as it is": times(each, "end"),
            "solved": f"{each.solved} of {each.seeds}",
            "median steps": f"{each.median_steps:.0f}" if math.isfinite(each.median_steps) else "",
            "score": "" if each.value is None else wording.number(each.value),
        }
        for each in advice.effects()
    ]
    return pd.DataFrame(rows)
