"""Linear attention as a recurrence of a matrix S [K, V] of keys and values: gated (GLA), and DeltaNet.

    GLA         S' = a S + k v^T                        a = sigmoid(W_a x + b_a)^(1/16), a row each       Yang et al. 2024a
    DeltaNet    S' = (I - b k k^T) S + b k v^T          b = sigmoid(w_b x), k = W_k x / |W_k x|           Yang et al. 2024b

k = W_k x and v = W_v x. What a layer reads of S is q^T S; here the outside reads S itself, row by row.
Every equation of them. Axes: c steps of a segment, B sequences, I input, K key and V value coordinates, n adjoints.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rnnvg.bptt.cells.linear import ElementwiseCell, LinearCell, Pulled, initial, ones, outer
from rnnvg.bptt.cells.parts import Buffers, Gate, StateViews, Trajectory, states_from
from rnnvg.pytorch import vector_norm

TEMPERATURE = 16.0
SMALLEST = 1e-12  # of a key's length


class _AttentionCell(nn.Module):
    def __init__(self, input_size: int, key_size: int, value_size: int) -> None:
        super().__init__()
        self.input_size, self.key_size, self.value_size = input_size, key_size, value_size
        bound = 1 / math.sqrt(input_size)
        self.weight_k = nn.Parameter(torch.empty(key_size, input_size).uniform_(-bound, bound))
        self.weight_v = nn.Parameter(torch.empty(value_size, input_size).uniform_(-bound, bound))

    def _matrix(self, s: Tensor | None, x: Tensor) -> Tensor:
        return torch.unflatten(initial(s, x, self.key_size * self.value_size), -1, (self.key_size, self.value_size))


class GLACell(_AttentionCell):
    """One step of gated linear attention: cell(x [B, I], s [B, K V]) -> s."""

    def __init__(self, input_size: int, key_size: int, value_size: int) -> None:
        super().__init__(input_size, key_size, value_size)
        bound = 1 / math.sqrt(input_size)
        self.weight_a = nn.Parameter(torch.empty(key_size, input_size).uniform_(-bound, bound))
        self.bias_a = nn.Parameter(torch.zeros(key_size))

    def forward(self, x: Tensor, s: Tensor | None = None) -> Tensor:
        decay = torch.sigmoid(F.linear(x, self.weight_a, self.bias_a)) ** (1 / TEMPERATURE)
        k, v = x @ self.weight_k.T, x @ self.weight_v.T
        return (decay.unsqueeze(-1) * self._matrix(s, x) + k.unsqueeze(-1) * v.unsqueeze(-2)).flatten(-2)


class DeltaNetCell(_AttentionCell):
    """One step of DeltaNet: cell(x [B, I], s [B, K V]) -> s."""

    def __init__(self, input_size: int, key_size: int, value_size: int) -> None:
        super().__init__(input_size, key_size, value_size)
        bound = 1 / math.sqrt(input_size)
        self.weight_b = nn.Parameter(torch.empty(1, input_size).uniform_(-bound, bound))

    def forward(self, x: Tensor, s: Tensor | None = None) -> Tensor:
        b, v = torch.sigmoid(x @ self.weight_b.T), x @ self.weight_v.T
        k = F.normalize(x @ self.weight_k.T, dim=-1, eps=SMALLEST)
        matrix = self._matrix(s, x)
        seen = (k.unsqueeze(-2) @ matrix).squeeze(-2)
        return (matrix + k.unsqueeze(-1) * (b * (v - seen)).unsqueeze(-2)).flatten(-2)


class GLAValues(NamedTuple):
    """The state before [c, B, K V]; the decay, its slope by its preactivation, and k, [c, B, K]; v [c, B, V]."""

    before: Tensor
    decay: Tensor
    slope: Tensor
    k: Tensor
    v: Tensor


class GLA(ElementwiseCell):
    modules = (GLACell,)
    names = ("weight_a", "bias_a", "weight_k", "weight_v")
    carry_gate = "decay"

    def __init__(self, into_a: Tensor, bias: Tensor, into_k: Tensor, into_v: Tensor) -> None:
        self.into_a, self.bias, self.into_k, self.into_v = into_a, bias, into_k, into_v
        self.shape = (into_k.shape[0], into_v.shape[0])
        super().__init__(math.prod(self.shape), into_k.shape[1], into_k)

    def drive(self, x: Tensor) -> GLAValues:
        raw = F.linear(x, self.into_a, self.bias)
        decay = torch.exp(F.logsigmoid(raw) / TEMPERATURE)
        return GLAValues(x, decay, decay * torch.sigmoid(-raw) / TEMPERATURE, x @ self.into_k.T, x @ self.into_v.T)

    def _matrix(self, s: Tensor) -> Tensor:
        return torch.unflatten(s, -1, self.shape)

    def driven(self, values: GLAValues) -> Tensor:
        return outer(values.k, values.v)

    def _adjoints(self, step: GLAValues, a: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of the decay's preactivation and of k [..., K], and of v [..., V]."""
        matrix = self._matrix(a)
        by_a = (matrix * self._matrix(step.before)).sum(-1) * step.slope
        return by_a, (matrix @ step.v.unsqueeze(-1)).squeeze(-1), (matrix * step.k.unsqueeze(-1)).sum(-2)

    def of_input(self, step: GLAValues, a: Tensor) -> Tensor:
        by_a, by_k, by_v = self._adjoints(step, a)
        return by_a @ self.into_a + by_k @ self.into_k + by_v @ self.into_v

    def to_input(self, step: GLAValues, v_x: Tensor) -> Tensor:
        kept = (step.slope * (v_x @ self.into_a.T)).unsqueeze(-1) * self._matrix(step.before)
        return kept.flatten(-2) + outer(v_x @ self.into_k.T, step.v) + outer(step.k, v_x @ self.into_v.T)

    def gates(self, path: Trajectory) -> list[Gate]:
        decay = path.values.decay.repeat_interleave(self.shape[1], -1)
        return [Gate("decay", decay, decay.log())]

    def contributions(
        self, x: Tensor, path: Trajectory, a: StateViews, delta: Pulled, above: Tensor | None
    ) -> dict[str, tuple[Tensor, Tensor]]:
        by_a, by_k, by_v = self._adjoints(delta.step, delta.a[0])
        return {"weight_a": (by_a, x), "bias_a": (by_a, ones(x)), "weight_k": (by_k, x), "weight_v": (by_v, x)}


