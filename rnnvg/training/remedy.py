"""What a remedy is: a change to the settings of a network and its training. No torch."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

# Of recurrent networks: kinds of cells, and the causes that may be named (rnnvg.advise.cause).
VANILLA, GATED = ("rnn", "rnn-relu"), ("lstm", "gru")
MATRIX, SATURATION, GATES, EXPLOSION = "recurrent matrix", "saturation", "gates", "explosion"
# Of cells other than PyTorch's no part is told from another.
CELL = "cell"


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


@dataclass(frozen=True)
class Remedy:
    """One change to a network or its training.

    Attributes:
        name: as the command line takes it.
        change: what is done, in a few words.
        fits: the cells that it means something for; () for deep networks.
        aims_at: the causes that it is meant for.
        changes: base -> the settings that differ, by dotted name ("init", "training.lr").
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
    fits: tuple[str, ...] = ()
    aims_at: tuple[str, ...] = ()
    changes: Callable[[Base], Mapping[str, Any]] = lambda base: {}
    not_for: str = ""
    predict: Callable[..., float | None] | None = None
    source: str = ""
    any_cell: bool = False


def changed(settings: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of some settings with changes by dotted name.

    >>> changed({"init": "default", "training": {"lr": 1.0, "steps": 5}}, {"init": "chrono", "training.lr": 0.1})
    {'init': 'chrono', 'training': {'lr': 0.1, 'steps': 5}}
    """
    found = copy.deepcopy(dict(settings))
    for name, value in changes.items():
        part, _, setting = name.rpartition(".")
        (found[part] if part else found)[setting] = value
    return found
