"""minGRU: a GRU whose gate and candidate see the input alone (Feng et al. 2024, "Were RNNs all we needed?").

    z = sigmoid(W_z x + b_z)      h' = (1 - z) h + z (W_h x + b_h)

The step Jacobian is diag(1 - z): no unit's gradient passes through another, and none can explode.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rnnvg.models.cores.stepped import SteppedCore, StepState


class MinGRU(SteppedCore):
    """State [B, H], the output too. Weights start as nn.Linear's."""

    def __init__(self, n_inputs: int, hidden: int, layers: int = 1) -> None:
        super().__init__(n_inputs, hidden, layers)
        self.gate_and_candidate = nn.Linear(n_inputs, 2 * hidden)

    def drive(self, inputs: Tensor) -> Tensor:
        gate, candidate = self.gate_and_candidate(inputs).chunk(2, -1)
        return torch.cat([gate.sigmoid(), candidate], -1)

    def advance(self, driven: Tensor, state: StepState, *constants: Tensor) -> StepState:
        assert isinstance(state, Tensor)
        gate, candidate = driven.chunk(2, -1)
        return torch.lerp(state, candidate, gate)
