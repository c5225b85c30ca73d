"""What theory predicts for the network under each remedy, before anything is trained.

Every prediction is a wide network's log gain against distance, [K] nats relative to one step back, as
rnnvg.bptt.theory.predict gives it for PyTorch's own initialisation. None where no theory here says.
Axes: K distances, H hidden units.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.special import logsumexp

from rnnvg.bptt import theory
from rnnvg.bptt.gaussian import Moments, fixed_point, gaussian_mean, square, tanh_slope
from rnnvg.bptt.theory.prediction import DEFAULT_SIGMA_W, log_norms
from rnnvg.horizon import slope

UNITS = 2000  # time scales of chrono's units, on a grid


def predicted_rate(network: dict[str, Any], *, n_inputs: int, input_square: float, steps: int) -> float | None:
    """Nats a step: the least-squares slope of the predicted curve, as a measured one's is taken; None without a theory.

    Args:
        network: arguments of `models.build`: cell, hidden, init, t_max.
        n_inputs: I, features of an input.
        input_square: their mean square.
        steps: largest distance.

    >>> network = {"cell": "rnn", "hidden": 64, "layers": 1, "init": "default"}
    >>> rate = predicted_rate(network, n_inputs=2, input_square=0.5, steps=50)
    >>> -0.6 < rate < -0.5  # nats a step; 1/sqrt(3) a step is -0.55
    True
    """
    cell, init = network["cell"], network["init"]
    if init == "chrono":
        return slope(chrono(network["t_max"], steps))
    if init == "identity":
        # An open unit hands on the whole gradient and stays open; for tanh only near 0.
        return 0.0 if cell == "rnn-relu" else None
    if cell in ("leaky", "residual", "layer-norm"):
        variance = n_inputs * input_square / (3 * network["hidden"]), 2 / (3 * network["hidden"])
        return slope(own_cell(cell, sum(variance), 1 / network.get("t_max", 10), steps))
    if cell not in theory.CELLS:
        return None
    return theory.predict(
        cell,
        hidden=network["hidden"],
        input_size=n_inputs,
        input_variance=input_square,
        forget_bias=1.0 if init == "forget-bias" else 0.0,
        sigma_w=1.0 if init == "orthogonal" else DEFAULT_SIGMA_W,
        steps=steps,
    ).rate


def chrono(t_max: int, steps: int) -> np.ndarray:
    """The carry alone, f = u / (1 + u) with u ~ U[1, t_max - 1] a unit: the root mean square over units of f^k, [K].

    Slow units outlive the others, so this is no exponential (Tallec and Ollivier 2018, section 3).

    >>> round(float(np.exp(chrono(3, 2)[2])), 3)  # all of u between 1 and 2
    0.604
    """
    middles = (np.arange(UNITS) + 0.5) / UNITS
    u = 1 + (t_max - 2) * middles
    logs = 2 * np.arange(1, steps + 1)[:, None] * np.log(u / (1 + u))
    rms = 0.5 * (np.asarray(logsumexp(logs, axis=1)) - math.log(logs.shape[1]))
    return np.concatenate([[np.nan], rms - rms[0]])


def own_cell(form: str, driven: float, a: float, steps: int, sigma_w: float = DEFAULT_SIGMA_W) -> np.ndarray:
    """Mean field of the leaky, residual and layer-normalised tanh recurrences, [K].

    leaky and residual carry d = 1 - a and 1 and add a f' W: the same two-time moments as a gate's (rnnvg.bptt.theory),
    with constants for d and a. A layer norm divides preactivations, and so the gradient, by their own spread s:
    chi = sigma_w^2 E sech^4(z) / s^2 with s^2 = sigma_w^2 E tanh^2(z) + what inputs and biases add, z standard normal.

    Args:
        form: "leaky", "residual" or "layer-norm".
        driven: variance that inputs and biases add to a preactivation.
        a: step size.
        steps: largest distance.
    """
    if form == "layer-norm":
        spread = sigma_w**2 * gaussian_mean(square(np.tanh), 1.0) + driven
        chi = sigma_w**2 * gaussian_mean(square(tanh_slope), 1.0) / spread
        return np.concatenate([[np.nan], 0.5 * math.log(chi) * np.arange(steps)])
    # A slow unit comes to rest where its drive takes it: the largest state that it can have.
    q = fixed_point(lambda value: sigma_w**2 * gaussian_mean(square(np.tanh), value) + driven, driven)
    carry = 1 - a if form == "leaky" else 1.0
    candidate = a * gaussian_mean(tanh_slope, q)
    moments = Moments(
        q=q,
        state=gaussian_mean(square(np.tanh), q),
        carry=carry,
        carry_square=carry**2,
        candidate=candidate,
        carry_candidate=carry * candidate,
        all_factors=a * a * gaussian_mean(square(tanh_slope), q),
    )
    norms = log_norms(moments, sigma_w, steps)
    return np.concatenate([[np.nan], norms - norms[0]])
