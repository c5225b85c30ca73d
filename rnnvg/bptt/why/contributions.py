"""What each time step adds to the gradient of each parameter.

    dL/dW = sum_t d+L/dW|_t        (Pascanu, Mikolov and Bengio 2013)

Each step's matrix is a sum of rank-one matrices (adjoint x input, one per sequence) whose lengths are kept as logs: 10^-3000
is measured as well as 10^-3. Only a few steps' matrices exist at a time; the shares of the total need the total first, so
the rank-one factors are kept until then, or made twice where they are too many.
Axes: T steps, B sequences, N state coordinates, R x Q a parameter's rows and columns (a bias has one column).
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from rnnvg.bptt import arguments
from rnnvg.bptt.adjoints import Summed, adjoints
from rnnvg.bptt.cells import cell_of
from rnnvg.bptt.linearize import ModuleLinearization, ModuleSegment, linearize
from rnnvg.bptt.logscale import LogSum, unit_vectors
from rnnvg.bptt.stepping import initial_parts, map_state, module_step, whole_state, widened
from rnnvg.bptt.weights import plain_module
from rnnvg.bptt.why.summary import only_losses, sentence
from rnnvg.errors import InputError, check_int, check_name
from rnnvg.notebook import Shown

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

MATRIX_NUMBERS = 2**21  # so many numbers of per-step matrices exist at a time
KEEP_BYTES = 2**27  # beyond this the adjoints are followed a second time instead of kept
CANCELLED = 1e-3  # of the largest possible square norm; below it products of factors would lose digits
RECENT = 10


@dataclass(frozen=True)
class _Origin:
    """What the contributions were computed from, for `verify`; `versions` notices weights changed since."""

    module: nn.Module
    inputs: Tensor
    state: Any
    output_grad: Tensor
    state_grads: Mapping[int, Tensor]
    versions: tuple[tuple[int, int], ...]

    def gradients(self, names: list[str]) -> list[Tensor]:
        return _unrolled_gradients(self, names)


@dataclass(frozen=True, repr=False)
class TemporalContributions(Shown):
    """How much each time step adds to the gradient of each parameter, d+L/dW|_t, summed over the batch.

    Attributes:
        log_norm: parameter name -> [T] float64, natural log of the (Frobenius) norm of step t's contribution; -inf is an
            exact zero, nan lies behind a state that is not finite.
        share: parameter name -> [T], <M_t, M> / ||M||^2 for step t's contribution M_t to the total M: the shares of a
            parameter add up to 1 (norms do not add up); nan where the total is zero.
        cosine: parameter name -> [T], between step t's contribution and step t-1's; nan at step 0 and beside a zero.
        log_norm_total: parameter name -> natural log of ||dL/dW||.
        total: parameter name -> dL/dW itself in the parameter's shape and dtype, what autograd calls `.grad`; inf where the
            number leaves the dtype.
        note: what else the reader must know of these numbers; empty where there is nothing.
        losses: [B] the step of each sequence's only loss (-1: none), by which steps are counted; None where there are several.

    Within a sequence and step a number smaller than the dtype's range below the largest adjoint coordinate counts as zero.
    Source: Pascanu, Mikolov and Bengio 2013, equation 4.

    >>> import torch, rnnvg
    >>> grad = torch.ones(30, 4, 8)
    >>> found = rnnvg.temporal_contributions(torch.nn.RNN(3, 8), torch.randn(30, 4, 3), output_grad=grad)
    >>> sorted(found.log_norm_total)
    ['bias_hh_l0', 'bias_ih_l0', 'weight_hh_l0', 'weight_ih_l0']
    """

    log_norm: dict[str, np.ndarray]
    share: dict[str, np.ndarray]
    cosine: dict[str, np.ndarray]
    log_norm_total: dict[str, float]
    total: dict[str, Tensor]
    note: str = ""
    losses: np.ndarray | None = None
    origin: Any = field(default=None, repr=False, compare=False)

    @property
    def names(self) -> list[str]:
        """The parameters' names, as the module calls them."""
        return list(self.log_norm)

    @property
    def n_steps(self) -> int:
        """T."""
        return len(next(iter(self.log_norm.values())))

    def shares(self, name: str | None = None) -> np.ndarray:
        """Each step's share of the update of parameter `name`, or of all parameters as one vector (None), [T]."""
        if name is not None:
            return self.share[check_name("name", name, self.names)]
        top = max(self.log_norm_total.values())
        weight = {each: np.exp(2 * (log - top)) for each, log in self.log_norm_total.items() if np.isfinite(log)}
        whole = sum(weight.values())
        if not whole:
            return np.full(self.n_steps, np.nan)
        return np.sum([self.share[each] * (w / whole) for each, w in weight.items()], axis=0)

    def fraction(self, last: int = RECENT, name: str | None = None) -> float:
        """The fraction of the update that comes from the last `last` steps, of one parameter or of all together (None).

        Below 0 or above 1 where later steps point away from the total or overshoot it.

        Raises:
            InputError: `last` is not from 1 to T, or there is no parameter `name`.
        """
        last = check_int("last", last, least=1, most=self.n_steps)
        return float(self.shares(name)[-last:].sum())

    def verify(self) -> dict[str, float]:
        """||total - autograd|| / ||autograd|| by parameter, autograd in float64 (0 where both are zero).

        Raises:
            InputError: a weight was changed since.
        """
        return _residuals(self)

    def to_frame(self) -> pd.DataFrame:
        """Tidy: a row per parameter and step; columns parameter, step, log_norm, share, cosine."""
        import pandas as pd

        columns = {"log_norm": self.log_norm, "share": self.share, "cosine": self.cosine}
        step = np.arange(self.n_steps)
        parts = [
            pd.DataFrame({"parameter": name, "step": step} | {key: found[name] for key, found in columns.items()})
            for name in self.names
        ]
        return pd.concat(parts, ignore_index=True)

    def plot(self, ax: Axes | None = None) -> Axes:
        """log10 of each step's contribution against the step, a line per parameter. Returns the Axes."""
        from rnnvg.bptt import plots

        ax = plots.new_axes() if ax is None else ax
        for name in self.names:
            finite = np.where(np.isfinite(self.log_norm[name]), self.log_norm[name], np.nan) / np.log(10)
            seen = plots.seen_points(finite)
            ax.plot(seen, finite[seen], label=name, linestyle="--" if "bias" in name else "-")
        ax.set_xlabel("time step")
        ax.set_ylabel("log10 of its contribution's norm")
        ax.set_title(textwrap.fill(str(self), plots.TITLE_WIDTH), fontsize="medium")
        ax.legend(frameon=False, fontsize="small")
        return ax

    def __str__(self) -> str:
        return sentence(self, RECENT)


