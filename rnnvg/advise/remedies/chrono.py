"""Gates that start with the task's time scales: of an LSTM the forget and input gates, of a GRU the update gate."""

from __future__ import annotations

from rnnvg.advise.remedies.remedy import GATED, GATES, Remedy

REMEDY = Remedy(
    "chrono",
    "gate biases spread over the task's time scales",
    GATED,
    (GATES,),
    lambda base: {"init": "chrono", "t_max": base.t_max},
    not_for="needs gates: take an LSTM or a GRU first",
    source="Tallec and Ollivier 2018",
)
