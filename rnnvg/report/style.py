"""How every figure looks: one colour and one marker a cell, the same everywhere, and nothing set globally.

The palette is Okabe and Ito's (2008), told apart with every common kind of colour blindness; markers repeat what
the colours say, for print in grey.
"""

from __future__ import annotations

import itertools
import math
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rnnvg import tasks

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, FigureBase
    from matplotlib.legend import Legend

    from rnnvg.report.results import Results

CELL_COLOURS = {"rnn": "#d55e00", "rnn-relu": "#cc79a7", "lstm": "#0072b2", "gru": "#009e73"}
CELL_LABELS = {
    "rnn": "RNN (tanh)",
    "rnn-relu": "RNN (ReLU)",
    "lstm": "LSTM",
    "gru": "GRU",
    "leaky": "leaky RNN",
    "residual": "residual RNN",
    "layer-norm": "RNN (layer norm)",
    "mingru": "minGRU",
    "lru": "LRU",
    "lem": "LEM",
    "attention": "attention (no recurrence)",
    "tcn": "convolutions (no recurrence)",
}
CELL_MARKERS = {"rnn": "o", "rnn-relu": "v", "lstm": "s", "gru": "D"}
_SPARE_COLOURS = ("#e69f00", "#56b4e9", "#8a6d3b", "#7f5fc9", "#5f6b2f")
# Seven, so that with five colours no two of 35 cells look the same.
_SPARE_MARKERS = ("^", "P", "X", "h", "*", "<", ">")

BEFORE, AFTER = "before training", "after training"
TRAINING_DASHES = (0, (4, 2))
VARIANT_DASHES = ("solid", (0, (5, 1.5)), (0, (1.5, 1)), (0, (5, 1, 1.5, 1)))

# Inks that the page exchanges for its own, so that a figure reads on dark paper too.
INK, MUTED, GRID, PAPER = "#22262b", "#69717c", "#e2e5e9", "#fdfdfe"


def cell_label(cell: str) -> str:
    """What a legend calls a cell; one from elsewhere by its own name, without the module's."""
    return CELL_LABELS.get(cell, cell.rpartition(":")[2])


def task_label(name: str, recorded: Mapping[str, Any] | None = None) -> str:
    """What a heading calls a task; results that have not recorded it, as those of earlier versions, go by its description."""
    if recorded:
        return str(recorded["label"])
    return tasks.about(name).label if name in tasks.NAMES else name


def loss_unit(name: str, recorded: Mapping[str, Any] | None = None) -> str:
    """What a task's loss is measured in, as an axis names it."""
    if recorded:
        return str(recorded["unit"])
    return tasks.about(name).unit if name in tasks.NAMES else "as the task defines it"


def metric_short(metric: str) -> str:
    """A metric's name in the head of a table."""
    return tasks.METRICS[metric].short if metric in tasks.METRICS else metric


def colours(cells: Iterable[str]) -> dict[str, str]:
    """Cell -> colour: the fixed one where there is one, else a spare colour in the order of the names."""
    return _assign(cells, CELL_COLOURS, _SPARE_COLOURS)


def markers(cells: Iterable[str]) -> dict[str, str]:
    """Cell -> marker, given out as `colours` gives out colours."""
    return _assign(cells, CELL_MARKERS, _SPARE_MARKERS)


def _assign(cells: Iterable[str], fixed: dict[str, str], spare: tuple[str, ...]) -> dict[str, str]:
    names = sorted(set(cells))
    unknown = [name for name in names if name not in fixed]
    return {name: fixed[name] if name in fixed else spare[unknown.index(name) % len(spare)] for name in names}


@contextmanager
def applied() -> Iterator[None]:
    """The house style for what is drawn and saved inside the block; matplotlib's settings are as before after it."""
    import matplotlib
    import seaborn

    settings: Any = {**seaborn.axes_style("ticks"), **seaborn.plotting_context("paper", font_scale=1.1)}
    settings |= {
        "axes.edgecolor": MUTED,
        "axes.facecolor": "none",
        "axes.grid": True,
        "axes.labelcolor": INK,
        "axes.linewidth": 0.8,
        "axes.spines.right": False,
        "axes.spines.top": False,
        "axes.titlecolor": INK,
        "axes.titleweight": "bold",
        "figure.facecolor": PAPER,
        "font.sans-serif": ["DejaVu Sans"],  # comes with matplotlib: the same figure on every machine
        "grid.color": GRID,
        "grid.linewidth": 0.7,
        "legend.frameon": False,
        "path.simplify_threshold": 0.2,
        "savefig.facecolor": PAPER,
        "svg.fonttype": "path",
        # Hinted letters are wider or narrower at other resolutions: a layout found for one would cut labels off in another.
        "text.hinting": "none",
        "svg.hashsalt": "rnnvg",
        "text.color": INK,
        "xtick.color": MUTED,
        "xtick.labelcolor": INK,
        "ytick.color": MUTED,
        "ytick.labelcolor": INK,
    }
    with matplotlib.rc_context(settings):
        yield


