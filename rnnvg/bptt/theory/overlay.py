"""Measured curves of several networks beside a predicted one, and how many standard errors apart they are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rnnvg.bptt.profile import GradientProfile
from rnnvg.errors import InputError
from rnnvg.horizon import NATS_PER_DECADE, slope
from rnnvg.notebook import Shown

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from rnnvg.bptt.theory import WidePrediction


@dataclass(frozen=True, repr=False)
class Overlay(Shown):
    """A measured curve and a predicted one, with the distance between them in standard errors.

    Attributes:
        distance: [K], from 2 on.
        measured, stderr: [K] nats relative to one step back, mean and standard error over networks.
        predicted, z: [K]; z = (measured - predicted) / stderr.
        rate, rate_stderr, predicted_rate, rate_z: the same for the least-squares slope, nats a step.
        n_models: M.
    """

    distance: np.ndarray
    measured: np.ndarray
    stderr: np.ndarray
    predicted: np.ndarray
    z: np.ndarray
    rate: float
    rate_stderr: float
    predicted_rate: float
    rate_z: float
    n_models: int

    def to_frame(self) -> pd.DataFrame:
        """A row per distance; columns distance, measured, stderr, predicted, z."""
        import pandas as pd

        names = ("distance", "measured", "stderr", "predicted", "z")
        return pd.DataFrame({name: getattr(self, name) for name in names})

    def plot(self, ax: Axes | None = None) -> Axes:
        """Measured log10 gain with two standard errors, and theory dashed. Returns the Axes."""
        from rnnvg.bptt import plots

        ax = plots.new_axes() if ax is None else ax
        seen = plots.seen_points(self.measured, self.stderr, self.predicted)
        distance, mean, error = (
            self.distance[seen],
            self.measured[seen] / NATS_PER_DECADE,
            2 * self.stderr[seen] / NATS_PER_DECADE,
        )
        plots.line(ax, distance, mean, color=plots.COLOUR, label=f"measured, {self.n_models} networks")
        plots.band(ax, distance, mean - error, mean + error, alpha=0.25)
        plots.line(ax, distance, self.predicted[seen] / NATS_PER_DECADE, color="black", linestyle="--", label="theory")
        return plots.lettered(ax, plots.BACK, "log10 gain of the gradient", str(self))

    def __str__(self) -> str:
        return (
            f"{self.rate:+.4f} +- {self.rate_stderr:.4f} nats a step measured, {self.predicted_rate:+.4f} predicted: "
            f"z = {self.rate_z:+.1f}"
        )


def overlay(profiles: Sequence[GradientProfile], prediction: WidePrediction) -> Overlay:
    """Set the measured curves of independently initialised networks beside a prediction.

    Args:
        profiles: gradient_profile's results, one a network, as the prediction describes them.
        prediction: from `predict` or `predict_for`.

    Raises:
        InputError: fewer than two profiles, or no distance from 2 on that all of them and the prediction have.
    """
    profiles = list(profiles)
    if len(profiles) < 2:
        raise InputError(
            f"`profiles` holds {len(profiles)} network; a standard error needs at least 2, initialised independently. "
            "With one, compare its curve() with prediction.to_frame()."
        )
    shortest = min(len(prediction.log_gain), *(len(profile.distance) for profile in profiles))
    rows = np.stack([profile.mean_log_gain()[:shortest] for profile in profiles])
    common = np.flatnonzero(np.isfinite(rows).all(0) & (np.arange(shortest) >= 2))
    if common.size < 2:
        raise InputError(
            f"`profiles` and `prediction` have {common.size} distances from 2 on in common; pass profiles of longer sequences."
        )
    last = common[-1] + 1
    rates = np.array([slope(row[:last]) for row in rows])
    predicted_rate = slope(prediction.log_gain[:last])
    measured, stderr = rows[:, common].mean(0), _stderr(rows[:, common])
    rate_stderr = float(_stderr(rates[:, None])[0])
    predicted = prediction.log_gain[common]
    with np.errstate(divide="ignore", invalid="ignore"):
        z = (measured - predicted) / stderr
        rate_z = float(np.float64(rates.mean() - predicted_rate) / rate_stderr)
    return Overlay(
        distance=common,
        measured=measured,
        stderr=stderr,
        predicted=predicted,
        z=z,
        rate=float(rates.mean()),
        rate_stderr=rate_stderr,
        predicted_rate=predicted_rate,
        rate_z=rate_z,
        n_models=len(profiles),
    )


def _stderr(rows: np.ndarray) -> np.ndarray:
    return rows.std(0, ddof=1) / math.sqrt(len(rows))
