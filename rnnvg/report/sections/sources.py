"""The gradient of losses at many steps: does its reach depend on where in the sequence the loss is?"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from rnnvg.report import wording
from rnnvg.report.page import Table
from rnnvg.report.part import Panels, Part, by_network, nothing
from rnnvg.report.results import Results

FLOOR = -8.0  # decades
TENTH = -1.0  # decades


def frame(results: Results) -> pd.DataFrame:
    """log10 gain of every source after training in the first seed that has a map: names, source, distance, value, and wrt:
    "state", or "input" of a network without a recurrence."""
    maps = (results.cause(quantity).assign(wrt=wrt) for quantity, wrt in (("map", "state"), ("map by input", "input")))
    rows = pd.concat([each for each in maps if len(each)] or [results.cause("map").assign(wrt="state")])
    rows = rows[rows["seed"] == rows.groupby(["problem", "network"])["seed"].transform("min")]
    rows = rows.assign(source=rows["part"].astype(float).astype(int), distance=rows["distance"].astype(int))
    return rows[["problem", "network", "cell", "source", "distance", "value", "wrt"]].reset_index(drop=True)


def source_map(rows: pd.DataFrame, problem: str, network: str) -> pd.DataFrame:
    """log10 gain of one network: rows sources, columns distances; empty where it has no map."""
    own = rows[(rows["problem"] == problem) & (rows["network"] == network)]
    return own.pivot_table(index="source", columns="distance", values="value")


def tables(rows: pd.DataFrame) -> list[Table]:
    """The distance at which a tenth is left, over the losses of one model."""

    def cells(own: pd.DataFrame) -> dict[str, Any]:
        late = own[own["source"] >= own["source"].max() // 4]  # the first losses have no past
        reach = [_reach(of) for _, of in late.groupby("source")]
        median = wording.steps(float(np.median(reach)))
        return {"losses": len(reach), "least": min(reach), "median": median, "most": max(reach)}

    caption = "Distance at which a tenth of the gradient is left, over losses at many steps of one model, time steps."
    return [Table(by_network(rows, cells), caption)]


def _reach(rows: pd.DataFrame) -> int:
    left = rows.loc[rows["value"] >= TENTH, "distance"]
    return int(left.max()) if len(left) else 0


def draw(rows: pd.DataFrame, panels: Panels) -> None:
    """Draws what is left of each source's gradient after training at each time step: a column a problem, a row a network."""
    image = None
    for problem, column, _ in panels.each(rows):
        for network, ax in zip(panels.looks, column, strict=True):
            own = source_map(rows, problem, network)
            name = network
            if (rows.loc[rows["network"] == network, "wrt"] == "input").any():
                name = f"{network.removesuffix(' (no recurrence)')} by input"
            ax.set_title(f"{name}: {problem.lower()}", fontsize="medium")
            if own.empty:
                if not ax.texts:
                    nothing(ax)
                continue
            image = _map(ax, own)
            ax.set_ylabel("step of the loss", fontsize="small")
        column[-1].set_xlabel("time step reached")
    if image is not None:
        label = "gradient left (decades, relative to one step back)"
        bar = panels.figure.colorbar(
            image, ax=list(panels.axes.ravel()), label=label, extend="min", location="top", shrink=0.6, aspect=40
        )
        panels.groups.append([bar.ax])
    panels.groups.extend([*column] for column in panels.axes.T)


def caption(rows: pd.DataFrame) -> str:
    """How to read the figure, and which panels are by the input."""
    text = (
        "After training, the first seed: mean over a few sequences. The diagonal is one step back from each loss; what lies "
        "above and left of it is the past."
    )
    by_input = list(dict.fromkeys(rows.loc[rows["wrt"] == "input", "network"]))
    if by_input:
        text += (
            f" For {wording.listed(by_input)} it is the gradient by the input: without a recurrence there is no state."
        )
    return text


def _map(ax: Axes, gains: pd.DataFrame) -> Any:
    """Sources upwards, time steps to the right; gains below FLOOR are drawn in the last colour."""
    sources, distances = gains.index.to_numpy(), gains.columns.to_numpy()
    stride = int(np.diff(distances).min()) if len(distances) > 1 else 1
    steps = np.arange(0, sources.max() + 1, stride)
    picture = np.full((len(sources), len(steps)), np.nan)
    for row, source in enumerate(sources):
        gain = gains.loc[source].to_numpy()
        known = ~np.isnan(gain)
        finite = np.where(np.isneginf(gain[known]), -1e9, gain[known])
        back = source - steps
        inside = (back >= distances[known].min()) & (back <= source)
        picture[row, inside] = np.interp(back[inside], distances[known], finite)
    shown = np.ma.masked_invalid(np.clip(picture, FLOOR * 1.01, 0.5))
    look: Any = {"cmap": "viridis", "shading": "nearest", "rasterized": True}
    return ax.pcolormesh(steps, sources, shown, vmin=FLOOR, vmax=0.0, **look)


PART = Part(
    name="every-source",
    title="From every source",
    frame=frame,
    lead="The same for losses at many steps: does the reach of the gradient depend on where in the sequence the loss is?",
    caption=caption,
    alt="Heat maps of the gradient left at every time step for losses at every step, after training",
    draw=draw,
    height=1.6,
    rows=lambda networks: networks,
    tables=tables,
    folded=True,
)