def temporal_contributions(
    module: nn.Module, inputs: Tensor, state: Any = None, *, output_grad: Tensor
) -> TemporalContributions:
    """What each time step adds to the gradient of each parameter, for the sum of all steps' losses.

    Args:
        module: an nn.RNN, nn.LSTM or nn.GRU of any number of layers, or one of their cells.
        inputs: [T, B, I] (or [B, T, I] where the module says batch_first).
        state: the initial state as the module takes it; None for zeros.
        output_grad: the direct gradient dL_t/d(output_t) of each step's own loss, shaped like the output.

    Raises:
        InputError: an argument that does not fit: which, what was found, what to pass.

    >>> module = nn.RNN(1, 1, nonlinearity="relu", bias=False, dtype=torch.float64)
    >>> _ = nn.init.constant_(module.weight_hh_l0, 0.5), nn.init.ones_(module.weight_ih_l0)
    >>> last = torch.zeros(4, 1, 1, dtype=torch.float64)
    >>> last[-1] = 1
    >>> found = temporal_contributions(module, torch.ones(4, 1, 1, dtype=torch.float64), output_grad=last)
    >>> np.exp(found.log_norm["weight_ih_l0"]).round(6).tolist()
    [0.125, 0.25, 0.5, 1.0]
    """
    if cell_of(module) is None:
        raise InputError(
            f"`module` is a {type(module).__name__}; pass an nn.RNN, nn.LSTM, nn.GRU or one of their cells, whose "
            "parameters are known."
        )
    arguments.check_module(module, "module")
    linear = linearize(module, inputs, state)
    assert isinstance(linear, ModuleLinearization)
    shape = (linear.n_steps, linear.batch, linear.n_outputs)
    direct = arguments.output_gradients(
        module, output_grad, shape, linear.device, finite=True, unbatched=inputs.ndim == 2
    )
    return contributions_of(module, linear, inputs, state, direct)


