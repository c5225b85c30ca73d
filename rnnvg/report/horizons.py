"""The figure of memory horizons: every seed's, and the pooled estimate with its interval, before and after training."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from rnnvg.report import legend, pooled, style
from rnnvg.report.results import Frame, Results, moments
from rnnvg.report.style import AFTER, BEFORE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Each network has a row, 1 high: before training in its upper half, after in its lower, the seeds under their estimate.
LANES = {BEFORE: 0.28, AFTER: -0.16}
SEEDS_BELOW = 0.17


def draw(results: Results, wrt: str = "state", threshold: float = pooled.THRESHOLD) -> Figure:
    """Horizons in time steps, a panel a problem, a row a network; what is only known to be larger is marked ">"."""
    estimates = _at(pooled.horizons(results), wrt, threshold)
    single = _at(moments(results.horizons), wrt, threshold)
    rows = results.networks()
    height = 0.8 * len(rows) + 0.7
    figure, axes = style.panels(1, len(results.problems), height=height, sharey=True)
    look = legend.looks(results)
    for ax, problem in zip(axes[0], results.problems, strict=True):
        most = axis_end(single, results, problem)
        style.horizon_axis(ax, "x", most)
        length = results.training_length(problem)
        if length is not None:
            ax.axvline(length, color=style.INK, linewidth=0.9, linestyle=legend.TRAINING_DASHES, zorder=1)
        for place, network in enumerate(reversed(rows)):
            chosen = (estimates["problem"] == problem) & (estimates["network"] == network)
            for row in estimates[chosen & (estimates["n"] > 0)].itertuples():
                mine = (single["problem"] == problem) & (single["network"] == network) & (single["when"] == row.when)
                if row.n > 1:
                    _seeds(ax, single[mine], place + LANES[row.when] - SEEDS_BELOW, look[network], row.when)
                _estimate(ax, row, place + LANES[row.when], look[network], most)
            if network in results.networks(problem) and not (chosen & (estimates["n"] > 0)).any():
                ax.annotate("no measurement", (0.5, place), color=style.MUTED, va="center")
        ax.set_title(style.title(problem))
        ax.set_xlabel(f"memory horizon at {style.threshold_name(threshold)} (time steps)")
        ax.tick_params(axis="y", length=0)
        ax.grid(visible=False, axis="y")
        for edge in range(1, len(rows)):
            ax.axhline(edge - 0.5, color=style.GRID, linewidth=0.8, zorder=0)
    axes[0, 0].set_yticks(range(len(rows)), rows[::-1])
    axes[0, 0].set_ylim(-0.55, len(rows) - 0.45)
    legend.above(figure, _entries(single, estimates))
    return figure


def axis_end(single: Frame, results: Results, problem: str) -> float:
    """Where the horizon axis of a problem ends, in steps: past every seed and the training length."""
    seen = single.loc[single["problem"] == problem, "last"]
    return 1.9 * max([2.0, *seen, float(results.training_length(problem) or 0)])


def _at(frame: Frame, wrt: str, threshold: float) -> Frame:
    if frame.empty:
        return frame
    return frame[(frame["wrt"] == wrt) & np.isclose(frame["threshold"], threshold)]


def _seeds(ax: Axes, seeds: Frame, at: float, look: tuple[str, str, Any], when: str) -> None:
    colour, marker, _ = look
    offsets = at + 0.035 * (np.arange(len(seeds)) - (len(seeds) - 1) / 2)
    censored = seeds["censored"].to_numpy()
    for chosen, mark in ((~censored, marker), (censored, ">")):
        if chosen.any():
            ax.plot(
                seeds["last"][chosen],
                offsets[chosen],
                linestyle="none",
                marker=mark,
                markersize=4.2,
                markeredgewidth=0.7,
                markeredgecolor=colour,
                markerfacecolor="none" if when == BEFORE else colour,
                alpha=0.75,
                zorder=2,
                label="censored seeds" if mark == ">" else "seeds",
            )


def _estimate(ax: Axes, row: Any, at: float, look: tuple[str, str, Any], most: float) -> None:
    colour, marker, _ = look
    middle, open_ended = best_guess(row)
    if not math.isnan(row.low):
        ax.plot([row.low, min(row.high, most)], [at, at], color=colour, linewidth=1.8, zorder=3, label="interval")
        if row.high > most:  # goes on beyond the frame
            ax.plot(most, at, marker=">", markersize=5, color=colour, clip_on=False, zorder=3, label="interval goes on")
    ax.plot(
        middle,
        at,
        linestyle="none",
        marker=">" if open_ended else marker,
        markersize=8,
        markeredgewidth=1.6,
        markeredgecolor=colour,
        markerfacecolor=style.PAPER if row.when == BEFORE else colour,
        zorder=4,
        label="pooled",
    )


def best_guess(row: Any) -> tuple[float, bool]:
    """Where a pooled horizon is drawn, in steps, and whether it is only known to be larger than that."""
    if not math.isnan(row.center):
        return row.center, False
    return (row.bound, True) if math.isinf(row.median) else (row.median, False)


def _entries(single: Frame, estimates: Frame) -> list:
    from matplotlib.lines import Line2D

    entries = [legend.mark("o", BEFORE, markerfacecolor="none", markeredgewidth=1.6), legend.mark("o", AFTER)]
    if estimates["n"].max() > 1:
        entries.append(legend.mark("o", "one seed", markersize=4.2, alpha=0.75))
        entries.append(Line2D([], [], color=style.MUTED, linewidth=1.8, label="interval over seeds"))
    if single["censored"].any():
        entries.append(legend.mark(">", "more than was observed"))
    return [*entries, legend.training_length()]
