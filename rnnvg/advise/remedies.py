"""What can be done about a gradient that does not reach back: one change each. No torch.

A new remedy is one more entry of `REMEDIES`, written here or taken from a file of its own.
"""

from __future__ import annotations

from typing import Any

from rnnvg.errors import InputError, check_name
from rnnvg.training.remedy import CELL, EXPLOSION, GATED, GATES, MATRIX, SATURATION, VANILLA, Remedy

NONE = "none"
CLIP = 1.0
_FLOSSING_STEPS = 60  # enough to open networks of 32 units on 20 and on 50 steps
_OMEGA = 4.0  # Pascanu et al. take 2 to 4
_LR_OVER = 5.0
_WARM_UP = 5  # of the steps, one in so many
_FOR_PYTORCHS = "is for the cells of PyTorch"
_FOR_VANILLA = "is for networks without gates"


def _still(network: dict[str, Any], **inputs: Any) -> float | None:
    return 0.0  # what flossing minimises is the distance of the leading exponents from it


def _as_orthogonal(network: dict[str, Any], **inputs: Any) -> float | None:
    from rnnvg.advise.predict import predicted_rate

    return predicted_rate({**network, "init": "orthogonal"}, **inputs)


# In the order in which they are proposed; the network as it is comes first.
REMEDIES: dict[str, Remedy] = {
    each.name: each
    for each in (
        Remedy(NONE, "as it is", VANILLA + GATED, any_cell=True),
        Remedy(
            "forget-bias",
            "forget gate's bias of 1",
            ("lstm",),
            (GATES,),
            lambda base: {"init": "forget-bias"},
            not_for="needs a forget gate: take an LSTM first",
            source="Gers, Schmidhuber and Cummins 2000",
        ),
        # Of an LSTM the forget and input gates, of a GRU the update gate.
        Remedy(
            "chrono",
            "gate biases spread over the task's time scales",
            GATED,
            (GATES,),
            lambda base: {"init": "chrono", "t_max": base.t_max},
            not_for="needs gates: take an LSTM or a GRU first",
            source="Tallec and Ollivier 2018",
        ),
        Remedy(
            "orthogonal",
            "orthogonal recurrent matrix",
            VANILLA + GATED,
            (MATRIX,),
            lambda base: {"init": "orthogonal"},
            source="Saxe, McClelland and Ganguli 2014",
        ),
        Remedy(
            "orthogonal-constraint",
            "recurrent matrix kept orthogonal",
            VANILLA,
            (MATRIX,),
            lambda base: {"init": "default", "constraint": "orthogonal"},
            not_for=_FOR_VANILLA,
            predict=_as_orthogonal,
            source="Lezcano-Casado and Martinez-Rubio 2019",
        ),
        Remedy(
            "identity-relu",
            "identity matrix and ReLU",
            VANILLA,
            (MATRIX, SATURATION),
            lambda base: {"cell": "rnn-relu", "init": "identity"},
            not_for=_FOR_VANILLA,
            source="Le, Jaitly and Hinton 2015",
        ),
        Remedy(
            "leaky",
            "leaky units",
            VANILLA,
            (MATRIX, SATURATION),
            lambda base: {"cell": "leaky", "init": "default", "t_max": base.t_max},
            not_for=_FOR_VANILLA,
            source="Mozer 1992",
        ),
        Remedy(
            "residual",
            "residual connection from step to step",
            VANILLA,
            (MATRIX, SATURATION),
            lambda base: {"cell": "residual", "init": "default", "t_max": base.t_max},
            not_for=_FOR_VANILLA,
            source="Kusupati et al. 2018",
        ),
        Remedy(
            "layer-norm",
            "layer norm before tanh",
            VANILLA,
            (MATRIX,),
            lambda base: {"cell": "layer-norm", "init": "default"},
            not_for=_FOR_VANILLA,
            source="Ba, Kiros and Hinton 2016",
        ),
        Remedy(
            "flossing",
            "gradient flossing: exponents driven to 0",
            ("rnn",),
            (MATRIX, SATURATION),
            lambda base: {"training.flossing": _FLOSSING_STEPS},
            not_for="is for networks of tanh units without gates",
            predict=_still,
            source="Engelken 2023",
        ),
        Remedy(
            "omega",
            "regulariser Omega on the gradient's length",
            VANILLA,
            (MATRIX, SATURATION),
            lambda base: {"training.omega": _OMEGA},
            not_for=_FOR_VANILLA,
            source="Pascanu, Mikolov and Bengio 2013",
        ),
        Remedy(
            "smaller-lr",
            f"learning rate over {_LR_OVER:g}",
            VANILLA + GATED,
            (EXPLOSION,),
            lambda base: {"training.lr": base.lr / _LR_OVER},
            any_cell=True,
        ),
        Remedy(
            "warm-up",
            "learning rate warmed up over a fifth of the steps",
            VANILLA + GATED,
            (EXPLOSION,),
            lambda base: {"training.warmup": max(1, base.steps // _WARM_UP)},
            source="Goyal et al. 2017",
            any_cell=True,
        ),
        Remedy(
            "clipping",
            f"gradient clipped to norm {CLIP:g}",
            VANILLA + GATED,
            (EXPLOSION,),
            lambda base: {"training.clip": CLIP},
            source="Pascanu, Mikolov and Bengio 2013",
            any_cell=True,
        ),
        Remedy(
            "gated-cell",
            "GRU in place of the cell",
            VANILLA,
            (MATRIX, SATURATION, CELL),
            lambda base: {"cell": "gru", "init": "default"},
            not_for="the cell is gated already",
            source="Cho et al. 2014",
            any_cell=True,
        ),
    )
}
NAMES = tuple(name for name in REMEDIES if name != NONE)

__all__ = ["CLIP", "NAMES", "NONE", "REMEDIES", "Remedy", "chosen"]


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
