"""From gains per source and sequence to one curve: geometric mean, root mean square, spread, counts.

The geometric mean and the root mean square answer different questions (Lyapunov exponents predict the first, mean-field
theory the second) and may differ in sign; sample means of gains are carried by a few sequences, so the second is given
only where enough samples carry it. Axes: S sources, K distances, B sequences.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from rnnvg.horizon import NATS_PER_DECADE

if TYPE_CHECKING:
    import pandas as pd

EFFECTIVE_SAMPLES = 10
LOW, HIGH = 0.1, 0.9
PIECE = 2**18  # gains that exist at a time


def log_gain(log_norm: np.ndarray, distance: np.ndarray, reference: int, places: slice = slice(None)) -> np.ndarray:
    """log_norm [S, K, B] relative to distance `reference`; nan nearer than it and where the reference is an exact zero.

    Distances [K] ascend by 1; negative ones lie in the future. `places` are those of the distances that are wanted.
    """
    at = reference - int(distance[0])
    base = log_norm[:, at : at + 1]
    gain = log_norm[:, places] - np.where(np.isinf(base), np.nan, base)
    gain[:, np.abs(distance[places]) < abs(reference)] = np.nan
    return gain


def mean_log_gain(gain: np.ndarray) -> np.ndarray:
    """The curve [K], nats: the mean over sources and sequences, the median where one of them is exactly zero."""
    return _over(gain.shape, lambda places: _mean(_rows(gain[:, places])))


def mean_curve(log_norm: np.ndarray, distance: np.ndarray, reference: int) -> np.ndarray:
    """`mean_log_gain` of the gains of log_norm [S, K, B], which exist for a few distances at a time only."""
    return _over(log_norm.shape, lambda places: _mean(_rows(log_gain(log_norm, distance, reference, places))))


def table(log_norm: np.ndarray, distance: np.ndarray, reference: int) -> pd.DataFrame:
    """GradientProfile.curve's columns from log_norm [S, K, B]."""
    import pandas as pd

    columns = _over(
        log_norm.shape, lambda places: _columns(_rows(log_gain(log_norm, distance, reference, places))), len(COLUMNS)
    )
    found = dict(zip(COLUMNS, columns, strict=True))
    return pd.DataFrame(
        {
            "distance": distance,
            **{name: found[name] / NATS_PER_DECADE for name in COLUMNS[:4]},
            **{name: found[name].astype(np.int64) for name in COLUMNS[4:]},
        }
    )


COLUMNS = ("log10_gain", "log10_gain_rms", "low", "high", "n", "n_zero")


def _columns(rows: np.ndarray) -> np.ndarray:
    low, high = _quantiles(rows)
    n, n_zero = (~np.isnan(rows)).sum(1), np.isneginf(rows).sum(1)
    return np.stack([_mean(rows), _root_mean_square(rows), low, high, n, n_zero])


def _over(shape: tuple[int, ...], work: Callable[[slice], np.ndarray], columns: int | None = None) -> np.ndarray:
    """`work` of all K distances, a few at a time: [K], or [columns, K]."""
    sources, distances, sequences = shape
    found = np.empty(distances if columns is None else (columns, distances))
    at_once = max(1, PIECE // max(1, sources * sequences))
    for start in range(0, distances, at_once):
        places = slice(start, min(start + at_once, distances))
        found[..., places] = work(places)
    return found


def _rows(gain: np.ndarray) -> np.ndarray:
    """[K, S B]"""
    return gain.transpose(1, 0, 2).reshape(gain.shape[1], -1)


def _mean(rows: np.ndarray) -> np.ndarray:
    """Row by row the mean of what is observed, the median where one of them is exactly zero; nan for none."""
    with warnings.catch_warnings(), np.errstate(invalid="ignore"):
        warnings.simplefilter("ignore", RuntimeWarning)  # a distance that nobody observed has mean nan
        mean = np.nanmean(rows, axis=1)
        zero = np.flatnonzero(np.isneginf(rows).any(1))
        if zero.size:
            mean[zero] = np.nanmedian(rows[zero], axis=1)  # of two middle ones -inf where one of them is
    return mean


def _quantiles(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """LOW and HIGH quantile of what each row has observed, by `inverted_cdf`: the value at place ceil(n q) - 1."""
    seen = np.sort(rows, axis=1)  # nan goes to the end, and is what stands first where nothing is observed
    n = (~np.isnan(rows)).sum(1)
    places = [np.maximum(np.ceil(n * q - 1), 0).astype(np.int64) for q in (LOW, HIGH)]
    low, high = (np.take_along_axis(seen, each[:, None], 1)[:, 0] for each in places)
    return low, high


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
    logsumexp = importlib.import_module("scipy.special").logsumexp  # slow to load, and without types
    with np.errstate(divide="ignore"):
        return np.asarray(logsumexp(np.where(np.isnan(rows), -np.inf, rows), axis=1))
