"""Figures of what a text holds and what a language model makes of it: truncation, mutual information, planted words.

Each draws a figure and writes it with its tables. Distances are in words back from the predicted one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rnnvg.report import style

if TYPE_CHECKING:
    from rnnvg.functional import Truncation
    from rnnvg.text.statistics import PowerLaw

DISTANCE = "distance back from the predicted word (words)"
CUT = "#d55e00"


@dataclass(frozen=True)
class Reach:
    """How far one network's gradient reaches in a text: what `statistics` and `planted` draw beside the text's own.

    Attributes:
        name: for the reader.
        cell: gives the colour.
        curve: distance (words, from 1) and log10_gain relative to the word before, with respect to the input.
    """

    name: str
    cell: str
    curve: pd.DataFrame


def write(directory: str | Path, name: str, figure: Figure, tables: Mapping[str, Any]) -> dict[str, Path]:
    """Writes NAME.svg, NAME.png and a CSV file for each table, each in one move. Call it inside `style.applied()`.

    Raises:
        InputError: the directory cannot be written.
    """
    from rnnvg.files import write_set
    from rnnvg.report.picture import lay_out, to_bytes

    folder = Path(directory)
    lay_out(figure)
    contents: dict[str, str | bytes] = {f"{name}{ending}": to_bytes(figure, ending) for ending in (".svg", ".png")}
    for table, frame in tables.items():
        contents[f"{table}.csv"] = frame.to_csv(index=False, lineterminator="\n")
    write_set(folder, contents)
    return {file: folder / file for file in contents}


def draw_truncation(truncation: Truncation, cell: str) -> Figure:
    """Draws above, the gradient through the whole text and what is left of it in windows; below, the share that is cut off."""
    frame, bptt = truncation.to_frame(), truncation.bptt
    figure, axes = style.panels(2, 1, height=2.5)
    figure.set_size_inches(6.4, 5.4)
    above, below = axes[:, 0]
    whole, seen = "through the whole text", f"within windows of {bptt} words, where not cut off"
    above.plot(frame["distance"], frame["log10_whole"], color=style.MUTED, linestyle="--", label=whole)
    above.plot(frame["distance"], frame["log10_seen"], color=style.colours([cell])[cell], linewidth=2, label=seen)
    _title(above, "Vanishing: a number, however small")
    above.set_ylabel("log10 influence,\nrelative to the word before")
    above.legend(loc="upper right")
    below.fill_between(frame["distance"], frame["cut"], step="mid", color=CUT, alpha=0.35, linewidth=0)
    below.plot(frame["distance"], frame["cut"], color=CUT, drawstyle="steps-mid")
    _title(below, "Cut off by truncation: exactly zero")
    below.set_ylabel("share of predictions")
    below.set_ylim(0, 1.05)
    below.set_xlabel(DISTANCE)
    for each in (above, below):
        each.axvline(bptt, color=style.INK, linewidth=0.9, linestyle=":")
        each.set_xlim(0, frame["distance"].max() + 1)
    below.annotate(f"bptt = {bptt}", (bptt, 0.06), xytext=(4, 0), textcoords="offset points", color=style.INK)
    return figure


def draw_statistics(name: str, information: pd.DataFrame, law: PowerLaw | None, reaches: Sequence[Reach]) -> Figure:
    """What there is to remember in a text, and under it how far networks' gradients reach."""
    figure, axes = style.panels(2 if reaches else 1, 1, height=2.9)
    figure.set_size_inches(6.4, 6.2 if reaches else 3.9)
    _information(axes[0, 0], information, law)
    _title(axes[0, 0], f"What there is to remember: {name}")
    if reaches:
        _reaches(axes[1, 0], reaches)
        _title(axes[1, 0], "What networks can be taught")
    axes[-1, 0].set_xlabel("distance between the words (words)" if not reaches else DISTANCE)
    return figure


