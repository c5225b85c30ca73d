"""Pictures of measurements, from arrays and frames: curves with their spread, maps, stacked areas.

Matplotlib is imported where it is used. Axes: S sources, K distances, B sequences.
"""

# pyright: reportUnknownMemberType=false
# Matplotlib does not type what its functions hand on to the artists: it is drawn with here, and nowhere else.

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from rnnvg.bptt.curves import log_gain
from rnnvg.horizon import NATS_PER_DECADE

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike

MAP_FROM = 24  # as many sources as make a picture rather than a few stripes
MAP_CELLS = 640  # rows, and columns, of a map: the dots of a picture of the usual size
CURVE_STRETCHES = 1000  # of a longer curve the highest and lowest point of each are drawn
# Okabe and Ito 2008, with every common kind of colour blindness.
BLUE, ORANGE, GREEN, PINK = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
COLOUR = BLUE
BACK = "distance back from the loss (time steps)"
TITLE_WIDTH = 72  # characters that fit over a picture of the usual size
# One colour for a role in every cell, and for the roles of cells that are not known here, in turn.
COLOURS = {
    "saturation": ORANGE,
    "matrix": BLUE,
    "cell": GREEN,
    "carry": GREEN,
    "input gate": "#56B4E9",
    "reset gate": "#56B4E9",
    "forget gate": PINK,
    "update gate": PINK,
    "candidate": "#E69F00",
    "output gate": "#7F5FC9",
}
OTHER_COLOURS = ("#56B4E9", PINK, BLUE, ORANGE, "#F0E442", "#000000")


def new_axes() -> Axes:
    """Axes of a figure that belongs to nobody else: pyplot's state is left alone."""
    from matplotlib.figure import Figure

    return Figure(figsize=(6.4, 4.0), layout="constrained").add_subplot()


def lettered(
    ax: Axes, x: str, y: str, title: str = "", legend: bool = True, loc: Literal["upper right"] | None = None
) -> Axes:
    """The axes with their labels, a sentence over them in lines that fit, and a legend without a frame at `loc`."""
    ax.set(xlabel=x, ylabel=y)
    if title:
        ax.set_title(textwrap.fill(title, TITLE_WIDTH), fontsize="medium")
    if legend:
        ax.legend(frameon=False, loc=loc)
    return ax


def line(ax: Axes, x: ArrayLike, y: ArrayLike, **style: Any) -> None:
    ax.plot(x, y, **style)


def level(ax: Axes, y: float, label: str | None = None) -> None:
    """A dotted line across the picture, for a value that curves are compared with."""
    ax.axhline(y, color="0.4", linestyle=":", linewidth=1, label=label)


def mark(ax: Axes, x: float, color: str = "0.4", linestyle: str = ":", label: str | None = None) -> None:
    """A line from top to bottom, for a place of its own."""
    ax.axvline(x, color=color, linestyle=linestyle, linewidth=1, label=label)


def band(ax: Axes, x: ArrayLike, low: ArrayLike, high: ArrayLike, color: str = COLOUR, **style: Any) -> None:
    ax.fill_between(x, low, high, color=color, linewidth=0, **style)


def with_errors(ax: Axes, x: np.ndarray, y: np.ndarray, error: np.ndarray) -> None:
    """A line with a bar of length `error` up and down at each point."""
    ax.errorbar(x, y, yerr=error, color=COLOUR, marker=".", linewidth=1, elinewidth=1, alpha=0.7)


def right_axis(ax: Axes) -> Axes:
    """Axes over the same distances, with a scale of their own on the right."""
    return ax.twinx()


def draw_histogram(values: np.ndarray, ax: Axes | None = None) -> Axes:
    """What is finite and positive of `values` in bins on a log axis."""
    ax = new_axes() if ax is None else ax
    seen = values[np.isfinite(values) & (values > 0)]
    if seen.size:
        low, high = math.log10(seen.min()) - 0.05, math.log10(seen.max()) + 0.05
        ax.hist(seen, bins=np.logspace(low, high, 25).tolist(), color=COLOUR)
    ax.set(xscale="log")
    return ax


