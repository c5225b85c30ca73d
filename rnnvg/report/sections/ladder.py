"""The largest length that a network solves, beside how far its gradient reaches."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from rnnvg.report import pooled, style
from rnnvg.report.page import Table
from rnnvg.report.part import Panels, Part, each_row
from rnnvg.report.results import Results
from rnnvg.report.style import AFTER


def ladder_shown(climbed: pd.DataFrame, rungs: pd.DataFrame) -> pd.DataFrame:
    """The tables `ladder` and `rungs` for readers: what each climb came to, and every length that was tried."""
    rows = []
    for climb in each_row(climbed):
        own = rungs[_same(rungs, climb)]
        if own.empty:
            continue
        best = own[own["length"] == climb.solved_length]
        fraction = "" if best.empty else _fraction(best.iloc[0])
        rows.append(
            {
                "task": style.task_label(climb.task),
                "network": _network(climb),
                climb.setting: _solved(climb, own) + ("" if climb.finished else " so far"),
                "solved there": fraction,
                "every length tried": ", ".join(
                    f"{each.length}: {each.solved}/{each.done}{_given_up(each)}" for each in each_row(own)
                ),
            }
        )
    return pd.DataFrame(rows)


def frame(results: Results) -> pd.DataFrame:
    """What every climb came to, a row each, with the point that `draw` draws: `climbs` of a directory that holds a ladder."""
    frames = results.outcome
    if "ladder" not in frames or "rungs" not in frames:
        return pd.DataFrame(columns=["problem"])
    return climbs(frames["ladder"], frames["rungs"], results)


def climbs(climbed: pd.DataFrame, rungs: pd.DataFrame, results: Results) -> pd.DataFrame:
    """`ladder_points` beside `ladder_shown`, of climbs that tried a length; problem is the same for all."""
    points = ladder_points(climbed, rungs, results).assign(
        setting=climbed["setting"].iloc[0], problem=results.problems[0], by=results.by
    )
    shown = ladder_shown(climbed, rungs).add_prefix("shown: ")
    return pd.concat([points, shown], axis=1)


def tables(rows: pd.DataFrame) -> list[Table]:
    """What each climb came to, and every length that was tried."""
    shown = rows[[name for name in rows if str(name).startswith("shown: ")]].rename(
        columns=lambda name: name[len("shown: ") :]
    )
    caption = "Largest length solved; how many seeds solved it [exact 95 % binomial interval]; and every length tried."
    return [Table(shown.dropna(how="all"), caption)]


def draw(points: pd.DataFrame, panels: Panels) -> None:
    """Draws length solved against gradient horizon, a point a network.

    The horizon is the one at 1/e by the state (or the input, `by`) after training at the largest length solved, or at the
    first length where none was; median over seeds. An arrow up: solved the last length that was tried. Arrow down: not
    even the first.
    """
    ax: Any = panels.axes[0, 0]
    most = max([10.0, *points["horizon"].dropna(), *points["length"].dropna()]) * 1.6
    style.horizon_axis(ax, "x", most)
    style.horizon_axis(ax, "y", most)
    ax.plot([0, most], [0, most], color=style.MUTED, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    ax.annotate("as far as the gradient reaches", (most * 0.2, most * 0.2), xytext=(4, -4), textcoords="offset points",
                ha="left", va="top", color=style.MUTED, fontsize=8)  # fmt: skip
    colours, markers = style.colours(points["cell"]), style.markers(points["cell"])
    for point in each_row(points):
        if math.isnan(point.horizon):
            continue
        look = {"color": colours[point.cell], "marker": markers[point.cell], "markersize": 8, "linestyle": "none"}
        hollow = {} if point.init == "default" else {"markerfacecolor": style.PAPER, "markeredgewidth": 1.8}
        ax.plot([point.horizon], [point.length], label=point.network, zorder=3, **look, **hollow)
        towards = {">=": 14, "<": -14}.get(point.bound)
        if towards:
            ax.annotate("", (point.horizon, point.length), xytext=(0, towards), textcoords="offset points",
                        arrowprops={"arrowstyle": "<-", "color": colours[point.cell], "linewidth": 1.6})  # fmt: skip
        if point.censored:
            ax.annotate("", (point.horizon, point.length), xytext=(14, 0), textcoords="offset points",
                        arrowprops={"arrowstyle": "<-", "color": colours[point.cell], "linewidth": 1.6})  # fmt: skip
    what = "gradient horizon" + " by the input" * (pooled.by(points) == "input")
    ax.set_xlabel(f"{what} at 1/e after training (time steps)")
    ax.set_ylabel(f"largest {points['setting'].iloc[0]} solved (time steps)")
    panels.legend(ax.get_legend_handles_labels()[0], networks=False)


def ladder_points(climbed: pd.DataFrame, rungs: pd.DataFrame, results: Results) -> pd.DataFrame:
    """What `draw_ladder` draws: network, cell, init, length, bound, horizon (steps), censored."""
    horizons = pooled.horizons(results)
    horizons = horizons[(horizons["wrt"] == results.by) & (horizons["when"] == AFTER)]
    horizons = horizons[horizons["threshold"].sub(pooled.THRESHOLD).abs() < 1e-6] if len(horizons) else horizons
    records = {record["id"]: record["spec"] for record in results.records}
    rows = []
    for climb in each_row(climbed):
        own = rungs[_same(rungs, climb)]
        if own.empty:
            continue
        length = int(own["length"].min() if math.isnan(climb.solved_length) else climb.solved_length)
        runs = [run for run, spec in records.items() if _of_climb(spec, climb, length)]
        named = results.runs[results.runs["id"].isin(runs)][["problem", "network"]].drop_duplicates()
        pool = horizons.merge(named, on=["problem", "network"]) if len(named) else horizons.head(0)
        value, censored = math.nan, False
        if len(pool) and pool["n"].iloc[0]:
            one = pool.iloc[0]
            censored, value = bool(math.isinf(one["median"])), float(one["bound"])
        rows.append((_network(climb), climb.cell, climb.init, float(length), climb.bound, value, censored))
    return pd.DataFrame(rows, columns=["network", "cell", "init", "length", "bound", "horizon", "censored"])


def _same(frame: pd.DataFrame, climb: Any) -> Any:
    keys = ("task", "setting", "cell", "init", "hidden")
    return pd.concat([frame[key] == getattr(climb, key) for key in keys], axis=1).all(axis=1)


def _of_climb(spec: Mapping[str, Any], climb: Any, length: int) -> bool:
    network = all(spec[key] == getattr(climb, key) for key in ("cell", "init", "hidden"))
    return network and spec["task"]["name"] == climb.task and spec["task"].get(climb.setting) == length


def _network(climb: Any) -> str:
    cell = style.cell_label(str(climb.cell))
    return cell if climb.init == "default" else f"{cell}/{climb.init}"


def _solved(climb: Any, own: pd.DataFrame) -> str:
    if climb.bound == "<":
        return f"< {own['length'].min()}"
    return f"{'>= ' if climb.bound else ''}{climb.solved_length:.0f}"


def _given_up(rung: Any) -> str:
    return f" ({rung.given_up} given up)" if rung.given_up else ""


def _fraction(rung: Any) -> str:
    return f"{rung['solved']}/{rung['done']} [{100 * rung['low']:.0f}–{100 * rung['high']:.0f} %]"


PART = Part(
    name="length-solved",
    title="Length solved",
    frame=frame,
    lead="The largest length that enough seeds solve, found by doubling and bisecting, beside how far the gradient reaches.",
    caption="Each network is one point; log axes with a place for 0. Dashed: length and horizon are the same. Arrow "
    "up: the ladder ended before the network did; arrow down: not even its first length was solved; arrow to the "
    "right: the horizon is only known to be larger.",
    alt="Largest length solved against the gradient horizon at 1/e",
    draw=draw,
    height=3.6,
    single=True,
    tables=tables,
)
