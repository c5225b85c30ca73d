"""Units that keep all of their state and add to it."""

from __future__ import annotations

from rnnvg.advise.remedies.remedy import FOR_VANILLA, MATRIX, SATURATION, VANILLA, Remedy

REMEDY = Remedy(
    "residual",
    "residual connection from step to step",
    VANILLA,
    (MATRIX, SATURATION),
    lambda base: {"cell": "residual", "init": "default", "t_max": base.t_max},
    not_for=FOR_VANILLA,
    source="Kusupati et al. 2018",
)
