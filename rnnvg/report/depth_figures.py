"""Figures of the teaching page about networks as they start: chains, activations, initialisations, residual growth."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rnnvg.bptt.plots import BLUE, GREEN, ORANGE, PINK
from rnnvg.horizon import NATS_PER_DECADE
from rnnvg.report import style

if TYPE_CHECKING:
    from rnnvg.depth.story import Story

CHAIN_COLOURS = {"sigmoid": BLUE, "tanh": ORANGE, "relu": GREEN}
# tanh and ReLU lie on each other.
CHAIN_DASHES: dict[str, Any] = {"sigmoid": "solid", "tanh": "solid", "relu": (0, (2, 2))}
INIT_COLOURS = {"gaussian": BLUE, "xavier": ORANGE, "he": GREEN, "orthogonal": PINK}
INIT_LABELS = {"gaussian": "N(0, 0.01²)", "xavier": "Xavier", "he": "He", "orthogonal": "orthogonal"}
GROUPS = (("sigmoid", "tanh"), ("relu", "leaky-relu", "prelu"), ("elu", "selu"), ("gelu",))
POINTS: Any = "offset points"
DASHES = ("solid", (0, (5, 1.5)), (0, (1.5, 1)))


def chains(story: Story) -> Figure:
    """Draws the gradient by every weight of a chain: sigmoid beside its bounds, three activations, activations' values."""
    figure, axes = panels(1, 3, height=2.9)
    short, long = sorted({layers for _, layers in story.chains})
    line = story.chains["sigmoid", short]
    frame = line.to_frame()
    ax = axes[0, 0]
    for column, colour, dashes, width, label in (
        ("log10_rule", style.MUTED, (0, (1.5, 1)), 1.3, "rule of thumb, 0.2 a layer"),
        ("log10_slope_bound", style.MUTED, (0, (5, 1.5)), 1.3, "largest slopes alone, 0.25 a layer"),
        ("log10_of_activation", PINK, (0, (5, 1, 1.5, 1)), 1.5, "slope taken of the activation (a mistake)"),
        ("log10_gradient", BLUE, "solid", 2.2, "what happens"),
    ):
        # Bounds are of what is left of the last layer's gradient; so is everything here.
        left = frame[column] - frame[column].iloc[-1]
        ax.plot(frame["layer"], left, color=colour, linestyle=dashes, lw=width, label=label)
    ax.set_title(f"{short} sigmoid layers, w = {line.weight:g}")
    ax.set_ylabel("gradient by the layer's weight,\nrelative to the last layer's")
    for name, colour in CHAIN_COLOURS.items():
        look: Any = {"color": colour, "linestyle": CHAIN_DASHES[name], "linewidth": 2, "label": name}
        deep = story.chains[name, long].to_frame()
        axes[0, 1].plot(deep["layer"], deep["log10_gradient"], **look)
        axes[0, 2].plot(np.arange(short + 1), story.chains[name, short].values, **look)
    axes[0, 1].set_title(f"{long} layers, w = {line.weight:g}")
    axes[0, 1].set_ylabel("gradient by the layer's weight")
    axes[0, 2].set_title("What the layers pass on")
    axes[0, 2].set_ylabel("activation")
    axes[0, 2].set_yscale("log")
    for ax in axes[0]:
        ax.set_xlabel("layer (1 the first)")
        style.whole_numbers(ax.xaxis)
    for ax in axes[0, :2]:
        style.decades(ax.yaxis)
    style.legend_above(figure, list(axes[0, 0].lines[::-1]))
    entries = [
        style.line(label, color=CHAIN_COLOURS[name], linestyle=CHAIN_DASHES[name], linewidth=2)
        for name, label in (("sigmoid", "sigmoid"), ("tanh", "tanh"), ("relu", "ReLU"))
    ]
    axes[0, 1].legend(handles=entries, fontsize="small", loc="lower right")
    return figure


def activations(story: Story) -> Figure:
    """Draws activation functions over their slopes."""
    from rnnvg.depth.activations import ACTIVATIONS

    figure, axes = panels(2, len(GROUPS), height=2.0, sharex=True, sharey="row")
    for column, names in enumerate(GROUPS):
        for place, name in enumerate(names):
            curve = story.curves[story.curves["activation"] == name]
            look: Any = {
                "color": (BLUE, ORANGE, GREEN)[place],
                "linestyle": DASHES[place],
                "linewidth": 1.9,
                "label": ACTIVATIONS[name].label,
            }
            axes[0, column].plot(curve["z"], curve["value"], **look)
            axes[1, column].plot(curve["z"], curve["slope"], **look)
        axes[0, column].set_ylim(-2, 4)
        axes[1, column].set_ylim(-0.2, 1.85)
        axes[0, column].legend(loc="upper left", fontsize="small", handlelength=2.2)
        axes[1, column].axhline(0.25, color=style.MUTED, linewidth=0.8, linestyle=(0, (1, 1.5)), zorder=1)
        axes[1, column].set_xlabel("pre-activation z")
    axes[0, 0].set_ylabel("f(z)")
    axes[1, 0].set_ylabel("slope f′(z)")
    axes[1, -1].annotate(
        "0.25", (1, 0.25), xycoords=axes[1, -1].get_yaxis_transform(), xytext=(3, -3), textcoords=POINTS
    )
    return figure


