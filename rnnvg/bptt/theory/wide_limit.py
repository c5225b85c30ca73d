"""Gradients of very wide random networks: second moments of an adjoint on its way back through gates.

In the limit of many units a random matrix times a vector is a Gaussian field with the vector's mean square, and what it is
multiplied by next is independent of it (gradient independence; Gilboa et al. 2019). The recurrent matrix is the *same* at
every step, so the fields of two steps are correlated as the vectors are (Can, Krishnamurthy and Schwab 2020): with carry d and
candidate factor g the growth is d + g sigma_w a step, not sqrt(d^2 + g^2 sigma_w^2). So the moments are two-time:

    y_{k+1} = d_k y_k + s_k xi_k,    E xi_k xi_l = sigma_w^2 E (g_k y_k)(g_l y_l)

y is dL/dh of a GRU or dL/dc + dL/dh dh/dc of an LSTM at distance k, d its update or forget gate, s = o tanh'(c) (GRU: 1),
and g runs over the gates' factors. Gates are taken as independent from step to step, as independent inputs make them; then
only the candidate's factor, whose mean is not zero, connects two times.
"""

from __future__ import annotations

import math

import numpy as np

from rnnvg.bptt.gaussian import Moments

DEFAULT_SIGMA_W = 1 / math.sqrt(3)  # entries U(-1/sqrt(H), 1/sqrt(H)) have variance 1/(3 H)


def log_norms(moments: Moments, sigma_w: float, steps: int) -> np.ndarray:
    """ln sqrt(E ||dL/ds||^2) at distances 1..steps from a random covector of length 1 on the output, [steps].

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
