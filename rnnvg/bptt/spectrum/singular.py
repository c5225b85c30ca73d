"""Singular values of long Jacobian products, down to 10^-3000 and below.

Never formed explicitly: float64 loses the small ones of a product by its sixtieth factor. Tangents are carried forwards with a
QR factorisation a step (product = Q R_K ... R_1 Q_0^T); the triangular factors are multiplied up with a log scale for each
row, and one-sided Jacobi rotations, which respect such scales (Demmel and Veselic 1992), turn the rows into orthogonal ones:
their lengths are the singular values. Unlike the logs of the R_ii these are the singular values of this very product.
Axes: B sequences, N state coordinates.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from rnnvg.bptt.linearize import Recurrence
from rnnvg.bptt.logscale import unit_vectors
from rnnvg.bptt.spectrum import frames
from rnnvg.errors import InputError, check_int
from rnnvg.horizon import NATS_PER_DECADE
from rnnvg.notebook import Shown

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

MOST_ROUNDS = 60  # of rotations through all pairs of rows; a handful is usual


@dataclass(frozen=True, repr=False)
class SingularValues(Shown):
    """Singular values of the product of step Jacobians ds_{stop-1} / ds_{start-1}.

    Attributes:
        log_values: [B, N] float64, natural logs, largest first; -inf is an exact zero (singular to working precision), nan a
            sequence whose state is not finite.
        start, stop: the product runs over steps start..stop-1.
        note: what else the reader must know of these numbers; empty where there is nothing.

    >>> import torch, rnnvg
    >>> found = rnnvg.jacobian_singular_values(torch.nn.RNN(3, 8), torch.randn(50, 2, 3))
    >>> found.log_values.shape, found.start, found.stop
    ((2, 8), 0, 50)
    """

    log_values: np.ndarray
    start: int
    stop: int
    note: str = ""

    @property
    def effective_rank(self) -> np.ndarray:
        """exp of the entropy of the normalised singular values, [B], 1 to N; nan for a zero product (Roy, Vetterli 2007)."""
        top = self.log_values[:, :1]
        relative = np.exp(self.log_values - np.where(np.isneginf(top), np.nan, top))
        part = relative / relative.sum(1, keepdims=True)
        return np.exp(-(part * np.log(np.where(part > 0, part, 1.0))).sum(1))

    def to_frame(self) -> pd.DataFrame:
        """Tidy: a row per sequence and singular value; columns sequence, index (0 the largest), log_value (nats)."""
        import pandas as pd

        sequence, index = np.indices(self.log_values.shape)
        return pd.DataFrame(
            {"sequence": sequence.ravel(), "index": index.ravel(), "log_value": self.log_values.ravel()}
        )

    def plot(self, ax: Axes | None = None) -> Axes:
        """log10 of the singular values in order of size, a line per sequence. Returns the Axes."""
        from rnnvg.bptt import plots

        ax = plots.new_axes() if ax is None else ax
        index = 1 + np.arange(len(self.log_values[0]))
        for row in self.log_values / NATS_PER_DECADE:
            plots.line(ax, index, np.where(np.isfinite(row), row, np.nan), marker=".", linewidth=1)
        return plots.lettered(ax, "index of the singular value", "log10 of the singular value", str(self), legend=False)

    def __str__(self) -> str:
        largest, smallest = (self.log_values[:, each].mean() / NATS_PER_DECADE for each in (0, -1))
        return (
            f"over {self.stop - self.start} steps: singular values from 10^{largest:.4g} to 10^{smallest:.4g}, effective rank "
            f"{self.effective_rank.mean():.3g} of {self.log_values.shape[1]}"
        )


def jacobian_singular_values(
    recurrence: Recurrence, inputs: Tensor, state: Any = None, *, start: int = 0, stop: int | None = None
) -> SingularValues:
    """The singular values of the Jacobian of the state after step stop-1 by the state before step start.

    Args:
        recurrence, inputs, state: as `linearize` takes them. Modules are analysed in float64.
        start, stop: the steps start..stop-1 of `inputs`; None for all to the end.

    Raises:
        InputError: an argument that does not fit: which, what was found, what to pass.

    >>> half = lambda x, s: s * torch.tensor([0.5, 0.125], dtype=torch.float64)
    >>> found = jacobian_singular_values(half, torch.zeros(1500, 1, 1), torch.ones(1, 2, dtype=torch.float64))
    >>> (found.log_values / np.log(2)).round(6).tolist()
    [[-1500.0, -4500.0]]
    """
    linear = frames.linearize_wide(recurrence, inputs, state)
    stop = linear.n_steps if stop is None else check_int("stop", stop, least=1, most=linear.n_steps)
    start = check_int("start", start, least=0, most=linear.n_steps - 1)
    if start >= stop:
        raise InputError(f"`start` is {start} and `stop` {stop}; pass a start before the stop.")
    eps = torch.finfo(linear.dtype).eps
    with torch.no_grad():
        frame, rows = frames.random_frame(linear, linear.size), None
        for t in range(start, stop):
            frame, r = frames.factor(frames.push(linear, t, frame), eps)
            rows = _Rows.of(torch.zeros_like(r[..., 0].real), r) if rows is None else rows.multiplied(r)
        assert rows is not None
        values = orthogonal_lengths(rows.log, rows.unit).cpu().numpy()
    values = -np.sort(-values, axis=1)
    values[linear.first_nonfinite.numpy() >= 0] = np.nan
    return SingularValues(values, start, stop, linear.note)


@dataclass(frozen=True)
class _Rows:
    """A matrix whose rows may be of any size: exp(log) [B, N] times rows of length 1 [B, N, N] (a zero row: -inf, zeros)."""

    log: Tensor
    unit: Tensor

    @staticmethod
    def of(log: Tensor, rows: Tensor) -> _Rows:
        unit, lengths = unit_vectors(rows)
        return _Rows(log + lengths, unit)

    def multiplied(self, r: Tensor) -> _Rows:
        """`r` times this matrix: each row's terms are added on the scale of the largest."""
        logs = r.abs().log() + self.log.unsqueeze(-2)
        top = logs.amax(-1)
        top = torch.where(torch.isneginf(top), 0.0, top)
        terms = (logs - top.unsqueeze(-1)).exp()
        return _Rows.of(top, (terms * r.sgn()) @ self.unit)


