"""What each time step adds to the gradient of each parameter.

    dL/dW = sum_t d+L/dW|_t        (Pascanu, Mikolov and Bengio 2013)

Each step's matrix is a sum of rank-one matrices (adjoint x input, one per sequence) whose lengths are kept as logs: 10^-3000
is measured as well as 10^-3. Only a few steps' matrices exist at a time; the shares of the total need the total first, so
the rank-one factors are kept until then, or made twice where they are too many.
Axes: T steps, B sequences, N state coordinates.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from rnnvg.bptt import arguments
from rnnvg.bptt.certificate import Certificate
from rnnvg.bptt.stack import ModuleLinearization
from rnnvg.bptt.stepping import initial_parts, map_state, module_step, whole_state, widened
from rnnvg.bptt.weights import plain_module
from rnnvg.bptt.why.rank_one import Chunk, FirstPass, chunks_of, totals
from rnnvg.errors import InputError, check_int, check_name
from rnnvg.horizon import NATS_PER_DECADE
from rnnvg.notebook import Shown
from rnnvg.pytorch import vector_norm

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

KEEP_BYTES = 2**27  # beyond this the adjoints are followed a second time instead of kept
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
        """PyTorch's own module in float64, step by step: the gradients of its parameters."""
        module = plain_module(self.module).double().requires_grad_()
        inputs = arguments.module_inputs(module, self.inputs.double())
        state = map_state(self.state, widened)
        parts, step = initial_parts(module, state, inputs), module_step(module)
        losses: list[Tensor] = []
        layers = int(getattr(module, "num_layers", 1))
        with torch.enable_grad():
            for t, x in enumerate(inputs):
                parts = step(x, parts)
                losses.append((parts[layers - 1] * widened(self.output_grad[t]).conj()).sum().real)
                if t in self.state_grads:
                    losses.append((whole_state(parts, layers) * widened(self.state_grads[t]).conj()).sum().real)
            return list(torch.autograd.grad(torch.stack(losses).sum(), [getattr(module, name) for name in names]))


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

    def verify(self) -> Certificate:
        """Compare the total with float64 autograd: `.weights` has ||total - autograd|| / ||autograd|| by parameter.

        Raises:
            InputError: a weight was changed since.
        """
        origin = self.origin
        if isinstance(origin, str):
            raise InputError(origin)
        if origin is None or arguments.weight_versions(origin.module) != origin.versions:
            raise InputError("A weight of `module` has changed since; compute the contributions again before verify().")
        residuals: dict[str, float] = {}
        for name, wanted in zip(self.names, origin.gradients(self.names), strict=True):
            error = vector_norm(self.total[name].double() - wanted)
            residuals[name] = float(error / vector_norm(wanted)) if error != 0 else 0.0
        return Certificate.of([], 0, next(iter(self.total.values())).dtype, residuals)

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
            finite = np.where(np.isfinite(self.log_norm[name]), self.log_norm[name], np.nan) / NATS_PER_DECADE
            seen = plots.seen_points(finite)
            plots.line(ax, seen, finite[seen], label=name, linestyle="--" if "bias" in name else "-")
        return plots.lettered(ax, "time step", "log10 of its contribution's norm", str(self))

    def __str__(self) -> str:
        """How much of the update the last steps before the loss make.

        A share of the last steps says something where all sequences have one loss, at one step. Where losses are many, or
        sequences end at different steps, "the last steps" of one are the first of another, and the sentence says so.
        """
        T = self.n_steps
        if np.isnan(self.shares()).all():
            return f"over {T} steps: the gradient of every parameter is zero"
        if self.losses is None:
            return f"over {T} steps with losses at several: no share of the last steps is defined; to_frame() has every step's"
        ends = np.unique(self.losses[self.losses >= 0])
        if len(ends) > 1:
            where = f"{ends[0]} to {ends[-1]}"
            return f"sequences end at steps {where}: no share of the last steps is defined; to_frame() has every step's"
        end = int(ends[0]) + 1
        last = min(RECENT, end)
        share = float(self.shares()[end - last : end].sum())
        return f"the last {last} of {end} steps make {100 * share:.3g} % of the update"


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
    first, size = FirstPass(linear.n_steps), 0
    kept: list[Chunk] = []
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
    losses = _only_losses(output_grad, grads)
    return TemporalContributions(
        first.log_norm, share, first.cosine, log_norm_total, total, linear.note, losses, origin
    )


def _only_losses(output_grad: Tensor, state_grads: Mapping[int, Tensor]) -> np.ndarray | None:
    """The step of each sequence's only loss, [B], -1 where a sequence has none; None where a sequence has several.

    Args:
        output_grad: direct gradients at the output, [T, B, P].
        state_grads: step -> direct gradient of the whole state after it, [B, N].
    """
    read = (output_grad != 0).any(-1)
    for step, grad in state_grads.items():
        read[step] |= (grad != 0).any(-1).to(read.device)
    if bool((read.sum(0) > 1).any()):
        return None
    steps = torch.arange(len(read), device=read.device)[:, None]
    return torch.where(read, steps, -1).max(0).values.cpu().numpy()
