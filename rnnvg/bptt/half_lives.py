"""half_lives(): after how many steps each channel of a gated or diagonal recurrence has lost half of what it carries.

The carry factor of a channel (a forget gate, 1 - z, the modulus of an eigenvalue) is averaged in logs along the inputs, and
ln(1/2) divided by that mean. It is the direct carry alone: where the state feeds back through matrices too, the gradient may
live longer.
Axes: T steps, B sequences, C channels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from rnnvg.bptt.cells.diagonal import Diagonal
from rnnvg.bptt.linearize import Recurrence, linearize
from rnnvg.bptt.stack import ModuleLinearization
from rnnvg.bptt.why.gates import gates_along
from rnnvg.errors import InputError
from rnnvg.notebook import Shown

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


@dataclass(frozen=True, repr=False)
class HalfLives(Shown):
    """Half-lives of channels.

    Attributes:
        steps: [C] ln(1/2) over the mean log of the channel's carry factor; inf where nothing is lost, 0 where everything is.
        gate: [C] what carries it.
        layer: [C]

    >>> import torch
    >>> from rnnvg import models, tasks
    >>> from rnnvg.bptt import half_lives
    >>> core = models.build(tasks.make("adding", length=50), "lstm", hidden=4, init="forget-bias").core
    >>> found = half_lives(core, torch.randn(50, 4, 2))
    >>> found.steps.shape
    (4,)
    """

    steps: np.ndarray
    gate: np.ndarray
    layer: np.ndarray

    def share_below(self, steps: float = 2.0) -> float:
        """The share of channels that lose half within fewer than `steps` steps."""
        return float((self.steps < steps).mean())

    def to_frame(self) -> pd.DataFrame:
        """A row per channel: layer, gate, channel, half_life."""
        import pandas as pd

        places = pd.DataFrame({"layer": self.layer, "gate": self.gate})
        places["channel"] = places.groupby(["layer", "gate"]).cumcount()
        return places.assign(half_life=self.steps)

    def plot(self, ax: Axes | None = None) -> Axes:
        """A histogram on a log axis, with 2 steps marked. Returns the Axes."""
        from rnnvg.bptt import plots

        ax = plots.draw_histogram(self.steps, ax)
        plots.mark(ax, 2)
        return plots.lettered(ax, "half-life (steps)", "channels", legend=False)

    def __str__(self) -> str:
        return (
            f"half-lives of {len(self.steps)} channels: median {np.median(self.steps):.3g} steps, "
            f"{100 * self.share_below():.0f} % below 2"
        )


def half_lives(recurrence: Recurrence, inputs: torch.Tensor, state: Any = None) -> HalfLives:
    """The half-life of every channel that a gate or an eigenvalue carries over, along the given inputs.

    Args:
        recurrence, inputs, state: as `gradient_profile` takes them: a gated module, a state space, or a `Diagonal`.

    Raises:
        InputError: the recurrence has no carry of its own (a vanilla RNN, a step function).

    >>> str(half_lives(Diagonal(), torch.full((9, 1, 4), 0.5)))
    'half-lives of 4 channels: median 1 steps, 100 % below 2'
    """
    if isinstance(recurrence, Diagonal):
        logs = recurrence.factors(inputs).abs().double().log().flatten(0, 1)
        return _of({(0, "decay"): [logs]})
    linear = linearize(recurrence, inputs, state)
    found: dict[tuple[int, str], list[torch.Tensor]] = {}
    if isinstance(linear, ModuleLinearization):
        for index, _, gates in gates_along(linear):
            for gate in gates:
                if gate.log_carry is not None:
                    found.setdefault((index, gate.name), []).append(gate.log_carry.double().flatten(0, 1).clone())
    if not found:
        raise InputError(
            "`recurrence` has no gate or eigenvalue that carries its state over; pass a gated module, a state space or a "
            "Diagonal."
        )
    return _of(found)


def _of(logs: dict[tuple[int, str], list[torch.Tensor]]) -> HalfLives:
    steps: list[np.ndarray] = []
    gates: list[str] = []
    layers: list[int] = []
    for (layer, gate), parts in logs.items():
        mean = torch.cat(parts).mean(0).cpu().numpy()
        with np.errstate(divide="ignore"):
            lives = np.where(mean < 0, -math.log(2) / np.where(mean < 0, mean, -1.0), np.inf)
        steps.append(lives)
        gates += [gate] * len(lives)
        layers += [layer] * len(lives)
    return HalfLives(np.concatenate(steps), np.array(gates), np.array(layers))
