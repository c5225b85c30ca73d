"""Preactivations of a set spread."""

from __future__ import annotations

from rnnvg.advise.remedies.remedy import FOR_VANILLA, MATRIX, VANILLA, Remedy

REMEDY = Remedy(
    "layer-norm",
    "layer norm before tanh",
    VANILLA,
    (MATRIX,),
    lambda base: {"cell": "layer-norm", "init": "default"},
    not_for=FOR_VANILLA,
    source="Ba, Kiros and Hinton 2016",
)
