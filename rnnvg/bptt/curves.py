"""From gains per source and sequence to one curve: geometric mean, root mean square, spread, counts.

The geometric mean and the root mean square answer different questions (Lyapunov exponents predict the first, mean-field
theory the second) and may differ in sign; sample means of gains are carried by a few sequences, so the second is given
only where enough samples carry it. Axes: S sources, K distances, B sequences.
"""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

EFFECTIVE_SAMPLES = 10
LOW, HIGH = 0.1, 0.9


def log_gain(log_norm: np.ndarray, distance: np.ndarray, reference: int) -> np.ndarray:
    """log_norm [S, K, B] relative to distance `reference`; nan nearer than it and where the reference is an exact zero.

    Distances [K] ascend by 1; negative ones lie in the future.
    """
    at = reference - int(distance[0])
    base = log_norm[:, at : at + 1]
    gain = log_norm - np.where(np.isinf(base), np.nan, base)
    gain[:, np.abs(distance) < abs(reference)] = np.nan
    return gain


def mean_log_gain(gain: np.ndarray) -> np.ndarray:
    """The curve [K], nats: the mean over sources and sequences, the median where one of them is exactly zero."""
    rows = _rows(gain)
    with warnings.catch_warnings(), np.errstate(invalid="ignore"):
        warnings.simplefilter("ignore", RuntimeWarning)  # a distance that nobody observed has mean nan
        mean = np.nanmean(rows, axis=1)
        zero = np.flatnonzero(np.isneginf(rows).any(1))
        mean[zero] = np.nanmedian(rows[zero], axis=1)  # of two middle ones -inf where one of them is
    return mean


def table(gain: np.ndarray, distance: np.ndarray) -> pd.DataFrame:
    """GradientProfile.curve's columns from gains [S, K, B]."""
    import pandas as pd

    rows = _rows(gain)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a distance that nobody observed has none
        spread = np.nanquantile(rows, [LOW, HIGH], axis=1, method="inverted_cdf")
    nats = math.log(10)
    return pd.DataFrame(
        {
            "distance": distance,
            "log10_gain": mean_log_gain(gain) / nats,
            "log10_gain_rms": _root_mean_square(rows) / nats,
            "low": spread[0] / nats,
            "high": spread[1] / nats,
            "n": (~np.isnan(rows)).sum(1),
            "n_zero": np.isneginf(rows).sum(1),
        }
    )


def _rows(gain: np.ndarray) -> np.ndarray:
    """[K, S B]"""
    return gain.transpose(1, 0, 2).reshape(gain.shape[1], -1)


def _root_mean_square(rows: np.ndarray) -> np.ndarray:
    """ln sqrt(mean g^2) by row, in log space; nan where fewer than EFFECTIVE_SAMPLES carry it."""
    n = (~np.isnan(rows)).sum(1)
    second, fourth = _log_sum(2 * rows), _log_sum(4 * rows)
    with np.errstate(invalid="ignore", divide="ignore"):
        effective = np.exp(2 * second - fourth)
        value = 0.5 * (second - np.log(n))
    return np.where(effective >= EFFECTIVE_SAMPLES * (1 - 1e-9), value, np.nan)


def _log_sum(rows: np.ndarray) -> np.ndarray:
    """ln sum exp by row, nan left out; -inf for a row of zeros or none."""
    from scipy.special import logsumexp

    with np.errstate(divide="ignore"):
        return np.asarray(logsumexp(np.where(np.isnan(rows), -np.inf, rows), axis=1))
