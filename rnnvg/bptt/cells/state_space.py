"""Linear state spaces with a constant diagonal: LRU, S5 and S4D. The state is complex; the outside reads it whole.

    LRU    s' = l s + g B x                  l = exp(-exp(nu) + i exp(theta)), g = exp(gamma)       Orvieto et al. 2023
    S5     s' = L s + (L - 1) / A B x        L = exp(A dt), A = -exp(re) + i im                     Smith et al. 2023
    S4D    the same for each input channel on its own, B = 1                                        Gu et al. 2022

Beside them the LRU in real coordinates, the real parts of H complex units, then the imaginary ones: the same numbers, for a
network whose state and covectors are real (g = exp(gamma), l = l_re + i l_im):

    x' = l_re x - l_im y + g b_x u      y' = l_im x + l_re y + g b_y u

Every equation of them. Axes: c steps of a segment, B sequences, I input, N complex state coordinates, n adjoints.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rnnvg.bptt.cells.linear import ElementwiseCell, LinearCell, Pulled, initial, ones
from rnnvg.bptt.cells.parts import Gate, StateViews, Trajectory


class LRUCell(nn.Module):
    """One step of a linear recurrent unit: cell(x [B, I], s [B, N] complex) -> s. Eigenvalues uniform on a ring."""

    def __init__(self, input_size: int, state_size: int, r_min: float = 0.0, r_max: float = 1.0) -> None:
        super().__init__()
        self.input_size, self.state_size = input_size, state_size
        u = torch.rand(state_size) * (r_max**2 - r_min**2) + r_min**2
        nu = -0.5 * u.clamp(1e-6, 1 - 1e-6).log()
        self.nu_log = nn.Parameter(nu.log())
        self.theta_log = nn.Parameter((2 * math.pi * torch.rand(state_size).clamp_min(1e-3)).log())
        self.gamma_log = nn.Parameter(0.5 * torch.log1p(-torch.exp(-2 * nu)))
        scale = 1 / math.sqrt(2 * input_size)
        self.b_re = nn.Parameter(torch.randn(state_size, input_size) * scale)
        self.b_im = nn.Parameter(torch.randn(state_size, input_size) * scale)

    def forward(self, x: Tensor, s: Tensor | None = None) -> Tensor:
        b = torch.complex(self.b_re, self.b_im)
        decay = torch.exp(torch.complex(-self.nu_log.exp(), self.theta_log.exp()))
        return decay * initial(s, x, self.state_size, b.dtype) + self.gamma_log.exp() * (x.to(b.dtype) @ b.T)


class S5Cell(nn.Module):
    """One step of a diagonal S5 layer by zero-order hold: cell(x [B, I], s [B, N] complex) -> s. A as in S4D-Lin."""

    def __init__(self, input_size: int, state_size: int, dt_min: float = 1e-3, dt_max: float = 1e-1) -> None:
        super().__init__()
        self.input_size, self.state_size = input_size, state_size
        self.re_log = nn.Parameter(torch.full((state_size,), math.log(0.5)))
        self.im = nn.Parameter(math.pi * torch.arange(state_size, dtype=torch.get_default_dtype()))
        self.step_log = nn.Parameter(_steps(state_size, dt_min, dt_max))
        scale = 1 / math.sqrt(2 * input_size)
        self.b_re = nn.Parameter(torch.randn(state_size, input_size) * scale)
        self.b_im = nn.Parameter(torch.randn(state_size, input_size) * scale)

    def forward(self, x: Tensor, s: Tensor | None = None) -> Tensor:
        a = torch.complex(-self.re_log.exp(), self.im)
        decay = torch.exp(a * self.step_log.exp())
        b = torch.complex(self.b_re, self.b_im)
        driven = (decay - 1) / a * (x.to(b.dtype) @ b.T)
        return decay * initial(s, x, self.state_size, b.dtype) + driven


class S4DCell(nn.Module):
    """One step of S4D: N complex modes for each of the I channels: cell(x [B, I], s [B, I N] complex) -> s."""

    def __init__(self, input_size: int, state_size: int, dt_min: float = 1e-3, dt_max: float = 1e-1) -> None:
        super().__init__()
        self.input_size, self.state_size = input_size, state_size
        self.re_log = nn.Parameter(torch.full((input_size, state_size), math.log(0.5)))
        lin = math.pi * torch.arange(state_size, dtype=torch.get_default_dtype())
        self.im = nn.Parameter(lin.repeat(input_size, 1))
        self.step_log = nn.Parameter(_steps(input_size, dt_min, dt_max))

    def forward(self, x: Tensor, s: Tensor | None = None) -> Tensor:
        a = torch.complex(-self.re_log.exp(), self.im)
        decay = torch.exp(a * self.step_log.exp().unsqueeze(-1))
        s = torch.unflatten(initial(s, x, a.numel(), a.dtype), -1, a.shape)
        return (decay * s + (decay - 1) / a * x.unsqueeze(-1)).flatten(-2)


def _steps(n: int, dt_min: float, dt_max: float) -> Tensor:
    return torch.rand(n) * (math.log(dt_max) - math.log(dt_min)) + math.log(dt_min)


class Values(NamedTuple):
    """The state before; the decay and the drive, complex [c, B, N]; the decay is one row seen at every step."""

    before: Tensor
    decay: Tensor
    drive: Tensor


class _StateSpace(ElementwiseCell):
    """s' = decay s + into x, with a decay [N] and a matrix [N, I] that do not depend on the input."""

    carry_gate = "decay"
    decay: Tensor
    into: Tensor

    def __init__(self, decay: Tensor, into: Tensor, like: Tensor) -> None:
        self.decay, self.into = decay, into.to(decay.dtype)
        # The same matrix between real inputs and real and imaginary parts side by side, [2 N, I].
        self.sides = torch.view_as_real(self.into).transpose(1, 2).flatten(0, 1)
        size = decay.shape[0]
        super().__init__(size, into.shape[1], like, 4 * size, 6 * size)

    @property
    def state_dtype(self) -> torch.dtype:
        return self.decay.dtype

    def drive(self, x: Tensor) -> Values:
        driven = torch.view_as_complex(torch.unflatten(x @ self.sides.T, -1, (-1, 2)))
        return Values(driven, self.decay.expand_as(driven), driven)

    def driven(self, values: Values) -> Tensor:
        return values.drive

    def of_input(self, step: Values, a: Tensor) -> Tensor:
        return torch.view_as_real(a.resolve_conj()).flatten(-2) @ self.sides

    def decays(self, values: Values) -> Tensor:
        return values.decay[:, :1]

    def to_input(self, step: Values, v_x: Tensor) -> Tensor:
        return v_x.to(self.into.dtype) @ self.into.T

    def gates(self, path: Trajectory) -> list[Gate]:
        decay = path.values.decay.abs()
        return [Gate("decay", decay, decay.log())]

    def _real(self, adjoint: Tensor, derivative: Tensor) -> Tensor:
        return (derivative.conj() * adjoint).real


