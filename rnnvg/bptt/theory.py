"""What theory says about gradients of untrained networks: mean field for tanh, and wide limits of PyTorch's initialisation.

A prediction is a curve like the measured one, in nats relative to one step back; `overlay` sets the two side by side.
Axes: K distances, M independently initialised networks.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from rnnvg.bptt import arguments, wide_limit
from rnnvg.bptt.linearize import module_layers
from rnnvg.bptt.mean_field import (
    EPS,
    MeanField,
    Side,
    check_sigma_w,
    check_variance,
    critical_sigma_w,
    growth_as_text,
    mean_field,
    side_of_edge,
)
from rnnvg.bptt.overlay import Overlay, overlay
from rnnvg.bptt.wide_limit import DEFAULT_SIGMA_W
from rnnvg.errors import InputError, check_float, check_int, check_name
from rnnvg.horizon import slope

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

__all__ = [
    "CELLS",
    "MeanField",
    "Overlay",
    "WidePrediction",
    "critical_sigma_w",
    "mean_field",
    "overlay",
    "predict",
    "predict_for",
]

CELLS = ("rnn", "rnn-relu", "lstm", "gru")
EDGE_ERROR = 8 * EPS  # rounding of a growth at the zero state: a sigmoid, two products and a sum
BIASES_DIFFER = 2.0  # times the default standard deviation; chrono initialisation is far beyond
WEIGHTS_DIFFER = 0.1  # relative; a default initialisation's standard deviation scatters by less from H = 8 on


@dataclass(frozen=True)
class WidePrediction:
    """The gradient's decay in a wide untrained network, from theory.

    Attributes:
        cell: "rnn", "rnn-relu", "lstm" or "gru".
        log_gain: [K] nats relative to distance 1, ln of the root mean square over random covectors and networks, which for
            wide networks is the geometric mean too; nan at distance 0.
        q: variance of a gate's (or unit's) preactivation.
        edge: growth a step at the zero state: sigma_w for an RNN; f + i o sigma_w for an LSTM and z + (1-z) r sigma_w for a
            GRU with the gates' values at zero input. Above 1 that state is unstable.
        warning: a sentence where the setting is past the edge or outside what the theory assumes; None otherwise.
        side: "below the edge", "at the edge" (the growth is 1 to within rounding) or "past the edge"; for a tanh RNN of the
            edge of chaos, chi = 1.

    Holds for one layer, distances well below the width, gates that inputs make independent from step to step, and
    independent weights of zero mean; see rnnvg.bptt.wide_limit. Source: Chen et al. 2018; Gilboa et al. 2019; Can,
    Krishnamurthy and Schwab 2020.
    """

    cell: str
    log_gain: np.ndarray
    q: float
    edge: float
    warning: str | None
    side: Side

    @property
    def rate(self) -> float:
        """Nats a step: the least-squares slope of `log_gain`, as a measured curve's rate is."""
        return slope(self.log_gain)

    def to_frame(self) -> pd.DataFrame:
        """A row per distance; columns distance, log_gain (nats), log10_gain."""
        import pandas as pd

        distance = np.arange(len(self.log_gain))
        return pd.DataFrame(
            {"distance": distance, "log_gain": self.log_gain, "log10_gain": self.log_gain / math.log(10)}
        )

    def plot(self, ax: Axes | None = None) -> Axes:
        """log10 of the predicted gain against distance, dashed. Returns the Axes."""
        from rnnvg.bptt import figures

        ax = figures.new_axes() if ax is None else ax
        ax.plot(self.log_gain / math.log(10), color="black", linestyle="--", label=f"theory, wide {self.cell}")
        ax.set_xlabel("distance back from the loss (time steps)")
        ax.set_ylabel("log10 gain of the gradient")
        ax.legend(frameon=False)
        return ax

    def __str__(self) -> str:
        said = f"wide {self.cell}: {self.rate:+.4g} nats a step over {len(self.log_gain) - 1} steps"
        if self.side == "at the edge":
            said += ", at the edge"
        return said if self.warning is None else f"{said} ({self.warning})"


