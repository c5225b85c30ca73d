"""What a Lyapunov spectrum says of an attractor: its dimension, and how fast nearby trajectories tell themselves apart.

Axes: B sequences, n exponents in descending order.
"""

from __future__ import annotations

import numpy as np


def kaplan_yorke(exponents: np.ndarray, complete: bool) -> np.ndarray:
    """k + (sum of the first k exponents) / |exponent k+1|, for the largest k whose sum is not negative, [B].

    0 where even the first is negative; k where the next one is -inf. Where the sum never becomes negative it is N for a
    complete spectrum, and nan for a partial one, whose missing exponents decide.

    Source: Kaplan and Yorke 1979.

    >>> kaplan_yorke(np.array([[0.4192, -1.6232]]), complete=True).round(3)
    array([1.258])
    """
    result = np.full(len(exponents), np.nan)
    for row, values in enumerate(exponents):
        if np.isnan(values).any():
            continue
        sums = np.cumsum(values)
        below = np.flatnonzero(sums < 0)
        if not below.size:
            result[row] = len(values) if complete else np.nan
            continue
        k = int(below[0])
        total = sums[k - 1] if k else 0.0
        result[row] = k if np.isinf(values[k]) else k + total / abs(values[k])
    return result


def entropy_rate(exponents: np.ndarray, complete: bool) -> np.ndarray:
    """The sum of the positive exponents, nats per step, [B]: an upper bound of the entropy rate (Ruelle 1978).

    It is the rate itself where the natural measure is smooth along the directions that grow (Pesin 1977). nan where the least
    of a partial spectrum is still positive.

    >>> entropy_rate(np.array([[0.4192, -1.6232]]), complete=True)
    array([0.4192])
    """
    total = np.where(exponents > 0, exponents, 0.0).sum(1)
    undecided = np.isnan(exponents).any(1) | (not complete and exponents[:, -1] > 0)
    return np.where(undecided, np.nan, total)
