"""Pictures of measurements, from arrays and frames: curves with their spread, maps, stacked areas.

Matplotlib is imported where it is used. Axes: S sources, K distances, B sequences.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

MAP_FROM = 24  # as many sources as make a picture rather than a few stripes
COLOUR = "#0072B2"
TITLE_WIDTH = 72  # characters that fit over a picture of the usual size
# One colour for a role in every cell (Okabe and Ito 2008), and for the roles of cells that are not known here, in turn.
COLOURS = {
    "saturation": "#D55E00",
    "matrix": "#0072B2",
    "cell": "#009E73",
    "carry": "#009E73",
    "input gate": "#56B4E9",
    "reset gate": "#56B4E9",
    "forget gate": "#CC79A7",
    "update gate": "#CC79A7",
    "candidate": "#E69F00",
    "output gate": "#7F5FC9",
}
OTHER_COLOURS = ("#56B4E9", "#CC79A7", "#0072B2", "#D55E00", "#F0E442", "#000000")


def new_axes() -> Axes:
    """Axes of a figure that belongs to nobody else: pyplot's state is left alone."""
    from matplotlib.figure import Figure

    return Figure(figsize=(6.4, 4.0), layout="constrained").add_subplot()


def draw_curve(curve: pd.DataFrame, wrt: str, horizon: str, ax: Axes | None = None) -> Axes:
    """Mean gain against distance on a log axis, its 10 to 90 % spread, and the horizon at 1/e.

    Args:
        curve: as GradientProfile.curve gives it.
        wrt: what the gradient is taken of.
        horizon: how far it reaches, for the legend.
    """
    ax = new_axes() if ax is None else ax
    curve = curve.loc[curve["n"] > 0]
    ax.plot(curve["distance"], curve["log10_gain"], color=COLOUR, label="geometric mean")
    low, high = (np.where(np.isfinite(curve[side]), curve[side], np.nan) for side in ("low", "high"))
    ax.fill_between(curve["distance"], low, high, color=COLOUR, alpha=0.2, linewidth=0, label="10 to 90 %")
    ax.axhline(-math.log10(math.e), color="0.4", linestyle=":", linewidth=1, label=f"1/e, reached at {horizon}")
    future = "; negative: the future" if (curve["distance"].to_numpy() < 0).any() else ""
    ax.set_xlabel(f"distance back from the loss (time steps{future})")
    ax.set_ylabel(f"log10 gain of the gradient, wrt {wrt}")
    ax.legend(frameon=False)
    return ax


def draw_map(log_gain: np.ndarray, sources: np.ndarray, distance: np.ndarray, wrt: str, ax: Axes | None = None) -> Axes:
    """Source step against time step: how much of each source's gradient (mean log gain) is left at each step.

    Args:
        log_gain: [S, K, B] nats.
        sources: [S] steps.
        distance: [K] steps back, ascending; negative in the future.
        wrt: what the gradient is taken of.
    """
    ax = new_axes() if ax is None else ax
    mean = _mean(log_gain / math.log(10))
    last = int(max(sources.max(), (sources - distance[0]).max()))
    by_step = np.full((len(sources), last + 1), np.nan)
    for row, source in enumerate(sources):
        steps = source - distance
        within = (steps >= 0) & (steps <= last)
        by_step[row, steps[within]] = mean[row, within]
    finite = by_step[np.isfinite(by_step)]
    image = ax.pcolormesh(
        np.arange(by_step.shape[1]),
        sources,
        np.ma.masked_invalid(by_step),
        cmap="viridis",
        shading="nearest",
        vmin=float(finite.min()) if finite.size else None,
        vmax=float(finite.max()) if finite.size else None,
        rasterized=True,
    )
    ax.figure.colorbar(image, ax=ax, label=f"log10 gain, wrt {wrt}")
    ax.set_xlabel("time step reached")
    ax.set_ylabel("step of the loss (source)")
    return ax


def draw_nats(nats: Mapping[str, np.ndarray], log_gain: np.ndarray, ax: Axes | None = None) -> Axes:
    """What parts have added by each distance from 1 on, [K - 1] nats each, stacked, and the log gain that they add up to."""
    ax = new_axes() if ax is None else ax
    distance = np.arange(1, len(log_gain) + 1)
    stack(ax, distance, nats)
    ax.plot(distance, log_gain, color="black", linewidth=1.5, label="log gain")
    ax.set_ylabel("nats added since the loss")
    return _finish(ax, distance)


def draw_shares(shares: Mapping[str, np.ndarray], ax: Axes | None = None) -> Axes:
    """Signed shares of what arrives at each distance from 1 on, [K - 1, B] each, stacked; means over sequences."""
    ax = new_axes() if ax is None else ax
    means = {name: _mean(share) for name, share in shares.items()}
    distance = np.arange(1, len(next(iter(means.values()))) + 1)
    stack(ax, distance, means)
    ax.axhline(1.0, color="black", linewidth=1, linestyle=":")
    ax.set_ylabel("signed share of the gradient that arrives")
    return _finish(ax, distance)


def stack(ax: Axes, distance: np.ndarray, parts: Mapping[str, np.ndarray]) -> None:
    """Positive parts upwards from zero, negative ones downwards; nothing is drawn where a part is not finite."""
    visible = np.isfinite(list(parts.values())).all(0)
    up, down = np.zeros(len(distance)), np.zeros(len(distance))
    unknown = [name for name in parts if name not in COLOURS]
    for name, values in parts.items():
        values = np.where(visible, values, 0.0)
        above, below = np.maximum(values, 0.0), np.minimum(values, 0.0)
        colour = COLOURS[name] if name in COLOURS else OTHER_COLOURS[unknown.index(name) % len(OTHER_COLOURS)]
        style = {"where": visible, "color": colour, "linewidth": 0, "alpha": 0.85}
        ax.fill_between(distance, up, up + above, label=name, **style)
        ax.fill_between(distance, down + below, down, **style)
        up, down = up + above, down + below


def _finish(ax: Axes, distance: np.ndarray) -> Axes:
    ax.axhline(0.0, color="black", linewidth=0.8)
    ax.set_xlabel("distance back from the loss (time steps)")
    ax.set_xlim(1, max(2, int(distance[-1])))
    ax.legend(frameon=False, fontsize="small", ncols=5, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return ax


def _mean(rows: np.ndarray) -> np.ndarray:
    """Mean over the last axis of what is observed, nan where nothing is."""
    seen = ~np.isnan(rows)
    with np.errstate(invalid="ignore"):
        return np.where(seen.any(-1), np.where(seen, rows, 0.0).sum(-1) / np.maximum(seen.sum(-1), 1), np.nan)
