"""A recurrent matrix that starts orthogonal and stays so."""

from __future__ import annotations

from typing import Any

from rnnvg.advise.remedies.remedy import FOR_VANILLA, MATRIX, VANILLA, Remedy


def _predict(network: dict[str, Any], **inputs: Any) -> float | None:
    from rnnvg.advise.predict import predicted_rate

    return predicted_rate({**network, "init": "orthogonal"}, **inputs)


REMEDY = Remedy(
    "orthogonal-constraint",
    "recurrent matrix kept orthogonal",
    VANILLA,
    (MATRIX,),
    lambda base: {"init": "default", "constraint": "orthogonal"},
    not_for=FOR_VANILLA,
    predict=_predict,
    source="Lezcano-Casado and Martinez-Rubio 2019",
)
