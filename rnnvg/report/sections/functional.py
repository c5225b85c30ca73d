"""How far networks remember beside how far their gradient reaches: a section of the report where both were measured."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from rnnvg.bench import trained
from rnnvg.functional.logistic import RecallHorizon, accuracy_at, recall_horizon
from rnnvg.functional.quadrants import BOTH, LATCHED, NEITHER, UNUSED, quadrant, rank_correlation
from rnnvg.horizon import spread
from rnnvg.report import pooled, style, wording
from rnnvg.report.page import Table
from rnnvg.report.part import Panels, Part, by_network, each_row
from rnnvg.report.results import RUN, Results, moments
from rnnvg.report.style import AFTER
from rnnvg.report.wording import count, listed

# A measured accuracy this far from the fitted one: d50 is then no summary of the curve.
POOR = 0.15
# Where the name of a quadrant stands, in fractions of the axes, and how it is broken into lines.
_CORNERS = {
    LATCHED: (0.985, 0.02, "remembers\nwithout gradient"),
    BOTH: (0.985, 0.98, "remembers, and the\ngradient reaches"),
    UNUSED: (0.015, 0.98, "gradient\nwithout memory"),
    NEITHER: (0.015, 0.02, "neither"),
}


def frame(results: Results) -> pd.DataFrame:
    """`joined` where `rnnvg report --functional` has asked the networks; empty where it has not."""
    return pd.DataFrame(columns=["problem"]) if results.recall is None else joined(results, results.recall)


def joined(results: Results, answers: pd.DataFrame) -> pd.DataFrame:
    """`horizons`, a row a network and delay, with the right answers there; a network that was not asked has one row."""
    table = horizons(results, answers)
    runs = results.runs
    new = runs[(runs["task"] == trained.TASK) & (runs["status"] == "ok") & ~runs["id"].isin(answers["id"])]
    rows = table.merge(answers[["id", "delay", "right", "n"]], on="id").assign(by=results.by)
    waiting = new[RUN].assign(quadrant="")
    return pd.concat([rows, waiting.assign(by=results.by)], ignore_index=True) if len(waiting) else rows


def horizons(results: Results, answers: pd.DataFrame, threshold: float = pooled.THRESHOLD) -> pd.DataFrame:
    """Both horizons of every network that was asked, after training.

    Args:
        answers: id, delay, right, n, chance, as `rnnvg.bench.trained.remember` gives it.

    Returns:
        problem, network, cell, seed, id, gradient (memory horizon by `results.by`, steps), gradient_censored, d50
        (steps), d50_censored, slope, chance, misfit, reach (the longest delay of training, steps), quadrant. A network
        without a gradient horizon has a nan there and an empty quadrant.
    """
    after = pooled.at(moments(results.horizons), results.by, threshold, AFTER)
    gradients = {row.id: (float(row.last), bool(row.censored)) for row in each_row(after)}
    specs = {record["id"]: record["spec"] for record in results.records}
    rows = []
    for run in each_row(results.runs):
        mine = answers[answers["id"] == run.id].sort_values("delay")
        if mine.empty or run.task != trained.TASK:  # only there is there a delay to remember over
            continue
        recall = recall_horizon(mine["delay"], mine["right"], mine["n"], float(mine["chance"].iloc[0]))
        known = run.id in gradients
        gradient, beyond = gradients.get(run.id, (math.nan, False))
        reach = _reach(specs[run.id]["task"])
        ends = (math.inf if beyond else gradient, math.inf if recall.censored else recall.d50)
        where = quadrant(*ends, reach) if known else ""
        named = (getattr(run, name) for name in RUN)
        rows.append((*named, gradient, beyond, *dataclasses.astuple(recall), reach, where))
    recalled = ["d50", "d50_censored", "slope", "chance", "misfit"]
    return pd.DataFrame(rows, columns=[*RUN, "gradient", "gradient_censored", *recalled, "reach", "quadrant"])


def networks(rows: pd.DataFrame) -> pd.DataFrame:
    """A row a network that was asked, of what `joined` gives."""
    return rows[rows["delay"].notna()].drop_duplicates("id")


def sentences(rows: pd.DataFrame) -> list[str]:
    """How many networks are in each quadrant, and what was not asked yet."""
    table = networks(rows)
    known = table[table["quadrant"] != ""]
    places = [f"{int((known['quadrant'] == name).sum())} in “{name}”" for name in known["quadrant"].unique()]
    statements = []
    if places:
        statements.append(f"Networks by what they remember at the longest delay of training: {listed(places)}.")
    new = rows[rows["delay"].isna()]
    if len(new):
        which = f"{count(len(new), 'trained network')} of delayed recall"
        statements.append(
            f"{which} without a measurement of what is remembered: rnnvg report DIR --functional makes it."
        )
    return statements


def tables(rows: pd.DataFrame) -> list[Table]:
    """Both horizons of every network, and over seeds with their rank correlation."""
    table = networks(rows)

    def cells(own: pd.DataFrame) -> dict[str, Any]:
        d50 = own["d50"].to_numpy(dtype=float)
        over_seeds = spread(d50, np.where(own["d50_censored"].astype(bool), np.inf, d50))
        return {
            "longest delay of training": int(own["reach"].iloc[0]),
            "functional horizon, 50 %": wording.over(over_seeds, lambda value: f"{value:.3g}"),
            "gradient and memory of the task": str(_related(table[table["problem"] == own["problem"].iloc[0]])).rstrip(
                "."
            ),
        }

    return [
        Table(
            by_network(table, cells),
            "Delay at which half of what lies above guessing is left, time steps: median (each seed); and the rank "
            "correlation of both horizons over the networks of a task.",
        ),
        Table(shown(table), "Both horizons of every network after training, time steps.", folded=len(table) > 12),
    ]


def _related(rows: pd.DataFrame) -> Any:
    known = rows[rows["quadrant"] != ""]
    if known.empty:
        return "no gradient horizon is known"
    return rank_correlation(
        np.where(known["gradient_censored"].astype(bool), np.inf, known["gradient"]),
        np.where(known["d50_censored"].astype(bool), np.inf, known["d50"]),
    )


def shown(table: pd.DataFrame) -> pd.DataFrame:
    """The table for readers."""
    return pd.DataFrame(
        {
            "task": table["problem"],
            "network": table["network"],
            "seed": table["seed"].astype(int),
            "gradient horizon, 1/e": [
                "unknown" if math.isnan(value) else f"{'> ' if censored else ''}{value:.0f}"
                for value, censored in zip(table["gradient"], table["gradient_censored"], strict=True)
            ],
            "functional horizon, 50 %": [str(_horizon(row)) for row in each_row(table)],
            "quadrant": table["quadrant"],
            "fit": ["read the curve: no single logistic step" if value > POOR else "" for value in table["misfit"]],
        }
    )


def draw(rows: pd.DataFrame, panels: Panels) -> None:
    """Draws accuracy against delay over gradient horizon against functional horizon: a column a problem."""
    for _, (upper, lower), own in panels.each(rows[rows["delay"].notna()]):
        style.horizon_axis(lower, "x", 1.9 * max(float(own["delay"].max()), 2.0))
        table = networks(own)
        for row in each_row(table):
            _accuracies(upper, row, own[own["id"] == row.id].sort_values("delay"), panels.looks[row.network])
        upper.axhline(
            float(own["chance"].iloc[0]), color=style.INK, linewidth=0.9, linestyle=(0, (1, 1.2)), label="a guess"
        )
        upper.set_ylim(0, 1.05)
        upper.set_ylabel("share of right answers")
        _quadrants(lower, table, panels.looks)
        lower.set_xlabel("delay, and functional horizon at 50 % (time steps)")
        of = (
            "horizon of the gradient\nby the input" if pooled.by(rows) == "input" else "memory horizon of the\ngradient"
        )
        lower.set_ylabel(f"{of} at 1/e (time steps)")
    panels.legend(_entries(networks(rows), panels.looks), networks=False)


def _accuracies(ax: Axes, row: Any, answers: pd.DataFrame, look: tuple[str, str, Any]) -> None:
    colour, marker, dashes = look
    measured: Any = {"linestyle": dashes, "linewidth": 1.1, "marker": marker, "markersize": 3.2, "alpha": 0.75}
    fit: Any = {"linestyle": (0, (1, 1)), "linewidth": 0.9, "alpha": 0.85}
    label = f"{row.network}/{row.id}"
    ax.plot(answers["delay"], answers["right"] / answers["n"], color=colour, label=label, **measured)
    at = np.geomspace(answers["delay"].iloc[0], answers["delay"].iloc[-1], 120)
    ax.plot(at, accuracy_at(at, _horizon(row)), color=colour, label="fit", **fit)


def _quadrants(ax: Axes, rows: pd.DataFrame, look: dict[str, tuple[str, str, Any]]) -> None:
    reach = float(rows["reach"].iloc[0])
    known = rows[rows["quadrant"] != ""]
    style.horizon_axis(ax, "y", 4 * max([reach, *known["gradient"].astype(float)]))
    # Room for the names of the quadrants below networks that have no horizon at all.
    ax.set_ylim(bottom=-0.62)
    for line in (ax.axvline, ax.axhline):
        line(reach, color=style.INK, linewidth=0.9, linestyle=style.TRAINING_DASHES, zorder=1, label="reach")
    for name, (x, y, text) in _CORNERS.items():
        side: Any = {"ha": "left" if x < 0.5 else "right", "va": "bottom" if y < 0.5 else "top"}
        ax.text(x, y, text, transform=ax.transAxes, fontsize=7.5, color=style.MUTED, label=name, **side)
    for row in each_row(known):
        colour, marker, _ = look[row.network]
        at = (row.d50, row.gradient)
        ax.plot(*at, linestyle="none", marker=marker, markersize=6.5, color=colour, alpha=0.6, zorder=3, label=row.id)
        for beyond, offset in ((row.d50_censored, (13, 0)), (row.gradient_censored, (0, 13))):
            if beyond:
                arrow = {"arrowstyle": "<-", "color": colour, "linewidth": 1.1, "shrinkA": 0, "shrinkB": 3}
                ax.annotate("", at, offset, textcoords="offset points", arrowprops=arrow, zorder=2)


def _entries(table: pd.DataFrame, look: dict[str, tuple[str, str, Any]]) -> list[Any]:
    networks = [style.mark(look[name][1], name, color=look[name][0]) for name in dict.fromkeys(table["network"])]
    guess = style.line("a guess", color=style.INK, linewidth=0.9, linestyle=(0, (1, 1.2)))
    return [*networks, guess, style.training_length("longest delay of training")]


def _reach(task: dict[str, Any]) -> int:
    from rnnvg.tasks import settings

    return int(task.get("delay", settings(task["name"])["delay"][0]))


def _horizon(row: Any) -> RecallHorizon:
    slope = None if row.slope is None or math.isnan(row.slope) else row.slope
    return RecallHorizon(row.d50, bool(row.d50_censored), slope, row.chance, row.misfit)


PART = Part(
    name="functional-horizon",
    title="What the networks remember",
    frame=frame,
    lead="A gradient horizon says how far back learning can reach from where the weights are; the functional horizon "
    "says how far the trained network remembers: the delay at which half of what lies above guessing is left. A latch "
    "remembers for ever with a gradient that is gone in two steps.",
    caption="Each network is one line and one point. Upper row: share of right answers against delay; dotted: its "
    "logistic fit, and in black a guess. Lower row: both horizons; dashed: the longest delay of training. An arrow: "
    "only known to be larger.",
    alt="Share of right answers against delay, and below it gradient horizon against functional horizon, in four quadrants",
    draw=draw,
    rows=2,
    height=2.7,
    sentences=sentences,
    tables=tables,
    own_problems=True,
)
