"""The selective state space of Mamba, S6 (Gu and Dao 2023, algorithm 2): D channels with N states each.

    s'_dn = exp(dt_d A_dn) s_dn + dt_d B_n x_d        dt = softplus(W_dt W_low x + b_dt), B = W_B x, A = -exp(a_log)

Every equation of it. Axes: c steps of a segment, B sequences, D channels (= I inputs), N states of each, n adjoints.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rnnvg.bptt.cells.linear import ElementwiseCell, Pulled, initial, ones, outer
from rnnvg.bptt.cells.parts import Gate, StateViews, Trajectory
from rnnvg.pytorch import block_diag


class S6Cell(nn.Module):
    """One step of a selective state space: cell(x [B, D], s [B, D N]) -> s, initialised as in Mamba."""

    def __init__(self, input_size: int, state_size: int, dt_rank: int | None = None) -> None:
        super().__init__()
        self.input_size, self.state_size = input_size, state_size
        rank = max(1, math.ceil(input_size / 16)) if dt_rank is None else dt_rank
        self.a_log = nn.Parameter(
            torch.arange(1, state_size + 1, dtype=torch.get_default_dtype()).log().repeat(input_size, 1)
        )
        bound = 1 / math.sqrt(input_size)
        self.weight_low = nn.Parameter(torch.empty(rank, input_size).uniform_(-bound, bound))
        self.weight_dt = nn.Parameter(torch.empty(input_size, rank).uniform_(-1, 1) / math.sqrt(rank))
        dt = torch.exp(torch.rand(input_size) * (math.log(0.1) - math.log(0.001)) + math.log(0.001))
        self.bias_dt = nn.Parameter(dt + torch.log(-torch.expm1(-dt)))
        self.weight_b = nn.Parameter(torch.empty(state_size, input_size).uniform_(-bound, bound))

    def forward(self, x: Tensor, s: Tensor | None = None) -> Tensor:
        dt = F.softplus(F.linear(x @ self.weight_low.T, self.weight_dt, self.bias_dt)).unsqueeze(-1)
        decay = torch.exp(-dt * self.a_log.exp())
        s = torch.unflatten(initial(s, x, self.a_log.numel()), -1, self.a_log.shape)
        return (decay * s + dt * (x @ self.weight_b.T).unsqueeze(-2) * x.unsqueeze(-1)).flatten(-2)


class Values(NamedTuple):
    """The state before [c, B, D N]; decay [c, B, D N]; dt and its slope softplus' [c, B, D]; b [c, B, N]; x [c, B, D]."""

    before: Tensor
    decay: Tensor
    dt: Tensor
    slope: Tensor
    b: Tensor
    x: Tensor


class S6(ElementwiseCell):
    modules = (S6Cell,)
    carry_gate = "decay"

    def __init__(self, a: Tensor, low: Tensor, into_dt: Tensor, bias: Tensor, into_b: Tensor) -> None:
        self.a, self.low, self.into_dt, self.bias, self.into_b = a, low, into_dt, bias, into_b
        # What sums over the states of each channel, times A: a product with it is quicker than a sum of four.
        self.pool = block_diag(*a.unsqueeze(-1))
        super().__init__(a.numel(), a.shape[0], low)

    @classmethod
    def read(cls, module: nn.Module, weights: Mapping[str, Tensor], reverse: bool = False) -> list[S6]:
        a, *rest = (weights[name] for name in ("a_log", "weight_low", "weight_dt", "bias_dt", "weight_b"))
        return [cls(-a.exp(), *rest)]

    def drive(self, x: Tensor) -> Values:
        raw = F.linear(x @ self.low.T, self.into_dt, self.bias)
        dt = F.softplus(raw)
        return Values(x, (dt.unsqueeze(-1) * self.a).exp_().flatten(-2), dt, torch.sigmoid(raw), x @ self.into_b.T, x)

    def _blocks(self, s: Tensor) -> Tensor:
        return torch.unflatten(s, -1, self.a.shape)

    def driven(self, values: Values) -> Tensor:
        return outer(values.dt * values.x, values.b)

    def _adjoints(self, step: Values, a: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of dt's preactivation [..., D], of b [..., N], and of x where it is multiplied by them [..., D]."""
        dt_x = step.dt * step.x
        blocks = self._blocks(a)
        with_b = (blocks @ step.b.unsqueeze(-1)).squeeze(-1)
        by_dt = (a * step.decay).mul_(step.before) @ self.pool + with_b * step.x
        by_b = (dt_x.unsqueeze(-2) @ blocks).squeeze(-2)
        return by_dt * step.slope, by_b, with_b * step.dt

    def of_input(self, step: Values, a: Tensor) -> Tensor:
        raw, b, x = self._adjoints(step, a)
        return x + b @ self.into_b + raw @ self.into_dt @ self.low

    def to_input(self, step: Values, v_x: Tensor) -> Tensor:
        dt = (v_x @ self.low.T @ self.into_dt.T) * step.slope
        by_dt = self.a * self._blocks(step.decay * step.before) + step.b.unsqueeze(-2) * step.x.unsqueeze(-1)
        direct = (step.dt * v_x).unsqueeze(-1) * step.b.unsqueeze(-2)
        through_b = (step.dt * step.x).unsqueeze(-1) * (v_x @ self.into_b.T).unsqueeze(-2)
        return (dt.unsqueeze(-1) * by_dt + direct + through_b).flatten(-2)

    def gates(self, path: Trajectory) -> list[Gate]:
        return [Gate("decay", path.values.decay, (path.values.dt.unsqueeze(-1) * self.a).flatten(-2))]

    def contributions(
        self, x: Tensor, path: Trajectory, a: StateViews, delta: Pulled, above: Tensor | None
    ) -> dict[str, tuple[Tensor, Tensor]]:
        step, one = delta.step, ones(x)
        raw, b, _ = self._adjoints(step, delta.a[0])
        by_a = self._blocks(delta.a[0]) * step.dt.unsqueeze(-1) * self._blocks(step.decay * step.before) * self.a
        return {
            "a_log": (by_a.flatten(-2), one),
            "weight_low": (raw @ self.into_dt, x),
            "weight_dt": (raw, x @ self.low.T),
            "bias_dt": (raw, one),
            "weight_b": (b, x),
        }
