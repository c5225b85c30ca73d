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

from rnnvg.bptt import arguments, cells
from rnnvg.bptt.gaussian import Moments, Side
from rnnvg.bptt.linearize import module_layers
from rnnvg.bptt.theory.mean_field import check_sigma_w, check_variance
from rnnvg.errors import InputError, check_float, check_int, check_name
from rnnvg.horizon import NATS_PER_DECADE, half_life, slope
from rnnvg.notebook import Shown

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

CELLS = ("rnn", "rnn-relu", "lstm", "gru")
DEFAULT_SIGMA_W = 1 / math.sqrt(3)  # entries U(-1/sqrt(H), 1/sqrt(H)) have variance 1/(3 H)
BIASES_DIFFER = 2.0  # times the default standard deviation; chrono initialisation is far beyond
WEIGHTS_DIFFER = 0.1  # relative; a default initialisation's standard deviation scatters by less from H = 8 on


@dataclass(frozen=True, repr=False)
class WidePrediction(Shown):
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
    independent weights of zero mean; see `log_norms`. Source: Chen et al. 2018; Gilboa et al. 2019; Can,
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

    @property
    def half_life(self) -> float:
        """Steps, ln 2 / -rate; inf where nothing decays."""
        return half_life(self.rate)

    def to_frame(self) -> pd.DataFrame:
        """A row per distance; columns distance, log_gain (nats), log10_gain."""
        import pandas as pd

        distance = np.arange(len(self.log_gain))
        return pd.DataFrame(
            {"distance": distance, "log_gain": self.log_gain, "log10_gain": self.log_gain / NATS_PER_DECADE}
        )

    def plot(self, ax: Axes | None = None) -> Axes:
        """log10 of the predicted gain against distance, dashed. Returns the Axes."""
        from rnnvg.bptt import plots

        ax = plots.new_axes() if ax is None else ax
        seen = plots.seen_points(self.log_gain)
        log10_gain = self.log_gain[seen] / NATS_PER_DECADE
        plots.line(ax, seen, log10_gain, color="black", linestyle="--", label=f"theory, wide {self.cell}")
        return plots.lettered(ax, plots.BACK, "log10 gain of the gradient")

    def __str__(self) -> str:
        sentence = f"wide {self.cell}: {self.rate:+.4g} nats a step over {len(self.log_gain) - 1} steps"
        if self.side == "at the edge":
            sentence += ", at the edge"
        return sentence if self.warning is None else f"{sentence} ({self.warning})"


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
    return _predict(cell, hidden, input_size, input_variance, forget_bias, bias, sigma_w, steps)


