"""A temporal convolutional network: causal convolutions whose taps are 1, 2, 4, ... 32 steps apart (Bai, Kolter, Koltun 2018).

No recurrence: a step sees the 64 steps up to itself, and 63 more with every further layer. Each convolution has two taps and
is added to what it read (van den Oord et al. 2016), without the weight normalisation and the dropout of 2018, and with a GELU
for the ReLU: a profile's certificate, finite differences, needs slopes without kinks.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

DILATIONS = (1, 2, 4, 8, 16, 32)


class TCN(nn.Module):
    """Outputs [T, B, H] from inputs [T, B, I]. A state is not carried."""

    def __init__(self, n_inputs: int, hidden: int, layers: int = 1) -> None:
        super().__init__()
        self.hidden_size, self.num_layers = hidden, layers
        self.enter = nn.Linear(n_inputs, hidden)
        self.convolutions = nn.ModuleList(
            nn.Conv1d(hidden, hidden, 2, dilation=dilation) for _ in range(layers) for dilation in DILATIONS
        )

    def forward(self, inputs: Tensor, state: None = None) -> tuple[Tensor, None]:
        x = self.enter(inputs).permute(1, 2, 0)
        for dilation, convolution in zip(self.num_layers * DILATIONS, self.convolutions, strict=True):
            # Zeros before the first step alone: nothing of the future is seen.
            x = x + F.gelu(convolution(F.pad(x, (dilation, 0))))
        return x.permute(2, 0, 1), None
