"""Diagonal recurrences: s_t = d_t * s_{t-1} + b_t, with the decay factors d_t given, and b_t where the input's gradient is.

The step Jacobian is diag(d_t) whatever the input adds, so the factors are all that a profile by the state needs. LRU: d is its
constant complex eigenvalues (Orvieto et al. 2023). minGRU: d_t = 1 - z_t; minLSTM: d_t = f_t / (f_t + i_t) (Feng et al.
2024). Selective S6: d_t = exp(Delta_t A), its [D, N] states flattened (Gu and Dao 2023).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from rnnvg.bptt.segments import Coordinate, Linearization, Segment
from rnnvg.bptt.tensors import shape_of
from rnnvg.errors import InputError


@dataclass(frozen=True)
class Diagonal:
    """A recurrence whose step Jacobian is diagonal.

    Attributes:
        decay: turns the inputs into the per-step decay factors [T, B, N], real or complex; None where the inputs given
            to gradient_profile are those factors themselves.
        drive: turns the inputs into what each step adds to the state, [T, B, N]. With it a profile by the input is of
            x_t, through both; without it, of what a step adds. Both functions take each step on its own.

    >>> from rnnvg import gradient_profile
    >>> profile = gradient_profile(Diagonal(), torch.full((50, 1, 4), 0.5, dtype=torch.float64))
    >>> round(float(profile.log_gain()[0, 11, 0]) / 10, 6)
    -0.693147
    """

    decay: Callable[[Tensor], Tensor] | None = None
    drive: Callable[[Tensor], Tensor] | None = None

    def step(self, x: Tensor, state: Tensor) -> Tensor:
        """The state [B, N] after an input [B, I], where `drive` is there."""
        assert self.decay is not None
        assert self.drive is not None
        return self.decay(x.unsqueeze(0))[0] * state + self.drive(x.unsqueeze(0))[0]

    def driven(self, inputs: Tensor, factors: Tensor) -> Tensor | None:
        """What each step adds to the state, [T, B, N], checked; None without `drive`."""
        if self.drive is None:
            return None
        if self.decay is None:
            raise InputError("`drive` is given and `decay` is not; pass both as functions of the inputs.")
        with torch.no_grad():
            driven = self.drive(inputs)
        found = shape_of(driven)
        if found != list(factors.shape):
            raise InputError(f"`drive(inputs)` is {found}; return {list(factors.shape)}, as `decay` does.")
        if not bool(torch.isfinite(driven).all()):
            raise InputError("`drive(inputs)` holds a value that is not finite; pass finite inputs.")
        return driven.detach()

    def factors(self, inputs: Tensor) -> Tensor:
        """The decay factors [T, B, N] for `inputs`, checked."""
        name = "inputs" if self.decay is None else "decay(inputs)"
        with torch.no_grad():
            factors = inputs if self.decay is None else self.decay(inputs)
        shape = shape_of(factors)
        if isinstance(shape, str) or len(shape) != 3 or 0 in shape:
            raise InputError(f"`{name}` must be the decay factors [T, B, N], none of them 0; got {shape}.")
        if not (factors.is_floating_point() or factors.is_complex()):
            raise InputError(f"`{name}` has dtype {factors.dtype}; pass decay factors in float32, float64 or complex.")
        if factors.shape[:2] != inputs.shape[:2]:
            raise InputError(
                f"`decay` turned {list(inputs.shape[:2])} steps and sequences into {list(factors.shape[:2])}; return a factor "
                "for every step and sequence, [T, B, N]."
            )
        if factors.device.type == "meta" or not bool(torch.isfinite(factors).all()):
            raise InputError(f"`{name}` holds a value that is not finite; pass finite decay factors.")
        return factors.detach()


class DiagonalLinearization(Linearization):
    """diag(d_t) at every step; `state` plays no part in the Jacobian, only in what the input does to the decay."""

    diagonal = True

    def __init__(self, recurrence: Diagonal, inputs: Tensor, state: Tensor | None = None) -> None:
        factors = recurrence.factors(inputs)
        n_steps, batch, size = factors.shape
        columns = slice(0, size)
        super().__init__(
            n_steps=n_steps,
            batch=batch,
            coordinates=(Coordinate(0, "hidden", columns),),
            output=columns,
            n_inputs=size if recurrence.drive is None else inputs[0, 0].numel(),
            like=factors,
        )
        if state is not None and tuple(state.shape) != (batch, size):
            raise InputError(f"`state` has shape {list(state.shape)}; pass [{batch}, {size}] or None.")
        self._segment = DiagonalSegment(recurrence, inputs.detach(), factors, state)
        self.bounds = [(0, n_steps)]
        if recurrence.drive is None:
            self.input_note = "The input is what a step adds to the state."

    def segment(self, index: int, reuse: bool = False) -> DiagonalSegment:
        return self._segment


class DiagonalSegment(Segment):
    """Elementwise products with the decay factors [T, B, N]."""

    start = 0

    def __init__(self, recurrence: Diagonal, inputs: Tensor, factors: Tensor, state: Tensor | None) -> None:
        self.stop = factors.shape[0]
        self._recurrence, self._inputs, self._factors = recurrence, inputs, factors
        self._conjugate = factors.conj()
        self._pulled: tuple[int, Tensor] | None = None
        driven = recurrence.driven(inputs, factors)
        self._before = None if driven is None else _states_before(factors, driven, state)

    def decays(self) -> Tensor:
        return self._factors

    def pull(self, t: int, a: Tensor, out: Tensor, inputs: bool = False) -> None:
        self._pulled = (t, a)
        torch.mul(a, self._conjugate[t], out=out)

    def input_adjoint(self) -> Tensor:
        assert self._pulled is not None
        t, a = self._pulled
        return self.inputs_of(t, a.unsqueeze(0))[0]

    def inputs_of(self, first: int, vectors: Tensor) -> Tensor:
        if self._before is None:
            return vectors
        steps = slice(first, first + len(vectors))
        decay, drive = self._recurrence.decay, self._recurrence.drive
        assert decay is not None
        assert drive is not None
        with torch.enable_grad():
            x = self._inputs[steps].clone().requires_grad_()
            after, added = decay(x), drive(x)
        found = [after, added]
        if not torch.allclose(after.detach(), self._factors[steps], rtol=1e-4, atol=1e-6):
            raise InputError(
                "`decay` gives other factors for a few steps than for all; make it take each step on its own."
            )
        through = [index for index, each in enumerate(found) if each.requires_grad]
        rows: list[Tensor] = []
        for a in vectors.flip(0).unbind(1):
            into = [self._before[steps].conj() * a, a]
            grads = (
                torch.autograd.grad(
                    [found[index] for index in through],
                    x,
                    [into[index].to(found[index].dtype) for index in through],
                    retain_graph=True,
                    allow_unused=True,
                )
                if through
                else (None,)
            )
            rows.append(torch.zeros_like(x) if grads[0] is None else grads[0])
        return torch.stack(rows, 1).flip(0).flatten(3)

    def push(self, t: int, v: Tensor) -> Tensor:
        return v * self._factors[t]


def _states_before(factors: Tensor, driven: Tensor, state: Tensor | None) -> Tensor:
    """s_{t-1} of every step, [T, B, N]."""
    states = driven.new_zeros(factors.shape, dtype=torch.promote_types(factors.dtype, driven.dtype))
    if state is not None:
        states[0] = state
    for t in range(len(factors) - 1):
        states[t + 1] = factors[t] * states[t] + driven[t]
    return states