def predict(
    cell: str,
    *,
    hidden: int,
    input_size: int,
    input_variance: float = 1.0,
    forget_bias: float = 0.0,
    bias: bool = True,
    sigma_w: float = DEFAULT_SIGMA_W,
    steps: int = 100,
) -> WidePrediction:
    """The gradient's curve in a wide network with PyTorch's default initialisation.

    Args:
        cell: "rnn", "rnn-relu", "lstm" or "gru".
        hidden: H, the width; weights and biases are U(-1/sqrt(H), 1/sqrt(H)).
        input_size: I.
        input_variance: mean square of one input feature, at least 0.
        forget_bias: added to the sum of both bias vectors of the forget gate (GRU: of the update gate).
        bias: whether the module has bias vectors.
        sigma_w: standard deviation of the recurrent weights times sqrt(H); 1/sqrt(3) by default.
        steps: largest distance, at least 2.

    Raises:
        InputError: an argument that does not fit: which, what was found, what to pass.

    >>> lstm = predict("lstm", hidden=10**9, input_size=1, forget_bias=1.0)
    >>> round(lstm.edge, 4), predict("lstm", hidden=512, input_size=2, forget_bias=2.0).warning is None
    (0.8754, False)
    """
    return _predict(
        cell,
        hidden=hidden,
        input_size=input_size,
        input_variance=input_variance,
        forget_bias=forget_bias,
        bias=bias,
        sigma_w=sigma_w,
        steps=steps,
    )


def _predict(
    cell: str,
    *,
    hidden: int,
    input_size: int,
    input_variance: float,
    forget_bias: float,
    bias: bool,
    sigma_w: float,
    steps: int,
    bias_error: float = 0.0,
) -> WidePrediction:
    """`predict` for a forget bias that is known to within `bias_error`."""
    check_name("cell", cell, CELLS)
    hidden = check_int("hidden", hidden, least=1)
    per_feature = check_variance("input_variance", input_variance)
    forget_bias = check_float("forget_bias", forget_bias)
    if forget_bias and cell not in ("lstm", "gru"):
        raise InputError(f"`forget_bias` is {forget_bias:g} and a {cell} has no such gate; pass 0, or an lstm or gru.")
    sigma_w, steps = check_sigma_w(sigma_w), check_int("steps", steps, least=2)
    inputs = check_int("input_size", input_size, least=1) * per_feature / (3 * hidden)
    biases = 2 / (3 * hidden) if bias else 0.0
    if cell == "rnn":
        field = mean_field(sigma_w, inputs + biases)
        return _prediction(cell, np.arange(steps) * field.rate, field.q, sigma_w, field.side, field.warning)
    if cell == "rnn-relu":  # half of the units are open whatever q is; E h^2 = q / 2
        rate = 0.5 * math.log(sigma_w**2 / 2)
        q = (inputs + biases) / (1 - sigma_w**2 / 2) if sigma_w**2 < 2 else math.inf
        edge = sigma_w / math.sqrt(2)
        return _prediction(cell, np.arange(steps) * rate, q, edge, side_of_edge(edge, EDGE_ERROR))
    moments_of = wide_limit.lstm_moments if cell == "lstm" else wide_limit.gru_moments
    moments = moments_of(sigma_w, inputs, biases, forget_bias)
    norms = wide_limit.log_norms(moments, sigma_w, steps, has_cell=cell == "lstm")
    edge = _edge(cell, sigma_w, forget_bias)
    side = side_of_edge(edge, EDGE_ERROR + bias_error / 4)  # a sigmoid's slope is at most 1/4
    warning = _forget_warning(edge, sigma_w, forget_bias) if cell == "lstm" and side == "past the edge" else None
    return _prediction(cell, norms - norms[0], moments.q, edge, side, warning)