def slopes(story: Story) -> Figure:
    """Draws the mean slope that real networks apply, layer by layer, before and after training."""
    shown = (
        ("xavier", "sigmoid, Xavier", BLUE),
        ("tanh-orthogonal", "tanh, orthogonal", ORANGE),
        ("relu-he", "ReLU, He", GREEN),
    )
    figure, axes = panels(1, 2, height=2.5, sharey=True)
    for ax, column, when in zip(axes[0], ("slopes", "slopes_end"), (style.BEFORE, style.AFTER), strict=True):
        for name, label, colour in shown:
            table = getattr(story.treated[name], column)
            ax.plot(table["layer"], table["mean_slope"], color=colour, marker="o", markersize=4, label=label)
        ax.axhline(0.25, color=style.MUTED, linewidth=0.8, linestyle=(0, (1, 1.5)))
        ax.set_title(when)
        ax.set_xlabel("layer (1 the first)")
        ax.set_ylim(0, 1.04)
        style.whole_numbers(ax.xaxis)
    axes[0, 0].set_ylabel("mean slope f′(z)")
    axes[0, 0].annotate("0.25, the sigmoid's largest", (1, 0.25), xytext=(0, 3), textcoords=POINTS, fontsize="small")
    style.legend_above(figure, list(axes[0, 0].lines[:3]))
    return figure


def starts(story: Story) -> Figure:
    """Draws gradients of four initialisations, the textbook's estimate against measurement, growth of residual networks."""
    figure, axes = panels(1, 3, height=2.9)
    ax = axes[0, 0]
    for name, gradients in story.starts.items():
        layers = np.arange(1, len(gradients.log_weight) + 1)
        relative = (gradients.log_activation[1:] - gradients.log_activation[-1]) / NATS_PER_DECADE
        ax.plot(layers, relative, color=INIT_COLOURS[name], marker="o", markersize=4, label=INIT_LABELS[name])
    ax.set_title(f"{story.settings['depth']} sigmoid layers, {story.settings['width']} wide")
    ax.set_xlabel("layer (1 the first)")
    ax.set_ylabel("gradient, relative to the last layer")
    style.whole_numbers(ax.xaxis)
    style.decades(ax.yaxis)
    ax.legend(fontsize="small")
    _widths(axes[0, 1], story)
    _growth(axes[0, 2], story)
    return figure


def _widths(ax: Axes, story: Story) -> None:
    table: pd.DataFrame = story.widths
    textbook: Any = {"linestyle": DASHES[1], "label": "(0.25 · 0.01 · √width)⁹"}
    ax.plot(table["width"], table["textbook"], color=style.MUTED, **textbook)
    ax.plot(table["width"], table["measured"], color=BLUE, marker="o", linestyle="none", label="measured")
    ax.axhline(-6, color=style.MUTED, linewidth=0.9, linestyle=(0, (1, 1.5)), label="often quoted: 10⁻⁶")
    ax.set_xscale("log")
    ax.set_xticks(table["width"], [str(width) for width in table["width"]])
    ax.minorticks_off()
    ax.set_title("Small weights N(0, 0.01²)")
    ax.set_xlabel("width")
    ax.set_ylabel("first layer's gradient / last layer's")
    ax.set_ylim(min(table["measured"].min(), table["textbook"].min()) - 5, -4)
    style.decades(ax.yaxis)
    ax.legend(fontsize="small", loc="lower right")


def _growth(ax: Axes, story: Story) -> None:
    for zero, colour, label in ((False, ORANGE, "gains start at 1"), (True, GREEN, "last gain of a block at 0")):
        table: pd.DataFrame = story.blocks[story.blocks["zero_last"] == zero]
        theory: Any = {"linewidth": 1.1, "linestyle": DASHES[1]}
        ax.plot(table["blocks"], table["predicted"], color=colour, label="_theory", **theory)
        ax.plot(table["blocks"], table["measured"], color=colour, marker="o", linestyle="none", label=label)
    blocks: Any = story.blocks["blocks"].unique()
    ax.plot(blocks, blocks, color=style.MUTED, linewidth=0.9, linestyle=(0, (1, 1.5)), label="= blocks")
    ax.plot([], [], color=style.MUTED, linewidth=1.1, linestyle=(0, (5, 1.5)), label="mean field")
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xticks(blocks, [str(each) for each in blocks])
    ax.minorticks_off()
    ax.set_title("Residual blocks, batch norm")
    ax.set_xlabel("blocks")
    ax.set_ylabel("first block's gradient / last block's")
    ax.legend(fontsize="small", loc="upper left")


def panels(
    rows: int, columns: int, *, height: float, width: float = 9.9, sharex: Any = False, sharey: Any = False
) -> tuple[Figure, Any]:
    """A figure of its own, outside pyplot, and its axes [rows, columns]; `height` is that of one row, inches."""
    figure = Figure(figsize=(width, height * rows + 0.8), layout="constrained")
    axes: Any = figure.subplots(rows, columns, sharex=sharex, sharey=sharey, squeeze=False)
    for ax in axes.flat:  # each column can stand alone: on a narrow screen it does
        ax.tick_params(labelleft=True)
    return figure, axes
