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
from rnnvg.bptt.cells.preactivated import PreactivatedCell, Preactivations, rows, tanh_slope

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
        self.matrix, (self.dt, self.gamma, self.eps) = torch.cat([by_y, by_z], 1), numbers
        super().__init__(weight, bias, (Part("hidden", by_y.shape[0]), Part("cell", by_y.shape[0])), 1, 4)

    @classmethod
    def read(cls, module: nn.Module, weight: Weight, reverse: bool = False) -> list[CoRNN]:
        assert isinstance(module, CoRNNCell)
        found = (weight(name) for name in ("weight_ih", "bias", "weight_y", "weight_z"))
        return [cls(*found, (module.dt, module.gamma, module.eps))]  # type: ignore[arg-type]

    def roll(self, pre: Tensor, states: Tensor) -> CoValues:
        into, force = self.matrix.t(), torch.empty_like(pre[0])
        (ys, zs), dt = self.cut(states), self.dt
        for driven, before, y, z, y_after, z_after in zip(
            pre.unbind(), states.unbind(), ys.unbind(), zs.unbind(), ys[1:].unbind(), zs[1:].unbind(), strict=False
        ):
            torch.addmm(driven, before, into, out=driven)
            torch.tanh(driven, out=force)
            torch.mul(z, 1 - dt * self.eps, out=z_after).add_(force, alpha=dt).add_(y, alpha=-dt * self.gamma)
            torch.add(y, z_after, alpha=dt, out=y_after)
        return CoValues(pre, ys[:-1], zs[:-1])

    def factors(self, path: Trajectory, new: Buffers, change: str | None = None) -> CoFactors:
        return CoFactors(self.dt * tanh_slope(path.values.pre))

    def back(self, step: CoFactors, a: tuple[Tensor, ...], pre: Tensor, out: StateViews | None) -> None:
        a_z = torch.add(a[1], a[0], alpha=self.dt)
        torch.mul(a_z, step.force, out=pre)
        if out is not None:
            self._free(a[0], a_z, out.parts)
            for block, part in zip(self.matrix.chunk(2, 1), out.rows, strict=True):
                torch.addmm(part, rows(pre), block, out=part)

    def _free(self, a_y: Tensor, a_z: Tensor, out: tuple[Tensor, ...]) -> None:
        """The adjoint of the state before without the force."""
        torch.add(a_y, a_z, alpha=-self.dt * self.gamma, out=out[0])
        torch.mul(a_z, 1 - self.dt * self.eps, out=out[1])

    def forwards(self, step: CoFactors, v: tuple[Tensor, ...], driven: Tensor | float) -> tuple[Tensor, ...]:
        pre = driven + torch.cat(v, -1) @ self.matrix.t()
        z = v[1] + step.force * pre - self.dt * (self.gamma * v[0] + self.eps * v[1])
        return v[0] + self.dt * z, z

    def recurrent_inputs(self, path: Trajectory) -> dict[str, tuple[slice, Tensor]]:
        return {"weight_y": (slice(None), path.values.y), "weight_z": (slice(None), path.values.z)}

    def paths(self, step: CoFactors, a: StateViews, delta: Preactivations, above: Tensor | None) -> Paths:
        after = self._after(a, above)
        free = (torch.empty_like(after[0]), torch.empty_like(after[0]))
        self._free(after[0], after[1] + self.dt * after[0], free)
        return {"oscillation": free, "force": (delta.adjoint @ self.matrix).chunk(2, -1)}


