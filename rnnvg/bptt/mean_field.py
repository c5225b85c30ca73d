"""Mean-field theory of wide random tanh recurrences: the size of their preactivations, and how gradients grow or die.

q = sigma_w^2 E tanh^2(sqrt(q) z) + s0^2,    chi = sigma_w^2 E sech^4(sqrt(q) z)
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from rnnvg.bptt.wide_limit import gaussian_mean, square, tanh_slope
from rnnvg.errors import InputError, check_float


@dataclass(frozen=True)
class MeanField:
    """Mean-field theory of a wide random tanh recurrence with independent inputs.

    Attributes:
        sigma_w: recurrent weights have variance sigma_w^2 / H.
        input_variance: s0^2, variance that input and biases add to each preactivation.
        q: variance of the preactivations, q = sigma_w^2 E tanh^2(sqrt(q) z) + s0^2.
        chi: growth of the squared gradient a step, chi = sigma_w^2 E sech^4(sqrt(q) z); E||delta_k||^2 ~ chi^k.

    Source: Poole et al. 2016; Chen, Pennington and Schoenholz 2018.
    """

    sigma_w: float
    input_variance: float
    q: float
    chi: float

    @property
    def rate(self) -> float:
        """ln(chi) / 2: nats that the gradient's norm gains a step."""
        return 0.5 * math.log(self.chi)

    @property
    def warning(self) -> str | None:
        """A sentence where the setting is past the edge of chaos, chi > 1; None otherwise."""
        if self.chi <= 1:
            return None
        edge = critical_sigma_w(self.input_variance)
        return (
            f"sigma_w = {self.sigma_w:.4g} is past the edge (chi = {self.chi:.4g} > 1), so gradients grow; the edge is at "
            f"{edge:.4g}."
        )

    def __str__(self) -> str:
        return f"q = {self.q:.4g}, chi = {self.chi:.4g}: {self.rate:+.4g} nats a step"


def mean_field(sigma_w: float, input_variance: float = 0.0) -> MeanField:
    """q and chi of a wide tanh recurrence, by Gauss-Hermite quadrature.

    Args:
        sigma_w: standard deviation of the recurrent weights times sqrt(H), above 0; PyTorch's default is 1/sqrt(3).
        input_variance: s0^2, what independent inputs and biases add to each preactivation's variance, at least 0.

    Raises:
        InputError: `sigma_w` is not above 0 or `input_variance` is below 0.

    >>> mean_field(1 / 3**0.5).chi  # near the zero state: a factor 1/sqrt(3) a step
    0.3333333333333334
    """
    sigma_w, s0 = check_sigma_w(sigma_w), check_variance("input_variance", input_variance)
    return _mean_field(sigma_w, s0)


def _mean_field(sigma_w: float, s0: float) -> MeanField:
    from scipy.optimize import brentq

    def excess(q: float) -> float:
        return sigma_w**2 * gaussian_mean(square(np.tanh), q) + s0 - q

    if s0 == 0 and sigma_w <= 1:
        q = 0.0
    else:  # concave in q: one crossing above this bound
        low = s0 if s0 > 0 else (sigma_w**2 - 1) / (4 * sigma_w**2)
        q = float(brentq(excess, low, sigma_w**2 + s0, xtol=1e-15, rtol=1e-14))  # pyright: ignore[reportArgumentType]
    return MeanField(sigma_w, s0, q, sigma_w**2 * gaussian_mean(square(tanh_slope), q))


def critical_sigma_w(input_variance: float = 0.0) -> float:
    """The critical line: the sigma_w at which chi is 1 for this input variance. Inputs suppress chaos: it rises with them.

    >>> critical_sigma_w()
    1.0
    """
    from scipy.optimize import brentq

    s0 = check_variance("input_variance", input_variance)
    if s0 == 0:
        return 1.0
    return float(brentq(lambda sigma: _mean_field(sigma, s0).chi - 1, 1.0, 4.0 + 4 * s0, xtol=1e-12))  # pyright: ignore


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
