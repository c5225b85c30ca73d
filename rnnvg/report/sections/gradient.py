"""The gradient's magnitude against time-step distance, before and after training."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from rnnvg.horizon import spread
from rnnvg.report import pooled, style, wording
from rnnvg.report.page import Table
from rnnvg.report.part import Panels, Part, by_network, nothing
from rnnvg.report.results import Results
from rnnvg.report.style import AFTER, BEFORE

FLOOR = -12.0  # decades; what lies below is as good as gone, and the thresholds would be lost in the top of the axis
THRESHOLDS = {pooled.THRESHOLD: "1/e", 0.01: "0.01"}
CLEAR = 10.0  # one network keeps more than another where it keeps ten times as much


def frame(results: Results) -> pd.DataFrame:
    """What `pooled.curves` gives by the state or the input (`by`), and length: where the table reads the curves.

    That is at one training length. Where no curve is that long it is the largest distance that all curves of the problem have.
    """
    rows = pooled.curves(results, results.by).assign(by=results.by)
    lengths = {}
    for problem, own in rows.groupby("problem", sort=False):
        least = int(own.groupby(["network", "when", "id"])["distance"].max().min())
        length = results.training_length(str(problem))
        lengths[problem] = least if length is None or length > least else length
    return rows.assign(length=rows["problem"].map(lengths))


def lead(rows: pd.DataFrame) -> str:
    """What is asked of the state, or of the input where that is what all networks have."""
    return (
        f"The loss is applied at one time step. How much of its gradient is left at the network's {pooled.by(rows)}, "
        "further and further back?"
    )


def sentences(rows: pd.DataFrame) -> list[str]:
    """Which network keeps most one training length back after training, and which gradients grow."""
    statements = []
    after = _left(rows)
    after = after[after["when"] == AFTER]
    best: dict[str, list[str]] = {}
    for problem, own in after.groupby("problem", sort=False):
        ordered = own.sort_values("log10_gain", ascending=False, kind="stable")
        if len(ordered) > 1 and ordered["log10_gain"].iloc[0] - ordered["log10_gain"].iloc[1] >= math.log10(CLEAR):
            best.setdefault(str(ordered["network"].iloc[0]), []).append(wording.problem(str(problem)))
    if best:
        parts = [f"{network} on {wording.listed(problems)}" for network, problems in best.items()]
        statements.append(
            f"After training, one training length back, at least ten times as much of the gradient is left with "
            f"{wording.listed(parts)} as with any other network."
        )
    finite = pooled.median_curves(rows)
    finite = finite[np.isfinite(finite["log10_gain"])]
    if len(finite) and finite["log10_gain"].max() > math.log10(2):
        peak = finite.sort_values("log10_gain", ascending=False, kind="stable").iloc[0]
        statements.append(
            f"{peak['network']}'s gradient grows ({wording.problem(peak['problem'])}, {peak['when']}): it is "
            f"{wording.power(peak['log10_gain'])} times its size one step back at distance {peak['distance']}."
        )
    return statements


def _left(rows: pd.DataFrame) -> pd.DataFrame:
    """What is left at each problem's length: problem, network, cell, when, log10_gain (median over seeds)."""
    own = rows[rows["distance"] == rows["length"]]
    return own.groupby(pooled.GROUP, sort=False)["log10_gain"].median().reset_index()


def tables(rows: pd.DataFrame) -> list[Table]:
    """What is left one training length back, before and after training."""

    def cells(own: pd.DataFrame) -> dict[str, Any]:
        length, when = own["length"].iloc[0], own["when"]
        gains = {each: own.loc[(when == each) & (own["distance"] == length), "log10_gain"] for each in (BEFORE, AFTER)}
        gone = own.loc[np.isneginf(own["log10_gain"]), "distance"]
        whole = pooled.median_curves(own[when == AFTER])["log10_gain"]
        return {
            "distance": int(length),
            **{
                each: wording.over(spread(gain.to_numpy()) if len(gain) else None, wording.power)
                for each, gain in gains.items()
            },
            "exactly zero from": "" if gone.empty else str(gone.min()),
            "largest": "" if whole.empty else wording.power(float(whole.max())),
        }

    table = by_network(rows, cells)
    if not any(table["exactly zero from"]):
        table = table.drop(columns="exactly zero from")
    caption = (
        "What is left of the gradient one training length back, relative to one step back: median (each seed). Largest: the "
        "median curve's highest point after training."
    )
    return [Table(table, caption)]


