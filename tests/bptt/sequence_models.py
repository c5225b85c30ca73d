"""Sequence models of many kinds, as a user would write them, for what is measured by the input."""

import itertools
import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class CausalTransformer(nn.Module):
    """nn.TransformerEncoder whose mask is made in the forward pass, in the default dtype; time first."""

    def __init__(self, width: int = 8, layers: int = 2) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(width, 2, 2 * width)
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.encoder(x, mask=nn.Transformer.generate_square_subsequent_mask(len(x)))


class TCN(nn.Module):
    """Dilated causal convolutions, channels in the middle as nn.Conv1d has them: [B, I, T] -> [B, H, T]."""

    def __init__(self, inputs: int, hidden: int, layers: int = 3, kernel: int = 2, leak: int = 0) -> None:
        super().__init__()
        self.leak = leak
        widths = [inputs] + [hidden] * layers
        self.layers = nn.ModuleList(
            nn.Conv1d(a, b, kernel, dilation=2**index) for index, (a, b) in enumerate(itertools.pairwise(widths))
        )

    def forward(self, x: Tensor) -> Tensor:
        for index, layer in enumerate(self.layers):
            pad = (layer.kernel_size[0] - 1) * layer.dilation[0]
            ahead = self.leak if index == 0 else 0
            x = torch.tanh(layer(F.pad(x, (pad - ahead, ahead))))
        return x

    @property
    def reach(self) -> int:
        return sum((layer.kernel_size[0] - 1) * layer.dilation[0] for layer in self.layers)


class TimeFirstTCN(TCN):
    """The same on [T, B, I]."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(1, 2, 0)).permute(2, 0, 1)


class TinyMamba(nn.Module):
    """A selective state space block (Gu and Dao 2023, algorithm 2) with gating and a residual, batch first: [B, T, D]."""

    def __init__(self, width: int = 6, state: int = 4) -> None:
        super().__init__()
        self.into = nn.Linear(width, 2 * width)
        self.conv = nn.Conv1d(width, width, 3, groups=width, padding=2)
        self.select = nn.Linear(width, 1 + 2 * state)
        self.spread = nn.Linear(1, width)
        self.log_a = nn.Parameter(torch.log(torch.arange(1.0, state + 1)).repeat(width, 1))
        self.skip = nn.Parameter(torch.ones(width))
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        steps, state = x.shape[1], self.log_a.shape[1]
        u, gate = self.into(x).chunk(2, -1)
        u = F.silu(self.conv(u.transpose(1, 2))[..., :steps].transpose(1, 2))
        delta, b, c = self.select(u).split([1, state, state], -1)
        delta = F.softplus(self.spread(delta))
        h = x.new_zeros(len(x), x.shape[2], state)
        rows = []
        for t in range(steps):
            decay = torch.exp(delta[:, t, :, None] * -self.log_a.exp())
            h = decay * h + delta[:, t, :, None] * b[:, t, None] * u[:, t, :, None]
            rows.append((h * c[:, t, None]).sum(-1) + self.skip * u[:, t])
        return x + self.out(torch.stack(rows, 1) * F.silu(gate))


class StepByStep(nn.Module):
    """Token ids [T, B] read by one embedding call a step; the last output alone is returned, [B, H]."""

    def __init__(self, vocabulary: int = 11, width: int = 5, every: bool = False) -> None:
        super().__init__()
        self.words, self.cell, self.every = nn.Embedding(vocabulary, width), nn.GRUCell(width, width), every

    def forward(self, tokens: Tensor) -> Tensor:
        h = self.words.weight.new_zeros(tokens.shape[1], self.cell.hidden_size)
        rows = []
        for ids in tokens:
            h = self.cell(self.words(ids), h)
            rows.append(h)
        return torch.stack(rows) if self.every else h


class FourierConvolution(nn.Module):
    """A causal convolution by the fast Fourier transform: exact up to rounding, which reaches the future too; [T, B, I]."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.exp(-torch.arange(float(steps)) / 3))

    def forward(self, x: Tensor) -> Tensor:
        n = 2 * len(x)
        spectrum = torch.fft.rfft(x, n, dim=0) * torch.fft.rfft(self.kernel, n)[:, None, None]
        return torch.fft.irfft(spectrum, n, dim=0)[: len(x)]


class Noisy(nn.Module):
    """A layer that draws noise whatever its mode."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cumsum(x * (1 + 0.1 * torch.randn_like(x)), 0)


class ReadsPositions(nn.Module):
    """Token ids and positions through two embeddings, batch first, and a width of its own for the output."""

    def __init__(self, vocabulary: int = 13, width: int = 4) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(vocabulary, width), nn.Embedding(64, width)
        self.rnn = nn.RNN(width, 3, batch_first=True)

    def forward(self, tokens: Tensor) -> dict[str, Tensor]:
        x = self.tokens(tokens) + self.positions(torch.arange(tokens.shape[1])) / math.sqrt(2)
        hidden, last = self.rnn(x)
        return {"hidden": hidden, "last": last}
