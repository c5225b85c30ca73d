"""A smaller learning rate."""

from __future__ import annotations

from rnnvg.advise.remedies.remedy import EXPLOSION, GATED, VANILLA, Remedy

OVER = 5.0

REMEDY = Remedy(
    "smaller-lr",
    f"learning rate over {OVER:g}",
    VANILLA + GATED,
    (EXPLOSION,),
    lambda base: {"training.lr": base.lr / OVER},
    any_cell=True,
)
