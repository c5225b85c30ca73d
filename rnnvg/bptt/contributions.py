"""What each time step adds to the gradient of each parameter.

    dL/dW = sum_t d+L/dW|_t        (Pascanu, Mikolov and Bengio 2013)

Each step's matrix is a sum of rank-one matrices (adjoint x input, one per sequence) whose lengths are kept as logs: 10^-3000
is measured as well as 10^-3. Only a few steps' matrices exist at a time; the shares of the total need the total first, so
the adjoint recursion runs twice.
Axes: T steps, B sequences, N state coordinates, R x Q a parameter's rows and columns (a bias has one column).
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from rnnvg.bptt import arguments
from rnnvg.bptt.linearize import ModuleLinearization, module_layers
from rnnvg.bptt.summed_adjoint import Chunk, chunks
from rnnvg.bptt.weights import plain_module
from rnnvg.errors import InputError, check_int, check_name

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

MATRIX_NUMBERS = 2**21  # so many numbers of per-step matrices exist at a time
RECENT = 10


@dataclass(frozen=True)
class _Origin:
    """What the contributions were computed from, for `verify`; `versions` notices weights changed since."""

    module: nn.RNNBase | nn.RNNCellBase
    inputs: Tensor
    state: Any
    output_grad: Tensor
    state_grads: Mapping[int, Tensor]
    versions: tuple[int, ...]


@dataclass(frozen=True)
class TemporalContributions:
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

    Within a sequence and step a number smaller than the dtype's range below the largest adjoint coordinate counts as zero.
    Source: Pascanu, Mikolov and Bengio 2013, equation 4.
    """

    log_norm: dict[str, np.ndarray]
    share: dict[str, np.ndarray]
    cosine: dict[str, np.ndarray]
    log_norm_total: dict[str, float]
    total: dict[str, Tensor]
    origin: _Origin | None = field(default=None, repr=False, compare=False)

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

        return pd.concat(
            [
                pd.DataFrame(
                    {
                        "parameter": name,
                        "step": np.arange(self.n_steps),
                        "log_norm": self.log_norm[name],
                        "share": self.share[name],
                        "cosine": self.cosine[name],
                    }
                )
                for name in self.names
            ],
            ignore_index=True,
        )

    def plot(self, ax: Axes | None = None) -> Axes:
        """log10 of each step's contribution against the step, a line per parameter. Returns the Axes."""
        from rnnvg.bptt import figures

        ax = figures.new_axes() if ax is None else ax
        for name in self.names:
            finite = np.where(np.isfinite(self.log_norm[name]), self.log_norm[name], np.nan) / np.log(10)
            ax.plot(np.arange(self.n_steps), finite, label=name, linestyle="--" if "bias" in name else "-")
        ax.set_xlabel("time step")
        ax.set_ylabel("log10 of its contribution's norm")
        ax.set_title(textwrap.fill(str(self), figures.TITLE_WIDTH), fontsize="medium")
        ax.legend(frameon=False, fontsize="small")
        return ax

    def __str__(self) -> str:
        last = min(RECENT, self.n_steps)
        part = self.fraction(last)
        if np.isnan(part):
            return f"over {self.n_steps} steps: the gradient of every parameter is zero"
        return f"the last {last} of {self.n_steps} steps make {100 * part:.3g} % of the update"


