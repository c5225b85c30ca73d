"""What mean-field theory predicts for the gradient ratio of a wide random network, before anything is run.

One layer multiplies the mean square of a gradient by chi = (gain of the weights)^2 E[f'(z)^2], z normal with the variance that
the layers below give it (Poole et al. 2016; Schoenholz et al. 2017). A normalisation divides by what it normalises by: batch
norm by the variance over the batch, so a ReLU layer grows by pi / (pi - 1) (Yang et al. 2019), layer norm by the mean square
over the units, a skip adds 1 (Yang and Schoenholz 2017). The textbook's 0.25 x weights is this with the slope at its
largest.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from rnnvg.depth.activations import activation, slope_by_autograd
from rnnvg.depth.networks import GAUSSIAN_STD

_GRID = torch.linspace(-9, 9, 6000, dtype=torch.float64)  # 0, where a ReLU has no slope, is not among them
_NORMAL = torch.exp(-0.5 * _GRID**2) / torch.exp(-0.5 * _GRID**2).sum()
_UNITS = 20_000  # of the random walk that stands for a residual block's units


@dataclass(frozen=True)
class Moments:
    """Of f(z), z normal: mean and mean square of the activation, mean square of the slope."""

    mean: float
    square: float
    slope: float

    @property
    def variance(self) -> float:
        return self.square - self.mean**2


def moments(name: str, variance: float) -> Moments:
    """The moments of an activation for z normal with mean 0 and this variance.

    >>> round(moments("relu", 1.0).square, 4), round(moments("sigmoid", 1e-9).slope, 6)
    (0.5, 0.0625)
    """
    z = math.sqrt(variance) * _GRID
    with torch.no_grad():
        value = activation(name).module().double()(z)
    slope = slope_by_autograd(name, z)
    mean, square, slopes = (float((_NORMAL * each).sum()) for each in (value, value**2, slope**2))
    return Moments(mean, square, slopes)


def bound(depth: int, width: int, std: float, largest_slope: float = 0.25) -> float:
    """The textbook's estimate (slope x std x sqrt(width))^(depth - 1) of the first layer's share, as a natural log.

    >>> f"{math.exp(bound(10, 100, 0.01)):.1e}"
    '3.8e-15'
    """
    return (depth - 1) * math.log(largest_slope * std * math.sqrt(width))


def predict_log_ratio(spec: Mapping[str, Any], input_square: float = 1.0, n_inputs: int | None = None) -> float:
    """ln of the first layer's gradient over the last one's, between the ends that DeepNetwork.ends names.

    Args:
        spec: DeepNetwork.spec.
        input_square: mean square of an input, 1 for standardised data.
        n_inputs: features of an input; None for as many as the width.
    """
    features = spec["width"] if n_inputs is None else n_inputs
    if spec["residual"] == "block":
        return _block(spec)
    return _layers(spec, _signal_gain(spec, features) * input_square)


def _signal_gain(spec: Mapping[str, Any], n_inputs: int) -> float:
    """Mean square of W a over that of a."""
    width = spec["width"]
    drawn = {
        "gaussian": GAUSSIAN_STD**2 * n_inputs,
        "xavier": 2 * n_inputs / (n_inputs + width),
        "he": 2.0,
        "orthogonal": n_inputs / max(n_inputs, width),
    }
    return spec["gain"] ** 2 * drawn[spec["init"]]


def _layers(spec: Mapping[str, Any], variance: float) -> float:
    """The product of chi over layers 2..depth; `variance` is that of the first layer's W x."""
    name, norm, skip = spec["activation"], spec["norm"], spec["residual"] == "skip"
    gain = _signal_gain(spec, spec["width"])
    layer = moments(name, variance if norm == "none" else 1.0)
    mean, square, spread = layer.mean, layer.square, layer.variance
    log_ratio = 0.0
    for _ in range(spec["depth"] - 1):
        variance, divisor = gain * square, 1.0
        if norm != "none":
            divisor, variance = gain * (spread if norm == "batch" else square), 1.0
        layer = moments(name, variance)
        chi = gain * layer.slope / divisor
        log_ratio += 0.5 * math.log(chi + 1 if skip else chi)
        if skip:
            # The branch is taken to be independent of what it is added to.
            square += 2 * mean * layer.mean + layer.square
            mean, spread = mean + layer.mean, spread + layer.variance
        else:
            mean, square, spread = layer.mean, layer.square, layer.variance
    return log_ratio


def _block(spec: Mapping[str, Any]) -> float:
    """Residual blocks: every unit is a random walk a_l = f(a_{l-1} + n); gradients follow it back unit by unit.

    With a norm the branch's output n is standard normal (0 where the last gain is 0) and its slope is that of one inner layer
    over the spread of what the block is handed. Without one it grows with the signal.
    """
    name, norm, blocks = spec["activation"], spec["norm"], spec["depth"]
    gain = _signal_gain(spec, spec["width"])
    generator = np.random.default_rng(0)
    stem = activation(name).module().double()
    walk = _apply(stem, generator.standard_normal(_UNITS))
    slopes, branches = [], []
    for _ in range(blocks):
        square = float((walk**2).mean())
        inner = moments(name, 1.0 if norm != "none" else gain * square)
        if norm == "none":
            scale, branch = math.sqrt(gain * inner.square), gain * gain * inner.slope
        else:
            handed = float(walk.var()) if norm == "batch" else square
            passed = inner.variance if norm == "batch" else inner.square
            scale, branch = 0.0 if spec["zero_last"] else 1.0, inner.slope / (handed * passed)
        total = walk + scale * generator.standard_normal(_UNITS)
        slopes.append(slope_by_autograd(name, torch.from_numpy(total)).numpy() ** 2)
        branches.append(branch if scale else 0.0)
        walk = _apply(stem, total)
    squares = np.ones(_UNITS)
    norms = [0.0]
    for slope, branch in zip(reversed(slopes), reversed(branches), strict=True):
        passed = slope * squares
        squares = passed + branch * passed.mean()
        mean = squares.mean()
        norms.append(norms[-1] + 0.5 * math.log(mean))
        squares = squares / mean
    # norms[k] is the gradient k blocks below the last one's output; the ends are the first block's and the last but one's.
    return norms[max(1, blocks - 1)] - norms[1]


def _apply(module: torch.nn.Module, values: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return module(torch.from_numpy(values)).numpy()
