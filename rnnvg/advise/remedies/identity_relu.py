"""The identity for a recurrent matrix, and units that do not saturate."""

from __future__ import annotations

from rnnvg.advise.remedies.remedy import FOR_VANILLA, MATRIX, SATURATION, VANILLA, Remedy

REMEDY = Remedy(
    "identity-relu",
    "identity matrix and ReLU",
    VANILLA,
    (MATRIX, SATURATION),
    lambda base: {"cell": "rnn-relu", "init": "identity"},
    not_for=FOR_VANILLA,
    source="Le, Jaitly and Hinton 2015",
)
