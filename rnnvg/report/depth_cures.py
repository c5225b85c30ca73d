"""Figures of the teaching page about training: signs, clipping, diagnoses, remedies, and the recurrent case."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from rnnvg.bptt.plots import BLUE, GREEN, ORANGE, PINK
from rnnvg.report import style
from rnnvg.report.depth_figures import DASHES, panels

if TYPE_CHECKING:
    from rnnvg.depth.story import Story

TRAININGS = {
    "none": "Sick: sigmoid, N(0, 0.01²)",
    "relu-he": "ReLU with He weights",
    "residual-blocks": "Residual blocks, batch norm",
}
VERDICTS = {
    "healthy": "Healthy",
    "tiny-initialisation": "Tiny initialisation",
    "saturated-units": "Saturated units",
    "dead-relus": "Dead ReLUs",
    "frozen-layer": "Frozen first layer",
}
FLOOR = -18.0
SHOWN = {
    "none": ("sigmoid, N(0, 0.01²)", ORANGE, "solid"),
    "xavier": ("sigmoid, Xavier", PINK, DASHES[1]),
    "relu-he": ("ReLU, He", BLUE, DASHES[2]),
    "residual-blocks": ("residual blocks, batch norm", GREEN, "solid"),
}


def finding(story: Story) -> Figure:
    """Draws gradient by layer before training, and accuracy through it: the sick network, better weights, two cures."""
    figure, axes = panels(1, 2, height=1.7)
    gradients, accuracy = axes[0]
    for name, (label, colour, dashes) in SHOWN.items():
        training = story.treated[name].training
        first: pd.DataFrame = training.gradients[training.gradients["step"] == training.gradients["step"].min()]
        relative = first["log10_norm"] - first["log10_norm"].iloc[-1]
        look: Any = {"color": colour, "linestyle": dashes, "linewidth": 2, "label": label}
        gradients.plot(first["layer"], relative.where(np.isfinite(relative)), **look)
        accuracy.plot(training.history["step"], training.history["accuracy"], **look)
    gradients.set_xlabel("layer (1 the first)")
    gradients.set_ylabel("gradient, relative\nto the last layer")
    style.whole_numbers(gradients.xaxis)
    style.decades(gradients.yaxis)
    accuracy.set_ylim(0, 1.03)
    accuracy.set_xlabel("training step")
    accuracy.set_ylabel("test accuracy")
    style.legend_above(figure, list(gradients.lines))
    return figure


def through_training(story: Story) -> Figure:
    """Draws every layer's gradient norm as training goes on, and below it the accuracy on the same steps."""
    figure, axes = panels(2, len(TRAININGS), height=2.2, sharex="col", sharey="row")
    colours = matplotlib.colormaps["viridis"]
    for column, (name, title) in enumerate(TRAININGS.items()):
        training = story.treated[name].training
        upper, lower = axes[:, column]
        gradients: pd.DataFrame = training.gradients
        n_layers = int(gradients["layer"].max())
        for layer, line in gradients.groupby("layer"):
            shade = colours(0.05 + 0.85 * (int(str(layer)) - 1) / max(1, n_layers - 1))
            seen = line["log10_norm"].where(np.isfinite(line["log10_norm"]))
            upper.plot(line["step"], seen, color=shade, linewidth=1.3, label=f"layer {layer}")
        upper.set_title(title)
        style.decades(upper.yaxis)
        lower.plot(training.history["step"], training.history["accuracy"], color=BLUE, linewidth=2)
        lower.set_ylim(0, 1.03)
        lower.set_xlabel("training step")
    axes[0, 0].set_ylabel("gradient norm of\nthe layer's weights")
    axes[1, 0].set_ylabel("test accuracy")
    style.legend_above(
        figure,
        [
            style.mark("s", "first layer", color=colours(0.05)),
            style.mark("s", "middle", color=colours(0.47)),
            style.mark("s", "last layer", color=colours(0.9)),
        ],
    )
    return figure


def diagnoses(story: Story) -> Figure:
    """Draws gradient and update by layer for a healthy network and four with a planted defect."""
    figure, axes = panels(2, len(story.diagnoses), height=1.9, width=11.5, sharex="col", sharey="row")
    for column, (name, diagnosis) in enumerate(story.diagnoses.items()):
        upper, lower = axes[:, column]
        at = np.arange(1, len(diagnosis.layers) + 1)
        adjoint = np.array([each.log10_adjoint for each in diagnosis.layers])
        with np.errstate(divide="ignore"):
            update = np.log10([each.update_ratio for each in diagnosis.layers])
        marked = {each for finding in diagnosis.findings[:1] for each in finding.layers}
        for ax, values, floor in ((upper, adjoint, FLOOR), (lower, update, -20.0)):
            ax.plot(at, np.where(np.isfinite(values), values, np.nan), color=BLUE, marker="o", markersize=3)
            gone = np.isneginf(values)
            ax.plot(at[gone], np.full(gone.sum(), floor), color=ORANGE, marker="v", markersize=5, linestyle="none")
            for place, layer in zip(at, diagnosis.layers, strict=True):
                if layer.name in marked:
                    ax.axvspan(place - 0.5, place + 0.5, color=ORANGE, alpha=0.14, linewidth=0)
            style.decades(ax.yaxis)
        upper.set_title(VERDICTS[name])
        lower.set_xlabel("layer")
        style.whole_numbers(lower.xaxis)
    axes[0, 0].set_ylabel("gradient at the\nlayer's output")
    axes[1, 0].set_ylabel("update / weights")
    style.legend_above(
        figure,
        [
            style.mark("o", "measured", color=BLUE, linestyle="solid", markersize=4),
            style.mark("v", "exactly zero", color=ORANGE),
            style.mark("s", "named by the diagnosis", color=ORANGE, alpha=0.3),
        ],
    )
    return figure


