"""The analyzer: recurrences linearised along a trajectory, and what their Jacobian products say. It stands alone."""

from rnnvg.bptt.contributions import TemporalContributions, temporal_contributions
from rnnvg.bptt.diagonal import Diagonal
from rnnvg.bptt.linearize import linearize
from rnnvg.bptt.profile import GradientProfile, gradient_profile

__all__ = [
    "Diagonal",
    "GradientProfile",
    "TemporalContributions",
    "gradient_profile",
    "linearize",
    "temporal_contributions",
]
