"""The analyzer: recurrences linearised along a trajectory, and what their Jacobian products say. It stands alone."""

from rnnvg.bptt.cells.diagonal import Diagonal
from rnnvg.bptt.check_backward import check_backward
from rnnvg.bptt.contributions import temporal_contributions
from rnnvg.bptt.half_lives import HalfLives, half_lives
from rnnvg.bptt.input_profile import input_profile
from rnnvg.bptt.invariant import covariance_weighted, input_sensitivity, ranking_flips
from rnnvg.bptt.linearize import linearize
from rnnvg.bptt.monitor import GradientMonitor
from rnnvg.bptt.profile import GradientProfile, gradient_profile
from rnnvg.bptt.sensitivity import ParameterSensitivity, parameter_sensitivity
from rnnvg.bptt.spectrum import LyapunovSpectrum, SingularValues, jacobian_singular_values, lyapunov_spectrum
from rnnvg.bptt.watch import Watcher, watch
from rnnvg.bptt.why.attribution import DecayAttribution, attribute_decay
from rnnvg.bptt.why.contributions import TemporalContributions

__all__ = [
    "DecayAttribution",
    "Diagonal",
    "GradientMonitor",
    "GradientProfile",
    "HalfLives",
    "LyapunovSpectrum",
    "ParameterSensitivity",
    "SingularValues",
    "TemporalContributions",
    "Watcher",
    "attribute_decay",
    "check_backward",
    "covariance_weighted",
    "gradient_profile",
    "half_lives",
    "input_profile",
    "input_sensitivity",
    "jacobian_singular_values",
    "linearize",
    "lyapunov_spectrum",
    "parameter_sensitivity",
    "ranking_flips",
    "temporal_contributions",
    "watch",
]
