"""Pictures of one profile: the curve with its spread, and the source x time map. Matplotlib is imported where it is used."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from rnnvg.bptt.profile import GradientProfile

MAP_FROM = 24  # as many sources as make a picture rather than a few stripes
COLOUR = "#0072B2"
TITLE_WIDTH = 72  # characters that fit over a picture of the usual size


def new_axes() -> Axes:
    """Axes of a figure that belongs to nobody else: pyplot's state is left alone."""
    from matplotlib.figure import Figure

    return Figure(figsize=(6.4, 4.0), layout="constrained").add_subplot()


def draw_curve(profile: GradientProfile, ax: Axes | None = None) -> Axes:
    """Mean gain against distance on a log axis, its 10 to 90 % spread, and the horizon at 1/e."""
    ax = new_axes() if ax is None else ax
    curve = profile.curve()
    curve = curve[curve["n"] > 0]
    ax.plot(curve["distance"], curve["log10_gain"], color=COLOUR, label="geometric mean")
    low, high = (np.where(np.isfinite(curve[side]), curve[side], np.nan) for side in ("low", "high"))
    ax.fill_between(curve["distance"], low, high, color=COLOUR, alpha=0.2, linewidth=0, label="10 to 90 %")
    ax.axhline(
        -math.log10(math.e), color="0.4", linestyle=":", linewidth=1, label=f"1/e, reached at {profile.horizon()}"
    )
    future = "; negative: the future" if profile.distance[0] < 0 else ""
    ax.set_xlabel(f"distance back from the loss (time steps{future})")
    ax.set_ylabel(f"log10 gain of the gradient, wrt {profile.wrt}")
    ax.legend(frameon=False)
    return ax


def draw_map(profile: GradientProfile, ax: Axes | None = None) -> Axes:
    """Source step against time step: how much of each source's gradient (mean log gain) is left at each earlier step."""
    ax = new_axes() if ax is None else ax
    gain = profile.log_gain() / math.log(10)
    seen = ~np.isnan(gain)
    with np.errstate(invalid="ignore"):
        mean = np.where(seen.any(2), np.where(seen, gain, 0).sum(2) / np.maximum(seen.sum(2), 1), np.nan)
    last = int(max(profile.sources.max(), (profile.sources - profile.distance[0]).max()))
    by_step = np.full((len(profile.sources), last + 1), np.nan)
    for row, source in enumerate(profile.sources):
        steps = source - profile.distance
        within = (steps >= 0) & (steps <= last)
        by_step[row, steps[within]] = mean[row, within]
    finite = by_step[np.isfinite(by_step)]
    image = ax.pcolormesh(
        np.arange(by_step.shape[1]),
        profile.sources,
        np.ma.masked_invalid(by_step),
        cmap="viridis",
        shading="nearest",
        vmin=float(finite.min()) if finite.size else None,
        vmax=float(finite.max()) if finite.size else None,
        rasterized=True,
    )
    ax.figure.colorbar(image, ax=ax, label=f"log10 gain, wrt {profile.wrt}")
    ax.set_xlabel("time step reached")
    ax.set_ylabel("step of the loss (source)")
    return ax
