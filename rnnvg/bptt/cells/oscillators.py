"""Recurrences from discretised differential equations: coRNN and LEM (Rusch and Mishra 2021; Rusch et al. 2022).

    coRNN    z' = z + dt (tanh(W y + Wz z + V x + b) - gamma y - eps z),  y' = y + dt z'
    LEM      z' = (1 - p) z + p tanh(Wz y + Vz x + bz)         p = dt sigmoid(W1 y + V1 x + b1)
             y' = (1 - q) y + q tanh(Wy z' + Vy x + by)        q = dt sigmoid(W2 y + V2 x + b2)

The state is (y, z); y is what the outside reads. Every equation of them.
Axes: c steps of a segment, B sequences, I input, H hidden, n adjoints.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rnnvg.bptt.cells.cell import Paths
from rnnvg.bptt.cells.parts import Buffers, Gate, Part, StateViews, Trajectory, slope_of_tanh
from rnnvg.bptt.cells.preactivated import PreactivatedCell, Preactivations, as_rows, blocks, tanh_slope

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
    """The preactivation, [c, B, H]."""

    pre: Tensor


class CoFactors(NamedTuple):
    """dt tanh' of the preactivation, [c, B, H]."""

    force: Tensor


class CoRNN(PreactivatedCell):
    modules = (CoRNNCell,)

    def __init__(self, weight: Tensor, bias: Tensor, by_y: Tensor, by_z: Tensor, numbers: tuple[float, ...]) -> None:
        self.matrix, (self.dt, self.gamma, self.eps) = torch.cat([by_y, by_z], 1), numbers
        self.z_kept = weight.new_tensor(1 - self.dt * self.eps)  # a tensor, which a step multiplies by in half the time
        super().__init__(weight, bias, (Part("hidden", by_y.shape[0]), Part("cell", by_y.shape[0])), 1, 3)

    @classmethod
    def read(cls, module: nn.Module, weights: Mapping[str, Tensor], reverse: bool = False) -> list[CoRNN]:
        assert isinstance(module, CoRNNCell)
        into, bias, by_y, by_z = (weights[name] for name in ("weight_ih", "bias", "weight_y", "weight_z"))
        return [cls(into, bias, by_y, by_z, (module.dt, module.gamma, module.eps))]

    def roll(self, pre: Tensor, states: Tensor) -> CoValues:
        into, force, dt = self.matrix.t().contiguous(), torch.empty_like(pre[0]), self.dt
        kept, pulled = self.z_kept, -dt * self.gamma
        whole, y, z = (each.unbind() for each in (states, *self.cut(states)))
        for driven, state, y_t, z_t, y_next, z_next in zip(pre.unbind(), whole, y, z, y[1:], z[1:], strict=False):
            torch.addmm(driven, state, into, out=driven)
            torch.tanh(driven, out=force)
            torch.mul(z_t, kept, out=z_next)
            torch.add(z_next, force, alpha=dt, out=z_next)
            torch.add(z_next, y_t, alpha=pulled, out=z_next)
            torch.add(y_t, z_next, alpha=dt, out=y_next)
        return CoValues(pre)

    def factors(self, path: Trajectory, new: Buffers, change: str | None = None) -> CoFactors:
        return CoFactors(self.dt * tanh_slope(path.values.pre))

    def cut_adjoint(self, a: Tensor) -> tuple[Tensor, ...]:
        """All as rows; y and z."""
        return as_rows(a), *self.cut(a)

    def cut_pre(self, pre: Tensor) -> tuple[Tensor, ...]:
        return as_rows(pre), pre

    def gate(self, step: CoFactors, a: tuple[Tensor, ...], pre: tuple[Tensor, ...], out: tuple[Tensor, ...]) -> None:
        (_, a_y, a_z), (_, before_y, before_z) = a, out
        torch.add(a_z, a_y, alpha=self.dt, out=before_z)
        torch.mul(before_z, step.force, out=pre[1])
        torch.add(a_y, before_z, alpha=-self.dt * self.gamma, out=before_y)

    def carry(self, step: CoFactors, pre: tuple[Tensor, ...], out: tuple[Tensor, ...]) -> None:
        torch.mul(out[2], self.z_kept, out=out[2])
        torch.addmm(out[0], pre[0], self.matrix, out=out[0])

    def forwards(self, step: CoFactors, v: tuple[Tensor, ...], driven: Tensor | float) -> tuple[Tensor, ...]:
        pre = driven + torch.cat(v, -1) @ self.matrix.t()
        z = v[1] + step.force * pre - self.dt * (self.gamma * v[0] + self.eps * v[1])
        return v[0] + self.dt * z, z

    def recurrent_inputs(self, path: Trajectory) -> dict[str, tuple[slice, Tensor]]:
        y, z = path.states
        return {"weight_y": (slice(None), y[:-1]), "weight_z": (slice(None), z[:-1])}

    def paths(self, step: CoFactors, a: StateViews, delta: Preactivations, above: Tensor | None) -> Paths:
        after = self._after(a, above)
        a_z = after[1] + self.dt * after[0]
        free = (after[0] - self.dt * self.gamma * a_z, (1 - self.dt * self.eps) * a_z)
        return {"oscillation": free, "force": (delta.adjoint @ self.matrix).chunk(2, -1)}


