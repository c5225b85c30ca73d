"""A linear recurrent unit in real coordinates: the real parts of H complex units, then the imaginary ones (LRU, Orvieto 2023).

    x' = l_re x - l_im y + g b_x u      y' = l_im x + l_re y + g b_y u      l = exp(-exp(nu) + i exp(theta)), g = exp(gamma)

The same numbers as `state_space.LRU` has, for a network whose state and covectors are real. Every equation of it.
Axes: c steps of a segment, B sequences, I input, H units of two coordinates, n adjoints.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rnnvg.bptt.cells.linear import LinearCell, Pulled, initial, ones
from rnnvg.bptt.cells.parts import Gate, StateViews, Trajectory


class RotationCell(nn.Module):
    """One step: cell(u [B, I], s [B, 2 H]) -> s, over parameters that it is given: nu, theta, gamma [H] and b [2 H, I]."""

    def __init__(self, nu: nn.Parameter, theta: nn.Parameter, gamma: nn.Parameter, b: nn.Parameter) -> None:
        super().__init__()
        self.nu, self.theta, self.gamma, self.b = nu, theta, gamma, b
        self.input_size, self.hidden_size = b.shape[1], b.shape[0]

    def forward(self, u: Tensor, s: Tensor | None = None) -> Tensor:
        re, im = eigenvalues(self.nu, self.theta)
        x, y = initial(s, u, self.hidden_size).chunk(2, -1)
        return F.linear(u, self.b) * self.gamma.exp().repeat(2) + torch.cat([re * x - im * y, im * x + re * y], -1)


def eigenvalues(nu: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
    """Real and imaginary parts, [H] each."""
    modulus, phase = torch.exp(-nu.exp()), theta.exp()
    return modulus * phase.cos(), modulus * phase.sin()


class Values(NamedTuple):
    """The state before and what the input adds to it, [c, B, 2 H]."""

    before: Tensor
    driven: Tensor


class Rotations(LinearCell):
    """Its Jacobian turns and shrinks each pair of coordinates."""

    modules = (RotationCell,)
    names = ("nu", "theta", "gamma", "b")
    carry_gate = "decay"

    def __init__(self, nu: Tensor, theta: Tensor, gamma: Tensor, b: Tensor) -> None:
        self.re, self.im = eigenvalues(nu, theta)
        self.nu, self.theta, self.gain = nu.exp(), theta.exp(), gamma.exp().repeat(2)
        self.into = self.gain.unsqueeze(1) * b
        super().__init__(b.shape[0], b.shape[1], b)

    def drive(self, x: Tensor) -> Values:
        driven = F.linear(x, self.into)
        return Values(driven, driven)

    def advance(self, step: Values, s: Tensor) -> Tensor:
        return self.pushed(step, s) + step.driven

    def pushed(self, step: Values, v: Tensor) -> Tensor:
        x, y = v.chunk(2, -1)
        return torch.cat([self.re * x - self.im * y, self.im * x + self.re * y], -1)

    def carried(self, step: Values, a: Tensor) -> Tensor:
        x, y = a.chunk(2, -1)
        return torch.cat([self.re * x + self.im * y, self.re * y - self.im * x], -1)

    def of_input(self, step: Values, a: Tensor) -> Tensor:
        return a @ self.into

    def to_input(self, step: Values, v_x: Tensor) -> Tensor:
        return F.linear(v_x, self.into)

    def gates(self, path: Trajectory) -> list[Gate]:
        shape = path.values.driven.shape
        return [Gate("decay", torch.exp(-self.nu).repeat(2).expand(shape), (-self.nu).repeat(2).expand(shape))]

    def contributions(
        self, x: Tensor, path: Trajectory, a: StateViews, delta: Pulled, above: Tensor | None
    ) -> dict[str, tuple[Tensor, Tensor]]:
        step, one = delta.step, ones(x)
        kept_x, kept_y = self.pushed(step, step.before).chunk(2, -1)
        a_x, a_y = delta.a[0].chunk(2, -1)
        by_gamma = torch.unflatten(step.driven * delta.a[0], -1, (2, -1)).sum(-2)
        return {
            "nu": (-self.nu * (kept_x * a_x + kept_y * a_y), one),
            "theta": (self.theta * (kept_x * a_y - kept_y * a_x), one),
            "gamma": (by_gamma, one),
            "b": (self.gain * delta.a[0], x),
        }
