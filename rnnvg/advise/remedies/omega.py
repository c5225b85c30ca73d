"""Pascanu's regulariser: a gradient that neither grows nor shrinks from step to step."""

from __future__ import annotations

from rnnvg.advise.remedies.remedy import FOR_VANILLA, MATRIX, SATURATION, VANILLA, Remedy

WEIGHT = 4.0  # Pascanu et al. take 2 to 4

REMEDY = Remedy(
    "omega",
    "regulariser Omega on the gradient's length",
    VANILLA,
    (MATRIX, SATURATION),
    lambda base: {"training.omega": WEIGHT},
    not_for=FOR_VANILLA,
    source="Pascanu, Mikolov and Bengio 2013",
)
