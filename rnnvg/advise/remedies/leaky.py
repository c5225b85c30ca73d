"""Units that keep most of their state."""

from __future__ import annotations

from rnnvg.advise.remedies.remedy import FOR_VANILLA, MATRIX, SATURATION, VANILLA, Remedy

REMEDY = Remedy(
    "leaky",
    "leaky units",
    VANILLA,
    (MATRIX, SATURATION),
    lambda base: {"cell": "leaky", "init": "default", "t_max": base.t_max},
    not_for=FOR_VANILLA,
    source="Mozer 1992",
)