def contributions_of(
    module: nn.Module,
    linear: ModuleLinearization,
    inputs: Tensor,
    state: Any,
    output_grad: Tensor,
    state_grads: Mapping[int, Tensor] | None = None,
) -> TemporalContributions:
    """The contributions along a trajectory that is already linearised, for losses that read any part of the state.

    Args:
        module, inputs, state: what `linear` was made from.
        linear: the module linearised.
        output_grad: direct gradients at the output, time first [T, B, P].
        state_grads: step -> direct gradient of the whole state after it, [B, N] with `linear.coordinates`; it is added to
            `output_grad` of the same step. A loss through h_n or c_n enters so at each sequence's last step.
    """
    grads = {} if state_grads is None else dict(state_grads)
    first, kept, size = FirstPass(linear.n_steps), [], 0
    for chunk in chunks_of(linear, output_grad, grads):
        first.add(chunk)
        size += (chunk.left.numel() + chunk.right.numel()) * chunk.left.element_size()
        if size <= KEEP_BYTES:
            kept.append(chunk)
        else:
            kept.clear()
    share = {name: np.full(linear.n_steps, np.nan) for name in first.log_norm}
    for chunk in kept or chunks_of(linear, output_grad, grads):
        share[chunk.name][chunk.start : chunk.stop] = chunk.shares(first.total[chunk.name])
    total, log_norm_total = totals(module, first)
    origin = _Origin(module, inputs.detach(), state, output_grad, grads, arguments.weight_versions(module))
    losses = only_losses(output_grad, grads)
    return TemporalContributions(
        first.log_norm, share, first.cosine, log_norm_total, total, linear.note, losses, origin
    )


def totals(module: nn.Module, first: FirstPass) -> tuple[dict[str, Tensor], dict[str, float]]:
    """By parameter the sum over all steps in its shape and dtype, and ln of its norm."""
    total, log_norm = {}, {}
    for name, found in first.total.items():
        parameter, mantissa = getattr(module, name), found.mantissa
        with np.errstate(over="ignore"):
            whole = torch.where(mantissa == 0, 0.0, mantissa * np.exp(found.log))
        total[name] = whole.view(parameter.shape).to(parameter.dtype)
        log_norm[name] = found.log + float(torch.linalg.vector_norm(mantissa).log())
    return total, log_norm


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
        largest = torch.linalg.vector_norm(left, dim=-1).sum(1).square()
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
        norm = torch.linalg.vector_norm(rows, dim=1).double()
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


def _unrolled_gradients(origin: _Origin, names: list[str]) -> list[Tensor]:
    """PyTorch's own module in float64, step by step: the gradients of its parameters."""
    module = plain_module(origin.module).double().requires_grad_()
    inputs = arguments.module_inputs(module, origin.inputs.double())
    state = map_state(origin.state, widened)
    parts, step, losses = initial_parts(module, state, inputs), module_step(module), []
    layers = int(getattr(module, "num_layers", 1))
    with torch.enable_grad():
        for t, x in enumerate(inputs):
            parts = step(x, parts)
            losses.append((parts[layers - 1] * widened(origin.output_grad[t]).conj()).sum().real)
            if t in origin.state_grads:
                losses.append((whole_state(parts, layers) * widened(origin.state_grads[t]).conj()).sum().real)
        return list(torch.autograd.grad(torch.stack(losses).sum(), [getattr(module, name) for name in names]))


def _residuals(found: TemporalContributions) -> dict[str, float]:
    """PyTorch's own module in float64: the gradients of its parameters against the sums."""
    origin = found.origin
    if isinstance(origin, str):
        raise InputError(origin)
    if origin is None or arguments.weight_versions(origin.module) != origin.versions:
        raise InputError("`module` has had a weight changed since; compute the contributions again before verify().")
    gradients = origin.gradients(found.names)
    residuals = {}
    for name, wanted in zip(found.names, gradients, strict=True):
        error = torch.linalg.vector_norm(found.total[name].double() - wanted)
        residuals[name] = float(error / torch.linalg.vector_norm(wanted)) if error != 0 else 0.0
    return residuals
