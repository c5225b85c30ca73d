"""The chain: n layers of one neuron, the smallest network in which a gradient vanishes.

    z_i = w a_{i-1},   a_i = f(z_i),   L = a_n        dL/dw_i = a_{i-1} f'(z_i) prod_{j > i} w f'(z_j)

The chain rule is written out in logs beside what the analyzer's sweep and autograd measure on the same chain. The 0.25^n of
the textbooks is the slope's part alone, and at its largest; the weights decide the rest. Activations are kept as a sign and a
log as well: a ReLU's 0.17^1000 is no float64.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from rnnvg.depth.activations import activation
from rnnvg.depth.blocks import BlockLinearization, Step
from rnnvg.depth.gradients import follow
from rnnvg.errors import check_float, check_int, check_name
from rnnvg.horizon import NATS_PER_DECADE

if TYPE_CHECKING:
    import pandas as pd

RULE_OF_THUMB = 0.2  # "a sigmoid layer leaves about a fifth"
# Beyond these a slope no longer depends on the activation's size: tanh's is 1 below, a ReLU's the sign's everywhere.
_SMALLEST, _LARGEST = 1e-150, 1e150


@dataclass(frozen=True)
class Chain:
    """A chain's forward pass and the gradient of its output by every weight.

    Attributes:
        layers, weight, activation, input: what it was built from.
        values: [n + 1], a_0 (the input) to a_n; 0 where float64 has no such number.
        preactivations: [n], z_1 to z_n.
        slopes: [n], f'(z_i).
        log_by_hand: [n], ln |dL/dw_i|, i = 1..n, by the chain rule written out; -inf is an exact zero.
        log_by_sweep: [n], the same by the analyzer's sweep over autograd's slopes. Autograd's own slope of a saturated unit
            is rounded (1 - a^2 with a near 1), so the two part where |z| is in the tens.
        by_autograd: [n], dL/dw_i by plain float64 autograd, signed: exactly 0 where it has underflowed.
        log_of_activation: [n], the same chain rule with the slope taken of the activation, f'(a_i) for f'(z_i): the widely
            copied mistake.
    """

    layers: int
    weight: float
    activation: str
    input: float
    values: np.ndarray
    preactivations: np.ndarray
    slopes: np.ndarray
    log_by_hand: np.ndarray
    log_by_sweep: np.ndarray
    by_autograd: np.ndarray
    log_of_activation: np.ndarray

    @property
    def log_ratio(self) -> float:
        """ln of the first weight's gradient over the last one's; nan where both are exact zeros."""
        first, last = self.log_by_hand[0], self.log_by_hand[-1]
        return math.nan if math.isinf(first) and math.isinf(last) else float(first - last)

    @property
    def residual(self) -> float:
        """Largest difference of `log_by_hand` and `log_by_sweep`, relative to the log where that is above 1."""
        same = self.log_by_hand == self.log_by_sweep  # two exact zeros agree
        if same.all():
            return 0.0
        by_hand, by_sweep = self.log_by_hand[~same], self.log_by_sweep[~same]
        return float((np.abs(by_hand - by_sweep) / np.maximum(1.0, np.abs(by_hand))).max())

    def to_frame(self) -> pd.DataFrame:
        """A row per layer, the first first.

        Columns: layer; value a_i; slope f'(z_i); log10_gradient (by hand); log10_by_sweep; log10_of_activation (the mistake);
        log10_slope_bound, the largest slope to the power of the layers above, which leaves the weights out; log10_bound,
        the same with |w|, which really is a bound on what the layers above leave; log10_rule, 0.2 to that power.
        """
        import pandas as pd

        above = np.arange(self.layers - 1, -1, -1)
        largest = math.log10(max_slope(self.activation))
        weight = math.log10(abs(self.weight)) if self.weight else -math.inf
        return pd.DataFrame(
            {
                "layer": np.arange(1, self.layers + 1),
                "value": self.values[1:],
                "slope": self.slopes,
                "log10_gradient": self.log_by_hand / NATS_PER_DECADE,
                "log10_by_sweep": self.log_by_sweep / NATS_PER_DECADE,
                "log10_of_activation": self.log_of_activation / NATS_PER_DECADE,
                "log10_slope_bound": above * largest,
                "log10_bound": [k * (largest + weight) if k else 0.0 for k in above],
                "log10_rule": above * math.log10(RULE_OF_THUMB),
            }
        )


def max_slope(name: str) -> float:
    """The largest slope of a chain's activation: 0.25 for the sigmoid, 1 for tanh and ReLU."""
    return math.exp(_FUNCTIONS[name].log_slope(1e-300))


