"""Activation functions and their slopes: how much of a gradient one unit lets through, and where it lets through none.

The slope is the only thing an activation contributes to a product of Jacobians. It is a function of the *pre-activation* z;
the widely copied `sigmoid_derivative(sigmoid(z))` takes it of the activation, and is wrong everywhere but by accident.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from rnnvg.errors import check_name

if TYPE_CHECKING:
    import pandas as pd

LEAK = 0.01  # nn.LeakyReLU's default
PRELU = 0.25  # nn.PReLU's slope before training
SELU_ALPHA, SELU_SCALE = 1.6732632423543772, 1.0507009873554805  # Klambauer et al. 2017
FLAT = 0.01  # a slope below this is called flat: a hundred such layers leave 10^-200
_SPAN, _POINTS = 12.0, 240_000  # even: 0, where a ReLU has no slope, is not among them


@dataclass(frozen=True)
class Activation:
    """A function, the module that computes it, and its slope in closed form.

    Attributes:
        name: as `--activation` takes it.      label: as a figure writes it.
        module: makes a fresh nn.Module.
        slope: f'(z) of the pre-activation z, any shape, written so that it keeps its digits where f saturates.
        formula: f as a reader knows it.
        source: where it comes from, author and year.
    """

    name: str
    label: str
    module: Callable[[], nn.Module]
    slope: Callable[[Tensor], Tensor]
    formula: str
    source: str


def _step(z: Tensor) -> Tensor:
    return (z > 0).to(z.dtype)


def _leaky(leak: float) -> Callable[[Tensor], Tensor]:
    return lambda z: torch.where(z > 0, torch.ones_like(z), torch.full_like(z, leak))


def _gelu_slope(z: Tensor) -> Tensor:
    density = torch.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)
    return 0.5 * torch.erfc(-z / math.sqrt(2)) + z * density


_ALL = (
    Activation(
        "sigmoid",
        "sigmoid",
        nn.Sigmoid,
        lambda z: torch.sigmoid(z) * torch.sigmoid(-z),
        "1 / (1 + exp(-z))",
        "Rumelhart, Hinton and Williams 1986",
    ),
    Activation("tanh", "tanh", nn.Tanh, lambda z: 1 / torch.cosh(z) ** 2, "tanh z", "LeCun et al. 1998"),
    Activation("relu", "ReLU", nn.ReLU, _step, "max(0, z)", "Nair and Hinton 2010"),
    Activation(
        "leaky-relu", "leaky ReLU", lambda: nn.LeakyReLU(LEAK), _leaky(LEAK), "max(0.01 z, z)", "Maas et al. 2013"
    ),
    Activation(
        "prelu",
        "PReLU",
        lambda: nn.PReLU(init=PRELU),
        _leaky(PRELU),
        "max(a z, z), a learned from 0.25",
        "He et al. 2015",
    ),
    Activation(
        "elu",
        "ELU",
        nn.ELU,
        lambda z: torch.where(z > 0, torch.ones_like(z), torch.exp(z.clamp(max=0))),
        "z, or exp(z) - 1 below 0",
        "Clevert et al. 2016",
    ),
    Activation(
        "selu",
        "SELU",
        nn.SELU,
        lambda z: SELU_SCALE * torch.where(z > 0, torch.ones_like(z), SELU_ALPHA * torch.exp(z.clamp(max=0))),
        "1.0507 ELU with alpha 1.6733",
        "Klambauer et al. 2017",
    ),
    Activation("gelu", "GELU", nn.GELU, _gelu_slope, "z Phi(z)", "Hendrycks and Gimpel 2016"),
)
ACTIVATIONS = {each.name: each for each in _ALL}


def activation(name: str) -> Activation:
    """The activation of that name.

    Raises:
        InputError: there is none; the message has the nearest right name.
    """
    return ACTIVATIONS[check_name("activation", name, ACTIVATIONS)]


def slope_by_autograd(name: str, z: Tensor) -> Tensor:
    """f'(z) by automatic differentiation, shaped like `z`: what a network really applies."""
    with torch.enable_grad():
        point = z.detach().clone().requires_grad_()
        module = activation(name).module().to(z.dtype)
        (slope,) = torch.autograd.grad(module(point).sum(), point)
    return slope


def curves(low: float = -5.0, high: float = 5.0, points: int = 401) -> pd.DataFrame:
    """Every activation and its slope on a grid. Columns: activation, z, value, slope (by autograd)."""
    import pandas as pd

    z = torch.linspace(low, high, points, dtype=torch.float64)
    frames = []
    for name, each in ACTIVATIONS.items():
        with torch.no_grad():
            value = each.module().to(z.dtype)(z)
        slope = slope_by_autograd(name, z)
        frames.append(pd.DataFrame({"activation": name, "z": z, "value": value, "slope": slope}))
    return pd.concat(frames, ignore_index=True)


def survey() -> pd.DataFrame:
    """What each activation does to a gradient, measured by autograd on a fine grid from -12 to 12.

    Columns: activation; max_slope and min_slope; mean_slope and rms_slope for standard normal z (the second is what a wide
    layer multiplies a gradient's norm by); flat_below, flat_above (|slope| < 0.01 beyond this z on that side, nan where
    it never is); dead_below (exactly 0 from here down, nan where it never is).
    """
    import pandas as pd

    z = torch.linspace(-_SPAN, _SPAN, _POINTS, dtype=torch.float64)
    weight = torch.exp(-0.5 * z * z)
    weight /= weight.sum()
    rows = []
    for name in ACTIVATIONS:
        slope = slope_by_autograd(name, z)
        flat, dead = slope.abs() < FLAT, slope == 0
        rows.append(
            {
                "activation": name,
                "max_slope": float(slope.max()),
                "min_slope": float(slope.min()),
                "mean_slope": float((weight * slope).sum()),
                "rms_slope": float((weight * slope * slope).sum().sqrt()),
                "flat_below": _edge(z, flat),
                "flat_above": -_edge(-z.flip(0), flat.flip(0)),
                "dead_below": _edge(z, dead),
            }
        )
    return pd.DataFrame(rows)


def _edge(z: Tensor, holds: Tensor) -> float:
    """The largest z up to which `holds` is true from the left end on; nan where it is not true there."""
    if not bool(holds[0]):
        return math.nan
    last = int((~holds).to(torch.uint8).argmax()) - 1 if not bool(holds.all()) else len(z) - 1
    return float(z[last])
