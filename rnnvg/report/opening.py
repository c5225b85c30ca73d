"""The figure of when the horizon opens: horizon against training step, and above it the loss on the same steps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from rnnvg.report import legend, losses, pooled, style
from rnnvg.report.results import Frame, Results

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def through_training(results: Results, wrt: str = "state", threshold: float = pooled.THRESHOLD) -> Frame:
    """Horizon of every run at every checkpoint: problem, network, cell, id, seed, status, step, last, censored."""
    frame = results.horizons
    frame = frame[(frame["wrt"] == wrt) & np.isclose(frame["threshold"], threshold)]
    columns = ["problem", "network", "cell", "id", "seed", "status", "step", "last", "censored"]
    return frame[columns].sort_values(["id", "step"], kind="stable").reset_index(drop=True)


def draw(results: Results, wrt: str = "state", threshold: float = pooled.THRESHOLD) -> Figure:
    """Held-out loss over memory horizon, sharing the training step: a column a problem, a line a run."""
    seen = through_training(results, wrt, threshold)
    loss = pooled.measured(results, "valid")
    figure, axes = style.panels(2, len(results.problems), height=2.3)
    figure.get_layout_engine().set(h_pad=0.06)  # type: ignore[union-attr]
    for column, problem in enumerate(results.problems):
        upper, lower = axes[:, column]
        losses.curves(upper, results, loss[loss["problem"] == problem])
        losses.levels(upper, results, problem)
        upper.set_title(style.title(problem))
        upper.set_ylabel(f"held-out loss\n({losses.unit(results, problem)})")
        _horizons(lower, results, seen[seen["problem"] == problem])
        length = results.training_length(problem)
        most = 1.5 * max([2.0, float(length or 0), *seen.loc[seen["problem"] == problem, "last"]])
        style.horizon_axis(lower, "y", most)
        if length is not None:
            lower.axhline(length, color=style.INK, linewidth=0.9, linestyle=legend.TRAINING_DASHES, zorder=1)
        lower.set_xlabel("training step")
        lower.set_ylabel(f"memory horizon at {style.threshold_name(threshold)}\n(time steps)")
    entries = losses.entries(results, loss)
    if seen["censored"].any():
        entries.append(legend.mark(">", "horizon beyond what was observed"))
    legend.networks(figure, results, [*entries, legend.training_length()])
    return figure


def _horizons(ax: Axes, results: Results, seen: Frame) -> None:
    look = legend.looks(results)
    for (network, run), line in seen.groupby(["network", "id"], sort=False):
        colour, marker, dashes = look[str(network)]
        ax.plot(
            line["step"],
            line["last"],
            color=colour,
            linestyle=dashes,
            linewidth=1.1,
            alpha=0.85,
            label=f"{network}/{run}",
        )
        censored = line["censored"]
        for part, mark in ((line[~censored], marker), (line[censored], ">")):
            look_of: dict[str, Any] = {"color": colour, "marker": mark, "markersize": 3.4, "linestyle": "none"}
            if len(part):
                ax.plot(part["step"], part["last"], label="checkpoints" if mark != ">" else "censored", **look_of)
    if seen.empty:
        ax.text(0.5, 0.5, "nothing measured", transform=ax.transAxes, ha="center", color=style.MUTED)
