"""Lyapunov spectra: at what rates perturbations of a recurrence grow or die along its trajectory, direction by direction.

    Z = J_t Q,   Q R = Z,   exponents = mean ln R_ii        (Benettin et al. 1980; Engelken, Wolf and Abbott 2023)

Steps are taken in chronological order. Beside the rates what they say of an attractor: its dimension, and how fast nearby
trajectories tell themselves apart. Axes: B sequences, T steps, N state coordinates, n exponents.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from rnnvg.bptt.linearize import Recurrence
from rnnvg.bptt.segments import Linearization
from rnnvg.bptt.spectrum import frames
from rnnvg.errors import InputError, check_int
from rnnvg.horizon import half_life
from rnnvg.notebook import Shown
from rnnvg.pytorch import vector_norm

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

BLOCKS = 20  # means over so many stretches of the trajectory give the standard errors
LEAST_BLOCK = 5  # steps
LONGEST_INTERVAL = 16
SPREAD = np.log(1e3)  # between two factorisations tangents may come to differ by so much: three of sixteen digits


@dataclass(frozen=True, repr=False)
class LyapunovSpectrum(Shown):
    """Lyapunov exponents of a recurrence along the trajectories that given inputs drive it through.

    Attributes:
        exponents: [B, n] float64, nats per step, largest first; -inf where the Jacobians' product is singular (to working
            precision), nan for a sequence whose state is not finite.
        stderr: [B, n], standard error of each from the means over up to 20 stretches of the trajectory; nan where there
            are fewer than 10 steps or the exponent is not finite.
        log_det_residual: [B], sum of all exponents minus mean ln |det J_t|, the determinants from explicit Jacobians by
            another route (rows by pullback, then LU); 0 where both are -inf. None for a partial spectrum. It checks the sum.
        n_steps: steps that were averaged over.
        burn_in: steps before them.
        note: what else the reader must know of these numbers; empty where there is nothing.

    Source: Engelken, Wolf and Abbott 2023; Vogt et al. 2022.

    >>> import torch, rnnvg
    >>> found = rnnvg.lyapunov_spectrum(torch.nn.GRU(3, 8), torch.randn(50, 2, 3), burn_in=10)
    >>> found.exponents.shape, found.n_steps
    ((2, 8), 40)
    """

    exponents: np.ndarray
    stderr: np.ndarray
    log_det_residual: np.ndarray | None
    n_steps: int
    burn_in: int
    note: str = ""

    @property
    def kaplan_yorke_dimension(self) -> np.ndarray:
        """[B], of the attractor: how many directions it fills; nan where a partial spectrum does not decide it."""
        return kaplan_yorke(self.exponents, self.log_det_residual is not None)

    @property
    def entropy_rate(self) -> np.ndarray:
        """[B], the sum of the positive exponents, nats per step; nan where a partial spectrum does not decide it."""
        return entropy_rate(self.exponents, self.log_det_residual is not None)

    def to_frame(self) -> pd.DataFrame:
        """Tidy: a row per sequence and exponent; columns sequence, index (0 the largest), exponent, stderr, half_life
        (steps, ln 2 / -exponent; inf where the exponent is not below 0)."""
        import pandas as pd

        sequence, index = np.indices(self.exponents.shape)
        return pd.DataFrame(
            {
                "sequence": sequence.ravel(),
                "index": index.ravel(),
                "exponent": self.exponents.ravel(),
                "stderr": self.stderr.ravel(),
                "half_life": [half_life(each) for each in self.exponents.ravel().tolist()],
            }
        )

    def plot(self, ax: Axes | None = None) -> Axes:
        """Exponents in order of size, a line per sequence, with two standard errors. Returns the Axes."""
        from rnnvg.bptt import plots

        ax = plots.new_axes() if ax is None else ax
        index = 1 + np.arange(len(self.exponents[0]))
        for row, error in zip(self.exponents, self.stderr, strict=True):
            finite = np.where(np.isfinite(row), row, np.nan)
            plots.with_errors(ax, index, finite, 2 * np.nan_to_num(error))
        plots.level(ax, 0.0)
        return plots.lettered(ax, "index of the exponent", "Lyapunov exponent (nats per step)", str(self), legend=False)

    def __str__(self) -> str:
        leading, smallest = self.exponents[:, 0], self.exponents[:, -1]
        if np.isnan(leading).all():
            return f"over {self.n_steps} steps: no exponent, the state is not finite"
        first, last, n = np.nanmean(leading), np.nanmean(smallest), self.exponents.shape[1]
        kind = "grow" if first > 0 else "die"
        further = f", {last:+.4g} along direction {n}" if n > 1 else ""
        many = f" (means of {len(leading)} sequences)" if len(leading) > 1 else ""
        return f"over {self.n_steps} steps: perturbations {kind}, {first:+.4g} nats a step at most{further}{many}"


def lyapunov_spectrum(
    recurrence: Recurrence,
    inputs: Tensor,
    state: Any = None,
    *,
    n_exponents: int | None = None,
    burn_in: int = 0,
    on_progress: Callable[[int, int], object] | None = None,
) -> LyapunovSpectrum:
    """The Lyapunov exponents, all or the n largest, by repeated QR of pushed-forward tangents.

    Args:
        recurrence, inputs, state: as `linearize` takes them. Modules are analysed in float64.
        n_exponents: how many, from 1 to the state's size N (all layers, h and c); None for all.
        burn_in: steps at the start that turn the tangents into place and are left out of the means.
        on_progress: called as on_progress(done, in all) while steps are pushed through and, for a full spectrum, checked.

    Raises:
        InputError: an argument that does not fit: which, what was found, what to pass.

    >>> shear = lambda x, s: s @ torch.tensor([[2.0, 1.0], [1.0, 1.0]], dtype=torch.float64)  # the cat map, not wrapped
    >>> start = torch.full((1, 2), 1e-12, dtype=torch.float64)
    >>> found = lyapunov_spectrum(shear, torch.zeros(60, 1, 1, dtype=torch.float64), start, burn_in=20)
    >>> found.exponents.round(6).tolist(), float(np.log((3 + 5**0.5) / 2).round(6))
    ([[0.962424, -0.962424]], 0.962424)
    """
    linear = frames.linearize_wide(recurrence, inputs, state)
    n = linear.size if n_exponents is None else check_int("n_exponents", n_exponents, least=1, most=linear.size)
    burn_in = check_int("burn_in", burn_in, least=0)
    if burn_in >= linear.n_steps:
        raise InputError(f"`burn_in` is {burn_in} and `inputs` has {linear.n_steps} steps; pass fewer.")
    steps = linear.n_steps - burn_in
    edges = burn_in + np.linspace(0, steps, 1 + _blocks(steps)).round().astype(int)
    whole = n == linear.size
    progress = _Progress(on_progress, linear.n_steps + whole * steps)
    march = _March(linear, n, progress)
    with torch.no_grad():
        march.advance(0, burn_in)
        sums = torch.stack([march.advance(int(a), int(b)) for a, b in itertools.pairwise(edges)])
        residual = None
        if whole:
            dets = torch.zeros(linear.batch, dtype=torch.float64, device=linear.device)
            for t in range(burn_in, linear.n_steps):
                dets += frames.log_abs_det(linear, t) / steps
                progress.add(1)
            total = sums.sum((0, 2)) / steps
            residual = torch.where(torch.isneginf(total) & torch.isneginf(dets), 0.0, total - dets).cpu().numpy()
    exponents = (sums.sum(0) / steps).cpu().numpy()
    lost = linear.first_nonfinite.numpy() >= 0
    exponents[lost] = np.nan
    if residual is not None:
        residual[lost] = np.nan
    means = sums.cpu().numpy() / np.diff(edges)[:, None, None]
    order = np.argsort(-exponents, axis=1, kind="stable")  # nan last
    return LyapunovSpectrum(
        exponents=np.take_along_axis(exponents, order, 1),
        stderr=np.take_along_axis(_stderr(means), order, 1),
        log_det_residual=residual,
        n_steps=steps,
        burn_in=burn_in,
        note=linear.note,
    )


def _blocks(steps: int) -> int:
    return max(1, min(BLOCKS, steps // LEAST_BLOCK))


def _stderr(means: np.ndarray) -> np.ndarray:
    """Standard error of the mean of block means [M, B, n]; nan where there is one block or a mean is not finite."""
    if len(means) < 2:
        return np.full(means.shape[1:], np.nan)
    finite = np.isfinite(means).all(0)
    spread = np.where(finite, means, 0.0).std(0, ddof=1) / np.sqrt(len(means))
    return np.where(finite, spread, np.nan)


class _Progress:
    """Counts steps done and tells them."""

    def __init__(self, tell: Callable[[int, int], object] | None, steps: int) -> None:
        self.tell, self.steps, self.done = tell, steps, 0

    def add(self, steps: int) -> None:
        self.done += steps
        if self.tell is not None:
            self.tell(self.done, self.steps)


class _March:
    """A frame of n tangents on its way forwards, made orthonormal as seldom as their digits allow."""

    def __init__(self, linear: Linearization, n: int, progress: _Progress) -> None:
        self.linear, self.progress = linear, progress
        self.frame = frames.random_frame(linear, n)
        self.eps = torch.finfo(linear.dtype).eps
        self.interval = 1

    def advance(self, start: int, stop: int) -> Tensor:
        """From before step `start` to after step `stop - 1`; the sums of ln R_ii over them, [B, n]."""
        logs = torch.zeros(self.linear.batch, self.frame.shape[-1], dtype=torch.float64, device=self.frame.device)
        t = start
        while t < stop:
            steps = min(self.interval, stop - t)
            q, diagonal, spread = self._try(t, steps)
            if steps > 1 and not spread <= SPREAD:
                self.interval = max(1, steps // 2)
                continue
            if steps == self.interval and spread < SPREAD / 4:
                self.interval = min(2 * self.interval, LONGEST_INTERVAL)
            self.frame, t = q, t + steps
            logs += diagonal.log()
            self.progress.add(steps)
        return logs

    def _try(self, t: int, steps: int) -> tuple[Tensor, Tensor, float]:
        """The frame `steps` later, R_ii, and ln of how far a tangent's length and its part of its own differ by then."""
        vectors = self.frame
        for step in range(t, t + steps):
            vectors = frames.push(self.linear, step, vectors)
        q, r = frames.factor(vectors, self.eps)
        diagonal = r.diagonal(dim1=-2, dim2=-1).abs()
        longest = vector_norm(r, dim=-2).amax(-1)
        return q, diagonal, float((longest / diagonal.amin(-1)).log().max())