def orthogonal_lengths(log: Tensor, unit: Tensor) -> Tensor:
    """ln of the singular values of diag(exp log) unit, [B, N] in no order, by one-sided Jacobi rotations of the rows.

    Args:
        log: [B, N], -inf for a row of zeros.
        unit: [B, N, M] rows of length 1 (or 0).
    """
    log, unit = log.clone(), unit.clone()
    n = log.shape[-1]
    if n == 1:
        return log
    tolerance = np.sqrt(n) * torch.finfo(log.dtype).eps
    pairs = _round_robin(n)
    for _ in range(MOST_ROUNDS):
        largest = max(_rotate(log, unit, p.to(log.device), q.to(log.device)) for p, q in pairs)
        if not largest > tolerance:
            break
    return log


def _rotate(log: Tensor, unit: Tensor, p: Tensor, q: Tensor) -> float:
    """Make rows p and q orthogonal, pair by pair, in place; the largest cosine between two of them before.

    With the longer row a of length 1, the other b of length rho and cosine c the rotation by Jacobi's tangent t is
    a' = a - t b, b' = b + t a, both over sqrt(1 + t^2); t / rho stays a number of size 1 however small rho is.
    """
    swap = log[:, q] > log[:, p]
    a, b = torch.where(swap, q, p), torch.where(swap, p, q)
    sequence = torch.arange(len(log), device=log.device).unsqueeze(-1)
    log_a, log_b = log[sequence, a], log[sequence, b]
    row_a, row_b = unit[sequence, a], unit[sequence, b]
    cosine = (row_a * row_b.conj()).sum(-1)  # conj: for complex states the smaller row turns by a phase as well
    size = cosine.abs()
    rho = (torch.where(torch.isneginf(log_b), 0.0, log_b - log_a)).exp()
    x, y = 2 * size * rho, 1 - rho.square()
    tangent_over_rho = torch.where(size > 0, 2 * cosine / (y + torch.hypot(x, y)), 0.0)
    tangent = tangent_over_rho * rho
    scale = torch.hypot(torch.ones_like(rho), tangent.abs())
    new_a = row_a + (tangent * rho).unsqueeze(-1) * row_b
    new_b = row_b - tangent_over_rho.conj().unsqueeze(-1) * row_a
    for index, old, new in ((a, log_a, new_a), (b, log_b, new_b)):
        rows = _Rows.of(old - scale.log(), new)
        log[sequence, index], unit[sequence, index] = rows.log, rows.unit
    return float(size.max())


def _round_robin(n: int) -> list[tuple[Tensor, Tensor]]:
    """Every pair of n rows once, in rounds of disjoint pairs: the first row stays, the others move around it."""
    ring = list(range(n)) + ([-1] if n % 2 else [])
    half = len(ring) // 2
    rounds: list[tuple[Tensor, Tensor]] = []
    for _ in range(len(ring) - 1):
        pairs = [(i, j) for i, j in zip(ring[:half], ring[: half - 1 : -1], strict=True) if i >= 0 and j >= 0]
        p, q = zip(*pairs, strict=True)
        rounds.append((torch.tensor(p), torch.tensor(q)))
        ring = [ring[0], ring[-1], *ring[1:-1]]
    return rounds
