"""Mean-field theory of wide random tanh recurrences: the size of their preactivations, and how gradients grow or die.

q = sigma_w^2 E tanh^2(sqrt(q) z) + s0^2,    chi = sigma_w^2 E sech^4(sqrt(q) z)
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from rnnvg.bptt.cells import vanilla
from rnnvg.bptt.gaussian import Side, side_of_edge
from rnnvg.errors import InputError, check_float
from rnnvg.notebook import Shown


@dataclass(frozen=True, repr=False)
class MeanField(Shown):
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
        return vanilla.tanh_warning(self.sigma_w, self.input_variance, self.chi, self.side)

    def __str__(self) -> str:
        at_edge = ", at the edge" if self.side == "at the edge" else ""
        return f"q = {self.q:.4g}, chi = {self.chi:.4g}: {self.rate:+.4g} nats a step{at_edge}"


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
    moments, chi_error = vanilla.tanh_moments(sigma_w, s0)
    return MeanField(sigma_w, s0, moments.q, sigma_w**2 * moments.all_factors, chi_error)


def critical_sigma_w(input_variance: float = 0.0) -> float:
    """The critical line: the sigma_w at which chi is 1 for this input variance. Inputs suppress chaos: it rises with them.

    >>> critical_sigma_w()
    1.0
    """
    return vanilla.critical_sigma_w(check_variance("input_variance", input_variance))


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