def predict_for(module: nn.Module, inputs: Tensor, *, steps: int = 100) -> WidePrediction:
    """`predict` for an nn.RNN, nn.LSTM or nn.GRU as it was initialised: its sizes and biases, and its inputs' mean square.

    Raises:
        InputError: another module, or more than one layer (the second layer's inputs are not independent).
    """
    if not isinstance(module, (nn.RNN, nn.LSTM, nn.GRU)):
        raise InputError(f"`module` is a {type(module).__name__}; pass an nn.RNN, nn.LSTM or nn.GRU.")
    arguments.check_module(module, "module")
    if module.num_layers > 1 or module.proj_size:
        raise InputError(
            f"`module` has {module.num_layers} layers and proj_size {module.proj_size}; the theory is for one layer without "
            "a projection: pass such a module."
        )
    sequence = arguments.module_inputs(module, inputs)
    H, weights = module.hidden_size, module_layers(module)[0].weights
    cell = "rnn-relu" if getattr(module, "nonlinearity", "") == "relu" else type(module).__name__.lower()
    carry = bias_error = 0.0
    if weights.bias is not None and cell in ("lstm", "gru"):
        carry = float(weights.bias[H : 2 * H].double().mean())
        bias_error = torch.finfo(weights.bias.dtype).eps * abs(carry)
    found = _predict(
        cell,
        hidden=H,
        input_size=module.input_size,
        input_variance=float(sequence.double().square().mean()),
        forget_bias=carry,
        bias=module.bias,
        sigma_w=DEFAULT_SIGMA_W,
        steps=steps,
        bias_error=bias_error,
    )
    outside = _outside(weights.hidden, weights.bias, cell, H)
    if not outside:
        return found
    said = "; ".join(outside)
    warning = said + "." if found.warning is None else f"{found.warning[:-1]}; {said}."
    return dataclasses.replace(found, warning=warning)


def _outside(hidden: Tensor, bias: Tensor | None, cell: str, H: int) -> list[str]:
    """In what ways a module's weights are not those that the theory is for."""
    said = []
    spread = float(hidden.double().square().mean().sqrt()) * math.sqrt(3 * H)
    if abs(spread - 1) > WEIGHTS_DIFFER:
        said.append(
            f"the recurrent weights are {spread:.3g} times as large as PyTorch's default, which the theory assumes"
        )
    if bias is not None and cell in ("lstm", "gru") and H > 1:
        carry = bias[H : 2 * H].double()
        wide, usual = float(carry.std()), math.sqrt(2 / (3 * H))
        if wide > BIASES_DIFFER * usual:
            gate = "forget" if cell == "lstm" else "update"
            said.append(
                f"the {gate} gate's biases are spread by {wide:.3g}, and the theory takes one value for all units"
            )
    return said


def _edge(cell: str, sigma_w: float, forget_bias: float) -> float:
    """Spectral radius of the zero state's Jacobian: carry + input gate x output gate (or reset) x sigma_w."""
    carry = 1 / (1 + math.exp(-forget_bias))
    return carry + (0.25 if cell == "lstm" else 0.5 * (1 - carry)) * sigma_w


def _forget_warning(edge: float, sigma_w: float, forget_bias: float) -> str | None:
    room = 1 - 0.25 * sigma_w
    if room <= 0:
        return None
    return (
        f"a forget bias of {forget_bias:.4g}, the sum of both bias vectors, is past the edge ({growth_as_text(edge)} > 1 a "
        f"step at the zero state, which is unstable); keep it below {math.log(room / (1 - room)):.3g}."
    )


def _prediction(
    cell: str, log_gain: np.ndarray, q: float, edge: float, side: Side, warning: str | None = None
) -> WidePrediction:
    if side == "past the edge" and warning is None and cell != "rnn":
        warning = (
            f"the setting is past the edge ({growth_as_text(edge)} > 1 a step at the zero state, which is unstable)."
        )
    return WidePrediction(cell, np.concatenate([[np.nan], log_gain]), q, edge, warning, side)
