"""The slopes that a real network applies: f'(z) at the pre-activations it really has, layer by layer, not at its maximum."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from rnnvg.depth.activations import FLAT
from rnnvg.depth.networks import DeepNetwork, Layer, ResidualBlock

if TYPE_CHECKING:
    import pandas as pd


def slopes_along(network: DeepNetwork, inputs: Tensor) -> pd.DataFrame:
    """Slopes of every layer's activation on a batch, by autograd.

    The network is run once in its own mode; its buffers and mode are left as they were.

    Args:
        network: from rnnvg.depth.build.
        inputs: [B, ...].

    Returns:
        A row per layer (of a residual block: the activation after the sum), the first first. Columns: layer; mean_slope;
        rms_slope, over units and items; flat, the share of values with |slope| < 0.01; dead, the share of units whose slope
        is 0 for every item.
    """
    import pandas as pd

    rows = []
    for layer, (module, z) in enumerate(_preactivations(network, inputs), start=1):
        with torch.enable_grad():
            point = z.detach().clone().requires_grad_()
            (slope,) = torch.autograd.grad(module(point.clone()).sum(), point)
        slope = slope.double()
        rows.append(
            {
                "layer": layer,
                "mean_slope": float(slope.mean()),
                "rms_slope": float(slope.pow(2).mean().sqrt()),
                "flat": float((slope.abs() < FLAT).double().mean()),
                "dead": float((slope == 0).all(0).double().mean()),
            }
        )
    return pd.DataFrame(rows)


def _preactivations(network: DeepNetwork, inputs: Tensor) -> list[tuple[nn.Module, Tensor]]:
    seen: list[tuple[nn.Module, Tensor]] = []
    hooks = []
    buffers = [(each, each.clone()) for each in network.buffers()]
    for block in network.blocks:
        assert isinstance(block, (Layer, ResidualBlock))
        module = block.activation if isinstance(block, Layer) else block.outer
        hooks.append(module.register_forward_pre_hook(lambda module, given: seen.append((module, given[0]))))
    try:
        with torch.no_grad():
            network(inputs)
    finally:
        for hook in hooks:
            hook.remove()
        for each, was in buffers:
            each.copy_(was)
    return seen
