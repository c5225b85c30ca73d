"""What a score is called and which way is better. No torch: a report of results reads this too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Metric:
    """A score that decides.

    Attributes:
        label: how a sentence names it.
        short: how a table's head names it.
        better: the better direction.

    >>> from rnnvg import tasks
    >>> tasks.METRICS["mse"].better
    'lower'
    """

    label: str
    short: str
    better: Literal["lower", "higher"]


METRICS = {
    "mse": Metric("mean squared error", "MSE", "lower"),
    "accuracy": Metric("accuracy", "accuracy", "higher"),
    "recall_accuracy": Metric("recall accuracy", "recall", "higher"),
    "perplexity": Metric("perplexity", "perplexity", "lower"),
}
