"""A recurrence in one file: the minimal gated unit, as a module and as its closed form.

f = sigmoid(W_f x + U_f h + b_f),  n = tanh(W_n x + U_n (f h) + b_n),  h' = (1 - f) h + f n      (Zhou et al. 2016)

Axes: T steps, c steps of a segment, B sequences, I input, H hidden, n adjoints.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from rnnvg.bptt.cells import Buffers, Cell, Gate, Part, Paths, StateViews, Trajectory


class MinimalGatedUnit(nn.Module):
    """Layers of minimal gated units, called as nn.RNN is: inputs [T, B, I] and h_0 [layers, B, H]."""

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, dtype: torch.dtype | None = None
    ) -> None:
        super().__init__()
        self.hidden_size, self.num_layers = hidden_size, num_layers
        for layer in range(num_layers):
            for gate in "fn":
                width = input_size if layer == 0 else hidden_size
                self._weight(f"W_{gate}{layer}", hidden_size, width, dtype=dtype)
                self._weight(f"U_{gate}{layer}", hidden_size, hidden_size, dtype=dtype)
                self._weight(f"b_{gate}{layer}", hidden_size, dtype=dtype)

    def _weight(self, name: str, *shape: int, dtype: torch.dtype | None) -> None:
        bound = 1 / math.sqrt(self.hidden_size)
        self.register_parameter(name, nn.Parameter(torch.empty(*shape, dtype=dtype).uniform_(-bound, bound)))

    def forward(self, inputs: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        if state is None:
            state = inputs.new_zeros(self.num_layers, inputs.shape[1], self.hidden_size)
        last = []
        for layer, h in enumerate(state):
            outputs = []
            for x in inputs:
                h = self.step(layer, x, h)
                outputs.append(h)
            inputs = torch.stack(outputs)
            last.append(h)
        return inputs, torch.stack(last)

    def step(self, layer: int, x: Tensor, h: Tensor) -> Tensor:
        w_f, u_f, b_f, w_n, u_n, b_n = (getattr(self, f"{name}{layer}") for name in NAMES)
        f = torch.sigmoid(x @ w_f.T + h @ u_f.T + b_f)
        n = torch.tanh(x @ w_n.T + (f * h) @ u_n.T + b_n)
        return (1 - f) * h + f * n


NAMES = ("W_f", "U_f", "b_f", "W_n", "U_n", "b_n")


class Values(NamedTuple):
    """The gate f and the candidate n, [c, B, H]."""

    f: Tensor
    n: Tensor


class Factors(NamedTuple):
    """With dh the adjoint of h': keep dh -> carry; into_n dh -> candidate; into_f (dh (n - h) + h U_n^T dn) -> gate;
    and h, f, n themselves, [c, B, H]."""

    keep: Tensor
    into_n: Tensor
    into_f: Tensor
    h: Tensor
    f: Tensor
    n: Tensor


class Delta(NamedTuple):
    """Adjoints of the preactivations of f and n, and of f h, [n, B, H]."""

    f: Tensor
    n: Tensor
    gated: Tensor


class MGU(Cell):
    modules = (MinimalGatedUnit,)
    carry_gate = "kept part"

    def __init__(self, layer: int, weights: list[Tensor]) -> None:
        self._layer = layer
        self._w_f, self._u_f, self._b_f, self._w_n, self._u_n, self._b_n = weights
        hidden, self.n_inputs = self._w_f.shape
        self.parts, self.like = (Part("hidden", hidden),), self._w_f
        self.widest, self.kept = hidden, 3 * hidden

    @classmethod
    def read(cls, module: MinimalGatedUnit, weights: Mapping[str, Tensor], reverse: bool = False) -> list[MGU]:
        return [cls(layer, [weights[f"{name}{layer}"] for name in NAMES]) for layer in range(module.num_layers)]

    def run(self, x: Tensor, state: tuple[Tensor, ...], new: Buffers) -> Trajectory:
        (h,) = state
        states, gates, candidates = [h], [], []
        from_f, from_n = x @ self._w_f.T + self._b_f, x @ self._w_n.T + self._b_n
        for x_f, x_n in zip(from_f, from_n, strict=True):
            f = torch.sigmoid(x_f + h @ self._u_f.T)
            n = torch.tanh(x_n + (f * h) @ self._u_n.T)
            h = torch.lerp(h, n, f)
            states.append(h), gates.append(f), candidates.append(n)
        return Trajectory((torch.stack(states),), Values(torch.stack(gates), torch.stack(candidates)))

    def factors(self, path: Trajectory, new: Buffers, change: str | None = None) -> Factors:
        (f, n), h = path.values, path.states[0][:-1]
        return Factors(1 - f, f * (1 - n**2), f * (1 - f), h, f, n)

    def new_delta(self, like: Tensor, new: Buffers) -> Delta:
        return Delta(*(new(name, like, *like.shape) for name in Delta._fields))

    def into_gates(self, step: Factors, a: StateViews, delta: Delta, above: Tensor | None) -> None:
        a_h = a.parts[0] if above is None else a.parts[0] + above
        torch.mul(a_h, step.into_n, out=delta.n)
        torch.matmul(delta.n, self._u_n, out=delta.gated)
        torch.mul(a_h * (step.n - step.h) + delta.gated * step.h, step.into_f, out=delta.f)

    def pull(self, step: Factors, a: StateViews, out: StateViews, delta: Delta, above: Tensor | None) -> None:
        self.into_gates(step, a, delta, above)
        out.parts[0].copy_(sum(parts[0] for parts in self.paths(step, a, delta, above).values()))

    def input_adjoint(self, delta: Delta) -> Tensor:
        return delta.f @ self._w_f + delta.n @ self._w_n

    def push(self, step: Factors, v: tuple[Tensor, ...], v_x: Tensor | None) -> tuple[Tensor, ...]:
        from_f, from_n = (0, 0) if v_x is None else (v_x @ self._w_f.T, v_x @ self._w_n.T)
        df = (v[0] @ self._u_f.T + from_f) * step.into_f
        dn = ((step.f * v[0] + step.h * df) @ self._u_n.T + from_n) * step.into_n
        return (step.keep * v[0] + (step.n - step.h) * df + dn,)

    def gates(self, path: Trajectory) -> list[Gate]:
        f, n = path.values
        return [Gate("kept part", 1 - f, torch.log1p(-f)), Gate("candidate", n.abs())]

    def paths(self, step: Factors, a: StateViews, delta: Delta, above: Tensor | None) -> Paths:
        a_h = a.parts[0] if above is None else a.parts[0] + above
        return {"carry": (a_h * step.keep,), "gate": (delta.f @ self._u_f,), "candidate": (delta.gated * step.f,)}

    def contributions(
        self, x: Tensor, path: Trajectory, a: StateViews, delta: Delta, above: Tensor | None
    ) -> dict[str, tuple[Tensor, Tensor]]:
        h, one = path.states[0][:-1], x.new_ones(*x.shape[:2], 1)
        right = (x, h, one, x, path.values.f * h, one)
        left = (delta.f,) * 3 + (delta.n,) * 3
        return {f"{name}{self._layer}": pair for name, *pair in zip(NAMES, left, right, strict=True)}
