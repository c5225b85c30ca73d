"""rnnvg measures how far back in time a recurrent network's learning signal reaches.

Names are loaded where they are first used, so that `import rnnvg` and `rnnvg --help` start without torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOME = {
    "gradient_profile": "rnnvg.bptt.profile",
    "GradientProfile": "rnnvg.bptt.profile",
    "input_profile": "rnnvg.bptt.input_profile",
    "check_backward": "rnnvg.bptt.check_backward",
    "watch": "rnnvg.bptt.watch",
    "GradientMonitor": "rnnvg.bptt.monitor",
    "lyapunov_spectrum": "rnnvg.bptt.spectrum",
    "LyapunovSpectrum": "rnnvg.bptt.spectrum",
    "jacobian_singular_values": "rnnvg.bptt.spectrum",
    "SingularValues": "rnnvg.bptt.spectrum",
    "attribute_decay": "rnnvg.bptt.why.attribution",
    "DecayAttribution": "rnnvg.bptt.why.attribution",
    "temporal_contributions": "rnnvg.bptt.why.contributions",
    "TemporalContributions": "rnnvg.bptt.why.contributions",
    "parameter_sensitivity": "rnnvg.bptt.sensitivity",
    "ParameterSensitivity": "rnnvg.bptt.sensitivity",
    "memory_horizon": "rnnvg.horizon",
    "pool_horizons": "rnnvg.horizon",
    "MemoryHorizon": "rnnvg.horizon",
    "HorizonEstimate": "rnnvg.horizon",
    "decay_fit": "rnnvg.horizon",
    "DecayFit": "rnnvg.horizon",
    "compare_horizons": "rnnvg.horizon",
    "PairedHorizons": "rnnvg.horizon",
    "horizon_survival": "rnnvg.horizon",
    "HorizonSurvival": "rnnvg.horizon",
    "diagnose": "rnnvg.depth.diagnose",
    "Diagnosis": "rnnvg.depth.diagnose",
    "suggest_clip": "rnnvg.depth.clip_threshold",
    "ClipSuggestion": "rnnvg.depth.clip_threshold",
    "load_results": "rnnvg.bench.store",
    "compare": "rnnvg.report.comparison",
    "Comparison": "rnnvg.report.comparison",
    "InputError": "rnnvg.errors",
}
_MODULES = (
    "advise",
    "bench",
    "bptt",
    "depth",
    "functional",
    "horizon",
    "models",
    "report",
    "tasks",
    "text",
    "training",
)

__all__ = list(_HOME) + list(_MODULES)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    if name in _MODULES:
        return importlib.import_module(f"rnnvg.{name}")
    raise AttributeError(f"module 'rnnvg' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])


if TYPE_CHECKING:
    from rnnvg import advise, bench, bptt, depth, functional, horizon, models, report, tasks, text, training
    from rnnvg.bench.store import load_results
    from rnnvg.bptt.check_backward import check_backward
    from rnnvg.bptt.input_profile import input_profile
    from rnnvg.bptt.monitor import GradientMonitor
    from rnnvg.bptt.profile import GradientProfile, gradient_profile
    from rnnvg.bptt.sensitivity import ParameterSensitivity, parameter_sensitivity
    from rnnvg.bptt.spectrum import LyapunovSpectrum, SingularValues, jacobian_singular_values, lyapunov_spectrum
    from rnnvg.bptt.watch import watch
    from rnnvg.bptt.why.attribution import DecayAttribution, attribute_decay
    from rnnvg.bptt.why.contributions import TemporalContributions, temporal_contributions
    from rnnvg.depth.clip_threshold import ClipSuggestion, suggest_clip
    from rnnvg.depth.diagnose import Diagnosis, diagnose
    from rnnvg.errors import InputError
    from rnnvg.horizon import (
        DecayFit,
        HorizonEstimate,
        HorizonSurvival,
        MemoryHorizon,
        PairedHorizons,
        compare_horizons,
        decay_fit,
        horizon_survival,
        memory_horizon,
        pool_horizons,
    )
    from rnnvg.report.comparison import Comparison, compare
