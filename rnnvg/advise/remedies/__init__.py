"""What can be done about a gradient that does not reach back: one change each, a file each. No torch.

A new remedy is one new file with a REMEDY, and its place in the list here: the order in which they are proposed.
"""

from __future__ import annotations

from rnnvg.advise.remedies import (
    chrono,
    clipping,
    flossing,
    forget_bias,
    gated_cell,
    identity_relu,
    layer_norm,
    leaky,
    omega,
    orthogonal,
    orthogonal_constraint,
    residual,
    smaller_lr,
    warm_up,
)
from rnnvg.advise.remedies.remedy import CELL, EXPLOSION, GATED, GATES, MATRIX, SATURATION, VANILLA, Base, Remedy
from rnnvg.errors import InputError, check_name

NONE = "none"
_AS_IT_IS = Remedy(NONE, "as it is", VANILLA + GATED, any_cell=True)
_FOR_PYTORCHS = "is for the cells of PyTorch"
_ALL = (
    forget_bias,
    chrono,
    orthogonal,
    orthogonal_constraint,
    identity_relu,
    leaky,
    residual,
    layer_norm,
    flossing,
    omega,
    smaller_lr,
    warm_up,
    clipping,
    gated_cell,
)
REMEDIES = {each.name: each for each in (_AS_IT_IS, *(module.REMEDY for module in _ALL))}
NAMES = tuple(name for name in REMEDIES if name != NONE)

__all__ = [
    "CELL",
    "EXPLOSION",
    "GATED",
    "GATES",
    "MATRIX",
    "NAMES",
    "NONE",
    "REMEDIES",
    "SATURATION",
    "VANILLA",
    "Base",
    "Remedy",
    "chosen",
]


def chosen(cell: str, names: tuple[str, ...] | None) -> tuple[tuple[Remedy, ...], dict[str, str]]:
    """The remedies to apply to a cell, in the order of NAMES, and why the others are left out.

    Args:
        names: the ones that are wanted; None: all that fit.

    Raises:
        InputError: an unknown name, with the nearest right one; a name whose remedy does not fit the cell.
    """
    known = [each for each in REMEDIES.values() if each.name != NONE]
    if names is None:
        fitting = tuple(each for each in known if _fits(each, cell))
        left_out = [each for each in known if each not in fitting]
        return fitting, {each.name: each.not_for or _FOR_PYTORCHS for each in left_out}
    for name in names:
        remedy = REMEDIES[check_name("remedies", name, [each.name for each in known])]
        if not _fits(remedy, cell):
            raise InputError(
                f"`remedies` {name!r} {remedy.not_for or _FOR_PYTORCHS}; "
                f"got cell {cell!r}. It fits: {', '.join(remedy.fits)}. Leave it "
                "out, or pass another cell."
            )
    return tuple(each for each in known if each.name in names), {}


def _fits(remedy: Remedy, cell: str) -> bool:
    """Whether it means something for a cell, of PyTorch or of another kind."""
    return cell in remedy.fits or (remedy.any_cell and cell not in VANILLA + GATED)