def chain(layers: int = 20, weight: float = 0.17, activation: str = "sigmoid", input: float = 1.0) -> Chain:
    """Build the chain, run it and follow its gradient back, three ways.

    Args:
        layers: n, at least 1; a thousand are no trouble.
        weight: w, of every layer.
        activation: "sigmoid", "tanh" or "relu".
        input: a_0.

    Raises:
        InputError: no layers, an unknown activation (with the nearest right name), a number that is not finite.

    >>> line = chain(layers=1000, weight=0.5, activation="relu")
    >>> bool(np.isclose(line.log_by_hand[0], 999 * np.log(0.5), rtol=1e-12))
    True
    """
    layers = check_int("layers", layers, least=1)
    weight, start = check_float("weight", weight), check_float("input", input)
    function = _FUNCTIONS[check_name("activation", activation, _FUNCTIONS)]
    signs, logs, z = _forward(layers, weight, function, start)
    with np.errstate(over="ignore", under="ignore"):
        values = signs * np.exp(logs)
    in_range = signs * np.clip(np.abs(values), _SMALLEST, _LARGEST)
    log_slopes = np.array([function.log_slope(each) for each in z])
    mistaken = np.array([function.log_slope(each) for each in in_range[1:]])
    blocks = _blocks(layers, weight, activation)
    return Chain(
        layers=layers,
        weight=weight,
        activation=activation,
        input=start,
        values=values,
        preactivations=z,
        slopes=np.exp(log_slopes),
        log_by_hand=_chain_rule(logs, log_slopes, weight),
        log_by_sweep=_sweep(blocks, in_range, logs),
        by_autograd=_autograd(blocks, start),
        log_of_activation=_chain_rule(logs, mistaken, weight),
    )


@dataclass(frozen=True)
class _Function:
    """An activation by its logs: ln|f(z)| from (sign, ln|z|) with its sign, and ln f'(z) from z."""

    value: Callable[[float, float], tuple[float, float]]
    log_slope: Callable[[float], float]


def _log_sigmoid(z: float) -> float:
    return -math.log1p(math.exp(-z)) if z > 0 else z - math.log1p(math.exp(z))


def _tanh(sign: float, log: float) -> tuple[float, float]:
    # Below e^-20 tanh z is z to the last digit; math.tanh is exact to rounding above.
    return sign, log if log < -20 else math.log(math.tanh(_exp(log)))


def _log_tanh_slope(z: float) -> float:
    return 2 * (math.log(2) - abs(z) - math.log1p(math.exp(-2 * abs(z))))


def _exp(log: float) -> float:
    return math.exp(log) if log < 709 else math.inf


_FUNCTIONS = {
    "sigmoid": _Function(
        lambda sign, log: (1.0, _log_sigmoid(sign * _exp(log))),
        lambda z: _log_sigmoid(z) + _log_sigmoid(-z),
    ),
    "tanh": _Function(_tanh, _log_tanh_slope),
    "relu": _Function(
        lambda sign, log: (1.0, log) if sign > 0 else (0.0, -math.inf), lambda z: 0.0 if z > 0 else -math.inf
    ),
}


def _forward(
    layers: int, weight: float, function: _Function, start: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Signs and logs of a_0 to a_n, [n + 1] each, and z_1 to z_n, the last never rounded to 0: its sign is the slope."""
    log_weight = math.log(abs(weight)) if weight else -math.inf
    sign, log = float(np.sign(start)), math.log(abs(start)) if start else -math.inf
    signs, logs, z = [sign], [log], []
    for _ in range(layers):
        sign, log = sign * float(np.sign(weight)), log + log_weight
        z.append(sign * min(max(_exp(log), _SMALLEST), _LARGEST) if sign else 0.0)
        sign, log = function.value(sign, log)
        signs.append(sign)
        logs.append(log)
    return np.array(signs), np.array(logs), np.array(z)


def _chain_rule(logs: np.ndarray, log_slopes: np.ndarray, weight: float) -> np.ndarray:
    """ln |a_{i-1}| + ln f'(z_i) + sum over j > i of ln |w f'(z_j)|, [n]."""
    log_factors = log_slopes + (math.log(abs(weight)) if weight else -math.inf)
    above = np.concatenate([np.cumsum(log_factors[:0:-1])[::-1], [0.0]])
    return logs[:-1] + log_slopes + above


def _blocks(layers: int, weight: float, name: str) -> list[nn.Sequential]:
    with torch.random.fork_rng(devices=[]):  # nn.Linear draws weights, which are overwritten
        linear = nn.Linear(1, 1, bias=False, dtype=torch.float64)
    nn.init.constant_(linear.weight, weight)
    return [nn.Sequential(copy.deepcopy(linear), activation(name).module()) for _ in range(layers)]


def _sweep(blocks: list[nn.Sequential], values: np.ndarray, logs: np.ndarray) -> np.ndarray:
    """ln |dL/dw_i| by the analyzer, [n]; each block runs on its own activation, `values` the ones in float64's range."""
    steps = []
    with torch.enable_grad():
        for block, value in zip(blocks, values[:-1], strict=True):
            before = torch.full((1, 1), float(value), dtype=torch.float64, requires_grad=True)
            steps.append(Step(before, block(before), (block[0].weight,)))  # type: ignore[arg-type]
    found = follow(BlockLinearization(steps, whole_batch=True), torch.ones(1, 1, 1, dtype=torch.float64)).log_weight
    with np.errstate(divide="ignore", invalid="ignore"):
        return found + np.where(values[:-1] == 0, 0.0, logs[:-1] - np.log(np.abs(values[:-1])))


def _autograd(blocks: list[nn.Sequential], start: float) -> np.ndarray:
    with torch.enable_grad():
        point: Tensor = torch.full((1, 1), start, dtype=torch.float64)
        weights = [parameter for block in blocks for parameter in block.parameters()]
        return np.array([float(grad) for grad in torch.autograd.grad(nn.Sequential(*blocks)(point).sum(), weights)])