def draw(rows: pd.DataFrame, panels: Panels) -> None:
    """Draws gain against distance on a log axis: a column a problem, a row a moment, a colour a cell."""
    middle = pooled.median_curves(rows)
    bottom, top = limits(rows)
    for problem, column, own in panels.each(rows):
        for ax, when in zip(column, (BEFORE, AFTER), strict=True):
            here = middle[(middle["problem"] == problem) & (middle["when"] == when)]
            _curves(ax, panels, own[own["when"] == when], here, bottom)
            _guides(ax, panels.lengths[problem], bottom, top)
            ax.set_ylim(bottom, top)
            ax.set_ylabel(f"gradient left{' at input' * (pooled.by(rows) == 'input')},\n{when}")
        column[-1].set_xlabel("distance (time steps back)")
    style.decades(panels.axes[0, 0].yaxis)
    panels.legend(_entries(rows))


def limits(rows: pd.DataFrame) -> tuple[float, float]:
    """Bottom and top of the gain axis in decades: all of the data, but not below FLOOR."""
    finite = rows.loc[np.isfinite(rows["log10_gain"]), "log10_gain"]
    least, most = (finite.min(), finite.max()) if len(finite) else (0.0, 0.0)
    top = max(0.5, most + 0.04 * (most - max(least, FLOOR)))
    return max(FLOOR, min(-2.5, math.floor(least))), float(top)


def _curves(ax: Axes, panels: Panels, single: pd.DataFrame, middle: pd.DataFrame, bottom: float) -> None:
    for rows, keys, thin in ((single, ["network", "id"], True), (middle, ["network"], False)):
        for names, line in rows.groupby(keys, sort=False):
            key = [str(name) for name in names] if isinstance(names, tuple) else [str(names)]
            colour, _, dashes = panels.looks[key[0]]
            # A curve far below the frame is drawn down to a little below it: the way out is seen, the file stays small.
            gain = line["log10_gain"].where(np.isfinite(line["log10_gain"])).clip(lower=bottom - 3)
            weight: Any = {"linewidth": 0.8, "alpha": 0.55, "zorder": 2} if thin else {"linewidth": 2.2, "zorder": 3}
            ax.plot(line["distance"], gain, color=colour, linestyle=dashes, label="/".join(key), **weight)
    if single.empty and not ax.texts:
        nothing(ax)


def _guides(ax: Axes, training_length: int | None, bottom: float, top: float) -> None:
    if training_length is not None:
        ax.axvline(training_length, color=style.INK, linewidth=0.9, linestyle=style.TRAINING_DASHES, zorder=1.5)
    levels = {name: math.log10(threshold) for threshold, name in THRESHOLDS.items()}
    # On a long axis the lines come so close that one label goes above its line and one below.
    close = max(levels.values()) - min(levels.values()) < 0.1 * (top - bottom)
    for name, level in levels.items():
        ax.axhline(level, color=style.MUTED, linewidth=0.8, linestyle=(0, (1, 1.5)), zorder=1.5)
        side = "center" if not close else "bottom" if level == max(levels.values()) else "top"
        where: Any = {"xycoords": ax.get_yaxis_transform(), "xytext": (3, 0), "textcoords": "offset points"}
        ax.annotate(name, (1, level), va=side, fontsize="small", **where)
    ax.set_xlim(left=0)


def _entries(rows: pd.DataFrame) -> list[Any]:
    entries = [style.training_length()]
    if rows.groupby(pooled.GROUP)["id"].nunique().max() > 1:
        entries += [style.line("one seed", linewidth=0.8), style.line("median of seeds", linewidth=2.2)]
    return entries


PART = Part(
    name="gradient-against-distance",
    title="Gradient against distance",
    frame=frame,
    lead=lead,
    caption="Log axis, relative to one step back; each seed is a geometric mean over sequences. Thick: median over seeds. "
    "Dotted: thresholds. Below the frame the curves go on falling.",
    alt="Gradient magnitude against time-step distance on a log axis, before and after training",
    draw=draw,
    rows=2,
    height=2.2,
    sharey=True,
    sentences=sentences,
    tables=tables,
)
