"""A recurrent matrix that stays orthogonal through training, by PyTorch's own parametrization of it.

Every update moves along orthogonal matrices (Lezcano-Casado and Martinez-Rubio 2019), so what the matrix takes from a
gradient is nothing at every step of training, where an orthogonal start only begins so.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize

from rnnvg.errors import InputError

CONSTRAINTS = ("orthogonal",)
FITS = ("rnn", "rnn-relu")


def constrain(core: nn.Module, cell: str) -> None:
    """Draw every recurrent matrix [H, H] orthogonal from torch's global generator, and keep it so.

    Raises:
        InputError: a cell with gates, whose recurrent weights are no square matrix.
    """
    if cell not in FITS:
        raise InputError(
            f"`constraint` 'orthogonal' keeps one square recurrent matrix orthogonal and does not fit cell {cell!r}. It fits: "
            f"{', '.join(FITS)}."
        )
    for name in _matrices(core):
        with torch.no_grad():
            nn.init.orthogonal_(core.get_parameter(name))
        parametrizations.orthogonal(core, name)


def unconstrain(core: nn.Module) -> None:
    """Leave every constrained matrix in the core as an ordinary parameter, with the value that it has.

    >>> from rnnvg import models, tasks
    >>> core = models.build(tasks.make("adding", length=5), "rnn", hidden=4, constraint="orthogonal").core
    >>> models.unconstrain(core)
    >>> core.weight_hh_l0.shape
    torch.Size([4, 4])
    """
    for name in _matrices(core) if isinstance(core, nn.RNNBase) else ():
        if parametrize.is_parametrized(core, name):
            parametrize.remove_parametrizations(core, name, leave_parametrized=True)


def _matrices(core: nn.Module) -> list[str]:
    return [f"weight_hh_l{layer}" for layer in range(int(core.num_layers))]  # type: ignore[arg-type]
