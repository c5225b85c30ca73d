"""How far networks remember beside how far their gradient reaches: a section of the report where both were measured."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from rnnvg.bench.remembered import TASK, answers
from rnnvg.functional.logistic import RecallHorizon, accuracy_at, pool_recall, recall_horizon
from rnnvg.functional.quadrants import BOTH, LATCHED, NEITHER, UNUSED, quadrant, rank_correlation
from rnnvg.report import legend, pooled, style, svg
from rnnvg.report.page import Page, Picture, Section, Table
from rnnvg.report.results import Frame, Results, moments
from rnnvg.report.style import AFTER
from rnnvg.report.wording import count, listed

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# A measured accuracy this far from the fitted one: d50 is then no summary of the curve.
POOR = 0.15
# Where the name of a quadrant stands, in fractions of the axes, and how it is broken into lines.
_CORNERS = {
    LATCHED: (0.985, 0.02, "remembers\nwithout gradient"),
    BOTH: (0.985, 0.98, "remembers, and the\ngradient reaches"),
    UNUSED: (0.015, 0.98, "gradient\nwithout memory"),
    NEITHER: (0.015, 0.02, "neither"),
}


def with_memory(page: Page, results: Results, directory: str | Path) -> Page:
    """`page`, with a section on what the networks remember where `rnnvg report --functional` asked them."""
    asked = answers(directory)
    table = None if asked is None else horizons(results, asked)
    if asked is None or table is None or table.empty:
        return page
    return dataclasses.replace(
        page, sections=[*page.sections[:-1], section(results, asked, table), *page.sections[-1:]]
    )


def horizons(results: Results, asked: Frame, threshold: float = pooled.THRESHOLD) -> Frame:
    """Both horizons of every network that was asked, after training.

    Args:
        asked: id, delay, right, n, chance, as `rnnvg.bench.remembered.remember` gives it.

    Returns:
        problem, network, cell, seed, id, gradient (memory horizon by the state, steps), gradient_censored, d50 (steps),
        d50_censored, slope, chance, misfit, reach (the longest delay of training, steps), quadrant. A network without a
        gradient horizon has a nan there and an empty quadrant.
    """
    after = moments(results.horizons)
    after = after[
        (after["when"] == AFTER) & (after["wrt"] == "state") & np.isclose(after["threshold"].astype(float), threshold)
    ]
    after = after.set_index("id")
    specs = {record["id"]: record["spec"] for record in results.records}
    rows = []
    for run in results.runs.itertuples():
        mine = asked[asked["id"] == run.id].sort_values("delay")
        if mine.empty:
            continue
        found = recall_horizon(mine["delay"], mine["right"], mine["n"], float(mine["chance"].iloc[0]))
        known = run.id in after.index
        gradient = float(after.loc[run.id, "last"]) if known else math.nan
        beyond = bool(after.loc[run.id, "censored"]) if known else False
        reach = _reach(specs[run.id]["task"])
        where = quadrant(math.inf if beyond else gradient, _upper(found.d50, found.censored), reach) if known else ""
        first = (run.problem, run.network, run.cell, run.seed, run.id, gradient, beyond)
        rows.append((*first, *dataclasses.astuple(found), reach, where))
    names = ["problem", "network", "cell", "seed", "id", "gradient", "gradient_censored"]
    found_names = ["d50", "d50_censored", "slope", "chance", "misfit"]
    return pd.DataFrame(rows, columns=[*names, *found_names, "reach", "quadrant"])


def section(results: Results, asked: Frame, table: Frame) -> Section:
    """The section of the page: figure, words and table."""
    with style.applied():
        figure = draw(results, asked, table)
        picture = Picture(
            "functional-horizon",
            f"Share of right answers against delay, and below it gradient horizon against functional horizon: "
            f"{count(len(table), 'network')} in four quadrants.",
            "A line and a point a network. Upper row: share of right answers against delay; dotted: its logistic "
            "fit, and in black a guess. Lower row: both horizons; dashed: the longest delay of training. An arrow: only known "
            "to be larger. The axes are logarithmic in steps + 1.",
            svg.to_svg(figure),
            svg.to_png(figure),
        )
    return Section(
        "functional",
        "What the networks remember",
        "A gradient horizon says how far back learning can reach from where the weights are; the functional horizon says "
        "how far the trained network remembers: the delay at which half of what lies above guessing is left. A latch "
        "remembers for ever with a gradient that is gone in two steps.",
        picture,
        [*paragraphs(table), *unasked(results, asked)],
        [Table.of(shown(table), "Both horizons of every network after training, time steps.", folded=len(table) > 12)],
    )


def paragraphs(table: Frame) -> list[str]:
    """Per problem: the functional horizon of each network with its interval, the quadrants, the rank correlation."""
    said = []
    for problem, rows in table.groupby("problem", sort=False):
        told = []
        for network, mine in rows.groupby("network", sort=False):
            found = pool_recall([_horizon(row) for row in mine.itertuples()])
            middle = found.median if found.center is None else found.center
            value = f"more than {min(mine['d50']):.3g}" if math.isinf(middle) else f"{middle:.3g}"
            within = "" if found.low is None else f" [{found.low:.3g}, {_end(found.high)}]"
            told.append(f"{network} {value}{within}")
        known = rows[rows["quadrant"] != ""]
        places = [f"{int((known['quadrant'] == name).sum())} in “{name}”" for name in known["quadrant"].unique()]
        related = (
            rank_correlation(
                np.where(known["gradient_censored"], np.inf, known["gradient"]),
                np.where(known["d50_censored"], np.inf, known["d50"]),
            )
            if len(known)
            else "no gradient horizon is known"
        )
        said.append(
            f"{problem}: half is left at a delay of {listed(told)} steps. At the longest delay of training, "
            f"{int(rows['reach'].iloc[0])} steps: {listed(places) or 'no network'}. Gradient and memory: "
            f"{str(related).rstrip('.')}."
        )
        poor = rows[rows["misfit"] > POOR]
        if len(poor):
            said.append(
                f"The accuracy of {count(len(poor), 'network')} on {problem} does not fall in one logistic step (more than "
                f"{POOR:g} off the fit): read the curve, not the number."
            )
    return said


def unasked(results: Results, asked: Frame) -> list[str]:
    """What to do where runs have come since the networks were asked; nothing where there are none."""
    runs = results.runs
    new = runs[(runs["task"] == TASK) & (runs["status"] == "ok") & ~runs["id"].isin(asked["id"])]
    if new.empty:
        return []
    which = f"{count(len(new), 'trained network')} of delayed recall"
    return [f"{which} not yet asked what is remembered: rnnvg report DIR --functional asks."]


def shown(table: Frame) -> Frame:
    """The table for readers."""
    return pd.DataFrame(
        {
            "task": table["problem"],
            "network": table["network"],
            "seed": table["seed"],
            "gradient horizon, 1/e": [
                "unknown" if math.isnan(value) else f"{'> ' if censored else ''}{value:.0f}"
                for value, censored in zip(table["gradient"], table["gradient_censored"], strict=True)
            ],
            "functional horizon, 50 %": [str(_horizon(row)) for row in table.itertuples()],
            "quadrant": table["quadrant"],
        }
    )


def draw(results: Results, asked: Frame, table: Frame) -> Figure:
    """Accuracy against delay over gradient horizon against functional horizon: a column a problem."""
    problems = list(dict.fromkeys(table["problem"]))
    figure, axes = style.panels(2, len(problems), height=2.7)
    look = legend.looks(results)
    for column, problem in enumerate(problems):
        upper, lower = axes[:, column]
        rows = table[table["problem"] == problem]
        most = 1.9 * max(float(asked[asked["id"].isin(rows["id"])]["delay"].max()), 2.0)
        style.horizon_axis(lower, "x", most)
        for row in rows.itertuples():
            _accuracies(upper, row, asked[asked["id"] == row.id].sort_values("delay"), look[row.network])
        upper.axhline(
            float(rows["chance"].iloc[0]), color=style.INK, linewidth=0.9, linestyle=(0, (1, 1.2)), label="a guess"
        )
        upper.set_ylim(0, 1.05)
        upper.set_ylabel("share of right answers")
        upper.set_title(style.title(problem))
        _quadrants(lower, rows, look)
        lower.set_xlabel("delay, and functional horizon at 50 % (time steps)")
        lower.set_ylabel("memory horizon of the\ngradient at 1/e (time steps)")
    legend.above(figure, _entries(table, look))
    return figure


def _accuracies(ax: Axes, row: Any, answers: Frame, look: tuple[str, str, Any]) -> None:
    colour, marker, dashes = look
    ax.plot(
        answers["delay"],
        answers["right"] / answers["n"],
        linestyle=dashes,
        linewidth=1.1,
        marker=marker,
        markersize=3.2,
        color=colour,
        alpha=0.75,
        label=f"{row.network}/{row.id}",
    )
    at = np.geomspace(answers["delay"].iloc[0], answers["delay"].iloc[-1], 120)
    ax.plot(
        at, accuracy_at(at, _horizon(row)), color=colour, linestyle=(0, (1, 1)), linewidth=0.9, alpha=0.85, label="fit"
    )


def _quadrants(ax: Axes, rows: Frame, look: dict[str, tuple[str, str, Any]]) -> None:
    reach = float(rows["reach"].iloc[0])
    known = rows[rows["quadrant"] != ""]
    style.horizon_axis(ax, "y", 4 * max([reach, *known["gradient"]]))
    # Room for the names of the quadrants below networks that have no horizon at all.
    ax.set_ylim(bottom=-0.62)
    for line in (ax.axvline, ax.axhline):
        line(reach, color=style.INK, linewidth=0.9, linestyle=legend.TRAINING_DASHES, zorder=1, label="reach")
    for name, (x, y, text) in _CORNERS.items():
        ax.text(
            x,
            y,
            text,
            transform=ax.transAxes,
            ha="left" if x < 0.5 else "right",
            va="bottom" if y < 0.5 else "top",
            fontsize=7.5,
            color=style.MUTED,
            label=name,
        )
    for row in known.itertuples():
        colour, marker, _ = look[row.network]
        at = (row.d50, row.gradient)
        ax.plot(*at, linestyle="none", marker=marker, markersize=6.5, color=colour, alpha=0.6, zorder=3, label=row.id)
        for beyond, offset in ((row.d50_censored, (13, 0)), (row.gradient_censored, (0, 13))):
            if beyond:
                ax.annotate(
                    "",
                    at,
                    offset,
                    textcoords="offset points",
                    arrowprops={"arrowstyle": "<-", "color": colour, "linewidth": 1.1, "shrinkA": 0, "shrinkB": 3},
                    zorder=2,
                )


def _entries(table: Frame, look: dict[str, tuple[str, str, Any]]) -> list:
    from matplotlib.lines import Line2D

    entries: list[Any] = [
        legend.mark(look[network][1], network, color=look[network][0]) for network in dict.fromkeys(table["network"])
    ]
    entries.append(Line2D([], [], color=style.INK, linewidth=0.9, linestyle=(0, (1, 1.2)), label="a guess"))
    entries.append(
        Line2D(
            [], [], color=style.INK, linewidth=0.9, linestyle=legend.TRAINING_DASHES, label="longest delay of training"
        )
    )
    return entries


def _reach(task: dict[str, Any]) -> int:
    from rnnvg.tasks import settings

    return int(task.get("delay", settings(task["name"])["delay"][0]))


def _upper(value: float, censored: bool) -> float:
    return math.inf if censored else value


def _horizon(row: Any) -> RecallHorizon:
    slope = None if row.slope is None or math.isnan(row.slope) else row.slope
    return RecallHorizon(row.d50, bool(row.d50_censored), slope, row.chance, row.misfit)


def _end(high: float | None) -> str:
    return "∞" if high is None or math.isinf(high) else f"{high:.3g}"