def clipping(story: Story) -> Figure:
    """Draws each layer's gradient before and after clipping, and what the training came to."""
    figure, axes = panels(1, 2, height=2.5)
    clipped = [each for each in story.clipped if each.clip is not None]
    for ax, each in zip(axes[0], clipped, strict=True):
        before, after = (np.array(part) for part in each.by_layer)
        at = np.arange(1, len(before) + 1)
        ax.plot(at, before, color=BLUE, marker="o", markersize=7, markerfacecolor="none", label="before clipping")
        ax.plot(at, after, color=ORANGE, marker="o", markersize=3.5, label=f"after clipping to norm {each.clip:g}")
        ax.set_title(f"{each.network.capitalize()} network")
        ax.set_xlabel("layer (1 the first)")
        ax.margins(y=0.25)
        style.whole_numbers(ax.xaxis)
        style.decades(ax.yaxis)
    axes[0, 0].set_ylabel("gradient norm of\nthe layer's weights")
    style.legend_above(figure, list(axes[0, 0].lines[:2]))
    return figure


def remedies(story: Story) -> Figure:
    """Draws one row a remedy: predicted and measured gradient ratio, accuracy, time."""
    treated = list(story.treated.values())
    figure, axes = panels(1, 3, height=0.34 * len(treated) + 0.6, width=10.5, sharey=True)
    rows = np.arange(len(treated))
    ratios, scores, times = axes[0]
    for row, each in zip(rows, treated, strict=True):
        ratios.plot([each.measured, each.after], [row, row], color=style.MUTED, linewidth=0.8, zorder=1)
        if each.predicted is not None:
            ratios.plot(each.predicted, row, color=style.INK, marker="|", markersize=13, markeredgewidth=1.6, zorder=2)
        ratios.plot(each.measured, row, color=BLUE, marker="o", markersize=6, zorder=3)
        ratios.plot(each.after, row, color=GREEN, marker="D", markersize=4, zorder=3)
        scores.plot(each.training.accuracy, row, color=BLUE, marker="o", markersize=6)
        times.plot(each.seconds, row, color=BLUE, marker="o", markersize=6)
    ratios.axvline(0, color=style.MUTED, linewidth=0.9)
    ratios.set_yticks(rows, [each.remedy.change for each in treated])
    ratios.set_ylim(len(treated) - 0.4, -0.6)
    for ax in (scores, times):
        ax.tick_params(labelleft=False)
    ratios.set_xlabel("first layer's gradient / last layer's")
    style.decades(ratios.xaxis, bins=5, steps=(1, 2, 4, 5, 10))
    scores.set_xlim(0, 1.03)
    scores.set_xlabel("test accuracy")
    times.set_xscale("log")
    times.set_xlabel("seconds")
    style.one_two_five(times.xaxis, most=6)
    style.legend_above(
        figure,
        [
            style.mark("|", "predicted by mean-field theory", color=style.INK, markersize=11, markeredgewidth=1.6),
            style.mark("o", "measured at the start", color=BLUE),
            style.mark("D", "measured after training", color=GREEN, markersize=5),
        ],
    )
    return figure


def cells(story: Story) -> Figure:
    """Draws gradient against distance in time steps for the three cells, before, after and through training."""
    figure, axes = panels(1, 3, height=2.7, sharey=True)
    for ax, when in zip(axes[0], (style.BEFORE, style.AFTER), strict=False):
        for run in story.cells:
            profile = run.start if when == style.BEFORE else run.end
            curve = profile.curve()
            ax.plot(curve["distance"], curve["log10_gain"], color=style.CELL_COLOURS[run.cell], linewidth=2.1)
        ax.axhline(-math.log10(math.e), color=style.MUTED, linewidth=0.8, linestyle=(0, (1, 1.5)))
        ax.set_title(when)
        ax.set_xlabel("distance (time steps back)")
        ax.set_xlim(left=0)
        style.whole_numbers(ax.xaxis)
    ax = axes[0, 2]
    for run in story.cells:
        steps = [0, *run.checkpoints, run.steps]
        values = [run.ratio(profile) for profile in (run.start, *run.opening, run.end)]
        look: Any = {"color": style.CELL_COLOURS[run.cell], "marker": style.CELL_MARKERS[run.cell], "markersize": 4.5}
        ax.plot(steps, values, linewidth=1.6, label=style.CELL_LABELS[run.cell], **look)
    ax.set_title("first step / last step")
    ax.set_xlabel("training step")
    axes[0, 0].set_ylabel("gradient, relative to one step back")
    style.decades(axes[0, 0].yaxis)
    style.legend_above(figure, list(ax.lines))
    return figure
