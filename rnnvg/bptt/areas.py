"""The picture of an attribution: areas stacked over distance, upwards and downwards from zero."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rnnvg.bptt import figures

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from rnnvg.bptt.attribution import DecayAttribution

# One colour for a role in every cell (Okabe and Ito 2008).
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
    "output gate": "#0072B2",
}


def draw(found: DecayAttribution, ax: Axes | None = None) -> Axes:
    """Vanilla RNN: nats that slopes and matrix have added by each distance, and their sum. Gated: shares of what arrives."""
    ax = figures.new_axes() if ax is None else ax
    distance = np.arange(1, found.source + 2)
    if found.parts:
        stack(ax, distance, {name: found.nats_so_far(name)[1:].mean(1) for name in found.parts})
        ax.plot(distance, found.log_gain()[1:], color="black", linewidth=1.5, label="log gain")
        ax.set_ylabel("nats added since the loss")
    else:
        stack(ax, distance, {name: _mean(share[1:]) for name, share in found.shares.items()})
        ax.axhline(1.0, color="black", linewidth=1, linestyle=":")
        ax.set_ylabel("signed share of the gradient that arrives")
    ax.axhline(0.0, color="black", linewidth=0.8)
    ax.set_xlabel("distance back from the loss (time steps)")
    ax.set_xlim(1, max(2, found.source + 1))
    ax.legend(frameon=False, fontsize="small", ncols=5, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return ax


def _mean(rows: np.ndarray) -> np.ndarray:
    """Mean over sequences that are observed, nan where none is."""
    seen = ~np.isnan(rows)
    return np.where(seen.any(1), np.where(seen, rows, 0.0).sum(1) / np.maximum(seen.sum(1), 1), np.nan)


def stack(ax: Axes, distance: np.ndarray, parts: dict[str, np.ndarray]) -> None:
    """Positive parts upwards from zero, negative ones downwards; nothing is drawn where a part is not finite."""
    visible = np.isfinite(list(parts.values())).all(0)
    up, down = np.zeros(len(distance)), np.zeros(len(distance))
    for name, values in parts.items():
        values = np.where(visible, values, 0.0)
        above, below = np.maximum(values, 0.0), np.minimum(values, 0.0)
        style = {"where": visible, "color": COLOURS[name], "linewidth": 0, "alpha": 0.85}
        ax.fill_between(distance, up, up + above, label=name, **style)
        ax.fill_between(distance, down + below, down, **style)
        up, down = up + above, down + below
