"""What a trained network remembers: which earlier words a prediction leans on, and what losing them costs."""

from rnnvg.functional.context import ContextLoss, context_loss
from rnnvg.functional.influence import Influence, influence
from rnnvg.functional.planted import agreement_by_distance, remembered
from rnnvg.functional.truncation import Truncation, truncation

__all__ = [
    "ContextLoss",
    "Influence",
    "Truncation",
    "agreement_by_distance",
    "context_loss",
    "influence",
    "remembered",
    "truncation",
]
