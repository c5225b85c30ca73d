"""Pictures of one result: gradient by layer, and a diagnosis. Matplotlib is imported where it is used."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rnnvg.bptt.plots import COLOUR, new_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from rnnvg.depth.diagnose import Diagnosis
    from rnnvg.depth.gradients import LayerGradients

SECOND = "#D55E00"


def draw_layers(gradients: LayerGradients, ax: Axes | None = None) -> Axes:
    """Gradient by activation and by weight against the layer, decades relative to the last layer's."""
    ax = new_axes() if ax is None else ax
    frame = gradients.to_frame()
    for column, colour, marker, label in (
        ("log10_activation", COLOUR, "o", "by the layer's activations"),
        ("log10_weight", SECOND, "s", "by the layer's weights"),
    ):
        relative = frame[column] - frame[column].iloc[-1]
        shown = relative.where(np.isfinite(relative))
        ax.plot(frame["layer"], shown, color=colour, marker=marker, markersize=4, label=label)
    ax.set_xlabel("layer (1 the first)")
    ax.set_ylabel("log10 gradient, relative to the last layer")
    ax.legend(frameon=False)
    return ax


def draw_diagnosis(diagnosis: Diagnosis, ax: Axes | None = None) -> Axes:
    """Gradient at each layer's output and by its weights, decades; layers named by a finding are marked."""
    ax = new_axes() if ax is None else ax
    layers = diagnosis.layers
    at = np.arange(len(layers))
    for values, colour, marker, label in (
        ([each.log10_adjoint for each in layers], COLOUR, "o", "by its output"),
        ([each.log10_gradient for each in layers], "0.5", "s", "by its weights"),
    ):
        shown = np.array(values, dtype=float)
        shown[~np.isfinite(shown)] = np.nan
        ax.plot(at, shown, color=colour, marker=marker, markersize=4, label=label)
    at_fault = {name for each in diagnosis.findings for name in each.layers}
    for index, layer in enumerate(layers):
        if layer.name in at_fault:
            ax.axvline(index, color=SECOND, linewidth=6, alpha=0.15, label="_at fault")
    ax.set_xticks(at, [each.name for each in layers], rotation=90 if len(layers) > 6 else 0, fontsize="small")
    ax.set_ylabel("log10 of the loss's gradient")
    ax.set_title(diagnosis.verdict)
    ax.legend(frameon=False)
    return ax