class LEMValues(NamedTuple):
    """Preactivations (1, 2, z, y) [c, B, 4 H]."""

    pre: Tensor


class LEMFactors(NamedTuple):
    """Derivatives. Of y by the preactivations (2, y) and of z by (1, z), [c, B, 2, H]; of each by itself, [c, B, 1, H]."""

    y_by: Tensor
    z_by: Tensor
    y_kept: Tensor
    z_kept: Tensor


class LEM(PreactivatedCell):
    modules = (LEMCell,)

    def __init__(self, weight: Tensor, bias: Tensor, by_y: Tensor, by_z: Tensor, dt: float) -> None:
        self.by_y, self.by_z, self.dt = by_y, by_z, dt
        super().__init__(weight, bias, (Part("hidden", by_z.shape[0]), Part("cell", by_z.shape[0])), 4, 6)

    @classmethod
    def read(cls, module: nn.Module, weights: Mapping[str, Tensor], reverse: bool = False) -> list[LEM]:
        assert isinstance(module, LEMCell)
        into, bias, by_y, by_z = (weights[name] for name in ("weight_ih", "bias", "weight_y", "weight_z"))
        return [cls(into, bias, by_y, by_z, module.dt)]

    def roll(self, pre: Tensor, states: Tensor) -> LEMValues:
        H, dt = self.by_z.shape[0], None if self.dt == 1 else pre.new_tensor(self.dt)
        from_y, from_z = self.by_y.t().contiguous(), self.by_z.t().contiguous()
        # Of one step: what follows from the preactivations costs less to compute again for all steps than to keep here.
        opened, candidate = pre.new_empty(pre.shape[1], 2 * H), pre.new_empty(pre.shape[1], H)
        p, q = opened.chunk(2, -1)
        inside = (pre[..., : 3 * H], pre[..., : 2 * H], pre[..., 2 * H : 3 * H], pre[..., 3 * H :])
        y, z = (each.unbind() for each in self.cut(states))
        for three, two, third, fourth, y_t, z_t, y_next, z_next in zip(
            *(each.unbind() for each in inside), y, z, y[1:], z[1:], strict=False
        ):
            torch.addmm(three, y_t, from_y, out=three)
            torch.sigmoid(two, out=opened)
            if dt is not None:
                torch.mul(opened, dt, out=opened)
            torch.tanh(third, out=candidate)
            torch.lerp(z_t, candidate, p, out=z_next)
            torch.addmm(fourth, z_next, from_z, out=fourth)
            torch.tanh(fourth, out=candidate)
            torch.lerp(y_t, candidate, q, out=y_next)
        return LEMValues(pre)

    def _opened(self, pre: Tensor) -> Tensor:
        """The gates p and q, [..., 2, H]."""
        opened = torch.unflatten(torch.sigmoid(pre[..., : 2 * self.by_z.shape[0]]), -1, (2, -1))
        return opened if self.dt == 1 else opened.mul_(self.dt)

    def factors(self, path: Trajectory, new: Buffers, change: str | None = None) -> LEMFactors:
        (pre,), (y, z) = path.values, path.states
        steps, batch, H = y[1:].shape
        y_by, z_by, kept = (blocks(new, name, pre, steps, batch, 2, H) for name in ("y by", "z by", "kept"))
        (by_2, by_y), (by_1, by_z), (z_kept, y_kept) = (each.unbind(-2) for each in (y_by, z_by, kept))
        one, two, into_z, into_y = pre.chunk(4, -1)
        p, q = self._opened(pre).unbind(-2)
        for by_gate, by_candidate, its_kept, gate, share, candidate, before in (
            (by_1, by_z, z_kept, one, p, into_z, z[:-1]),
            (by_2, by_y, y_kept, two, q, into_y, y[:-1]),
        ):
            torch.sub(1, share, out=its_kept)
            torch.tanh(candidate, out=by_gate).sub_(before)
            by_gate.mul_(torch.sigmoid(-gate)).mul_(share)
            slope_of_tanh(candidate, by_candidate).mul_(share)
        return LEMFactors(y_by, z_by, kept[..., 1:, :], kept[..., :1, :])

    def cut_adjoint(self, a: Tensor) -> tuple[Tensor, ...]:
        """y and z with an axis for two preactivations, and each as rows."""
        return *self.cut(a.unsqueeze(-2)), *self.cut(as_rows(a))

    def cut_pre(self, pre: Tensor) -> tuple[Tensor, ...]:
        """(2, y) and (1, z); as rows (1, 2, z), and y."""
        four, rows, width = torch.unflatten(pre, -1, (4, -1)), as_rows(pre), self.by_y.shape[0]
        return four[..., 1::2, :], four[..., 0:3:2, :], rows[..., :width], rows[..., width:]

    def gate(self, step: LEMFactors, a: tuple[Tensor, ...], pre: tuple[Tensor, ...], out: tuple[Tensor, ...]) -> None:
        a_y, _, _, a_z_rows = a
        before_y, after_z, _, after_z_rows = out
        torch.mul(a_y, step.y_by, out=pre[0])
        torch.mul(a_y, step.y_kept, out=before_y)
        torch.addmm(a_z_rows, pre[3], self.by_z, out=after_z_rows)  # y's candidate reads z after the step
        torch.mul(after_z, step.z_by, out=pre[1])

    def carry(self, step: LEMFactors, pre: tuple[Tensor, ...], out: tuple[Tensor, ...]) -> None:
        torch.mul(out[1], step.z_kept, out=out[1])
        torch.addmm(out[2], pre[2], self.by_y, out=out[2])

    def forwards(self, step: LEMFactors, v: tuple[Tensor, ...], driven: Tensor | float) -> tuple[Tensor, ...]:
        width = 3 * v[0].shape[-1]
        from_x = (driven[..., :width], driven[..., width:]) if isinstance(driven, Tensor) else (driven, driven)
        v_one, v_two, v_z = (from_x[0] + v[0] @ self.by_y.t()).chunk(3, -1)
        z = step.z_kept.squeeze(-2) * v[1] + (step.z_by * torch.stack([v_one, v_z], -2)).sum(-2)
        v_y = from_x[1] + z @ self.by_z.t()
        return step.y_kept.squeeze(-2) * v[0] + (step.y_by * torch.stack([v_two, v_y], -2)).sum(-2), z

    def gates(self, path: Trajectory) -> list[Gate]:
        pre = path.values.pre
        (p, q), (into_z, into_y) = self._opened(pre).unbind(-2), pre.chunk(4, -1)[2:]
        return [
            Gate("gate of z", p, torch.log1p(-p)),
            Gate("gate of y", q, torch.log1p(-q)),
            Gate("candidate of z", into_z.tanh().abs_()),
            Gate("candidate of y", into_y.tanh().abs_()),
        ]

    def recurrent_inputs(self, path: Trajectory) -> dict[str, tuple[slice, Tensor]]:
        y, z = path.states
        H = y.shape[-1]
        return {"weight_y": (slice(0, 3 * H), y[:-1]), "weight_z": (slice(3 * H, 4 * H), z[1:])}

    def paths(self, step: LEMFactors, a: StateViews, delta: Preactivations, above: Tensor | None) -> Paths:
        after = self._after(a, above)
        into_y = delta.adjoint[..., -after[0].shape[-1] :] @ self.by_z  # of z after the step, by way of y's candidate
        z_kept = step.z_kept.squeeze(-2)
        carry = (after[0] * step.y_kept.squeeze(-2), after[1] * z_kept)
        through = delta.adjoint[..., : self.by_y.shape[0]] @ self.by_y
        return {"carry": carry, "candidates and gates": (through, into_y * z_kept)}