class LRU(_StateSpace):
    modules = (LRUCell,)

    @classmethod
    def read(cls, module: nn.Module, weights: Mapping[str, Tensor], reverse: bool = False) -> list[LRU]:
        nu, theta, gamma, re, im = (weights[name] for name in ("nu_log", "theta_log", "gamma_log", "b_re", "b_im"))
        decay = torch.exp(torch.complex(-nu.exp(), theta.exp()))
        cell = cls(decay, gamma.exp().unsqueeze(1) * torch.complex(re, im), nu)
        cell.nu, cell.theta, cell.gamma = nu.exp(), theta.exp(), gamma.exp()
        return [cell]

    nu: Tensor
    theta: Tensor
    gamma: Tensor

    def contributions(
        self, x: Tensor, path: Trajectory, a: StateViews, delta: Pulled, above: Tensor | None
    ) -> dict[str, tuple[Tensor, Tensor]]:
        step, adjoint = delta.step, delta.a[0]
        kept, one = self._real(adjoint, self.decay * step.before), ones(x)
        turned = self._real(adjoint, 1j * self.decay * step.before)
        return {
            "nu_log": (-self.nu * kept, one),
            "theta_log": (self.theta * turned, one),
            "gamma_log": (self._real(adjoint, step.drive), one),
            "b_re": (self.gamma * adjoint.real, x),
            "b_im": (self.gamma * adjoint.imag, x),
        }


