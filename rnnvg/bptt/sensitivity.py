"""parameter_sensitivity(): how strongly a recurrence's state depends on its parameters, beside how far its gradient reaches.

A recurrence that keeps its state adds up the effect of a parameter over all the steps that it keeps: the sensitivity grows
with memory even where no gradient explodes, the "curse of memory" of Zucchet and Orvieto (2024). For h_t = a h_{t-1} + x_t on
white input of variance 1, E h^2 = 1 / (1 - a^2) and E (dh/da)^2 = (1 + a^2) / (1 - a^2)^3.
Axes: T steps, B sequences, N coordinates of the output.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from rnnvg.bptt import arguments
from rnnvg.bptt.profile import gradient_profile
from rnnvg.bptt.stepping import map_state, widened
from rnnvg.errors import InputError, check_int
from rnnvg.horizon import MemoryHorizon
from rnnvg.notebook import Shown
from rnnvg.pytorch import gradients

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


@dataclass(frozen=True, repr=False)
class ParameterSensitivity(Shown):
    """The mean square of d(output)/d(parameter), summed over a parameter's entries and averaged over output coordinates.

    Attributes:
        by_step: parameter name -> [T] the mean over sequences at each step.
        mean: parameter name -> the mean over the steps after the burn-in.
        stderr: parameter name -> its standard error over sequences; nan for one sequence.
        entries: parameter name -> how many numbers it holds.
        output_square: the mean square of the output over the same steps.
        horizon: of the state's gradient along the same inputs, at 1/e.
        burn_in: steps left out of the means.
        exact: whether every entry was differentiated; otherwise random directions estimate the sums.

    >>> import torch, rnnvg
    >>> found = rnnvg.parameter_sensitivity(torch.nn.RNN(2, 4), torch.randn(60, 2, 2))
    >>> sorted(found.mean)
    ['bias_hh_l0', 'bias_ih_l0', 'weight_hh_l0', 'weight_ih_l0']
    """

    by_step: dict[str, np.ndarray]
    mean: dict[str, float]
    stderr: dict[str, float]
    entries: dict[str, int]
    output_square: float
    horizon: MemoryHorizon
    burn_in: int
    exact: bool

    def to_frame(self) -> pd.DataFrame:
        """A row per parameter: parameter, entries, sensitivity, stderr, output_square, ratio, horizon."""
        import pandas as pd

        return pd.DataFrame(
            [
                {
                    "parameter": name,
                    "entries": self.entries[name],
                    "sensitivity": self.mean[name],
                    "stderr": self.stderr[name],
                    "output_square": self.output_square,
                    "ratio": self.mean[name] / self.output_square if self.output_square else math.nan,
                    "horizon": self.horizon.last,
                }
                for name in self.mean
            ]
        )

    def plot(self, ax: Axes | None = None) -> Axes:
        """Sensitivity against the step, a line per parameter, on a log axis. Returns the Axes."""
        from rnnvg.bptt import plots

        ax = plots.new_axes() if ax is None else ax
        for name, values in self.by_step.items():
            shown = np.where(values > 0, values, np.nan)
            seen = plots.seen_points(shown)
            plots.line(ax, seen, shown[seen], label=name)
        ax.set(yscale="log")
        return plots.lettered(
            ax, "time step", "mean square of d(output) / d(parameter)", f"gradient horizon: {self.horizon}"
        )

    def __str__(self) -> str:
        name = max(self.mean, key=lambda each: self.mean[each])
        return (
            f"Mean square of the output {self.output_square:.4g}, of its derivative by `{name}` {self.mean[name]:.4g}; the "
            f"gradient's horizon is {self.horizon}."
        )


def parameter_sensitivity(
    recurrence: nn.Module | Callable[..., Any],
    inputs: Tensor,
    state: Any = None,
    *,
    parameters: Mapping[str, Tensor] | None = None,
    directions: int = 16,
    burn_in: int = 0,
    generator: torch.Generator | None = None,
) -> ParameterSensitivity:
    """E (d output / d parameter)^2 of a recurrence, by exact forward sensitivities along its trajectory.

    Args:
        recurrence: an nn.RNN, nn.LSTM, nn.GRU, one of their cells (copied to float64), or a function step(x_t, state).
        inputs: [T, B, I] (or [B, T, I] where the module says batch_first).
        state: the initial state; None for zeros (a step function needs one).
        parameters: name -> tensor, of those that a step function uses; each requires a gradient. None takes a module's own.
        directions: a parameter of more entries is followed along so many random directions, which estimate its sum.
        burn_in: steps to leave out of the means.
        generator: for the random directions; None is a fresh one seeded 0.

    Raises:
        InputError: an argument that does not fit; a parameter that the output does not depend on is 0, not an error.

    Source: Zucchet and Orvieto 2024, "Recurrent neural networks: vanishing and exploding gradients are not the end of the
    story".

    >>> decay = torch.tensor(0.9, dtype=torch.float64, requires_grad=True)
    >>> x = torch.ones(3, 1, 1, dtype=torch.float64)
    >>> found = parameter_sensitivity(lambda x, h: decay * h + x, x, torch.zeros(1, 1).double(), parameters={"a": decay})
    >>> found.by_step["a"]  # h = 1, 1 + a, 1 + a + a^2
    array([0.  , 1.  , 7.84])
    """
    directions, burn_in = check_int("directions", directions, least=1), check_int("burn_in", burn_in, least=0)
    subject, inputs, state, chosen = _prepared(recurrence, inputs, state, parameters)
    with torch.inference_mode(False), torch.enable_grad():
        output = _outputs(subject, inputs, state)
        n_steps = output.shape[0]
        if burn_in >= n_steps:
            raise InputError(f"`burn_in` is {burn_in} and `inputs` has {n_steps} steps; pass fewer than {n_steps}.")
        squares = {
            name: _square(output, parameter, directions, generator) for name, parameter in chosen.items()
        }  # [T, B] each
    kept = {name: each[burn_in:] for name, each in squares.items()}
    per_sequence = {name: each.mean(0) for name, each in kept.items()}
    return ParameterSensitivity(
        by_step={name: each.mean(1) for name, each in squares.items()},
        mean={name: float(each.mean()) for name, each in per_sequence.items()},
        stderr={
            name: float(each.std(ddof=1) / math.sqrt(len(each))) if len(each) > 1 else math.nan
            for name, each in per_sequence.items()
        },
        entries={name: parameter.numel() for name, parameter in chosen.items()},
        output_square=float(output.detach()[burn_in:].square().mean()),
        horizon=gradient_profile(subject, inputs, state).horizon(),
        burn_in=burn_in,
        exact=all(parameter.numel() <= directions for parameter in chosen.values()),
    )


def _prepared(
    recurrence: Any, inputs: Tensor, state: Any, parameters: Mapping[str, object] | None
) -> tuple[Any, Tensor, Any, dict[str, Tensor]]:
    """A module in float64 with inputs and state like it, or a function as it is; and the parameters by name."""
    if isinstance(recurrence, (nn.RNNBase, nn.RNNCellBase)):
        arguments.check_module(recurrence)
        arguments.module_state(recurrence, state, arguments.module_inputs(recurrence, inputs))
        module = copy.deepcopy(recurrence).double().requires_grad_()
        named = dict(module.named_parameters())
        unknown = [name for name in parameters or named if name not in named]
        if unknown:
            raise InputError(f"`parameters` names {unknown[0]!r}; the module has {', '.join(named)}.")
        wide = map_state(state, widened)
        return module, inputs.detach().double(), wide, {name: named[name] for name in parameters or named}
    if not parameters:
        raise InputError(
            "`parameters` is empty and `recurrence` is a function; pass a dictionary of the tensors that it uses, by name."
        )
    leaves = {name: each for name, each in parameters.items() if isinstance(each, Tensor)}
    for name in parameters:
        if name not in leaves or not leaves[name].requires_grad or not leaves[name].is_leaf:
            raise InputError(
                f"`parameters` has {name!r}, which is not a leaf tensor that requires a gradient; pass one."
            )
    return recurrence, inputs, state, leaves


def _outputs(recurrence: Any, inputs: Tensor, state: Any) -> Tensor:
    """The output of every step, [T, B, N]."""
    if isinstance(recurrence, nn.RNNBase):
        with torch.backends.cudnn.flags(enabled=False):  # its backward pass cannot be differentiated again
            found = recurrence(inputs, state)[0]
        return found.transpose(0, 1) if recurrence.batch_first else found
    rows: list[Tensor] = []
    for x in inputs:
        state = recurrence(x, state)
        rows.append(state if isinstance(state, Tensor) else state[0])
    return torch.stack(rows)


def _square(output: Tensor, parameter: Tensor, directions: int, generator: torch.Generator | None) -> np.ndarray:
    """The sum over entries of (d output / d entry)^2, averaged over coordinates, [T, B].

    The pullback is linear in its covector, and its own derivative by that covector along a direction u is J u at every step
    at once.
    """
    total = torch.zeros(output.shape[:2], dtype=torch.float64, device=output.device)
    if not output.requires_grad:
        return total.cpu().numpy()
    covector = torch.zeros_like(output, requires_grad=True)
    (pulled,) = gradients(output, [parameter], covector, create=True)
    if pulled is None or not pulled.requires_grad:
        return total.cpu().numpy()
    n = parameter.numel()
    if n <= directions:
        drawn, weight = torch.eye(n, dtype=torch.float64), 1.0
    else:
        generator = torch.Generator().manual_seed(0) if generator is None else generator
        drawn = torch.randn(directions, n, generator=generator, dtype=torch.float64, device=generator.device)
        weight = 1 / directions
    for each in drawn.to(parameter):
        (tangent,) = torch.autograd.grad(pulled, covector, each.view_as(parameter), retain_graph=True)
        total += weight * tangent.double().square().flatten(2).mean(2)
    return total.detach().cpu().numpy()
