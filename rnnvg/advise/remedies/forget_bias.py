"""A forget gate that starts open."""

from __future__ import annotations

from rnnvg.advise.remedies.remedy import GATES, Remedy

REMEDY = Remedy(
    "forget-bias",
    "forget gate's bias of 1",
    ("lstm",),
    (GATES,),
    lambda base: {"init": "forget-bias"},
    not_for="needs a forget gate: take an LSTM first",
    source="Gers, Schmidhuber and Cummins 2000",
)
