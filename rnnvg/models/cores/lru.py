"""LRU: a linear recurrence with complex eigenvalues inside the unit circle, and a gate after it (Orvieto et al. 2023).

    x' = lambda x + gamma B u      lambda = exp(-exp(nu) + i exp(theta))      y = Re(C x) + D u

The eigenvalues start uniform on the disk, gamma at sqrt(1 - |lambda|^2), so that a state's size does not depend on its
memory. The recurrence is linear; what is not stands after it: v = GELU(y), output v * sigmoid(W v).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rnnvg.models.cores.stepped import SteppedCore, StepState


class LRU(SteppedCore):
    """State [B, 2H]: the real parts of H complex units, then the imaginary ones."""

    def __init__(self, n_inputs: int, hidden: int, layers: int = 1) -> None:
        super().__init__(n_inputs, hidden, layers)
        modulus_squared, phase = torch.rand(hidden), 2 * math.pi * torch.rand(hidden)
        decay = -0.5 * modulus_squared.clamp(min=1e-6).log()
        self.nu = nn.Parameter(decay.clamp(min=1e-6).log())
        self.theta = nn.Parameter(phase.clamp(min=1e-6).log())
        self.gamma = nn.Parameter(0.5 * (1 - torch.exp(-2 * decay)).clamp(min=1e-6).log())  # its logarithm
        self.b = nn.Parameter(torch.randn(2 * hidden, n_inputs) / math.sqrt(2 * n_inputs))
        self.c = nn.Parameter(torch.randn(hidden, 2 * hidden) / math.sqrt(hidden))
        self.d = nn.Parameter(torch.randn(hidden, n_inputs) / math.sqrt(n_inputs))
        self.gate = nn.Linear(hidden, hidden)

    def start(self, inputs: Tensor) -> StepState:
        return inputs.new_zeros(inputs.shape[1], 2 * self.hidden_size)

    def constants(self) -> tuple[Tensor, Tensor]:
        """Real and imaginary parts of lambda, [H] each."""
        modulus, phase = torch.exp(-self.nu.exp()), self.theta.exp()
        return modulus * phase.cos(), modulus * phase.sin()

    def drive(self, inputs: Tensor) -> Tensor:
        return F.linear(inputs, self.b) * self.gamma.exp().repeat(2)

    def advance(self, driven: Tensor, state: StepState, *constants: Tensor) -> StepState:
        assert isinstance(state, Tensor)
        real, imaginary = constants
        x, y = state.chunk(2, -1)
        return driven + torch.cat([real * x - imaginary * y, imaginary * x + real * y], -1)

    def read(self, states: Tensor, inputs: Tensor) -> Tensor:
        # Re(C x) with C = c_real - i c_imaginary, whose sign is learned.
        v = F.gelu(F.linear(states, self.c) + F.linear(inputs, self.d))
        return v * self.gate(v).sigmoid()
