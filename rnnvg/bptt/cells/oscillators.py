"""Recurrences from discretised differential equations: coRNN and LEM (Rusch and Mishra 2021; Rusch et al. 2022).

    coRNN    z' = z + dt (tanh(W y + Wz z + V x + b) - gamma y - eps z),  y' = y + dt z'
    LEM      z' = (1 - p) z + p tanh(Wz y + Vz x + bz)         p = dt sigmoid(W1 y + V1 x + b1)
             y' = (1 - q) y + q tanh(Wy z' + Vy x + by)        q = dt sigmoid(W2 y + V2 x + b2)

The state is (y, z); y is what the outside reads. Every equation of them.
Axes: c steps of a segment, B sequences, I input, H hidden, n adjoints.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rnnvg.bptt.cells.cell import Paths, Weight
from rnnvg.bptt.cells.parts import Buffers, Gate, Part, StateViews, Trajectory
from rnnvg.bptt.cells.preactivated import PreactivatedCell, Preactivations, sigmoid_slope, tanh_slope

State = tuple[Tensor, Tensor]


def _matrix(rows: int, columns: int, bound: float) -> nn.Parameter:
    return nn.Parameter(torch.empty(rows, columns).uniform_(-bound, bound))


class CoRNNCell(nn.Module):
    """One step of a coupled oscillatory RNN: cell(x [B, I], (y, z)) -> (y, z), [B, H] each."""

    def __init__(
        self, input_size: int, hidden_size: int, dt: float = 0.05, gamma: float = 1.0, eps: float = 1.0
    ) -> None:
        super().__init__()
        self.input_size, self.hidden_size = input_size, hidden_size
        self.dt, self.gamma, self.eps = dt, gamma, eps
        bound = 1 / math.sqrt(hidden_size)
        self.weight_ih, self.bias = _matrix(hidden_size, input_size, bound), nn.Parameter(torch.zeros(hidden_size))
        self.weight_y, self.weight_z = (_matrix(hidden_size, hidden_size, bound) for _ in range(2))

    def forward(self, x: Tensor, state: State | None = None) -> State:
        y, z = (x.new_zeros(x.shape[0], self.hidden_size),) * 2 if state is None else state
        force = torch.tanh(F.linear(x, self.weight_ih, self.bias) + y @ self.weight_y.T + z @ self.weight_z.T)
        z = z + self.dt * (force - self.gamma * y - self.eps * z)
        return y + self.dt * z, z


class LEMCell(nn.Module):
    """One step of a long expressive memory: cell(x [B, I], (y, z)) -> (y, z), [B, H] each.

    Blocks (1, 2, z, y) of the input's weight and of the bias, (1, 2, z) of weight_y.
    """

    def __init__(self, input_size: int, hidden_size: int, dt: float = 1.0) -> None:
        super().__init__()
        self.input_size, self.hidden_size, self.dt = input_size, hidden_size, dt
        bound = 1 / math.sqrt(hidden_size)
        self.weight_ih, self.bias = (
            _matrix(4 * hidden_size, input_size, bound),
            nn.Parameter(torch.zeros(4 * hidden_size)),
        )
        self.weight_y = _matrix(3 * hidden_size, hidden_size, bound)
        self.weight_z = _matrix(hidden_size, hidden_size, bound)

    def forward(self, x: Tensor, state: State | None = None) -> State:
        y, z = (x.new_zeros(x.shape[0], self.hidden_size),) * 2 if state is None else state
        driven = F.linear(x, self.weight_ih, self.bias)
        one, two, into_z = (driven[..., : 3 * self.hidden_size] + y @ self.weight_y.T).chunk(3, -1)
        p, q = self.dt * torch.sigmoid(one), self.dt * torch.sigmoid(two)
        z = (1 - p) * z + p * torch.tanh(into_z)
        into_y = driven[..., 3 * self.hidden_size :] + z @ self.weight_z.T
        return (1 - q) * y + q * torch.tanh(into_y), z


class CoValues(NamedTuple):
    """The preactivation, and the state before, [c, B, H]."""

    pre: Tensor
    y: Tensor
    z: Tensor


class CoFactors(NamedTuple):
    """dt tanh' of the preactivation, [c, B, H]."""

    force: Tensor


