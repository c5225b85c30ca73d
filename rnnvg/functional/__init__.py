"""What a trained network remembers: how long it knows a symbol, which earlier words it leans on, what losing them costs."""

from rnnvg.functional.context import ContextLoss, context_loss
from rnnvg.functional.effective_context import effective_context
from rnnvg.functional.influence import Influence, influence
from rnnvg.functional.logistic import RecallHorizon, pool_recall, recall_horizon
from rnnvg.functional.planted import agreement_by_distance, remembered
from rnnvg.functional.quadrants import RankCorrelation, quadrant, rank_correlation
from rnnvg.functional.reach import reach
from rnnvg.functional.recall import RecallCurve, recall_curve
from rnnvg.functional.truncation import Truncation, truncation

__all__ = [
    "ContextLoss",
    "Influence",
    "RankCorrelation",
    "RecallCurve",
    "RecallHorizon",
    "Truncation",
    "agreement_by_distance",
    "context_loss",
    "effective_context",
    "influence",
    "pool_recall",
    "quadrant",
    "rank_correlation",
    "reach",
    "recall_curve",
    "recall_horizon",
    "remembered",
    "truncation",
]
