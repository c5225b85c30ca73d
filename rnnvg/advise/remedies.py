"""What can be done about a gradient that does not reach back: one change each, in the order in which they are proposed.

A remedy says which cells it fits, what it changes, which cause of decay it aims at, and where it was published. No torch.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from rnnvg.errors import check_name

VANILLA, GATED = ("rnn", "rnn-relu"), ("lstm", "gru")
SMALLER = 5.0  # the learning rate is divided by this
CLIP = 1.0
# What may be named as a cause (rnnvg.advise.cause).
MATRIX, SATURATION, GATES, EXPLOSION = "recurrent matrix", "saturation", "gates", "explosion"


@dataclass(frozen=True)
class Remedy:
    """One change to a network or its training.

    Attributes:
        name: as the command line takes it.
        change: what is done, in a few words.
        fits: the cells that it means something for.
        aims_at: the causes that it is meant for.
        network: arguments of `models.build` that differ.
        training: "lr_over" (what the learning rate is divided by) or "clip" (the gradient's largest norm).
        needs_t_max: whether it is set by the longest dependency.
        source: author and year.
    """

    name: str
    change: str
    fits: tuple[str, ...]
    aims_at: tuple[str, ...]
    network: dict[str, Any] = field(default_factory=dict)
    training: dict[str, float] = field(default_factory=dict)
    needs_t_max: bool = False
    source: str = ""

    @property
    def keeps_weights(self) -> bool:
        """Whether the network at the start is the same as without it: such a remedy cannot change a horizon there."""
        return not self.network


_ALL = (
    Remedy("none", "as it is", VANILLA + GATED, ()),
    Remedy(
        "forget-bias",
        "forget gate's bias of 1",
        ("lstm",),
        (GATES,),
        {"init": "forget-bias"},
        source="Gers, Schmidhuber and Cummins 2000",
    ),
    Remedy(
        "chrono",
        "gate biases spread over the task's time scales",
        GATED,
        (GATES,),
        {"init": "chrono"},
        needs_t_max=True,
        source="Tallec and Ollivier 2018",
    ),
    Remedy(
        "orthogonal",
        "orthogonal recurrent matrix",
        VANILLA + GATED,
        (MATRIX,),
        {"init": "orthogonal"},
        source="Saxe, McClelland and Ganguli 2014",
    ),
    Remedy(
        "identity-relu",
        "identity matrix and ReLU",
        VANILLA,
        (MATRIX, SATURATION),
        {"cell": "rnn-relu", "init": "identity"},
        source="Le, Jaitly and Hinton 2015",
    ),
    Remedy(
        "leaky",
        "leaky units",
        VANILLA,
        (MATRIX, SATURATION),
        {"cell": "leaky", "init": "default"},
        needs_t_max=True,
        source="Mozer 1992",
    ),
    Remedy(
        "residual",
        "residual connection from step to step",
        VANILLA,
        (MATRIX, SATURATION),
        {"cell": "residual", "init": "default"},
        needs_t_max=True,
        source="Kusupati et al. 2018",
    ),
    Remedy(
        "layer-norm",
        "layer norm before tanh",
        VANILLA,
        (MATRIX,),
        {"cell": "layer-norm", "init": "default"},
        source="Ba, Kiros and Hinton 2016",
    ),
    Remedy(
        "smaller-lr",
        f"learning rate over {SMALLER:g}",
        VANILLA + GATED,
        (EXPLOSION,),
        training={"lr_over": SMALLER},
    ),
    Remedy(
        "clipping",
        f"gradient clipped to norm {CLIP:g}",
        VANILLA + GATED,
        (EXPLOSION,),
        training={"clip": CLIP},
        source="Pascanu, Mikolov and Bengio 2013",
    ),
    Remedy(
        "gated-cell",
        "GRU in place of the cell",
        VANILLA,
        (MATRIX, SATURATION),
        {"cell": "gru", "init": "default"},
        source="Cho et al. 2014",
    ),
)
REMEDIES = {each.name: each for each in _ALL}
NONE = "none"
NAMES = tuple(name for name in REMEDIES if name != NONE)
# Why a remedy is left out for a cell that it does not fit.
LEFT_OUT = {
    "forget-bias": "needs a forget gate: take an LSTM first",
    "chrono": "needs gates: take an LSTM or a GRU first",
    "identity-relu": "is for networks without gates",
    "leaky": "is for networks without gates",
    "residual": "is for networks without gates",
    "layer-norm": "is for networks without gates",
    "gated-cell": "the cell is gated already",
}


def chosen(cell: str, names: tuple[str, ...] | None) -> tuple[tuple[Remedy, ...], dict[str, str]]:
    """The remedies to apply to a cell, in the order of NAMES, and why the others that were asked for are left out.

    Raises:
        InputError: an unknown name, with the nearest right one.
    """
    wanted = NAMES if names is None else tuple(check_name("remedies", name, NAMES) for name in names)
    fitting = tuple(REMEDIES[name] for name in NAMES if name in wanted and cell in REMEDIES[name].fits)
    left_out = {name: LEFT_OUT[name] for name in NAMES if name in wanted and cell not in REMEDIES[name].fits}
    return fitting, left_out
