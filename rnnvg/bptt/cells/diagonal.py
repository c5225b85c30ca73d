"""Diagonal recurrences: s_t = d_t * s_{t-1} + (something of x_t), with the decay factors d_t given.

The step Jacobian is diag(d_t) whatever the input adds, so the factors are all that the analysis needs. LRU: d is its
constant complex eigenvalues (Orvieto et al. 2023). minGRU: d_t = 1 - z_t; minLSTM: d_t = f_t / (f_t + i_t) (Feng et al.
2024). Selective S6: d_t = exp(Delta_t A), its [D, N] states flattened (Gu and Dao 2023).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from rnnvg.bptt.segments import Coordinate, Linearization, Segment
from rnnvg.errors import InputError


@dataclass(frozen=True)
class Diagonal:
    """A recurrence whose step Jacobian is diagonal.

    Attributes:
        decay: turns the inputs into the per-step decay factors [T, B, N], real or complex; None where the inputs given
            to gradient_profile are those factors themselves.

    >>> from rnnvg import gradient_profile
    >>> profile = gradient_profile(Diagonal(), torch.full((50, 1, 4), 0.5, dtype=torch.float64))
    >>> round(float(profile.log_gain()[0, 11, 0]) / 10, 6)
    -0.693147
    """

    decay: Callable[[Tensor], Tensor] | None = None

    def factors(self, inputs: Tensor) -> Tensor:
        """The decay factors [T, B, N] for `inputs`, checked."""
        name = "inputs" if self.decay is None else "decay(inputs)"
        with torch.no_grad():
            factors = inputs if self.decay is None else self.decay(inputs)
        if not isinstance(factors, Tensor) or factors.ndim != 3 or 0 in factors.shape:
            shape = list(factors.shape) if isinstance(factors, Tensor) else type(factors).__name__
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
    """diag(d_t) at every step; `state` plays no part in the Jacobian and is only checked."""

    def __init__(self, factors: Tensor, state: Tensor | None = None) -> None:
        n_steps, batch, size = factors.shape
        columns = slice(0, size)
        super().__init__(
            n_steps=n_steps,
            batch=batch,
            coordinates=(Coordinate(0, "hidden", columns),),
            output=columns,
            n_inputs=None,
            like=factors,
        )
        if state is not None and tuple(state.shape) != (batch, size):
            raise InputError(f"`state` has shape {list(state.shape)}; pass [{batch}, {size}] or None.")
        self._factors = factors
        self.bounds = [(0, n_steps)]

    def segment(self, index: int, reuse: bool = False) -> DiagonalSegment:
        return DiagonalSegment(self._factors)


class DiagonalSegment(Segment):
    """Elementwise products with the decay factors [T, B, N]."""

    start = 0

    def __init__(self, factors: Tensor) -> None:
        self.stop = factors.shape[0]
        self._factors = factors
        self._conjugate = factors.conj()

    def pull(self, t: int, a: Tensor, out: Tensor, inputs: bool = False) -> None:
        torch.mul(a, self._conjugate[t], out=out)

    def input_adjoint(self) -> Tensor:
        raise InputError(
            '`wrt` is "input", but a diagonal recurrence is given by its decay factors alone; pass "state".'
        )

    def push(self, t: int, v: Tensor) -> Tensor:
        return v * self._factors[t]
