"""Trainable cores whose closed forms rnnvg has: each as the module that `gradient_profile` knows, over the core's weights."""

from __future__ import annotations

from typing import cast

import torch
from torch import nn

from rnnvg.bptt.cells.min_rnn import MinGRUCell
from rnnvg.bptt.cells.oscillators import LEMCell
from rnnvg.bptt.cells.rotations import RotationCell
from rnnvg.models.cores.lem import LEM
from rnnvg.models.cores.lru import LRU
from rnnvg.models.cores.mingru import MinGRU


def closed_form(core: nn.Module) -> nn.Module | None:
    """A cell over the very weights of a core of one layer, whose steps are the core's; None where there is no closed form.

    >>> core = LEM(2, 3)
    >>> closed_form(core).weight_y is core.weight_y
    True
    """
    with torch.device("meta"):  # nothing is drawn and nothing is held: the weights are the core's
        if type(core) is MinGRU:
            both = core.gate_and_candidate
            cell: nn.Module = MinGRUCell(both.in_features, core.hidden_size)
            cell.register_parameter("weight_ih", cast(nn.Parameter, both.weight))
            cell.register_parameter("bias_ih", cast(nn.Parameter, both.bias))
        elif type(core) is LEM:
            cell = LEMCell(core.weight_ih.shape[1], core.hidden_size)
            for name in ("weight_ih", "bias", "weight_y", "weight_z"):
                setattr(cell, name, getattr(core, name))
        elif type(core) is LRU:
            cell = RotationCell(core.nu, core.theta, core.gamma, core.b)
        else:
            return None
    return cell.train(core.training)
