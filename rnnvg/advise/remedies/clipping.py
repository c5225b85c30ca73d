"""A gradient of bounded length."""

from __future__ import annotations

from rnnvg.advise.remedies.remedy import EXPLOSION, GATED, VANILLA, Remedy

CLIP = 1.0

REMEDY = Remedy(
    "clipping",
    f"gradient clipped to norm {CLIP:g}",
    VANILLA + GATED,
    (EXPLOSION,),
    lambda base: {"training.clip": CLIP},
    source="Pascanu, Mikolov and Bengio 2013",
    any_cell=True,
)
