"""minGRU and minLSTM (Feng et al. 2024, "Were RNNs all we needed?"): gates of the input alone.

    minGRU     h' = (1 - z) h + z n            z = sigmoid(W_z x + b_z), n = W_n x + b_n
    minLSTM    h' = f/(f+i) h + i/(f+i) n      f, i = sigmoid(W x + b), n = W_n x + b_n

Every equation of them. Axes: c steps of a segment, B sequences, I input, H hidden, n adjoints, G gates.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rnnvg.bptt.cells.cell import Weight
from rnnvg.bptt.cells.linear import ElementwiseCell, Pulled, initial, ones
from rnnvg.bptt.cells.parts import Gate, StateViews, Trajectory


class _MinCell(nn.Module):
    """Weights [G H, I] and biases [G H], the candidate's block last."""

    blocks: int

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.input_size, self.hidden_size = input_size, hidden_size
        bound = 1 / math.sqrt(input_size)
        self.weight_ih = nn.Parameter(torch.empty(self.blocks * hidden_size, input_size).uniform_(-bound, bound))
        self.bias_ih = nn.Parameter(torch.zeros(self.blocks * hidden_size))

    def _preactivations(self, x: Tensor) -> tuple[Tensor, ...]:
        return F.linear(x, self.weight_ih, self.bias_ih).chunk(self.blocks, -1)


class MinGRUCell(_MinCell):
    """One step of a minGRU: cell(x [B, I], h [B, H]) -> h [B, H]. Blocks (z, n)."""

    blocks = 2

    def forward(self, x: Tensor, h: Tensor | None = None) -> Tensor:
        z, candidate = self._preactivations(x)
        opened = torch.sigmoid(z)
        return (1 - opened) * initial(h, x, self.hidden_size) + opened * candidate


class MinLSTMCell(_MinCell):
    """One step of a minLSTM with its gates normalised: cell(x [B, I], h [B, H]) -> h [B, H]. Blocks (f, i, n)."""

    blocks = 3

    def forward(self, x: Tensor, h: Tensor | None = None) -> Tensor:
        forget, enter, candidate = self._preactivations(x)
        f, i = torch.sigmoid(forget), torch.sigmoid(enter)
        return (f * initial(h, x, self.hidden_size) + i * candidate) / (f + i)


class Values(NamedTuple):
    """The state before; the share kept and the share that enters, each to full relative precision; the candidate, [c, B, H].
    slopes: of the share that enters by the gates' preactivations, [c, B, G - 1, H]."""

    before: Tensor
    decay: Tensor
    enter: Tensor
    candidate: Tensor
    slopes: Tensor


class _Min(ElementwiseCell):
    def __init__(self, weight: Tensor, bias: Tensor, blocks: int) -> None:
        self.weight, self.bias, self.blocks = weight, bias, blocks
        hidden = weight.shape[0] // blocks
        super().__init__(hidden, weight.shape[1], weight, blocks * hidden, (blocks + 4) * hidden)

    def driven(self, values: Values) -> Tensor:
        return values.enter * values.candidate

    def _adjoints(self, step: Values, a: Tensor) -> Tensor:
        """Of the preactivations, [..., B, G H]: the gates change how much of the candidate takes the state's place."""
        change = a * (step.candidate - step.before)
        gates = (change.unsqueeze(-2) * step.slopes).flatten(-2)
        return torch.cat([gates, a * step.enter], -1)

    def of_input(self, step: Values, a: Tensor) -> Tensor:
        return self._adjoints(step, a) @ self.weight

    def to_input(self, step: Values, v_x: Tensor) -> Tensor:
        moved = (v_x @ self.weight.t()).unflatten(-1, (self.blocks, -1))
        gates = (moved[..., :-1, :] * step.slopes).sum(-2)
        return gates * (step.candidate - step.before) + step.enter * moved[..., -1, :]

    def contributions(
        self, x: Tensor, path: Trajectory, a: StateViews, delta: Pulled, above: Tensor | None
    ) -> dict[str, tuple[Tensor, Tensor]]:
        adjoints = self._adjoints(delta.step, delta.a[0])
        return {"weight_ih": (adjoints, x), "bias_ih": (adjoints, ones(x))}


class MinGRU(_Min):
    modules = (MinGRUCell,)
    carry_gate = "update gate"

    @classmethod
    def read(cls, module: nn.Module, weight: Weight, reverse: bool = False) -> list[MinGRU]:
        return [cls(weight("weight_ih"), weight("bias_ih"), MinGRUCell.blocks)]  # type: ignore[arg-type]

    def drive(self, x: Tensor) -> Values:
        z, candidate = F.linear(x, self.weight, self.bias).chunk(2, -1)
        keep, enter = torch.sigmoid(-z), torch.sigmoid(z)
        return Values(x, keep, enter, candidate, (keep * enter).unsqueeze(-2))

    def gates(self, path: Trajectory) -> list[Gate]:
        keep = path.values.decay
        return [Gate("update gate", path.values.enter, keep.log()), Gate("candidate", path.values.candidate.abs())]


class MinLSTM(_Min):
    modules = (MinLSTMCell,)
    carry_gate = "forget gate"

    @classmethod
    def read(cls, module: nn.Module, weight: Weight, reverse: bool = False) -> list[MinLSTM]:
        return [cls(weight("weight_ih"), weight("bias_ih"), MinLSTMCell.blocks)]  # type: ignore[arg-type]

    def drive(self, x: Tensor) -> Values:
        forget, enter, candidate = F.linear(x, self.weight, self.bias).chunk(3, -1)
        odds = F.logsigmoid(forget) - F.logsigmoid(enter)
        keep, opened = torch.sigmoid(odds), torch.sigmoid(-odds)
        both = keep * opened
        slopes = torch.stack([-both * torch.sigmoid(-forget), both * torch.sigmoid(-enter)], -2)
        return Values(x, keep, opened, candidate, slopes)

    def gates(self, path: Trajectory) -> list[Gate]:
        keep = path.values.decay
        return [Gate("forget gate", keep, keep.log()), Gate("candidate", path.values.candidate.abs())]
