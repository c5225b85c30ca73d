"""Each step's contribution to the gradient of a parameter as a sum of rank-one matrices, adjoint x input, one a sequence.

Axes: T steps, c steps of a chunk, B sequences, R x Q a parameter's rows and columns (a bias has one column).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from rnnvg.bptt.adjoints import Summed, adjoints
from rnnvg.bptt.logscale import LogSum, unit_vectors
from rnnvg.bptt.stack import ModuleLinearization, ModuleSegment
from rnnvg.pytorch import vector_norm

MATRIX_NUMBERS = 2**21  # so many numbers of per-step matrices exist at a time
CANCELLED = 1e-3  # of the largest possible square norm; below it products of factors would lose digits


@dataclass(frozen=True)
class Chunk:
    """One parameter's contributions at steps start..stop-1 as sums over b of exp(log_weight) left (x) right.

    log_weight [c, B] float64; left [c, B, R] and right [c, B, Q] of length 1 (or exactly 0)."""

    name: str
    start: int
    stop: int
    log_weight: Tensor
    left: Tensor
    right: Tensor

    def scaled(self) -> tuple[Tensor, Tensor]:
        """ln of each step's scale, [c] (0 where all is zero), and the left factors with what is then left of the weights."""
        top = self.log_weight.max(1).values
        top = torch.where(torch.isneginf(top), 0.0, top)
        return top, self.left * (self.log_weight - top[:, None]).exp().to(self.left.dtype).unsqueeze(-1)

    def shares(self, total: LogSum) -> np.ndarray:
        """<M_t, M> / ||M||^2 for the total M, [c]."""
        square = total.mantissa.square().sum()
        if not square > 0:
            return np.full(self.stop - self.start, np.nan)
        top, left = self.scaled()
        along = ((left.double() @ total.mantissa) * self.right.double()).sum((1, 2))
        return (along / square * (top - total.log).exp()).cpu().numpy()


def chunks_of(
    linear: ModuleLinearization, output_grad: Tensor, state_grads: Mapping[int, Tensor], inputs: Tensor | None = None
) -> Iterator[Chunk]:
    """Every parameter's rank-one factors, block by block, backwards in time; dL/dx of each step is written to `inputs`."""
    entering = Summed(linear, output_grad, state_grads)
    for block in adjoints(linear, entering, entering.last, 1, by_segment=True):
        segment, steps = block.segment, slice(block.first, block.last + 1)
        if segment is None:
            continue
        assert isinstance(segment, ModuleSegment)
        after, log_scale = block.vectors[:, 0].flip(0), block.log_scale[:, 0].flip(0)  # in order of time
        local = segment.local(linear.view(after), steps.start, steps.stop)
        if inputs is not None:
            inputs[steps] = segment.layers[0].input_adjoint(local[0].delta) * log_scale.exp().unsqueeze(-1)
        for index, (layer, whole) in enumerate(zip(segment.layers, segment.paths, strict=True)):
            path = whole.between(steps.start - segment.start, steps.stop - segment.start)
            x = segment.layer_inputs(index)[steps.start - segment.start : steps.stop - segment.start]
            _, states, delta, above = local[index]
            for name, factors in layer.contributions(x, path, states, delta, above).items():
                (left, log_left), (right, log_right) = (unit_vectors(each) for each in factors)
                yield Chunk(name, steps.start, steps.stop, log_scale + log_left + log_right, left, right)


def _products(left: Tensor, right: Tensor) -> Tensor:
    """The sum over sequences of left (x) right, [c, R, Q]; of few columns the other way round, which is faster."""
    if right.shape[-1] < left.shape[-1]:
        return (right.transpose(1, 2) @ left).transpose(1, 2)
    return left.transpose(1, 2) @ right


def _inner(left: Tensor, right: Tensor, other_left: Tensor, other_right: Tensor) -> Tensor:
    """<M_t, M'_t> of M = sum over b of left (x) right and M' = sum over b' of the others, [c]; no matrix is made."""
    return ((left @ other_left.transpose(1, 2)) * (right @ other_right.transpose(1, 2))).sum((1, 2))


