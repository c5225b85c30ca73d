"""A state that is carried on by a sum, through gates."""

from __future__ import annotations

from rnnvg.advise.remedies.remedy import CELL, MATRIX, SATURATION, VANILLA, Remedy

REMEDY = Remedy(
    "gated-cell",
    "GRU in place of the cell",
    VANILLA,
    (MATRIX, SATURATION, CELL),
    lambda base: {"cell": "gru", "init": "default"},
    not_for="the cell is gated already",
    source="Cho et al. 2014",
    any_cell=True,
)