class LEMValues(NamedTuple):
    """Preactivations (1, 2, z, y) [c, B, 4 H]; the gates p and q [c, B, 2 H]; the candidates; the state before, and z after,
    [c, B, H]."""

    pre: Tensor
    opened: Tensor
    into_z: Tensor
    into_y: Tensor
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
        super().__init__(weight, bias, (Part("hidden", by_z.shape[0]), Part("cell", by_z.shape[0])), 4, 10)

    @classmethod
    def read(cls, module: nn.Module, weight: Weight, reverse: bool = False) -> list[LEM]:
        assert isinstance(module, LEMCell)
        return [cls(*(weight(name) for name in ("weight_ih", "bias", "weight_y", "weight_z")), module.dt)]  # type: ignore[arg-type]

    def roll(self, pre: Tensor, states: Tensor) -> LEMValues:
        ys, zs = self.cut(states)
        H, dt, from_y, from_z = ys.shape[-1], self.dt, self.by_y.t(), self.by_z.t()
        opened, into_z, into_y = (pre.new_empty(*pre.shape[:2], width) for width in (2 * H, H, H))
        blocks = (pre[..., : 3 * H], pre[..., : 2 * H], pre[..., 2 * H : 3 * H], pre[..., 3 * H :])
        gates = (opened, *opened.chunk(2, -1), into_z, into_y)
        before, after = (ys, zs), (ys[1:], zs[1:])
        for three, two, third, fourth, both, p, q, to_z, to_y, y, z, y_after, z_after in zip(
            *(each.unbind() for each in (*blocks, *gates, *before, *after)), strict=False
        ):
            torch.addmm(three, y, from_y, out=three)
            torch.sigmoid(two, out=both)
            if dt != 1:
                both.mul_(dt)
            torch.tanh(third, out=to_z)
            torch.lerp(z, to_z, p, out=z_after)
            torch.addmm(fourth, z_after, from_z, out=fourth)
            torch.tanh(fourth, out=to_y)
            torch.lerp(y, to_y, q, out=y_after)
        return LEMValues(pre, opened, into_z, into_y, ys[:-1], zs[:-1], zs[1:])

    def factors(self, path: Trajectory, new: Buffers, change: str | None = None) -> LEMFactors:
        pre, opened, into_z, into_y, y, z, _ = path.values
        gates, candidate_z, candidate_y = pre.split([2 * y.shape[-1], y.shape[-1], y.shape[-1]], -1)
        p, q = opened.chunk(2, -1)
        p_slope, q_slope = torch.sigmoid(-gates).mul_(opened).chunk(2, -1)
        return LEMFactors(
            (into_y - y).mul_(q_slope),
            (into_z - z).mul_(p_slope),
            tanh_slope(candidate_y).mul_(q),
            tanh_slope(candidate_z).mul_(p),
            1 - q,
            1 - p,
        )

    def back(self, step: LEMFactors, a: tuple[Tensor, ...], pre: Tensor, out: StateViews | None) -> None:
        one, two, into_z, into_y = pre.chunk(4, -1)
        torch.mul(a[0], step.y_by_candidate, out=into_y)
        a_z = a[1] + (rows(into_y) @ self.by_z).view_as(a[1])
        torch.mul(a_z, step.z_by_one, out=one)
        torch.mul(a[0], step.y_by_two, out=two)
        torch.mul(a_z, step.z_by_candidate, out=into_z)
        if out is not None:
            self._kept(step, a[0], a_z, out.parts)
            three = rows(pre)[:, : self.by_y.shape[0]]
            torch.addmm(out.rows[0], three, self.by_y, out=out.rows[0])

    def _kept(self, step: LEMFactors, a_y: Tensor, a_z: Tensor, out: tuple[Tensor, ...]) -> None:
        """The adjoint of the state before without what y does to the preactivations."""
        torch.mul(a_y, step.y_kept, out=out[0])
        torch.mul(a_z, step.z_kept, out=out[1])

    def forwards(self, step: LEMFactors, v: tuple[Tensor, ...], driven: Tensor | float) -> tuple[Tensor, ...]:
        width = 3 * v[0].shape[-1]
        from_x = (driven[..., :width], driven[..., width:]) if isinstance(driven, Tensor) else (driven, driven)
        v_one, v_two, v_z = (from_x[0] + v[0] @ self.by_y.t()).chunk(3, -1)
        z = step.z_kept * v[1] + step.z_by_candidate * v_z + step.z_by_one * v_one
        v_y = from_x[1] + z @ self.by_z.t()
        return step.y_kept * v[0] + step.y_by_candidate * v_y + step.y_by_two * v_two, z

    def gates(self, path: Trajectory) -> list[Gate]:
        p, q = path.values.opened.chunk(2, -1)
        return [
            Gate("gate of z", p, torch.log1p(-p)),
            Gate("gate of y", q, torch.log1p(-q)),
            Gate("candidate of z", path.values.into_z.abs()),
            Gate("candidate of y", path.values.into_y.abs()),
        ]

    def recurrent_inputs(self, path: Trajectory) -> dict[str, tuple[slice, Tensor]]:
        H = path.values.y.shape[-1]
        return {"weight_y": (slice(0, 3 * H), path.values.y), "weight_z": (slice(3 * H, 4 * H), path.values.z_after)}

    def paths(self, step: LEMFactors, a: StateViews, delta: Preactivations, above: Tensor | None) -> Paths:
        after = self._after(a, above)
        into_y = delta.adjoint[..., -after[0].shape[-1] :] @ self.by_z  # of z after the step, by way of y's candidate
        carry = (after[0] * step.y_kept, after[1] * step.z_kept)
        through = delta.adjoint[..., : self.by_y.shape[0]] @ self.by_y
        return {"carry": carry, "candidates and gates": (through, into_y * step.z_kept)}