class _Held(_StateSpace):
    """ds/dt = a s + b x with x held constant over a step of length dt: a and dt [N], b [N, I]."""

    def __init__(self, a: Tensor, dt: Tensor, b: Tensor, like: Tensor) -> None:
        decay = torch.exp(a * dt)
        self.a, self.dt, self.hold = a, dt, (decay - 1) / a
        super().__init__(decay, self.hold.unsqueeze(1) * b, like)

    def _of_a_and_dt(
        self, x: Tensor, step: Values, adjoint: Tensor, driven: Tensor
    ) -> dict[str, tuple[Tensor, Tensor]]:
        """Contributions to both parts of a, and to the logarithm of dt mode by mode; `driven` is b x."""
        one = ones(x)
        by_a = self.dt * self.decay * step.before + (self.dt * self.decay - self.hold) / self.a * driven
        by_dt = self.a * self.decay * step.before + self.decay * driven
        return {
            "re_log": (self._real(adjoint, by_a) * self.a.real, one),
            "im": (self._real(adjoint, 1j * by_a), one),
            "step_log": (self._real(adjoint, by_dt) * self.dt, one),
        }


class S5(_Held):
    modules = (S5Cell,)

    @classmethod
    def read(cls, module: nn.Module, weights: Mapping[str, Tensor], reverse: bool = False) -> list[S5]:
        re, im, step, b_re, b_im = (weights[name] for name in ("re_log", "im", "step_log", "b_re", "b_im"))
        return [cls(torch.complex(-re.exp(), im), step.exp(), torch.complex(b_re, b_im), re)]

    def contributions(
        self, x: Tensor, path: Trajectory, a: StateViews, delta: Pulled, above: Tensor | None
    ) -> dict[str, tuple[Tensor, Tensor]]:
        step, adjoint = delta.step, delta.a[0]
        into = self.hold.conj() * adjoint
        found = self._of_a_and_dt(x, step, adjoint, step.drive / self.hold)
        return found | {"b_re": (into.real, x), "b_im": (into.imag, x)}


class S4D(_Held):
    modules = (S4DCell,)
    modes: int

    @classmethod
    def read(cls, module: nn.Module, weights: Mapping[str, Tensor], reverse: bool = False) -> list[S4D]:
        re, im, step = (weights[name] for name in ("re_log", "im", "step_log"))
        channels, modes = re.shape
        a = torch.complex(-re.exp(), im).flatten()
        dt = step.exp().repeat_interleave(modes)
        channel = torch.eye(channels, dtype=a.dtype, device=a.device).repeat_interleave(modes, 0)
        cell = cls(a, dt, channel, re)
        cell.modes = modes
        return [cell]

    def contributions(
        self, x: Tensor, path: Trajectory, a: StateViews, delta: Pulled, above: Tensor | None
    ) -> dict[str, tuple[Tensor, Tensor]]:
        found = self._of_a_and_dt(x, delta.step, delta.a[0], x.repeat_interleave(self.modes, -1))
        by_mode, one = found["step_log"]
        return found | {"step_log": (torch.unflatten(by_mode, -1, (-1, self.modes)).sum(-1), one)}


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


class RotationValues(NamedTuple):
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

    def drive(self, x: Tensor) -> RotationValues:
        driven = F.linear(x, self.into)
        return RotationValues(driven, driven)

    def advance(self, step: RotationValues, s: Tensor) -> Tensor:
        return self.pushed(step, s) + step.driven

    def pushed(self, step: RotationValues, v: Tensor) -> Tensor:
        x, y = v.chunk(2, -1)
        return torch.cat([self.re * x - self.im * y, self.im * x + self.re * y], -1)

    def carried(self, step: RotationValues, a: Tensor) -> Tensor:
        x, y = a.chunk(2, -1)
        return torch.cat([self.re * x + self.im * y, self.re * y - self.im * x], -1)

    def of_input(self, step: RotationValues, a: Tensor) -> Tensor:
        return a @ self.into

    def to_input(self, step: RotationValues, v_x: Tensor) -> Tensor:
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