def panels(rows: int, problems: int, *, height: float, sharey: bool = False) -> tuple[Figure, Any]:
    """A figure of its own, outside pyplot, and its axes [rows, problems]: those of a problem stand below each other.

    The rows of a problem share their x axis; with `sharey` all panels share the y axis. At most three problems stand side
    by side, so that letters stay readable on a page; the others follow below.

    Args:
        height: of one row, inches.
    """
    import numpy as np
    from matplotlib.figure import Figure

    across = 2 if problems == 4 else min(problems, 3)
    bands = -(-problems // across)
    figure = Figure(figsize=(max(5.2, 3.3 * across), height * rows * bands + 0.8), layout="constrained")
    grid = figure.subplots(rows * bands, across, sharey=sharey, squeeze=False)
    axes = np.empty((rows, problems), dtype=object)
    for place in range(bands * across):
        band, column = divmod(place, across)
        stack = grid[band * rows : (band + 1) * rows, column]
        if place >= problems:
            for ax in stack:
                ax.remove()
            continue
        axes[:, place] = stack
        for ax in stack[:-1]:
            ax.sharex(stack[-1])
            ax.tick_params(labelbottom=False)
        for ax in stack:  # each panel can stand alone: on a narrow screen it does
            ax.tick_params(labelleft=True)
    return figure, axes


def row_panels(rows: int, problems: int, *, height: float, sharey: bool = False) -> tuple[Figure, Any]:
    """As `panels`, but each row is a figure of its own within the figure, with room for a legend above it.

    All problems stand side by side; every panel has its own x axis.
    """
    import numpy as np
    from matplotlib.figure import Figure

    figure = Figure(figsize=(max(5.2, 3.3 * problems), (height + 0.55) * rows + 0.2), layout="constrained")
    stripes: Any = figure.subfigures(rows, 1, squeeze=False)[:, 0]
    axes = np.array([stripe.subplots(1, problems, sharey=sharey, squeeze=False)[0] for stripe in stripes], dtype=object)
    return figure, axes


def title(problem: str) -> str:
    """A problem's name over its panel: the settings that tell it from others go on lines of their own."""
    name, _, settings = problem.partition(", ")
    return "\n".join([name, *textwrap.wrap(settings, 26)])


def threshold_name(threshold: float) -> str:
    """How a threshold is written: 1/e where it is that, else the number."""
    return "1/e" if math.isclose(threshold, math.exp(-1), rel_tol=1e-6) else f"{threshold:g}"


def horizon_axis(axes: Axes, which: str, most: float) -> None:
    """Makes one axis of `axes` ("x" or "y") one of horizons: ln(steps + 1), so that 0 has a place, up to `most`."""
    import numpy as np
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    axis = axes.xaxis if which == "x" else axes.yaxis
    set_scale = axes.set_xscale if which == "x" else axes.set_yscale
    set_limits = axes.set_xlim if which == "x" else axes.set_ylim
    set_scale("function", functions=(lambda steps: np.log1p(np.maximum(steps, -0.9)), np.expm1))
    ticks = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000, 100_000]
    shown = [0]
    for tick in ticks:
        letters = len(str(tick)) + len(str(shown[-1]))
        room = 0.024 + 0.018 * letters if which == "x" else 0.06  # less and two labels would touch
        if tick <= most and np.log1p(tick) - np.log1p(shown[-1]) >= room * np.log1p(most):
            shown.append(tick)
    axis.set_major_locator(FixedLocator(shown))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    set_limits(-0.15, most)


def decades(axis: Any, bins: int = 6, steps: tuple[int, ...] = (1, 2, 3, 4, 5, 10)) -> None:
    """Writes powers of ten on an axis that has their exponents."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axis.set_major_locator(MaxNLocator(nbins=bins, integer=True, steps=list(steps)))
    axis.set_major_formatter(FuncFormatter(lambda decade, _: f"$10^{{{decade:g}}}$" if decade else "1"))


def whole_numbers(axis: Any) -> None:
    """Writes whole numbers on an axis that counts."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(nbins=6, integer=True))


def plain_numbers(axis: Any) -> None:
    """Writes numbers as they are, instead of powers of ten, on a logarithmic axis."""
    from matplotlib.ticker import FuncFormatter, NullFormatter

    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def one_two_five(axis: Any, most: int | None = None) -> None:
    """Puts ticks at 1, 2, 5, 10, 20, ... on a logarithmic axis, at most so many."""
    from matplotlib.ticker import LogLocator

    axis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=most))
    plain_numbers(axis)


def looks(results: Results) -> dict[str, tuple[str, str, Any]]:
    """Network -> (colour, marker, dashes): colour and marker are the cell's, dashes tell networks of one cell apart."""
    cells = {network: results.cell_of(network) for network in results.networks()}
    colour, marker = colours(cells.values()), markers(cells.values())
    seen: dict[str, int] = {}
    by_network = {}
    for network, cell in cells.items():
        place = seen.get(cell, 0)
        seen[cell] = place + 1
        by_network[network] = (colour[cell], marker[cell], VARIANT_DASHES[place % len(VARIANT_DASHES)])
    return by_network


def lines(look: dict[str, tuple[str, str, Any]]) -> list[Artist]:
    """An entry a network: its line."""
    return [
        line(network, color=colour, linestyle=dashes, linewidth=2.2) for network, (colour, _, dashes) in look.items()
    ]


def legend_above(figure: FigureBase, entries: list[Any], width: float | None = None) -> Legend:
    """A legend of `entries` above the axes, clear of every curve, in as few rows as fit `width` inches (the figure's)."""
    return figure.legend(
        handles=entries,
        loc="outside upper center",
        ncols=legend_columns([str(entry.get_label()) for entry in entries], width or figure.get_figwidth()),  # type: ignore[attr-defined]
        columnspacing=1.4,
        handlelength=1.9,
    )


def legend_columns(labels: list[str], width: float) -> int:
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

    return Line2D([], [], label=label, **{"color": MUTED, **look})


def mark(marker: str, label: str, **look: Any) -> Artist:
    """An entry for a marker."""
    return line(label, marker=marker, **{"linestyle": "none", "markersize": 7, **look})


def training_length(label: str = "training length") -> Artist:
    """The entry for the dashed line at the length of a training sequence."""
    return line(label, color=INK, linewidth=0.9, linestyle=TRAINING_DASHES)
