"""Figures of why the gradient vanishes: what takes it, from every source, its exponents through training, and theory."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from rnnvg.bptt.plots import COLOURS, stack
from rnnvg.report import causes, legend, style
from rnnvg.report.results import Frame, Results
from rnnvg.report.style import AFTER

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAP_FLOOR = -8.0  # decades


def areas(results: Results) -> Figure:
    """A column a problem, a row a network: nats added by each distance (vanilla RNN), or shares of what arrives (gated)."""
    frames = {quantity: causes.split(results, quantity) for quantity in ("nats", "share", "log_gain")}
    networks = results.networks()
    figure, axes = style.panels(len(networks), len(results.problems), height=1.75)
    seen: dict[str, None] = {}
    for column, problem in enumerate(results.problems):
        for row, network in enumerate(networks):
            ax, parts = axes[row, column], {}
            for quantity in ("nats", "share"):
                own = _after(frames[quantity], problem, network)
                parts |= {str(part): each for part, each in own.groupby("part", sort=False)}
                if len(own) and quantity == "nats":
                    line = _after(frames["log_gain"], problem, network)
                    ax.plot(line["distance"], line["value"], color=style.INK, linewidth=1.3)
                elif len(own):
                    ax.axhline(1.0, color=style.INK, linewidth=0.8, linestyle=":")
            if parts:
                distance = next(iter(parts.values()))["distance"].to_numpy()
                stack(ax, distance, {name: each["value"].to_numpy() for name, each in parts.items()})
                seen |= dict.fromkeys(parts)
                ax.set_xlim(distance.min(), distance.max())
            else:
                ax.text(0.5, 0.5, "nothing measured", transform=ax.transAxes, ha="center", color=style.MUTED)
            ax.axhline(0.0, color=style.INK, linewidth=0.7)
            if style.begins_row(ax):
                unit = "nats added" if "saturation" in parts else "share of what\narrives"
                ax.set_ylabel(f"{network}\n{unit}", fontsize="small")
        axes[0, column].set_title(style.title(problem))
        axes[-1, column].set_xlabel("distance (time steps back)")
    legend.above(figure, [_patch(name) for name in COLOURS if name in seen])
    return figure


def source_maps(results: Results) -> Figure:
    """A column a problem, a row a network: what is left of each source's gradient at each time step, after training."""
    networks = results.networks()
    figure, axes = style.panels(len(networks), len(results.problems), height=1.75)
    image = None
    for column, problem in enumerate(results.problems):
        for row, network in enumerate(networks):
            ax, found = axes[row, column], causes.source_map(results, problem, network)
            if found is None:
                ax.text(0.5, 0.5, "nothing measured", transform=ax.transAxes, ha="center", color=style.MUTED)
                continue
            image = _map(ax, found)
            if style.begins_row(ax):
                ax.set_ylabel(f"{network}\nstep of the loss", fontsize="small")
        axes[0, column].set_title(style.title(problem))
        axes[-1, column].set_xlabel("time step reached")
    if image is not None:
        label = "gradient left (decades, relative to one step back)"
        figure.colorbar(image, ax=list(axes.ravel()), label=label, extend="min", shrink=0.7, pad=0.015)
    return figure