def draw_curve(curve: pd.DataFrame, wrt: str, horizon: str, ax: Axes | None = None) -> Axes:
    """Mean gain against distance on a log axis, its 10 to 90 % spread, and the horizon at 1/e.

    Args:
        curve: as GradientProfile.curve gives it.
        wrt: what the gradient is taken of.
        horizon: how far it reaches, for the legend.
    """
    ax = new_axes() if ax is None else ax
    curve = curve.loc[curve["n"] > 0]
    curve = curve.iloc[seen_points(curve["log10_gain"], curve["low"], curve["high"])]
    ax.plot(curve["distance"], curve["log10_gain"], color=COLOUR, label="geometric mean")
    low, high = (np.where(np.isfinite(curve[side]), curve[side], np.nan) for side in ("low", "high"))
    band(ax, curve["distance"], low, high, alpha=0.2, label="10 to 90 %")
    level(ax, -math.log10(math.e), label=f"1/e, reached at {horizon}")
    future = "; negative: the future" if (curve["distance"].to_numpy() < 0).any() else ""
    return lettered(ax, f"{BACK[:-1]}{future})", f"log10 gain of the gradient, wrt {wrt}")


def seen_points(*curves: Any, log: bool = False) -> np.ndarray:
    """The places of the points of curves over one axis, [n] each, that a picture can show: all of them where they are few.

    Of a longer curve they are the highest and the lowest of each stretch, and where the curve is interrupted: the picture is
    the same, however many points lie between. With `log` the axis is logarithmic, and so are the stretches.
    """
    n = len(curves[0])
    if n <= 4 * CURVE_STRETCHES:
        return np.arange(n)
    even = np.geomspace(1, n + 1, CURVE_STRETCHES + 1) - 1 if log else np.linspace(0, n, CURVE_STRETCHES + 1)
    edges = np.unique(even[:-1].astype(int))
    kept = [np.array([0, n - 1])]
    for curve in curves:
        values = np.asarray(curve, dtype=np.float64)
        finite = np.isfinite(values)
        for filled, extreme in ((np.inf, np.minimum), (-np.inf, np.maximum)):
            ends = extreme.reduceat(np.where(finite, values, filled), edges)
            kept.append(_first_in_stretch(values == np.repeat(ends, np.diff(edges, append=n)), edges))
        kept.append(_first_in_stretch(~finite, edges))
    return np.unique(np.concatenate(kept))