class CoRNN(PreactivatedCell):
    modules = (CoRNNCell,)

    def __init__(self, weight: Tensor, bias: Tensor, by_y: Tensor, by_z: Tensor, numbers: tuple[float, ...]) -> None:
        self.by_y, self.by_z, (self.dt, self.gamma, self.eps) = by_y, by_z, numbers
        super().__init__(weight, bias, (Part("hidden", by_y.shape[0]), Part("cell", by_y.shape[0])), 1)

    @classmethod
    def read(cls, module: nn.Module, weight: Weight, reverse: bool = False) -> list[CoRNN]:
        assert isinstance(module, CoRNNCell)
        found = (weight(name) for name in ("weight_ih", "bias", "weight_y", "weight_z"))
        return [cls(*found, (module.dt, module.gamma, module.eps))]  # type: ignore[arg-type]

    def advance(self, driven: Tensor, state: tuple[Tensor, ...]) -> tuple[CoValues, tuple[Tensor, ...]]:
        y, z = state
        pre = driven + y @ self.by_y.t() + z @ self.by_z.t()
        after = z + self.dt * (torch.tanh(pre) - self.gamma * y - self.eps * z)
        return CoValues(pre, y, z), (y + self.dt * after, after)

    def factors(self, path: Trajectory, new: Buffers, change: str | None = None) -> CoFactors:
        return CoFactors(self.dt * tanh_slope(path.values.pre))

    def backwards(self, step: CoFactors, a: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        a_z = torch.add(a[1], a[0], alpha=self.dt)
        pre = a_z * step.force
        by_y = torch.add(a[0], a_z, alpha=-self.dt * self.gamma) + pre @ self.by_y
        return pre, (by_y, (1 - self.dt * self.eps) * a_z + pre @ self.by_z)

    def forwards(self, step: CoFactors, v: tuple[Tensor, ...], driven: Tensor | float) -> tuple[Tensor, ...]:
        pre = driven + v[0] @ self.by_y.t() + v[1] @ self.by_z.t()
        z = v[1] + step.force * pre - self.dt * (self.gamma * v[0] + self.eps * v[1])
        return v[0] + self.dt * z, z

    def recurrent_inputs(self, path: Trajectory) -> dict[str, tuple[slice, Tensor]]:
        return {"weight_y": (slice(None), path.values.y), "weight_z": (slice(None), path.values.z)}

    def paths(self, step: CoFactors, a: StateViews, delta: Preactivations, above: Tensor | None) -> Paths:
        after = self._after(a, above)
        a_z = after[1] + self.dt * after[0]
        pre, _ = self.backwards(step, after)
        free = (after[0] - self.dt * self.gamma * a_z, (1 - self.dt * self.eps) * a_z)
        return {"oscillation": free, "force": (pre @ self.by_y, pre @ self.by_z)}


class LEMValues(NamedTuple):
    """Preactivations (1, 2, z, y) [c, B, 4 H]; the state before, and z after, [c, B, H]."""

    pre: Tensor
    y: Tensor
    z: Tensor
    z_after: Tensor


class LEMFactors(NamedTuple):
    """Derivatives [c, B, H]: of y and z by their gates' preactivations (2 and 1), by their candidates', and by themselves."""

    y_by_two: Tensor
    z_by_one: Tensor
    y_by_candidate: Tensor
    z_by_candidate: Tensor
    y_kept: Tensor
    z_kept: Tensor


class LEM(PreactivatedCell):
    modules = (LEMCell,)

    def __init__(self, weight: Tensor, bias: Tensor, by_y: Tensor, by_z: Tensor, dt: float) -> None:
        self.by_y, self.by_z, self.dt = by_y, by_z, dt
        super().__init__(weight, bias, (Part("hidden", by_z.shape[0]), Part("cell", by_z.shape[0])), 4)

    @classmethod
    def read(cls, module: nn.Module, weight: Weight, reverse: bool = False) -> list[LEM]:
        assert isinstance(module, LEMCell)
        return [cls(*(weight(name) for name in ("weight_ih", "bias", "weight_y", "weight_z")), module.dt)]  # type: ignore[arg-type]

    def advance(self, driven: Tensor, state: tuple[Tensor, ...]) -> tuple[LEMValues, tuple[Tensor, ...]]:
        y, z = state
        width = 3 * y.shape[-1]
        three = torch.addmm(driven[:, :width], y, self.by_y.t())
        one, two, into_z = three.chunk(3, -1)
        after = torch.lerp(z, torch.tanh(into_z), self.dt * torch.sigmoid(one))
        into_y = torch.addmm(driven[:, width:], after, self.by_z.t())
        y_after = torch.lerp(y, torch.tanh(into_y), self.dt * torch.sigmoid(two))
        return LEMValues(torch.cat([three, into_y], -1), y, z, after), (y_after, after)

    def factors(self, path: Trajectory, new: Buffers, change: str | None = None) -> LEMFactors:
        (pre, y, z, _), dt = path.values, self.dt
        one, two, into_z, into_y = pre.chunk(4, -1)
        p, q = dt * torch.sigmoid(one), dt * torch.sigmoid(two)
        return LEMFactors(
            (torch.tanh(into_y) - y) * dt * sigmoid_slope(two),
            (torch.tanh(into_z) - z) * dt * sigmoid_slope(one),
            q * tanh_slope(into_y),
            p * tanh_slope(into_z),
            1 - q,
            1 - p,
        )

    def backwards(self, step: LEMFactors, a: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        d_y = a[0] * step.y_by_candidate
        a_z = a[1] + d_y @ self.by_z
        three = torch.cat([a_z * step.z_by_one, a[0] * step.y_by_two, a_z * step.z_by_candidate], -1)
        by_y = torch.addcmul(three @ self.by_y, a[0], step.y_kept)
        return torch.cat([three, d_y], -1), (by_y, a_z * step.z_kept)

    def forwards(self, step: LEMFactors, v: tuple[Tensor, ...], driven: Tensor | float) -> tuple[Tensor, ...]:
        width = 3 * v[0].shape[-1]
        from_x = (driven[..., :width], driven[..., width:]) if isinstance(driven, Tensor) else (driven, driven)
        v_one, v_two, v_z = (from_x[0] + v[0] @ self.by_y.t()).chunk(3, -1)
        z = step.z_kept * v[1] + step.z_by_candidate * v_z + step.z_by_one * v_one
        v_y = from_x[1] + z @ self.by_z.t()
        return step.y_kept * v[0] + step.y_by_candidate * v_y + step.y_by_two * v_two, z

    def gates(self, path: Trajectory) -> list[Gate]:
        one, two, into_z, into_y = path.values.pre.chunk(4, -1)
        opened = [self.dt * torch.sigmoid(each) for each in (one, two)]
        return [
            Gate("gate of z", opened[0], torch.log1p(-opened[0])),
            Gate("gate of y", opened[1], torch.log1p(-opened[1])),
            Gate("candidate of z", torch.tanh(into_z).abs()),
            Gate("candidate of y", torch.tanh(into_y).abs()),
        ]

    def recurrent_inputs(self, path: Trajectory) -> dict[str, tuple[slice, Tensor]]:
        H = path.values.y.shape[-1]
        return {"weight_y": (slice(0, 3 * H), path.values.y), "weight_z": (slice(3 * H, 4 * H), path.values.z_after)}

    def paths(self, step: LEMFactors, a: StateViews, delta: Preactivations, above: Tensor | None) -> Paths:
        after = self._after(a, above)
        _, whole = self.backwards(step, after)
        carry = (after[0] * step.y_kept, after[1] * step.z_kept)
        return {"carry": carry, "candidates and gates": (whole[0] - carry[0], whole[1] - carry[1])}
