"""The figure of the gradient's magnitude against time-step distance, before and after training."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from rnnvg.report import legend, pooled, style
from rnnvg.report.results import Frame, Results
from rnnvg.report.style import AFTER, BEFORE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FLOOR = -12.0  # decades; what lies below is as good as gone, and the thresholds would be lost in the top of the axis
THRESHOLDS = {pooled.THRESHOLD: "1/e", 0.01: "0.01"}


def draw(results: Results, wrt: str = "state") -> Figure:
    """Gain against distance on a log axis: a column a problem, a row a moment, a colour a cell."""
    single = pooled.curves(results, wrt)
    mean = pooled.mean_curves(single)
    bottom, top = limits(single)
    figure, axes = style.panels(2, len(results.problems), height=2.35, sharey=True)
    for column, problem in enumerate(results.problems):
        for row, when in enumerate((BEFORE, AFTER)):
            ax = axes[row, column]
            _curves(ax, results, _part(single, problem, when), _part(mean, problem, when), bottom)
            _guides(ax, results.training_length(problem), bottom, top)
            ax.set_ylim(bottom, top)
            if style.begins_row(ax):
                ax.set_ylabel(when, fontweight="bold")
        axes[0, column].set_title(style.title(problem))
        axes[1, column].set_xlabel("distance (time steps back)")
    figure.supylabel("gradient magnitude, relative to one step back", fontsize="medium")
    _decades(axes[0, 0])
    legend.networks(figure, results, _entries(single))
    return figure


def limits(single: Frame) -> tuple[float, float]:
    """Bottom and top of the gain axis in decades: all of the data, but not below FLOOR."""
    finite = single.loc[np.isfinite(single["log10_gain"]), "log10_gain"]
    least, most = (finite.min(), finite.max()) if len(finite) else (0.0, 0.0)
    top = max(0.5, most + 0.04 * (most - max(least, FLOOR)))
    return max(FLOOR, min(-2.5, math.floor(least))), float(top)


def _part(frame: Frame, problem: str, when: str) -> Frame:
    return frame[(frame["problem"] == problem) & (frame["when"] == when)]


def _curves(ax: Axes, results: Results, single: Frame, mean: Frame, bottom: float) -> None:
    look = legend.looks(results)
    for frame, keys, thin in ((single, ["network", "id"], True), (mean, ["network"], False)):
        for key, line in frame.groupby(keys, sort=False):
            colour, _, dashes = look[key[0]]
            # A curve far below the frame is drawn down to a little below it: the way out is seen, the file stays small.
            gain = line["log10_gain"].where(np.isfinite(line["log10_gain"])).clip(lower=bottom - 3)
            weight: Any = {"linewidth": 0.8, "alpha": 0.55, "zorder": 2} if thin else {"linewidth": 2.2, "zorder": 3}
            ax.plot(line["distance"], gain, color=colour, linestyle=dashes, label="/".join(map(str, key)), **weight)
    if single.empty:
        ax.text(0.5, 0.5, "nothing measured", transform=ax.transAxes, ha="center", color=style.MUTED)


def _guides(ax: Axes, training_length: int | None, bottom: float, top: float) -> None:
    if training_length is not None:
        ax.axvline(training_length, color=style.INK, linewidth=0.9, linestyle=legend.TRAINING_DASHES, zorder=1.5)
    levels = {name: math.log10(threshold) for threshold, name in THRESHOLDS.items()}
    # On a long axis the lines come so close that one label goes above its line and one below.
    close = max(levels.values()) - min(levels.values()) < 0.1 * (top - bottom)
    for name, level in levels.items():
        ax.axhline(level, color=style.MUTED, linewidth=0.8, linestyle=(0, (1, 1.5)), zorder=1.5)
        if style.ends_row(ax):
            side = "center" if not close else "bottom" if level == max(levels.values()) else "top"
            where: Any = {"xycoords": ax.get_yaxis_transform(), "xytext": (3, 0), "textcoords": "offset points"}
            ax.annotate(name, (1, level), va=side, **where)
    ax.set_xlim(left=0)


def _decades(ax: Axes) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    ax.yaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, steps=[1, 2, 3, 4, 5, 10]))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda decade, _: f"$10^{{{decade:g}}}$" if decade else "1"))


def _entries(single: Frame) -> list:
    from matplotlib.lines import Line2D

    entries = [legend.training_length()]
    if single.groupby(pooled.GROUP)["id"].nunique().max() > 1:
        entries += [
            Line2D([], [], color=style.MUTED, linewidth=0.8, label="one seed"),
            Line2D([], [], color=style.MUTED, linewidth=2.2, label="mean of seeds"),
        ]
    return entries