def _first_in_stretch(marks: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """The first marked place of each stretch that has one."""
    places = np.flatnonzero(marks)
    stretch = np.searchsorted(edges, places, side="right")
    return places[np.unique(stretch, return_index=True)[1]]


def draw_map(
    log_norm: np.ndarray, reference: int, sources: np.ndarray, distance: np.ndarray, wrt: str, ax: Axes | None = None
) -> Axes:
    """Source step against time step: how much of each source's gradient (mean log gain) is left at each step.

    More of either than MAP_CELLS share cells, with the mean of what is finite in each.

    Args:
        log_norm: [S, K, B] nats.
        reference: the distance that gains are relative to.
        sources: [S] steps.
        distance: [K] steps back, ascending; negative in the future.
        wrt: what the gradient is taken of.
    """
    ax = new_axes() if ax is None else ax
    last = int(max(sources.max(), (sources - distance[0]).max()))
    rows, columns = _edges(len(sources)), _edges(last + 1)
    cells = np.full((len(rows), len(columns)), np.nan)
    for row, (start, stop) in enumerate(zip(rows, [*rows[1:], len(sources)], strict=True)):
        by_step = np.full((stop - start, last + 1), np.nan)
        for each in range(start, stop):
            gain = log_gain(log_norm[each : each + 1], distance, reference)[0]
            steps = sources[each] - distance
            within = (steps >= 0) & (steps <= last)
            by_step[each - start, steps[within]] = _mean(gain / NATS_PER_DECADE)[within]
        cells[row] = _finite_mean(by_step, columns)
    finite = cells[np.isfinite(cells)]
    image = ax.pcolormesh(
        _centres(np.arange(last + 1), columns),
        _centres(sources, rows),
        np.ma.masked_invalid(cells),
        cmap="viridis",
        shading="nearest",
        vmin=float(finite.min()) if finite.size else None,
        vmax=float(finite.max()) if finite.size else None,
        rasterized=True,
    )
    ax.figure.colorbar(image, ax=ax, label=f"log10 gain, wrt {wrt}")
    return lettered(ax, "time step reached", "step of the loss (source)", legend=False)


def _edges(n: int) -> np.ndarray:
    """Where each of at most MAP_CELLS cells begins, of `n` rows or columns."""
    return np.arange(n) if n <= MAP_CELLS else np.linspace(0, n, MAP_CELLS + 1).astype(int)[:-1]


def _centres(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    return values if len(edges) == len(values) else np.add.reduceat(values, edges) / np.diff(edges, append=len(values))


def _finite_mean(rows: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """The mean over rows [r, n] and the columns of each cell of what is finite; nan where nothing is."""
    if len(rows) == 1 and len(edges) == rows.shape[1]:
        return rows[0]
    finite = np.isfinite(rows)
    total, n = (np.add.reduceat(each.sum(0), edges) for each in (np.where(finite, rows, 0.0), finite))
    return np.where(n > 0, total / np.maximum(n, 1), np.nan)


def draw_nats(nats: Mapping[str, np.ndarray], gain: np.ndarray, ax: Axes | None = None) -> Axes:
    """What parts have added by each distance from 1 on, [K - 1] nats each, stacked, and the log gain that they add up to."""
    ax = new_axes() if ax is None else ax
    distance, seen = np.arange(1, len(gain) + 1), seen_points(gain, *nats.values())
    stack(ax, distance[seen], {name: values[seen] for name, values in nats.items()})
    ax.plot(distance[seen], gain[seen], color="black", linewidth=1.5, label="log gain")
    ax.set(ylabel="nats added since the loss")
    return _finish(ax, distance)


def draw_shares(shares: Mapping[str, np.ndarray], ax: Axes | None = None) -> Axes:
    """Signed shares of what arrives at each distance from 1 on, [K - 1, B] each, stacked; means over sequences."""
    ax = new_axes() if ax is None else ax
    means = {name: _mean(share) for name, share in shares.items()}
    distance = np.arange(1, len(next(iter(means.values()))) + 1)
    seen = seen_points(*means.values())
    stack(ax, distance[seen], {name: values[seen] for name, values in means.items()})
    ax.axhline(1.0, color="black", linewidth=1, linestyle=":")
    ax.set(ylabel="signed share of the gradient that arrives")
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
        style: dict[str, Any] = {"where": visible, "color": colour, "linewidth": 0, "alpha": 0.85}
        ax.fill_between(distance, up, up + above, label=name, **style)
        ax.fill_between(distance, down + below, down, **style)
        up, down = up + above, down + below


def _finish(ax: Axes, distance: np.ndarray) -> Axes:
    ax.axhline(0.0, color="black", linewidth=0.8)
    ax.set(xlabel=BACK, xlim=(1, max(2, int(distance[-1]))))
    ax.legend(frameon=False, fontsize="small", ncols=5, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return ax


def _mean(rows: np.ndarray) -> np.ndarray:
    """Mean over the last axis of what is observed, nan where nothing is."""
    seen = ~np.isnan(rows)
    with np.errstate(invalid="ignore"):
        return np.where(seen.any(-1), np.where(seen, rows, 0.0).sum(-1) / np.maximum(seen.sum(-1), 1), np.nan)
