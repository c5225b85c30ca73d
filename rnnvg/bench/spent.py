"""Where the time of runs went: training, its floor, and measuring. No torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Spent:
    """Where the time of runs went, seconds added over their processes.

    Attributes:
        training: forward, backward, clipping, held-out scores.
        floor: of the same work.
        measuring: gradients, causes, files: all that is not training.
        n: runs that have recorded all of this.
    """

    training: float
    floor: float
    measuring: float
    n: int

    @property
    def ratio(self) -> float:
        """Training against its floor."""
        return self.training / self.floor

    @property
    def share(self) -> float:
        """Of the whole, what is not training."""
        return self.measuring / (self.training + self.measuring)

    def __str__(self) -> str:
        return (
            f"Training took {self.training:.0f} s, {self.ratio:.2f} times the {self.floor:.0f} s of PyTorch's own steps; "
            f"measuring took {self.measuring:.0f} s, {100 * self.share:.0f} % of the whole"
        )


def spent(results: Iterable[Mapping[str, Any]]) -> Spent | None:
    """The time of all runs that have recorded a floor; None where none has.

    Args:
        results: contents of result.json files.
    """
    known = [each for each in results if each.get("floor_seconds")]
    if not known:
        return None
    training = sum(each["training_seconds"] for each in known)
    whole = sum(each["seconds"] for each in known)
    return Spent(training, sum(each["floor_seconds"] for each in known), whole - training, len(known))
