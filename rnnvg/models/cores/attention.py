"""Causal self-attention (Vaswani et al. 2017): no recurrence, every step sees all steps before it at once.

One block a layer, normalised before its two parts (Xiong et al. 2020): attention, and two linear layers with a GELU between.
Positions are sines and cosines, so that sequences longer than the training ones can be read.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Attention(nn.Module):
    """Outputs [T, B, H] from inputs [T, B, I]; 4 heads where H is a multiple of 4, else 1. A state is not carried."""

    def __init__(self, n_inputs: int, hidden: int, layers: int = 1) -> None:
        super().__init__()
        self.hidden_size, self.num_layers = hidden, layers
        self.enter = nn.Linear(n_inputs, hidden)
        self.blocks = nn.ModuleList(_Block(hidden) for _ in range(layers))
        self.norm = nn.LayerNorm(hidden)

    def forward(self, inputs: Tensor, state: None = None) -> tuple[Tensor, None]:
        x = self.enter(inputs) + positions(len(inputs), self.hidden_size).to(inputs)[:, None]
        for block in self.blocks:
            x = block(x)
        return self.norm(x), None


class _Block(nn.Module):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.heads = 4 if hidden % 4 == 0 else 1
        self.before, self.between = nn.LayerNorm(hidden), nn.LayerNorm(hidden)
        self.queries_keys_values, self.leave = nn.Linear(hidden, 3 * hidden), nn.Linear(hidden, hidden)
        self.wide, self.narrow = nn.Linear(hidden, 2 * hidden), nn.Linear(2 * hidden, hidden)

    def forward(self, x: Tensor) -> Tensor:
        steps, batch, width = x.shape
        parts = self.queries_keys_values(self.before(x)).view(steps, batch, 3, self.heads, -1)
        q, k, v = parts.permute(2, 1, 3, 0, 4)  # [B, heads, T, width of a head] each
        seen = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.leave(seen.permute(2, 0, 1, 3).reshape(steps, batch, width))
        return x + self.narrow(F.gelu(self.wide(self.between(x))))


def positions(steps: int, width: int) -> Tensor:
    """Sines and cosines of the step at wavelengths from 2 pi to 20000 pi, [T, H]."""
    place = torch.arange(steps, dtype=torch.float64)[:, None]
    frequency = torch.exp(-math.log(10_000) * torch.arange((width + 1) // 2, dtype=torch.float64) / max(1, width // 2))
    return torch.cat([(place * frequency).sin(), (place * frequency).cos()], -1)[:, :width]
