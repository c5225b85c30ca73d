"""A recurrent matrix that starts orthogonal."""

from __future__ import annotations

from rnnvg.advise.remedies.remedy import GATED, MATRIX, VANILLA, Remedy

REMEDY = Remedy(
    "orthogonal",
    "orthogonal recurrent matrix",
    VANILLA + GATED,
    (MATRIX,),
    lambda base: {"init": "orthogonal"},
    source="Saxe, McClelland and Ganguli 2014",
)
