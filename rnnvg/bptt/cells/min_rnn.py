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

from rnnvg.bptt.cells.linear import ElementwiseCell, Pulled, initial, ones
from rnnvg.bptt.cells.parts import Gate, StateViews, Trajectory

CLOSED = -60.0  # a gate's preactivation from which on its sigmoid is far inside the range of float32


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
    """The state before; the share kept and the share that enters, each to full relative precision, [c, B, H]; the
    preactivations, whose last block is the candidate, [c, B, G H]."""

    before: Tensor
    decay: Tensor
    enter: Tensor
    raw: Tensor


class _Min(ElementwiseCell):
    names = ("weight_ih", "bias_ih")
    blocks: int

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        self.weight, self.bias = weight, bias
        self.hidden = weight.shape[0] // self.blocks
        numbers = self.blocks * self.hidden, (self.blocks + 3) * self.hidden
        super().__init__(self.hidden, weight.shape[1], weight, *numbers)

    def drive(self, x: Tensor) -> Values:
        raw = F.linear(x, self.weight, self.bias)
        return Values(x, *self.shares(raw[..., : -self.hidden]), raw)

    def shares(self, gates: Tensor) -> tuple[Tensor, Tensor]:
        """The share kept and the share that enters, from the gates' preactivations [..., (G - 1) H]."""
        raise NotImplementedError

    def slopes(self, step: Values) -> Tensor:
        """Of the share that enters by the gates' preactivations, [..., B, G - 1, H]."""
        raise NotImplementedError

    def candidate(self, values: Values) -> Tensor:
        return values.raw[..., -self.hidden :]

    def driven(self, values: Values) -> Tensor:
        return values.enter * self.candidate(values)

    def _adjoints(self, step: Values, a: Tensor) -> Tensor:
        """Of the preactivations, [..., B, G H]: the gates change how much of the candidate takes the state's place."""
        change = (self.candidate(step) - step.before) * a
        found = a.new_empty(*change.shape[:-1], self.blocks, self.hidden)
        torch.mul(change.unsqueeze(-2), self.slopes(step), out=found[..., :-1, :])
        torch.mul(a, step.enter, out=found[..., -1, :])
        return found.flatten(-2)

    def of_input(self, step: Values, a: Tensor) -> Tensor:
        return self._adjoints(step, a) @ self.weight

    def to_input(self, step: Values, v_x: Tensor) -> Tensor:
        moved = torch.unflatten(v_x @ self.weight.t(), -1, (self.blocks, -1))
        gates = (moved[..., :-1, :] * self.slopes(step)).sum(-2)
        return gates * (self.candidate(step) - step.before) + step.enter * moved[..., -1, :]

    def contributions(
        self, x: Tensor, path: Trajectory, a: StateViews, delta: Pulled, above: Tensor | None
    ) -> dict[str, tuple[Tensor, Tensor]]:
        adjoints = self._adjoints(delta.step, delta.a[0])
        return {"weight_ih": (adjoints, x), "bias_ih": (adjoints, ones(x))}


class MinGRU(_Min):
    modules = (MinGRUCell,)
    blocks = MinGRUCell.blocks
    carry_gate = "update gate"

    def shares(self, gates: Tensor) -> tuple[Tensor, Tensor]:
        return torch.neg(gates).sigmoid_(), torch.sigmoid(gates)

    def slopes(self, step: Values) -> Tensor:
        return (step.decay * step.enter).unsqueeze(-2)

    def gates(self, path: Trajectory) -> list[Gate]:
        values = path.values
        return [
            Gate("update gate", values.enter, values.decay.log()),
            Gate("candidate", self.candidate(values).abs()),
        ]


class MinLSTM(_Min):
    modules = (MinLSTMCell,)
    blocks = MinLSTMCell.blocks
    carry_gate = "forget gate"

    def shares(self, gates: Tensor) -> tuple[Tensor, Tensor]:
        if float(gates.detach().amin()) > CLOSED:
            f, i = torch.sigmoid(gates).chunk(2, -1)
            both = f + i
            return f / both, i / both
        forget, enter = gates.chunk(2, -1)  # one of both may be 0 in this dtype, and their ratio none the less a number
        odds = F.logsigmoid(forget) - F.logsigmoid(enter)
        return torch.sigmoid(odds), torch.sigmoid(-odds)

    def slopes(self, step: Values) -> Tensor:
        forget, enter, _ = step.raw.chunk(3, -1)
        both = step.decay * step.enter
        return torch.stack([torch.sigmoid(-forget).mul_(both).neg_(), torch.sigmoid(-enter).mul_(both)], -2)

    def gates(self, path: Trajectory) -> list[Gate]:
        keep = path.values.decay
        return [Gate("forget gate", keep, keep.log()), Gate("candidate", self.candidate(path.values).abs())]
