"""Mean-field theory of wide random tanh recurrences: the size of their preactivations, and how gradients grow or die.

q = sigma_w^2 E tanh^2(sqrt(q) z) + s0^2,    chi = sigma_w^2 E sech^4(sqrt(q) z)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from rnnvg.bptt.wide_limit import gaussian_mean, quadrature_error, square, tanh_slope
from rnnvg.errors import InputError, check_float

XTOL, RTOL = 1e-15, 1e-14  # of the search for q
EPS = float(np.finfo(float).eps)
STEEPEST = 2.0  # |d/dq E sech^4(sqrt(q) z)| is at most half of the largest |(sech^4)''|, which is 4, at 0
Side = Literal["below the edge", "at the edge", "past the edge"]


@dataclass(frozen=True)
class MeanField:
    """Mean-field theory of a wide random tanh recurrence with independent inputs.

    Attributes:
        sigma_w: recurrent weights have variance sigma_w^2 / H.
        input_variance: s0^2, variance that input and biases add to each preactivation.
        q: variance of the preactivations, q = sigma_w^2 E tanh^2(sqrt(q) z) + s0^2.
        chi: growth of the squared gradient a step, chi = sigma_w^2 E sech^4(sqrt(q) z); E||delta_k||^2 ~ chi^k.
        chi_error: what the quadrature, the search for q and rounding leave open in chi; 1 within it is "at the edge".

    Source: Poole et al. 2016; Chen, Pennington and Schoenholz 2018.
    """

    sigma_w: float
    input_variance: float
    q: float
    chi: float
    chi_error: float = 0.0

    @property
    def rate(self) -> float:
        """ln(chi) / 2: nats that the gradient's norm gains a step."""
        return 0.5 * math.log(self.chi)

    @property
    def side(self) -> Side:
        """Where the setting lies: "below the edge" of chaos, "at the edge" or "past the edge"."""
        return side_of_edge(self.chi, self.chi_error)

    @property
    def warning(self) -> str | None:
        """A sentence where the setting is past the edge of chaos, chi > 1; None otherwise."""
        if self.side != "past the edge":
            return None
        edge = critical_sigma_w(self.input_variance)
        return (
            f"sigma_w = {self.sigma_w:.4g} is past the edge (chi = {growth_as_text(self.chi)} > 1), so gradients grow; "
            f"the edge is at {edge:.4g}."
        )

    def __str__(self) -> str:
        at_edge = ", at the edge" if self.side == "at the edge" else ""
        return f"q = {self.q:.4g}, chi = {self.chi:.4g}: {self.rate:+.4g} nats a step{at_edge}"


def side_of_edge(growth: float, error: float) -> Side:
    """On which side of 1 a growth a step lies that is known to within `error`."""
    if growth > 1 + error:
        return "past the edge"
    return "below the edge" if growth < 1 - error else "at the edge"


def growth_as_text(growth: float) -> str:
    """Four digits, or what a growth just above 1 has above it: "1 > 1" would say nothing."""
    return f"{growth:.4g}" if growth >= 1.001 else f"1 + {growth - 1:.2g}"


def mean_field(sigma_w: float, input_variance: float = 0.0) -> MeanField:
    """q and chi of a wide tanh recurrence, by quadrature.

    Args:
        sigma_w: standard deviation of the recurrent weights times sqrt(H), above 0; PyTorch's default is 1/sqrt(3).
        input_variance: s0^2, what independent inputs and biases add to each preactivation's variance, at least 0.

    Raises:
        InputError: `sigma_w` is not above 0 or `input_variance` is below 0.

    >>> round(mean_field(1 / 3**0.5).chi, 9)  # near the zero state: a factor 1/sqrt(3) a step
    0.333333333
    """
    sigma_w, s0 = check_sigma_w(sigma_w), check_variance("input_variance", input_variance)
    return _mean_field(sigma_w, s0)


def _mean_field(sigma_w: float, s0: float) -> MeanField:
    from scipy.optimize import brentq

    def update(q: float) -> float:
        return sigma_w**2 * gaussian_mean(square(np.tanh), q) + s0

    q, q_error = 0.0, 0.0
    if s0 > 0 or sigma_w > 1:  # update(q) is concave in q: one crossing above this bound
        low = s0 if s0 > 0 else (sigma_w**2 - 1) / (4 * sigma_w**2)
        q = float(brentq(lambda q: update(q) - q, low, sigma_w**2 + s0, xtol=XTOL, rtol=RTOL))  # pyright: ignore[reportArgumentType]
        slope = 1 - sigma_w**2 * gaussian_mean(_half_second_derivative, q)
        # near the edge without inputs both the slope and what rounding does to update(q) are proportional to q
        q_error = XTOL + RTOL * q + (quadrature_error(q) + EPS) * q / max(slope, EPS)
    chi = sigma_w**2 * gaussian_mean(square(tanh_slope), q)
    return MeanField(sigma_w, s0, q, chi, quadrature_error(q) * chi + STEEPEST * sigma_w**2 * q_error)


def _half_second_derivative(z: np.ndarray) -> np.ndarray:
    """(tanh^2)'' / 2, whose mean is d/dq E tanh^2(sqrt(q) z)."""
    open_part = tanh_slope(z)
    return open_part**2 - 2 * np.tanh(z) ** 2 * open_part


def critical_sigma_w(input_variance: float = 0.0) -> float:
    """The critical line: the sigma_w at which chi is 1 for this input variance. Inputs suppress chaos: it rises with them.

    >>> critical_sigma_w()
    1.0
    """
    from scipy.optimize import brentq

    s0 = check_variance("input_variance", input_variance)
    if s0 == 0:
        return 1.0
    # chi > sigma_w^2 / (2 sqrt(q + 1)) and q < sigma_w^2 + s0
    above = 4.0 + 2 * s0**0.25
    return float(brentq(lambda sigma: _mean_field(sigma, s0).chi - 1, 1.0, above, xtol=1e-12))  # pyright: ignore


def check_sigma_w(value: float) -> float:
    """`value` where it is above 0, or an InputError."""
    try:
        return check_float("sigma_w", value, above=0.0)
    except InputError as error:
        raise InputError(f"{error} PyTorch's default initialisation has 1/sqrt(3) = 0.577.") from None


def check_variance(argument: str, value: float) -> float:
    """`value` where it is at least 0, or an InputError."""
    number = check_float(argument, value)
    if number < 0:
        raise InputError(f"`{argument}` is a variance, at least 0; got {number:g}.")
    return number
