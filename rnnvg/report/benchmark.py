"""What a benchmark's page has beside the comparison's: figures beside published ones, and the memory-horizon ladder."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from rnnvg.report import pooled, style, svg, wording
from rnnvg.report.page import Page, Picture, Section, Table
from rnnvg.report.results import Frame, Results
from rnnvg.report.style import AFTER

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def with_benchmarks(page: Page, results: Results, directory: str | Path) -> Page:
    """`page`, with the benchmarks' own sections first where the directory holds any."""
    from rnnvg.bench.outcome import outcome
    from rnnvg.bench.plan import FOLDER, kept

    if not any((Path(directory) / FOLDER).glob("*.json")):
        return page
    plan = kept(directory)
    frames = outcome(directory, plan)
    sections = [*_published_section(frames), *_ladder_section(frames, results)]
    titles = [grid.title for grid in plan.grids if grid.title]
    about = [grid.about for grid in plan.grids if grid.about]
    return dataclasses.replace(
        page,
        title="; ".join(titles) or page.title,
        lead=" ".join([*about, page.lead]),
        sections=[*sections, *page.sections],
    )


def published_shown(frame: Frame) -> Frame:
    """The table `published` for readers."""
    rows = []
    for row in frame.itertuples():
        where = f" ({row.where})" if row.where else ""
        published = "" if pd.isna(row.published) else wording.number(row.published)
        ours = row.status
        if row.status == "run":
            spread = f" ({wording.number(row.least)}–{wording.number(row.most)})" if row.runs > 1 else ""
            without = "" if pd.isna(row.baseline) else f" (without memory {wording.number(row.baseline)})"
            ours = f"{wording.number(row.ours)}{spread}{without}, {row.solved} of {row.runs} solved"
        rows.append(
            {
                "task": f"{style.task_label(row.task)}, {row.metric}",
                "network": f"{style.CELL_LABELS.get(row.cell, row.cell)}{where}",
                "published": ": ".join(each for each in (published, row.claim) if each),
                "here": ours,
                "what differs": row.difference,
                "source": row.source,
            }
        )
    return pd.DataFrame(rows)


def ladder_shown(climbed: Frame, rungs: Frame) -> Frame:
    """The tables `ladder` and `rungs` for readers: what each climb came to, and every length that was tried."""
    rows = []
    for climb in climbed.itertuples():
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
                    f"{each.length}: {each.solved}/{each.done}" for each in own.itertuples()
                ),
            }
        )
    return pd.DataFrame(rows)


def draw_ladder(climbed: Frame, rungs: Frame, results: Results) -> Figure:
    """Length solved against gradient horizon, a point a network; call it inside `style.applied()`.

    The horizon is the one at 1/e by the state after training at the largest length solved, or at the first length where
    none was; pooled over seeds. An arrow up: solved the last length that was tried. Arrow down: not even the first.
    """
    from matplotlib.figure import Figure

    points = ladder_points(climbed, rungs, results)
    figure = Figure(figsize=(6.4, 4.4), layout="constrained")
    ax: Any = figure.subplots()
    most = max([10.0, *points["horizon"].dropna(), *points["length"].dropna()]) * 1.6
    style.horizon_axis(ax, "x", most)
    style.horizon_axis(ax, "y", most)
    ax.plot([0, most], [0, most], color=style.MUTED, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    ax.annotate("as far as the gradient reaches", (most * 0.2, most * 0.2), xytext=(4, -4), textcoords="offset points",
                ha="left", va="top", color=style.MUTED, fontsize=8)  # fmt: skip
    colours, markers = style.colours(points["cell"]), style.markers(points["cell"])
    for point in points.itertuples():
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
    ax.set_xlabel("gradient horizon at 1/e after training (time steps)")
    ax.set_ylabel(f"largest {climbed['setting'].iloc[0]} solved (time steps)")
    figure.legend(*ax.get_legend_handles_labels(), loc="outside upper center", ncols=min(3, len(points)))
    return figure


def ladder_points(climbed: Frame, rungs: Frame, results: Results) -> Frame:
    """What `draw_ladder` draws: network, cell, init, length, bound, horizon (steps), censored."""
    horizons = pooled.horizons(results)
    horizons = horizons[(horizons["wrt"] == "state") & (horizons["when"] == AFTER)]
    horizons = horizons[horizons["threshold"].sub(pooled.THRESHOLD).abs() < 1e-6] if len(horizons) else horizons
    records = {record["id"]: record["spec"] for record in results.records}
    rows = []
    for climb in climbed.itertuples():
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
            censored = bool(math.isinf(one["median"]))
            value = float(one["bound"] if censored else one["median"] if math.isnan(one["center"]) else one["center"])
        rows.append((_network(climb), climb.cell, climb.init, float(length), climb.bound, value, censored))
    return pd.DataFrame(rows, columns=["network", "cell", "init", "length", "bound", "horizon", "censored"])


def _published_section(frames: Mapping[str, pd.DataFrame]) -> list[Section]:
    if "published" not in frames:
        return []
    lead = (
        "Each published figure beside the one found here: the median over seeds with its range, and every setting in which "
        "the two are known to differ. A figure that could not be found here says why."
    )
    table = Table.of(published_shown(frames["published"]), "Published figures, and the same measured here.")
    return [Section("published", "Beside what was published", lead, tables=[table])]


def _ladder_section(frames: Mapping[str, pd.DataFrame], results: Results) -> list[Section]:
    if "ladder" not in frames or "rungs" not in frames:
        return []
    climbed, rungs = frames["ladder"], frames["rungs"]
    with style.applied():
        figure = draw_ladder(climbed, rungs, results)
        picture = Picture(
            "length-solved",
            "Largest length solved against the gradient horizon at 1/e, a point a network.",
            "A point a network; both axes are logarithmic in steps + 1. Dashed: length and horizon are the same. Arrow up: "
            "the ladder ended before the network did; arrow down: not even its first length was solved; arrow to the right: "
            "the horizon is only known to be larger.",
            svg.to_svg(figure),
            svg.to_png(figure),
        )
    lead = "The largest length that enough seeds solve, found by doubling and bisecting, beside how far the gradient reaches."
    caption = "Largest length solved; how many seeds solved it [exact 95 % binomial interval]; and every length tried."
    return [Section("ladder", "Length solved", lead, picture, tables=[Table.of(ladder_shown(climbed, rungs), caption)])]


def _same(frame: Frame, climb: Any) -> Any:
    keys = ("task", "setting", "cell", "init", "hidden")
    return pd.concat([frame[key] == getattr(climb, key) for key in keys], axis=1).all(axis=1)


def _of_climb(spec: Mapping[str, Any], climb: Any, length: int) -> bool:
    network = all(spec[key] == getattr(climb, key) for key in ("cell", "init", "hidden"))
    return network and spec["task"]["name"] == climb.task and spec["task"].get(climb.setting) == length


def _network(climb: Any) -> str:
    cell = str(style.CELL_LABELS.get(climb.cell, climb.cell))
    return cell if climb.init == "default" else f"{cell}/{climb.init}"


def _solved(climb: Any, own: Frame) -> str:
    if climb.bound == "<":
        return f"< {own['length'].min()}"
    return f"{'>= ' if climb.bound else ''}{climb.solved_length:.0f}"


def _fraction(rung: Any) -> str:
    return f"{rung['solved']}/{rung['done']} [{100 * rung['low']:.0f}–{100 * rung['high']:.0f} %]"
