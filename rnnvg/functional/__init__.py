"""What a trained network remembers: which earlier words a prediction leans on, and what losing them costs."""

from rnnvg.functional.context import ContextLoss, context_loss
from rnnvg.functional.influence import Influence, influence

__all__ = ["ContextLoss", "Influence", "context_loss", "influence"]
