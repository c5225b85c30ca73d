"""Remedies applied and measured again: why a network's gradient does not reach back, and what changes that.

settings -> trials (one remedy, one seed each) -> Advice. Names are loaded where they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from rnnvg.advise.remedies import NAMES, REMEDIES, Remedy

_HOME = {
    "Advice": "advice",
    "Effect": "advice",
    "Settings": "settings",
    "advise": "run",
    "predicted_rate": "predict",
    "run_trial": "trial",
}
__all__ = [
    "NAMES",
    "REMEDIES",
    "Advice",
    "Effect",
    "Remedy",
    "Settings",
    "advise",
    "predicted_rate",
    "run_trial",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"rnnvg.advise.{_HOME[name]}"), name)
    raise AttributeError(f"module 'rnnvg.advise' has no attribute {name!r}")


if TYPE_CHECKING:
    from rnnvg.advise.advice import Advice, Effect
    from rnnvg.advise.predict import predicted_rate
    from rnnvg.advise.run import advise
    from rnnvg.advise.settings import Settings
    from rnnvg.advise.trial import run_trial
