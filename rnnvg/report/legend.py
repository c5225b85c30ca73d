"""Which colour, marker and dash belongs to which network, and the legend above a figure that says so."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any

from rnnvg.report import style
from rnnvg.report.results import Results

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.figure import FigureBase
    from matplotlib.legend import Legend

TRAINING_DASHES = (0, (4, 2))


def looks(results: Results) -> dict[str, tuple[str, str, Any]]:
    """Network -> (colour, marker, dashes): colour and marker are the cell's, dashes tell networks of one cell apart."""
    cells = {network: results.cell_of(network) for network in results.networks()}
    colour, marker = style.colours(cells.values()), style.markers(cells.values())
    seen: dict[str, int] = {}
    by_network = {}
    for network, cell in cells.items():
        place = seen.get(cell, 0)
        seen[cell] = place + 1
        by_network[network] = (colour[cell], marker[cell], style.VARIANT_DASHES[place % len(style.VARIANT_DASHES)])
    return by_network


def lines(look: dict[str, tuple[str, str, Any]]) -> list[Artist]:
    """An entry a network: its line."""
    return [
        line(network, color=colour, linestyle=dashes, linewidth=2.2) for network, (colour, _, dashes) in look.items()
    ]


def above(figure: FigureBase, entries: list[Any], width: float | None = None) -> Legend:
    """A legend of `entries` above the axes, clear of every curve, in as few rows as fit `width` inches (the figure's)."""
    return figure.legend(
        handles=entries,
        loc="outside upper center",
        ncols=columns([str(entry.get_label()) for entry in entries], width or figure.get_figwidth()),  # type: ignore[attr-defined]
        columnspacing=1.4,
        handlelength=1.9,
    )


def columns(labels: list[str], width: float) -> int:
    """The columns of a legend in as few rows as fit into `width` inches; columns are filled one after the other."""
    for rows in range(1, len(labels)):
        many = math.ceil(len(labels) / rows)
        short, longer = divmod(len(labels), many)
        starts = [place * short + min(place, longer) for place in range(many + 1)]
        letters = [max(map(len, labels[start:end])) for start, end in itertools.pairwise(starts)]
        # About 12.5 letters an inch; the sign before a label and the gap behind it take the room of 7.
        if sum(letters) + 7 * many <= 12.5 * width:
            return many
    return 1


def line(label: str, **look: Any) -> Artist:
    """An entry for a line, in no network's colour unless `look` has one."""
    from matplotlib.lines import Line2D

    return Line2D([], [], label=label, **{"color": style.MUTED, **look})


def mark(marker: str, label: str, **look: Any) -> Artist:
    """An entry for a marker."""
    return line(label, marker=marker, **{"linestyle": "none", "markersize": 7, **look})


def training_length(label: str = "training length") -> Artist:
    """The entry for the dashed line at the length of a training sequence."""
    return line(label, color=style.INK, linewidth=0.9, linestyle=TRAINING_DASHES)
