"""A learning rate that rises to its value."""

from __future__ import annotations

from rnnvg.advise.remedies.remedy import EXPLOSION, GATED, VANILLA, Remedy

SHARE = 5  # of the steps, one in so many

REMEDY = Remedy(
    "warm-up",
    "learning rate warmed up over a fifth of the steps",
    VANILLA + GATED,
    (EXPLOSION,),
    lambda base: {"training.warmup": max(1, base.steps // SHARE)},
    source="Goyal et al. 2017",
    any_cell=True,
)