class FirstPass:
    """Norms, cosines and totals, gathered from chunks that come backwards in time.

    Of few sequences they come from products between the factors, B^2 (R + Q) of them a step instead of B R Q; of many, or
    where the sequences' contributions cancel, from each step's matrix.
    """

    def __init__(self, n_steps: int) -> None:
        self.n_steps = n_steps
        self.log_norm: dict[str, np.ndarray] = {}
        self.cosine: dict[str, np.ndarray] = {}
        self.total: dict[str, LogSum] = {}
        self._later: dict[
            str, tuple[Tensor, Tensor, Tensor]
        ] = {}  # factors and norm of the step after the last one added

    def add(self, chunk: Chunk) -> None:
        name, (rows, columns) = chunk.name, (chunk.left.shape[-1], chunk.right.shape[-1])
        if name not in self.log_norm:
            self.log_norm[name] = np.full(self.n_steps, np.nan)
            self.cosine[name] = np.full(self.n_steps, np.nan)
            self.total[name] = LogSum(chunk.left.new_zeros(rows, columns, dtype=torch.float64))
        top, left = chunk.scaled()
        if 2 * left.shape[1] * (rows + columns) < rows * columns and self._add_factors(chunk, top, left):
            return
        at_once = max(1, MATRIX_NUMBERS // (rows * columns))
        for stop in range(chunk.stop, chunk.start, -at_once):
            start = max(chunk.start, stop - at_once)
            part = slice(start - chunk.start, stop - chunk.start)
            self._add_matrices(name, start, top[part], left[part], chunk.right[part])

    def _add_factors(self, chunk: Chunk, top: Tensor, left: Tensor) -> bool:
        """Contributions exp(top) left (x) right of all steps of a chunk; False, and nothing added, where they cancel."""
        name, left, right = chunk.name, left.double(), chunk.right.double()
        square = _inner(left, right, left, right)
        largest = vector_norm(left, dim=-1).sum(1).square()
        if bool((square < CANCELLED * largest).any()):
            return False
        norm = square.sqrt()
        self.total[name].add_products(torch.where(norm == 0, -torch.inf, top), left, right)
        lefts, rights, norms = left, right, norm
        if name in self._later:
            lefts, rights, norms = (
                torch.cat(pair) for pair in zip((left, right, norm), self._later[name], strict=True)
            )
        self._write(name, chunk.start, top, norm, norms, _inner(lefts[1:], rights[1:], lefts[:-1], rights[:-1]))
        self._later[name] = left[:1].clone(), right[:1].clone(), norm[:1]
        return True

    def _add_matrices(self, name: str, start: int, top: Tensor, left: Tensor, right: Tensor) -> None:
        """The same with a matrix a step, which is accurate however the sequences cancel."""
        matrices = _products(left, right)
        rows = matrices.flatten(1)
        norm = vector_norm(rows, dim=1).double()
        self.total[name].add(torch.where(norm == 0, -torch.inf, top), matrices)
        norms = norm
        if name in self._later:
            later_left, later_right, its_norm = self._later[name]
            row = _products(later_left, later_right).flatten(1).to(rows.dtype)
            rows, norms = torch.cat([rows, row]), torch.cat([norm, its_norm])
        self._write(name, start, top, norm, norms, (rows[1:] * rows[:-1]).sum(1))
        self._later[name] = left[:1].double(), right[:1].double(), norm[:1]

    def _write(self, name: str, start: int, top: Tensor, norm: Tensor, norms: Tensor, inner: Tensor) -> None:
        """Logs of the norms, [c], and cosines from the inner products of neighbours, one less than there are `norms`."""
        self.log_norm[name][start : start + len(norm)] = (top + norm.log()).cpu().numpy()
        lengths = norms[1:] * norms[:-1]
        cosine = torch.where(lengths == 0, torch.nan, inner / lengths)
        self.cosine[name][start + 1 : start + 1 + len(cosine)] = cosine.cpu().numpy()


def totals(module: nn.Module, first: FirstPass) -> tuple[dict[str, Tensor], dict[str, float]]:
    """By parameter the sum over all steps in its shape and dtype, and ln of its norm."""
    total: dict[str, Tensor] = {}
    log_norm: dict[str, float] = {}
    for name, found in first.total.items():
        parameter, mantissa = getattr(module, name), found.mantissa
        with np.errstate(over="ignore"):
            whole = torch.where(mantissa == 0, 0.0, mantissa * np.exp(found.log))
        total[name] = whole.view(parameter.shape).to(parameter.dtype)
        log_norm[name] = found.log + float(vector_norm(mantissa).log())
    return total, log_norm