def draw_planted(
    by_distance: pd.DataFrame,
    summary: pd.DataFrame,
    information: pd.DataFrame,
    law: PowerLaw | None,
    reaches: Sequence[Reach],
    best: float,
) -> Figure:
    """Draws four panels over one axis of distances: verbs predicted, their price, mutual information, gradients.

    Args:
        by_distance: cell, seed, distance, accuracy, loss.
        summary: cell, seed, horizon, censored, loss.
        information, law: of the text itself.
        reaches: the gradient of every network.
        best: nats a word, the least possible loss.
    """
    figure, axes = style.panels(2, 2, height=2.9)
    figure.set_size_inches(10.4, 7.2)
    accuracy, price = axes[0, 0], axes[1, 0]
    cells = list(dict.fromkeys(by_distance["cell"]))
    colours, markers = style.colours(cells), style.markers(cells)
    for cell in cells:
        own: Any = by_distance[by_distance["cell"] == cell]
        look = {"color": colours[cell], "marker": markers[cell], "markersize": 4}
        loss = np.median(summary["loss"][summary["cell"] == cell])
        label = f"{style.cell_label(cell)}: {loss:.2f} nats a word"
        for axis, column in ((accuracy, "accuracy"), (price, "loss")):
            for _, one in own.groupby("seed"):
                axis.plot(one["distance"], one[column], color=look["color"], linewidth=0.6, alpha=0.5)
            middle = own.groupby("distance", as_index=False)[column].median()
            axis.plot(middle["distance"], middle[column], label=label, **look)
    cells, names = accuracy.get_legend_handles_labels()
    title = f"Loss on the text; the best possible is {best:.2f} nats a word"
    figure.legend(cells, names, title=title, loc="outside upper center", ncols=len(cells), frameon=False)
    half = accuracy.axhline(0.5, color=style.MUTED, linewidth=0.9, linestyle=":")
    readable = {"fontsize": 8, "frameon": True, "framealpha": 0.9, "facecolor": style.PAPER, "edgecolor": "none"}
    accuracy.legend([half], ["remembered: half of them"], **readable)
    accuracy.set_ylim(-0.03, 1.05)
    accuracy.set_ylabel("verbs that are the first choice")
    _title(accuracy, "Functional horizon")
    guess = price.axhline(math.log(40), color=style.MUTED, linewidth=0.9, linestyle="--")
    least = price.axhline(0, color=style.INK, linewidth=0.9)
    price.legend([guess, least], ["guessing among 40 verbs", "best possible"], **readable)
    price.set_ylabel("loss of the verb (nats)")
    _title(price, "Price of the planted word")
    _information(axes[0, 1], information, law)
    _title(axes[0, 1], "What there is to remember")
    _reaches(axes[1, 1], reaches)
    _title(axes[1, 1], "What the networks can be taught")
    for each in axes[1]:
        each.set_xlabel(DISTANCE)
    for each in (accuracy, price):
        _log_distances(each)
    return figure


def _information(ax: Axes, information: pd.DataFrame, law: PowerLaw | None) -> None:
    distance, nats = information["distance"], information["information"]
    seen = nats > 0
    ax.plot(distance[seen], nats[seen], color=style.INK, marker="o", markersize=3.5, linewidth=0.8, label="text")
    ax.plot(distance, 3 * information["noise"], color=style.MUTED, linestyle=":", label="3 sd of noise")
    if law is not None and law.low > 0:  # else it may as well rise
        at = np.geomspace(distance.min(), law.last, 100)
        label = f"distance to the power -{law.exponent:.2f} ({-law.high:.2f} to {-law.low:.2f})"
        ax.plot(at, law.at(at), color=CUT, linewidth=1.6, label=label + (" and a floor" if law.floor > 1e-9 else ""))
    ax.set_yscale("log")
    ax.set_ylabel("mutual information (nats)")
    ax.legend(fontsize=8)
    _log_distances(ax)


def _reaches(ax: Axes, reaches: Sequence[Reach]) -> None:
    named, colours = set(), style.colours(reach.cell for reach in reaches)
    for reach in reaches:
        label = reach.name if reach.name not in named else None
        named.add(reach.name)
        shown = reach.curve[reach.curve["log10_gain"].map(math.isfinite)]
        ax.plot(shown["distance"], shown["log10_gain"], color=colours[reach.cell], label=label)
    ax.axhline(-math.log10(math.e), color=style.MUTED, linewidth=0.9, linestyle=":", label="1/e")
    ax.set_ylabel("log10 gradient by the input,\nrelative to the word before")
    ax.legend(fontsize=8)
    _log_distances(ax)


def _log_distances(ax: Axes) -> None:
    ax.set_xscale("log")
    style.one_two_five(ax.xaxis)


def _title(ax: Axes, text: str) -> None:
    ax.set_title(text, loc="left", fontsize=10)