def exponents(results: Results) -> Figure:
    """Leading Lyapunov exponents against the training step: a column a problem, a line a run, the first one thick."""
    seen = causes.exponents(results)
    figure, axes = style.panels(1, len(results.problems), height=2.8)
    look = legend.looks(results)
    for column, problem in enumerate(results.problems):
        ax, own = axes[0, column], seen[seen["problem"] == problem]
        for (network, run, index), line in own.groupby(["network", "id", "index"], sort=False):
            colour, marker, dashes = look[str(network)]
            first = index == 1
            ax.plot(
                line["step"],
                line["value"].where(np.isfinite(line["value"])),
                color=colour,
                linestyle=dashes,
                linewidth=1.4 if first else 0.7,
                marker=marker if first else None,
                markersize=3.2,
                alpha=0.9 if first else 0.35,
                label=f"{network}/{run}/{index}",
            )
        ax.axhline(0.0, color=style.INK, linewidth=0.9, linestyle=(0, (1, 1.5)))
        ax.set_title(style.title(problem))
        ax.set_xlabel("training step")
        if style.begins_row(ax):
            ax.set_ylabel("Lyapunov exponent\n(nats per time step)")
        if own.empty:
            ax.text(0.5, 0.5, "nothing measured", transform=ax.transAxes, ha="center", color=style.MUTED)
    from matplotlib.lines import Line2D

    extra: list[Any] = [
        Line2D([], [], color=style.MUTED, linewidth=1.4, label="largest"),
        Line2D([], [], color=style.MUTED, linewidth=0.7, alpha=0.6, label="second and third"),
    ]
    legend.networks(figure, results, extra)
    return figure


def theory(results: Results) -> Figure:
    """Measured gain at initialisation, a thin line a seed, and what theory says, dashed: a column a problem."""
    frame = causes.theory(results)
    figure, axes = style.panels(1, len(results.problems), height=2.8)
    look = legend.looks(results)
    for column, problem in enumerate(results.problems):
        ax, own = axes[0, column], frame[frame["problem"] == problem]
        for network, lines in own.groupby("network", sort=False):
            colour = look[str(network)][0]
            for _, line in lines.groupby("id", sort=False):
                decades = line["measured"] / math.log(10)
                ax.plot(line["distance"], decades, color=colour, linewidth=0.9, alpha=0.7, label=f"{network}")
            mean = lines.groupby("distance")["predicted"].mean() / math.log(10)
            ax.plot(
                mean.index,
                mean.to_numpy(),
                color=colour,
                linestyle=(0, (4, 2)),
                linewidth=2,
                label=f"{network}, theory",
            )
        ax.set_title(style.title(problem))
        ax.set_xlabel("distance (time steps back)")
        if style.begins_row(ax):
            ax.set_ylabel("gradient left at initialisation\n(decades, relative to one step back)")
        if own.empty:
            ax.text(0.5, 0.5, "no prediction", transform=ax.transAxes, ha="center", color=style.MUTED)
    from matplotlib.lines import Line2D

    extra: list[Any] = [
        Line2D([], [], color=style.MUTED, linewidth=0.9, label="measured, one seed"),
        Line2D([], [], color=style.MUTED, linewidth=2, linestyle=(0, (4, 2)), label="theory, wide network"),
    ]
    legend.networks(figure, results, extra)
    return figure


def _after(frame: Frame, problem: str, network: str) -> Frame:
    return frame[(frame["problem"] == problem) & (frame["network"] == network) & (frame["when"] == AFTER)]


def _patch(name: str) -> Any:
    from matplotlib.patches import Patch

    return Patch(color=COLOURS[name], alpha=0.85, linewidth=0, label=name)


def _map(ax: Axes, found: Frame) -> Any:
    """Sources upwards, time steps to the right; gains below MAP_FLOOR are drawn in the last colour."""
    sources, distances = found.index.to_numpy(), found.columns.to_numpy()
    stride = int(np.diff(distances).min()) if len(distances) > 1 else 1
    steps = np.arange(0, sources.max() + 1, stride)
    picture = np.full((len(sources), len(steps)), np.nan)
    for row, source in enumerate(sources):
        gain = found.loc[source].to_numpy()
        known = ~np.isnan(gain)
        finite = np.where(np.isneginf(gain[known]), -1e9, gain[known])
        back = source - steps
        inside = (back >= distances[known].min()) & (back <= source)
        picture[row, inside] = np.interp(back[inside], distances[known], finite)
    picture = np.clip(picture, MAP_FLOOR * 1.01, 0.5)
    return ax.pcolormesh(
        steps,
        sources,
        np.ma.masked_invalid(picture),
        cmap="viridis",
        shading="nearest",
        vmin=MAP_FLOOR,
        vmax=0.0,
        rasterized=True,
    )
