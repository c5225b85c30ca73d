"""Certificate: what `verify()` gives, how far numbers are from another route to them, and which of them it compares."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from rnnvg.bptt import arguments
from rnnvg.errors import InputError, check_int
from rnnvg.notebook import Shown

if TYPE_CHECKING:
    import pandas as pd

    from rnnvg.bptt.result import GradientProfile

# Below this autograd's float64 norm, which squares, has begun to lose digits.
LOG_SMALLEST = 0.5 * math.log(torch.finfo(torch.float64).tiny) + 10


@dataclass(frozen=True, repr=False)
class Certificate(Shown):
    """How far numbers are from another route to them: a sample of a profile's entries, gradients by parameters, or both.

    Attributes:
        source, distance, sequence: [n] the entries compared.
        log_norm, reference: [n] the profile's value and autograd's, nats.
        skipped: entries of the sample that are too small for the comparison (autograd underflows), not compared.
        weights: parameter name -> relative distance between the sum of temporal contributions and autograd's `.grad`,
            0 where both are zero; empty where the recurrence is not a module.
        dtype: what was verified was computed in; float64 agrees to rounding, float32 to about 1e-5 unless it is chaotic.
        route: what the entries were compared with.
    """

    source: np.ndarray
    distance: np.ndarray
    sequence: np.ndarray
    log_norm: np.ndarray
    reference: np.ndarray
    skipped: int
    weights: dict[str, float]
    dtype: str
    route: str = "float64 autograd"

    @classmethod
    def of(
        cls,
        entries: Sequence[tuple[int, int, int, float, float]],
        skipped: int,
        dtype: torch.dtype,
        weights: dict[str, float] | None = None,
        route: str = "float64 autograd",
    ) -> Certificate:
        """From the entries compared, (source, distance, sequence, log_norm, reference) each; the rest as the attributes."""
        columns = np.array(entries, dtype=np.float64).reshape(-1, 5).T
        source, distance, sequence = columns[:3].astype(np.int64)
        name = str(dtype).removeprefix("torch.")
        return cls(source, distance, sequence, columns[3], columns[4], skipped, weights or {}, name, route)

    @property
    def residual(self) -> float:
        """Largest relative difference of the norms compared; of contributions alone, of the weights; nan without any."""
        if not len(self.log_norm):
            return math.nan if self.skipped else max(self.weights.values(), default=math.nan)
        same = self.log_norm == self.reference  # two exact zeros agree
        with np.errstate(invalid="ignore"):
            apart = np.where(same, 0.0, np.abs(np.expm1(self.log_norm - self.reference)))
        return float(apart.max())

    def to_frame(self) -> pd.DataFrame:
        """A row per entry compared: source, distance, sequence, log_norm, reference."""
        import pandas as pd

        names = ("source", "distance", "sequence", "log_norm", "reference")
        return pd.DataFrame({name: getattr(self, name) for name in names})

    def __str__(self) -> str:
        found: list[str] = []
        if len(self.log_norm) or self.skipped:
            skipped = f" ({self.skipped} more are too small for that comparison)" if self.skipped else ""
            found.append(
                f"{len(self.log_norm)} entries of the {self.dtype} profile agree with {self.route} to {self.residual:.1e} "
                f"relative{skipped}"
            )
        if self.weights:
            largest = max(self.weights.values())
            found.append(f"temporal contributions add up to .grad within {largest:.1e} of its norm")
        return f"{'; '.join(found)}."


def compare(
    profile: GradientProfile,
    n: int,
    reference: Callable[[int, int, int], float],
    dtype: torch.dtype,
    weights: dict[str, float] | None = None,
) -> Certificate:
    """Up to `n` entries of `profile`, spread over its distances, beside float64 autograd.

    Args:
        reference: the row, distance and sequence of an entry -> ln of its norm by autograd.
        dtype, weights: as Certificate's.
    """
    assert profile.origin is not None
    found: list[tuple[int, int, int, float, float]] = []
    skipped = 0
    for row, k, sequence in entries_to_compare(profile, n):
        distance, value = int(profile.distance[k]), float(profile.log_norm[row, k, sequence])
        known = reference(row, distance, sequence)
        if value < LOG_SMALLEST and (value > -math.inf or known > -math.inf):
            skipped += 1
        else:
            found.append((int(profile.origin.steps[row, sequence]), distance, sequence, value, known))
    return Certificate.of(found, skipped, dtype, weights)


def check_unchanged(recurrence: object, versions: tuple[tuple[int, int], ...], argument: str = "recurrence") -> None:
    """Nothing where the recurrence's weights are those that a profile was measured with, or an InputError."""
    if arguments.weight_versions(recurrence) != versions:
        raise InputError(
            f"A weight of `{argument}` has changed since the profile was measured; measure it again to verify."
        )


def entries_to_compare(profile: GradientProfile, n: int) -> list[tuple[int, int, int]]:
    """Observed entries spread evenly over the distances, going round sources and sequences."""
    check_int("n", n, least=1)
    observed = np.argwhere(~np.isnan(profile.log_norm).transpose(1, 0, 2))
    assert profile.origin is not None
    steps = profile.origin.steps
    if steps.ndim == 2:
        # Beyond its own initial state a recurrent module's profile may go on through another module.
        ends = steps[observed[:, 1], observed[:, 2]] + (profile.wrt != "input")
        observed = observed[profile.distance[observed[:, 0]] <= ends]
    chosen = observed[np.unique(np.linspace(0, len(observed) - 1, min(n, len(observed))).round().astype(int))]
    return [(int(row), int(distance), int(sequence)) for distance, row, sequence in chosen]
