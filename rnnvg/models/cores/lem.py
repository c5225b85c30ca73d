"""LEM: long expressive memory, two states with learned time steps (Rusch, Mishra, Erichson and Mahoney 2022).

    t1 = sigmoid(W_1 y + V_1 u + b_1)      z' = (1 - t1) z + t1 tanh(W_z y + V_z u + b_z)
    t2 = sigmoid(W_2 y + V_2 u + b_2)      y' = (1 - t2) y + t2 tanh(W_y z' + V_y u + b_y)

The time steps are at most 1, the published default.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rnnvg.models.cores.stepped import SteppedCore, StepState


class LEM(SteppedCore):
    """State (y, z), [B, H] each; y is the output. Weights start from U(-1/sqrt(H), 1/sqrt(H)), as in the published code.

    Attributes:
        weight_ih [4H, I], bias [4H]: V and b of t1, t2, z, y in this order.
        weight_y [3H, H]: W of t1, t2, z.      weight_z [H, H]: W of y.
    """

    def __init__(self, n_inputs: int, hidden: int, layers: int = 1) -> None:
        super().__init__(n_inputs, hidden, layers)
        bound = 1 / math.sqrt(hidden)
        self.weight_ih = nn.Parameter(torch.empty(4 * hidden, n_inputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(4 * hidden).uniform_(-bound, bound))
        self.weight_y = nn.Parameter(torch.empty(3 * hidden, hidden).uniform_(-bound, bound))
        self.weight_z = nn.Parameter(torch.empty(hidden, hidden).uniform_(-bound, bound))

    def start(self, inputs: Tensor) -> StepState:
        zeros = inputs.new_zeros(inputs.shape[1], self.hidden_size)
        return zeros, zeros.clone()

    def drive(self, inputs: Tensor) -> Tensor:
        return F.linear(inputs, self.weight_ih, self.bias)

    def advance(self, driven: Tensor, state: StepState, *constants: Tensor) -> StepState:
        y, z = state
        h = self.hidden_size
        first, second, slow = (driven[:, : 3 * h] + F.linear(y, self.weight_y)).chunk(3, -1)
        z = torch.lerp(z, slow.tanh(), first.sigmoid())
        fast = driven[:, 3 * h :] + F.linear(z, self.weight_z)
        return torch.lerp(y, fast.tanh(), second.sigmoid()), z
