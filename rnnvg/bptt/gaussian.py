"""Means over Gaussian preactivations, and the moments of one backward step that theory asks of a cell.

In the limit of many units a random matrix times a vector is a Gaussian field; what a cell multiplies a gradient by is a
function of such fields, and its mean is an integral.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

STEP = 0.05  # between nodes, in t
FEW = 16  # units of rounding in exp, cosh and tanh, and in their arguments and powers
REACH = 9.0  # standard deviations; exp(-REACH^2 / 2) is below a float64's digits
EPS = float(np.finfo(float).eps)
EDGE_ERROR = 8 * EPS  # rounding of a growth at the zero state: a sigmoid, two products and a sum
Side = Literal["below the edge", "at the edge", "past the edge"]
Function = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Moments:
    """What one backward step multiplies by, averaged over units: carry d, candidate factor g, output slope s.

    `all_factors` is the sum of E factor^2 over every path that starts at y, `output_path` E factor^2 of the one that starts
    at dL/dh (an LSTM's output gate); y is dL/dh, or dL/dc + dL/dh dh/dc where the cell has a `c` of its own. `q` is the
    variance of a gate's preactivation, `state` E h^2.
    """

    q: float
    state: float
    carry: float
    carry_square: float
    candidate: float
    carry_candidate: float
    all_factors: float
    slope: float = 1.0
    slope_square: float = 1.0
    output_path: float = 0.0
    has_cell: bool = False


class WideLimit(NamedTuple):
    """A cell in the limit of many units: its moments; growth a step at the zero state; on which side of the edge that or the
    gradient's growth lies; and a sentence past the edge, or None."""

    moments: Moments
    edge: float
    side: Side
    warning: str | None


# sigma_w; what inputs and biases add to a preactivation's variance, apart; the carrying gate's mean bias, and what it is known
# to -> the limit
Theory = Callable[[float, float, float, float, float], WideLimit]


def gaussian_nodes(variance: float, mean: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights for E f(mean + sqrt(variance) z), z standard normal, f a gate's sigmoid or tanh or a slope of them.

    The trapezoidal rule in t, z = c + w sinh(t): w = 1 / max(1, sqrt(variance)) is the width of f's step as z sees it, and
    c is where the step is. Whatever the variance, f and the Gaussian are then analytic in a strip of half-width pi/4 about the
    real line, poles of tanh included, and the rule's error is below exp(-35), less than rounding (Trefethen, Weideman 2014).
    """
    root = math.sqrt(variance)
    width = 1 / max(1.0, root)
    centre = min(max(-mean / root, -REACH), REACH) if root > 0 else 0.0
    first, last = (math.asinh((end - centre) / width) / STEP for end in (-REACH, REACH))
    t = STEP * np.arange(math.floor(first), math.ceil(last) + 1)
    nodes = centre + width * np.sinh(t)
    weights = np.exp(-(nodes**2) / 2) * np.cosh(t)
    return nodes, weights / weights.sum()


def gaussian_mean(function: Function, variance: float, mean: float = 0.0) -> float:
    """E f(mean + sqrt(variance) z), z standard normal, to `quadrature_error` of E |f|."""
    nodes, weights = gaussian_nodes(variance, mean)
    return float(weights @ function(mean + math.sqrt(variance) * nodes))


def quadrature_error(variance: float) -> float:
    """What rounding may do to a `gaussian_mean`, relative to E |f|, on any machine.

    n weights above 0 that add up to 1, and n products, are added in an order that the machine chooses: n units of rounding
    for each of the two sums. Every weight and value is itself good to a few.
    """
    n = len(gaussian_nodes(variance)[0])
    return (2 * n + FEW) * float(np.finfo(float).eps) / 2


def sigmoid(z: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + np.tanh(z / 2))


def sigmoid_slope(z: np.ndarray) -> np.ndarray:
    return 0.25 / np.cosh(np.clip(z / 2, -300, 300)) ** 2


def tanh_slope(z: np.ndarray) -> np.ndarray:
    return 1 / np.cosh(np.clip(z, -300, 300)) ** 2


def square(function: Function) -> Function:
    return lambda z: function(z) ** 2


def fixed_point(update: Callable[[float], float], start: float) -> float:
    """Where repeated `update` comes to rest; the maps here are bounded and increasing."""
    value = start
    for _ in range(100_000):
        after = update(value)
        if abs(after - value) <= 1e-15 * (1 + abs(after)):
            return after
        value = after
    return value


def side_of_edge(growth: float, error: float) -> Side:
    """On which side of 1 a growth a step lies that is known to within `error`."""
    if growth > 1 + error:
        return "past the edge"
    return "below the edge" if growth < 1 - error else "at the edge"


def growth_as_text(growth: float) -> str:
    """Four digits, or what a growth just above 1 has above it: "1 > 1" would say nothing."""
    return f"{growth:.4g}" if growth >= 1.001 else f"1 + {growth - 1:.2g}"


def edge_warning(edge: float, side: Side) -> str | None:
    """The sentence for a zero state that is unstable."""
    if side != "past the edge":
        return None
    return f"the setting is past the edge ({growth_as_text(edge)} > 1 a step at the zero state, which is unstable)."
