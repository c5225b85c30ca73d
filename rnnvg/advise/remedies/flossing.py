"""Lyapunov exponents driven to 0 before training, and now and then during it."""

from __future__ import annotations

from typing import Any

from rnnvg.advise.remedies.remedy import MATRIX, SATURATION, Remedy

STEPS = 60  # enough to open networks of 32 units on 20 and on 50 steps


def _predict(network: dict[str, Any], **inputs: Any) -> float | None:
    return 0.0  # what flossing minimises is the distance of the leading exponents from it


REMEDY = Remedy(
    "flossing",
    "gradient flossing: exponents driven to 0",
    ("rnn",),
    (MATRIX, SATURATION),
    lambda base: {"training.flossing": STEPS},
    not_for="is for networks of tanh units without gates",
    predict=_predict,
    source="Engelken 2023",
)
