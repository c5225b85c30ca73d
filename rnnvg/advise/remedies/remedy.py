"""What a remedy is: a change to a run's specification, the cells that it fits, and the causes that it aims at. No torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

VANILLA, GATED = ("rnn", "rnn-relu"), ("lstm", "gru")
# What may be named as a cause (rnnvg.advise.cause).
MATRIX, SATURATION, GATES, EXPLOSION = "recurrent matrix", "saturation", "gates", "explosion"
# Of cells other than PyTorch's no part is told from another.
CELL = "cell"
FOR_VANILLA = "is for networks without gates"


@dataclass(frozen=True)
class Base:
    """What a remedy may go by: the network as it is.

    Attributes:
        t_max: the longest dependency, steps.
        lr, steps: of its training.
    """

    t_max: int
    lr: float
    steps: int


def _nothing(base: Base) -> Mapping[str, Any]:
    return {}


@dataclass(frozen=True)
class Remedy:
    """One change to a network or its training.

    Attributes:
        name: as the command line takes it.
        change: what is done, in a few words.
        fits: the cells that it means something for.
        aims_at: the causes that it is meant for.
        changes: base -> the settings of the run's specification that differ, by dotted name ("init", "training.lr").
        not_for: why it is left out for a cell that it does not fit.
        predict: called as predict(network, n_inputs=, input_square=, steps=) -> nats a step before training, or None where
            no theory says; None: what theory says of the changed network (rnnvg.advise.predict.predicted_rate).
        source: author and year.
        any_cell: it fits cells of other kinds too, for it leaves the cell as it is or takes another.

    >>> from rnnvg.advise import REMEDIES
    >>> REMEDIES["forget-bias"].change, REMEDIES["forget-bias"].fits
    ("forget gate's bias of 1", ('lstm',))
    """

    name: str
    change: str
    fits: tuple[str, ...]
    aims_at: tuple[str, ...] = ()
    changes: Callable[[Base], Mapping[str, Any]] = _nothing
    not_for: str = ""
    predict: Callable[..., float | None] | None = None
    source: str = ""
    any_cell: bool = False

    def fits_cell(self, cell: str) -> bool:
        """Whether it means something for a cell, of PyTorch or of another kind."""
        return cell in self.fits or (self.any_cell and cell not in VANILLA + GATED)
