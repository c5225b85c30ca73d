"""The adjoint recursion where every step Jacobian is diagonal: each coordinate is a product of its own decay factors.

    delta(S, k)_i = conj(d_{S-k+1} ... d_S)_i  (dL_S/ds_S)_i

Each coordinate keeps a logarithm of its own from one run of steps to the next. One that is e^-1000 of the others now and all
that is left of them later is as exact as they are, which one scale for the whole vector cannot do. Inside a run, whose
products stay far inside float64's range, they are multiplied out.
Axes: B sequences, N state coordinates, M decay factors of a step, each of N / M coordinates side by side, n rows under way,
c steps of a run.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional as F

from rnnvg.bptt.entries import WAITING_STEPS, Block, Entries, Entry
from rnnvg.bptt.logscale import lengths
from rnnvg.bptt.segments import DiagonalSteps, Linearization

# Products of a run's decay factors lie within e^-RANGE and e^RANGE, and what enters it below e^-SMALL of the largest
# coordinate is left out: their squares stay inside float64's range, and nothing that is left out could have mattered.
RANGE, SMALL = 150.0, 350.0
NUMBERS = 2**17  # adjoints of a run: what the processor's cache holds


class DiagonalRecursion:
    """Rows of adjoints, [n, B, N]: ln of each coordinate's size, and its phase (of a real one the sign).

    `vectors` and `inputs` say whether more than their lengths is asked for. For the lengths squares alone are multiplied
    out, and phases are left aside: none of the rows of `Sources` takes in a second covector where one is already.
    """

    def __init__(self, linear: Linearization, last: int, rows: int, *, inputs: bool, vectors: bool) -> None:
        self.linear, self.with_inputs, self.with_vectors = linear, inputs, vectors or inputs
        shape = (rows, linear.batch, linear.size)
        self.log = torch.full(shape, -math.inf, dtype=torch.float64, device=linear.device)
        self.phase = torch.zeros(shape, dtype=linear.wide_dtype, device=linear.device)
        self.under_way = 0
        wide = math.prod(shape) if self.with_vectors else 1
        self.longest = max(1, min(WAITING_STEPS, last + 1, NUMBERS // max(1, wide)))
        # Written over by every run: fresh memory would cost more than what is computed in it.
        self.vectors = self.phase.new_empty(self.longest if self.with_vectors else 0, *shape)
        self.products = self.phase.new_ones(0)
        self.rows: tuple[Tensor, ...] = ()
        self.constant: Tensor | None = None  # the factors that all of `products` are powers of

    @torch.no_grad()
    def run(self, entries: Entries, last: int) -> Iterator[Block]:
        t = last
        for segment in self.linear.segments(t + 1, backwards=True, reuse=True):
            decay = cast(DiagonalSteps, segment).decays()
            pace = _Pace(decay, segment.start)
            while t >= segment.start:
                self._enter(entries(t))
                most = min(self.longest, t - segment.start + 1)
                most = next((count for count in range(1, most) if entries(t - count)), most)
                count, at = pace.run(t, most), t - segment.start
                products = self._products(decay[at - count + 1 : at + 1])
                log_scale, vectors, unit = self._at(products)
                inputs = None
                if self.with_inputs:
                    inputs = cast(DiagonalSteps, segment).inputs_of(t - count + 1, vectors)
                yield Block(segment, t, log_scale, vectors, inputs, unit)
                self._decay(products[-1], decay[at - count + 1])
                t -= count
        log_scale, vectors, unit = self._at(self._factors(self.phase.new_ones(1, 1, 1)))
        yield Block(None, -1, log_scale, vectors, None, unit)

    def _factors(self, decay: Tensor) -> Tensor:
        """What adjoints are multiplied by; for their lengths alone, the squares of its size."""
        if self.with_vectors:
            return decay.conj().to(self.phase.dtype)
        parts = torch.view_as_real(decay.resolve_conj()) if decay.is_complex() else decay.unsqueeze(-1)
        squares = parts.double().square()
        return squares.sum(-1) if decay.is_complex() else squares.squeeze(-1)

    def _products(self, decay: Tensor) -> Tensor:
        """1, d_t, d_t d_{t-1}, ..., [c, B, M], from decay factors in order of time."""
        if self.constant is not None and decay.stride(0) == 0 and _same(decay[0], self.constant):
            return self.products[: len(decay)]
        constant = decay.stride(0) == 0
        rows = self._factors(decay[:1] if constant else decay).unbind()
        if self.products.shape[1:] != rows[0].shape or self.products.dtype != rows[0].dtype:
            self.products = rows[0].new_ones(self.longest, *rows[0].shape)
            self.rows = self.products.unbind()
        self.constant = decay[0] if constant else None
        if constant:  # as many as any run takes
            for k in range(self.longest - 1):
                torch.mul(self.rows[k], rows[0], out=self.rows[k + 1])
        else:
            for before, factor, after in zip(self.rows, reversed(rows[1:]), self.rows[1:], strict=False):
                torch.mul(before, factor, out=after)
        return self.products[: len(decay)]

    def _enter(self, found: Sequence[Entry]) -> None:
        """Add covectors, coordinate by coordinate, to what is under way."""
        for entry in found:
            self.under_way = max(self.under_way, entry.rows.stop)
            which = slice(None) if entry.sequences is None else entry.sequences
            log, phase = self.log[entry.rows], self.phase[entry.rows]
            size, its = _polar(entry.vectors.to(phase.dtype))
            size = size + entry.log.unsqueeze(-1).masked_fill(torch.isneginf(entry.log).unsqueeze(-1), 0.0)
            joint = torch.maximum(log[:, which], size)
            joint = joint.masked_fill(torch.isneginf(joint), 0.0)
            both = phase[:, which] * (log[:, which] - joint).exp() + its * (size - joint).exp()
            more, phase[:, which] = _polar(both)
            log[:, which] = joint + more

    def _decay(self, product: Tensor, last: Tensor) -> None:
        """Multiply what is under way by a run's product and its last factor, [B, M].

        That may be of any size: its logarithm is added to that of the others.
        """
        log, phase = (_by_factor(each[: self.under_way], last) for each in (self.log, self.phase))
        size, turned = _polar(last.to(self.phase.dtype))
        if self.with_vectors:
            more, its = _polar(product)
            phase *= (turned.conj() * its).unsqueeze(-1)
        else:
            more = product.log() / 2
        log += (size + more).unsqueeze(-1)

    def _at(self, products: Tensor) -> tuple[Tensor, Tensor, bool]:
        """Adjoints after products of decay factors [c, B, M]: log scales [c, n, B], vectors [c, n, B, N] where they are
        asked for, and whether the scales are their lengths."""
        log = self.log[: self.under_way]
        largest = log.amax(-1, keepdim=True)
        largest = largest.masked_fill(torch.isneginf(largest), 0.0)
        entering = F.threshold(log - largest, -SMALL, -math.inf).exp()
        if not self.with_vectors:
            squares = _by_factor(entering, products).square().sum(-1)
            found = torch.matmul(products.transpose(0, 1), squares.permute(1, 2, 0))  # [B, c, n]
            return largest.squeeze(-1) + found.permute(1, 2, 0).log() / 2, self.vectors, True
        entering = _by_factor(entering * self.phase[: self.under_way], products)
        vectors = self.vectors[: len(products), : self.under_way]
        torch.mul(products.unsqueeze(1).unsqueeze(-1), entering, out=_by_factor(vectors, products))
        norms = lengths(vectors)
        unit = bool((norms > 0).all())
        if not unit:
            norms = norms.masked_fill(norms == 0, 1.0)
        real = torch.view_as_real(vectors).flatten(-2) if vectors.is_complex() else vectors
        real = real.div_(norms).to(self.linear.dtype.to_real())
        if real.dtype == torch.float32:  # denormal numbers would slow down everything that is done with these
            real = F.hardshrink(real, torch.finfo(torch.float32).tiny)
        vectors = torch.view_as_complex(torch.unflatten(real, -1, (-1, 2))) if vectors.is_complex() else real
        return largest.squeeze(-1) + norms.log().squeeze(-1), vectors, unit


class _Pace:
    """How many steps a segment's products may take before one leaves e^-RANGE..e^RANGE, from `decay` [c, B, N]."""

    def __init__(self, decay: Tensor, start: int) -> None:
        size = _distinct(decay).abs().flatten(1)
        low = size.amin(1).double().clamp_max(1.0).log().clamp_min(-RANGE)  # a zero ends a run
        high = size.amax(1).double().clamp_min(1.0).log()
        both = torch.maximum(-low, high).expand(len(decay))
        self._spent: list[float] = [0.0, *both.cumsum(0).cpu().numpy().tolist()]
        self._start = start

    def run(self, t: int, most: int) -> int:
        """How many of at most `most` steps t, t-1, ...: their product without the last is inside."""
        stop, spent = t - self._start + 1, self._spent
        return next((count for count in range(1, most) if not spent[stop] - spent[stop - count] < RANGE), most)


def _distinct(decay: Tensor) -> Tensor:
    """The factors that are not one number seen several times."""
    for axis, stride in enumerate(decay.stride()):
        if stride == 0:
            decay = decay.narrow(axis, 0, 1)
    return decay


def _by_factor(vectors: Tensor, factors: Tensor) -> Tensor:
    """Vectors [..., N] as [..., M, N / M], for factors [..., M]."""
    return torch.unflatten(vectors, -1, (factors.shape[-1], -1))


def _same(one: Tensor, other: Tensor) -> bool:
    """Whether two views are of the same numbers in the same places."""
    return one.data_ptr() == other.data_ptr() and one.shape == other.shape and one.stride() == other.stride()


def _polar(values: Tensor) -> tuple[Tensor, Tensor]:
    """ln |values|, -inf for a zero, and the phases."""
    return values.abs().log(), values.sgn()