class DeltaValues(NamedTuple):
    """The state before [c, B, K V]; b and its slope by the preactivation [c, B, 1]; k of length 1 [c, B, K] and the length
    it had [c, B, 1]; v and what k finds of it in the state [c, B, V]."""

    before: Tensor
    b: Tensor
    slope: Tensor
    k: Tensor
    length: Tensor
    v: Tensor


class DeltaNet(LinearCell):
    """Its Jacobian is I - b k k^T for every column of S: never formed."""

    modules = (DeltaNetCell,)
    names = ("weight_b", "weight_k", "weight_v")

    def __init__(self, into_b: Tensor, into_k: Tensor, into_v: Tensor) -> None:
        self.into_b, self.into_k, self.into_v = into_b, into_k, into_v
        self.shape = (into_k.shape[0], into_v.shape[0])
        super().__init__(math.prod(self.shape), into_k.shape[1], into_k)

    def drive(self, x: Tensor) -> DeltaValues:
        b, raw = torch.sigmoid(x @ self.into_b.T), x @ self.into_k.T
        length = vector_norm(raw, dim=-1, keepdim=True).clamp_min(SMALLEST)
        return DeltaValues(x, b, b * (1 - b), raw / length, length, x @ self.into_v.T)

    def _matrix(self, s: Tensor) -> Tensor:
        return torch.unflatten(s, -1, self.shape)

    def run(self, x: Tensor, state: tuple[Tensor, ...], new: Buffers) -> Trajectory:
        values = self.drive(x)
        states = states_from("states", state[0], x.shape[0], new)
        matrices = self._matrix(states).unbind()
        rows, columns = values.k.unsqueeze(-2).unbind(), values.k.unsqueeze(-1).unbind()
        b, v = values.b.unsqueeze(-2).unbind(), values.v.unsqueeze(-2).unbind()
        with torch.inference_mode():  # a sixth off each small operation
            for t, (row, column) in enumerate(zip(rows, columns, strict=True)):
                error = torch.sub(v[t], torch.bmm(row, matrices[t])).mul_(b[t])
                torch.addcmul(matrices[t], column, error, out=matrices[t + 1])  # baddbmm takes five times as long
        return Trajectory((states,), values._replace(before=states[:-1]))

    def carry_run(self, factors: DeltaValues, vectors: Tensor) -> None:
        if vectors.shape[1] > 1:
            super().carry_run(factors, vectors)
            return
        matrices = self._matrix(vectors[:, 0]).unbind()
        rows = factors.k.unsqueeze(-2).unbind()
        columns = (factors.k * -factors.b).unsqueeze(-1).unbind()
        with torch.inference_mode():
            for k, (row, column) in enumerate(zip(reversed(rows), reversed(columns), strict=True)):
                torch.addcmul(matrices[k], column, torch.bmm(row, matrices[k]), out=matrices[k + 1])

    def carried(self, step: DeltaValues, a: Tensor) -> Tensor:
        along = (step.k.unsqueeze(-1) * self._matrix(a)).sum(-2)
        return a - outer(step.k * step.b, along)

    def _adjoints(self, step: DeltaValues, a: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of b's preactivation [..., 1], of W_k x [..., K] and of v [..., V]."""
        matrix, before = self._matrix(a), self._matrix(step.before)
        row = step.k.unsqueeze(-2)
        error, along = step.v - (row @ before).squeeze(-2), (row @ matrix).squeeze(-2)
        by_b = (along * error).sum(-1, keepdim=True) * step.slope
        by_k = step.b * (matrix @ error.unsqueeze(-1) - before @ along.unsqueeze(-1)).squeeze(-1)
        across = by_k - step.k * (step.k * by_k).sum(-1, keepdim=True)
        return by_b, across / step.length, step.b * along

    def of_input(self, step: DeltaValues, a: Tensor) -> Tensor:
        by_b, by_k, by_v = self._adjoints(step, a)
        return by_b @ self.into_b + by_k @ self.into_k + by_v @ self.into_v

    def to_input(self, step: DeltaValues, v_x: Tensor) -> Tensor:
        before = self._matrix(step.before)
        error = step.v - (step.k.unsqueeze(-1) * before).sum(-2)
        raw = v_x @ self.into_k.T
        k = (raw - step.k * (step.k * raw).sum(-1, keepdim=True)) / step.length
        b = step.slope * (v_x @ self.into_b.T)
        moved = b * error + step.b * (v_x @ self.into_v.T - (k.unsqueeze(-1) * before).sum(-2))
        return outer(k, step.b * error) + outer(step.k, moved)

    def contributions(
        self, x: Tensor, path: Trajectory, a: StateViews, delta: Pulled, above: Tensor | None
    ) -> dict[str, tuple[Tensor, Tensor]]:
        by_b, by_k, by_v = self._adjoints(delta.step, delta.a[0])
        return {"weight_b": (by_b, x), "weight_k": (by_k, x), "weight_v": (by_v, x)}