def _predict(
    cell: str,
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
    kind = next(kind for kind in cells.CELLS if cell in kind.theories())
    if forget_bias and kind.carry_gate is None:
        raise InputError(f"`forget_bias` is {forget_bias:g} and a {cell} has no such gate; pass 0, or an lstm or gru.")
    sigma_w, steps = check_sigma_w(sigma_w), check_int("steps", steps, least=2)
    inputs = check_int("input_size", input_size, least=1) * per_feature / (3 * hidden)
    limit = kind.theories()[cell](sigma_w, inputs, 2 / (3 * hidden) if bias else 0.0, forget_bias, bias_error)
    norms = log_norms(limit.moments, sigma_w, steps)
    log_gain = np.concatenate([[np.nan], norms - norms[0]])
    return WidePrediction(cell, log_gain, limit.moments.q, limit.edge, limit.warning, limit.side)


def predict_for(module: nn.Module, inputs: Tensor, *, steps: int = 100) -> WidePrediction:
    """`predict` for an nn.RNN, nn.LSTM or nn.GRU as it was initialised: its sizes and biases, and its inputs' mean square.

    Raises:
        InputError: another module, or more than one layer (the second layer's inputs are not independent).
    """
    if cells.cell_of(module) is None:
        raise InputError(f"`module` is a {type(module).__name__}; pass an nn.RNN, nn.LSTM or nn.GRU.")
    arguments.check_module(module, "module")
    layer, *more = module_layers(module)
    projected = layer.parts[0].width != layer.parts[-1].width
    if more or projected:
        raise InputError(
            f"`module` has {1 + len(more)} layers and proj_size {layer.parts[0].width if projected else 0}; the theory is for "
            "one layer without a projection: pass such a module."
        )
    recurrent = layer.recurrent()
    if layer.theory is None or recurrent is None:
        raise InputError(
            f"`module` is a {type(module).__name__}, of which there is no theory; pass an nn.RNN, nn.LSTM or nn.GRU."
        )
    sequence = arguments.module_inputs(module, inputs, [layer])
    hidden = recurrent.shape[1]
    bias, forget_bias, bias_error = layer.carry_bias(), 0.0, 0.0
    if bias is not None:
        forget_bias = float(bias.double().mean())
        bias_error = torch.finfo(bias.dtype).eps * abs(forget_bias)
    found = _predict(
        layer.theory,
        hidden,
        layer.n_inputs,
        float(sequence.double().square().mean()),
        forget_bias,
        bool(getattr(module, "bias", True)),
        DEFAULT_SIGMA_W,
        steps,
        bias_error,
    )
    outside = _outside(recurrent, bias, layer.carry_gate, hidden)
    if not outside:
        return found
    sentences = "; ".join(outside)
    warning = sentences + "." if found.warning is None else f"{found.warning[:-1]}; {sentences}."
    return dataclasses.replace(found, warning=warning)


def _outside(hidden: Tensor, carry_bias: Tensor | None, carry_gate: str | None, H: int) -> list[str]:
    """In what ways a module's weights are not those that the theory is for."""
    found: list[str] = []
    spread = float(hidden.double().square().mean().sqrt()) * math.sqrt(3 * H)
    if abs(spread - 1) > WEIGHTS_DIFFER:
        found.append(
            f"the recurrent weights are {spread:.3g} times as large as PyTorch's default, which the theory assumes"
        )
    if carry_bias is not None and H > 1:
        wide, usual = float(carry_bias.double().std()), math.sqrt(2 / (3 * H))
        if wide > BIASES_DIFFER * usual:
            found.append(
                f"the {carry_gate}'s biases are spread by {wide:.3g}, and the theory takes one value for all units"
            )
    return found


def log_norms(moments: Moments, sigma_w: float, steps: int) -> np.ndarray:
    """ln sqrt(E ||dL/ds||^2) at distances 1..steps from a random covector of length 1 on the output, [steps].

    In the limit of many units a random matrix times a vector is a Gaussian field with the vector's mean square, and what it is
    multiplied by next is independent of it (gradient independence; Gilboa et al. 2019). The recurrent matrix is the *same* at
    every step, so the fields of two steps are correlated as the vectors are (Can, Krishnamurthy and Schwab 2020): with carry d
    and candidate factor g the growth is d + g sigma_w a step, not sqrt(d^2 + g^2 sigma_w^2). So the moments are two-time:

        y_{k+1} = d_k y_k + s_k xi_k,    E xi_k xi_l = sigma_w^2 E (g_k y_k)(g_l y_l)

    y is dL/dh of a GRU or dL/dc + dL/dh dh/dc of an LSTM at distance k, d its update or forget gate, s = o tanh'(c) (GRU: 1),
    and g runs over the gates' factors. Gates are taken as independent from step to step, as independent inputs make them; then
    only the candidate's factor, whose mean is not zero, connects two times.

    Everything is kept over scale^k, so that no step count leaves the range.
    """
    m = moments
    if m.carry == 0:  # nothing connects two steps
        return 0.5 * math.log(sigma_w**2 * m.all_factors) * np.arange(1, steps + 1)
    scale = m.carry + sigma_w * m.candidate * m.slope
    carry, carry_square, joint = m.carry / scale, m.carry_square / scale**2, m.carry_candidate / scale
    slope, slope_square = m.slope / scale, m.slope_square / scale**2
    y_square = m.slope_square if m.has_cell else 1.0
    output_square = 1.0
    fields = np.zeros(steps + 1)  # E xi_k xi_l for the current k and l <= k
    seen = np.zeros(steps + 1)  # E y_k (g_l y_l) for l < k
    squares = np.empty(steps)
    for k in range(steps):
        fields[:k] = sigma_w**2 * m.candidate * seen[:k]
        fields[k] = sigma_w**2 * (m.all_factors * y_square + m.output_path * output_square)
        known = np.zeros(k + 1)  # E xi_k y_l for l <= k
        for earlier in range(1, k + 1):
            known[earlier] = carry * known[earlier - 1] + slope * fields[earlier - 1]
        output_square = fields[k] / scale**2
        cell_square = carry_square * y_square
        seen[:k] = carry * seen[:k] + slope * m.candidate * known[:k]
        seen[k] = joint * y_square + slope * m.candidate * known[k]
        y_square = carry_square * y_square + 2 * carry * slope * known[k] + slope_square * fields[k]
        squares[k] = output_square + cell_square if m.has_cell else y_square
    return 0.5 * np.log(squares) + np.arange(1, steps + 1) * math.log(scale)
