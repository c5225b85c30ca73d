"""The figure of loss curves: training and held-out loss against training step, with the baseline as a line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rnnvg.report import legend, pooled, style
from rnnvg.report.results import Frame, Results

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BASELINE_DASHES, BEST_DASHES = (0, (1, 1.2)), (0, (6, 1.5, 1, 1.5))


def draw(results: Results) -> Figure:
    """Loss against training step: a column a problem, training loss in the upper row, held-out loss in the lower."""
    rows = {"training": pooled.measured(results, "train"), "held-out": pooled.measured(results, "valid")}
    figure, axes = style.panels(2, len(results.problems), height=2.1)
    for column, problem in enumerate(results.problems):
        axes[0, column].sharey(axes[1, column])
        for row, (name, frame) in enumerate(rows.items()):
            ax = axes[row, column]
            curves(ax, results, frame[frame["problem"] == problem])
            levels(ax, results, problem)
            ax.set_ylabel(f"{name} loss\n({unit(results, problem)})")
        axes[0, column].set_title(style.title(problem))
        axes[1, column].set_xlabel("training step")
    legend.networks(figure, results, entries(results, rows["held-out"]))
    return figure


def unit(results: Results, problem: str) -> str:
    """What a problem's loss is measured in."""
    return str(results.runs.loc[results.runs["problem"] == problem, "unit"].iloc[0])


def curves(ax: Axes, results: Results, frame: Frame) -> None:
    """Every run's loss (step, value) as a line ; a cross where a run diverged, a dot where it was solved."""
    look = legend.looks(results)
    runs = results.runs.set_index("id")
    for (network, run), line in frame.groupby(["network", "id"], sort=False):
        colour, marker, dashes = look[str(network)]
        line = line[np.isfinite(line["value"]) & (line["value"] > 0)]
        if line.empty:
            continue
        ax.plot(
            line["step"],
            line["value"],
            color=colour,
            linestyle=dashes,
            linewidth=1.2,
            alpha=0.85,
            label=f"{network}/{run}",
        )
        end = line.iloc[-1]
        if runs.loc[run, "status"] != "ok":
            ax.plot(
                end["step"],
                end["value"],
                marker="x",
                markersize=6,
                markeredgewidth=1.8,
                color=colour,
                label="broke off",
            )
        elif runs.loc[run, "solved"]:
            ax.plot(end["step"], end["value"], marker=marker, markersize=4.5, color=colour, label="solved")
    if frame.empty:
        ax.text(0.5, 0.5, "nothing measured", transform=ax.transAxes, ha="center", color=style.MUTED)
        return
    _scale(ax)


def levels(ax: Axes, results: Results, problem: str) -> None:
    """The loss of the baseline as a line, and the lowest possible loss where it is known and above 0."""
    for column, dashes in (("baseline_loss", BASELINE_DASHES), ("best_loss", BEST_DASHES)):
        loss = results.known(problem, column)
        if loss is not None and loss > 0:
            ax.axhline(loss, color=style.INK, linewidth=1.0, linestyle=dashes, zorder=1.5, label=column)


def entries(results: Results, frame: Frame) -> list:
    """Legend entries for what `curves` and `levels` have drawn."""
    from matplotlib.lines import Line2D

    found: list = []
    for column, dashes, name in (
        ("baseline_loss", BASELINE_DASHES, "baseline"),
        ("best_loss", BEST_DASHES, "lowest possible"),
    ):
        if (results.runs[column] > 0).any():
            found.append(Line2D([], [], color=style.INK, linewidth=1.0, linestyle=dashes, label=name))
    drawn = results.runs[results.runs["id"].isin(frame["id"])]
    if (drawn["solved"] & (drawn["status"] == "ok")).any():
        found.append(legend.mark("o", "solved", markersize=5))
    if (drawn["status"] != "ok").any():
        found.append(legend.mark("x", "broke off", markersize=6, markeredgewidth=1.8))
    return found


def _scale(ax: Axes) -> None:
    """A log axis, or a linear one where the values span less than a factor of 5 and decades would show nothing."""
    low, high = ax.dataLim.intervaly
    if not 0 < low <= high < 5 * low:
        ax.set_yscale("log")