def temporal_contributions(
    module: nn.RNNBase | nn.RNNCellBase, inputs: Tensor, state: Any = None, *, output_grad: Tensor
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
    if not isinstance(module, (nn.RNNBase, nn.RNNCellBase)):
        raise InputError(
            f"`module` is a {type(module).__name__}; pass an nn.RNN, nn.LSTM, nn.GRU or one of their cells, whose "
            "parameters are known."
        )
    arguments.check_module(module, "module")
    sequence = arguments.module_inputs(module, inputs)
    direct = arguments.direct_gradients(module, inputs, output_grad)
    linear = ModuleLinearization(module_layers(module), sequence, arguments.module_state(module, state, sequence))
    return contributions_of(module, linear, inputs, state, direct)


def contributions_of(
    module: nn.RNNBase | nn.RNNCellBase,
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
    names = _names(linear, "" if isinstance(module, nn.RNNCellBase) else "_l{}")
    first = _FirstPass(linear.n_steps)
    for chunk in chunks(linear, output_grad, grads, names):
        first.add(chunk)
    share = {name: np.full(linear.n_steps, np.nan) for name in names}
    for chunk in chunks(linear, output_grad, grads, names):
        share[chunk.name][chunk.start : chunk.stop] = chunk.shares(first.mantissa[chunk.name], first.log[chunk.name])
    total, log_norm_total = {}, {}
    for name in names:
        parameter, mantissa = getattr(module, name), first.mantissa[name]
        with np.errstate(over="ignore"):
            whole = torch.where(mantissa == 0, 0.0, mantissa * np.exp(first.log[name]))
        total[name] = whole.view(parameter.shape).to(parameter.dtype)
        log_norm_total[name] = first.log[name] + float(torch.linalg.vector_norm(mantissa).log())
    origin = _Origin(module, inputs.detach(), state, output_grad, grads, _versions(module))
    return TemporalContributions(first.log_norm, share, first.cosine, log_norm_total, total, origin)


def _names(linear: ModuleLinearization, suffix: str) -> list[str]:
    names = []
    for index, layer in enumerate(linear.layers):
        weights = layer.weights
        present = {
            "weight_ih": True,
            "weight_hh": True,
            "bias_ih": weights.input_bias is not None,
            "bias_hh": weights.hidden_bias is not None,
            "weight_hr": weights.projection is not None,
        }
        names += [name + suffix.format(index) for name, here in present.items() if here]
    return names


class _FirstPass:
    """Norms, cosines and totals, gathered from chunks that come backwards in time."""

    def __init__(self, n_steps: int) -> None:
        self.n_steps = n_steps
        self.log_norm: dict[str, np.ndarray] = {}
        self.cosine: dict[str, np.ndarray] = {}
        self.mantissa: dict[str, Tensor] = {}
        self.log: dict[str, float] = {}
        self._later: dict[str, tuple[Tensor, Tensor]] = {}  # the step after the last one added

    def add(self, chunk: Chunk) -> None:
        name = chunk.name
        if name not in self.log_norm:
            self.log_norm[name] = np.full(self.n_steps, np.nan)
            self.cosine[name] = np.full(self.n_steps, np.nan)
            self.mantissa[name] = chunk.left.new_zeros(chunk.left.shape[-1], chunk.right.shape[-1], dtype=torch.float64)
            self.log[name] = 0.0
        top, left = chunk.scaled()
        at_once = max(1, MATRIX_NUMBERS // self.mantissa[name].numel())
        for stop in range(chunk.stop, chunk.start, -at_once):
            start = max(chunk.start, stop - at_once)
            part = slice(start - chunk.start, stop - chunk.start)
            self._add(name, start, stop, top[part], left[part].transpose(1, 2) @ chunk.right[part])

    def _add(self, name: str, start: int, stop: int, top: Tensor, matrices: Tensor) -> None:
        """Steps start..stop-1: contributions exp(top) matrices, [c] and [c, R, Q]."""
        rows = matrices.flatten(1)
        norm = torch.linalg.vector_norm(rows, dim=1).double()
        self.log_norm[name][start:stop] = (top + norm.log()).cpu().numpy()
        self._sum(name, torch.where(norm == 0, -torch.inf, top), matrices)
        if name in self._later:
            row, its_norm = self._later[name]
            rows, norm = torch.cat([rows, row]), torch.cat([norm, its_norm])
        lengths = norm[1:] * norm[:-1]
        cosine = torch.where(lengths == 0, torch.nan, (rows[1:] * rows[:-1]).sum(1) / lengths)
        self.cosine[name][start + 1 : start + 1 + len(cosine)] = cosine.cpu().numpy()
        self._later[name] = rows[:1].clone(), norm[:1]

    def _sum(self, name: str, top: Tensor, matrices: Tensor) -> None:
        highest = float(top.max())
        if highest == -np.inf:
            return
        mantissa = self.mantissa[name]
        if not mantissa.any():
            self.log[name] = highest
        elif highest > self.log[name]:
            mantissa *= np.exp(self.log[name] - highest)
            self.log[name] = highest
        weights = (top - self.log[name]).exp()
        mantissa += torch.tensordot(weights.to(matrices.dtype), matrices, dims=1)


def _versions(module: nn.Module) -> tuple[int, ...]:
    return tuple(parameter._version for parameter in module.parameters())


def _residuals(found: TemporalContributions) -> dict[str, float]:
    """PyTorch's own module in float64, step by step: the gradients of its parameters against the sums."""
    from rnnvg.bptt.certificate import map_state, module_step

    origin = found.origin
    if origin is None or _versions(origin.module) != origin.versions:
        raise InputError("`module` has had a weight changed since; compute the contributions again before verify().")
    module = plain_module(origin.module).double().requires_grad_()
    inputs = arguments.module_inputs(module, origin.inputs.double())
    state = map_state(origin.state, lambda part: part.detach().double())
    layers = arguments.module_state(module, state, inputs)
    parts = [h for h, _ in layers] + [c for _, c in layers if c is not None]
    step, losses = module_step(module, len(layers)), []
    with torch.enable_grad():
        for t, x in enumerate(inputs):
            parts = step(x, parts)
            losses.append((parts[len(layers) - 1] * origin.output_grad[t].double()).sum())
            if t in origin.state_grads:
                whole = torch.cat([part for layer in range(len(layers)) for part in parts[layer :: len(layers)]], -1)
                losses.append((whole * origin.state_grads[t].double()).sum())
        gradients = torch.autograd.grad(torch.stack(losses).sum(), [getattr(module, name) for name in found.names])
    residuals = {}
    for name, wanted in zip(found.names, gradients, strict=True):
        error = torch.linalg.vector_norm(found.total[name].double() - wanted)
        residuals[name] = float(error / torch.linalg.vector_norm(wanted)) if error != 0 else 0.0
    return residuals