def kaplan_yorke(exponents: np.ndarray, complete: bool) -> np.ndarray:
    """k + (sum of the first k exponents) / |exponent k+1|, for the largest k whose sum is not negative, [B].

    0 where even the first is negative; k where the next one is -inf. Where the sum never becomes negative it is N for a
    complete spectrum, and nan for a partial one, whose missing exponents decide.

    Source: Kaplan and Yorke 1979.

    >>> kaplan_yorke(np.array([[0.4192, -1.6232]]), complete=True).round(3)
    array([1.258])
    """
    result = np.full(len(exponents), np.nan)
    for row, values in enumerate(exponents):
        if np.isnan(values).any():
            continue
        sums = np.cumsum(values)
        below = np.flatnonzero(sums < 0)
        if not below.size:
            result[row] = len(values) if complete else np.nan
            continue
        k = int(below[0])
        total = sums[k - 1] if k else 0.0
        result[row] = k if np.isinf(values[k]) else k + total / abs(values[k])
    return result


def entropy_rate(exponents: np.ndarray, complete: bool) -> np.ndarray:
    """The sum of the positive exponents, nats per step, [B]: an upper bound of the entropy rate (Ruelle 1978).

    It is the rate itself where the natural measure is smooth along the directions that grow (Pesin 1977). nan where the least
    of a partial spectrum is still positive.

    >>> entropy_rate(np.array([[0.4192, -1.6232]]), complete=True)
    array([0.4192])
    """
    total = np.where(exponents > 0, exponents, 0.0).sum(1)
    undecided = np.isnan(exponents).any(1) | (not complete and exponents[:, -1] > 0)
    return np.where(undecided, np.nan, total)
