"""Through what a gradient comes back one step: an exact split of one step's pullback, a run of steps at a time.

A vanilla RNN's pullback is a chain, adjoint -> slopes -> matrix, so the logs of its norms add up. A gated cell's is a sum of
paths that end side by side in s_{t-1}: the carry (an LSTM's cell, a GRU's update gate) and, by its recurrent matrix, each gate
and the candidate; the paths' signed shares of the sum add up to 1.
Axes: c steps of a block, B sequences, N state coordinates.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rnnvg.bptt.logscale import log_norm, scaled_vectors
from rnnvg.bptt.stack import Local, ModuleLinearization


def chain_parts(linear: ModuleLinearization, adjoints: Tensor, local: list[Local]) -> dict[str, Tensor]:
    """Nats that a step adds by the elementwise factors of a chain and by its matrices, [c, B].

    In a stack the upper layer comes first: its slopes, its two matrices (to its own past and to the layer below), then the
    lower layer's; the norm is the whole state's after each.
    """
    blocks = [adjoints[..., place[0]] for place in linear.places]
    before = log_norm(adjoints)
    nothing = torch.where(torch.isneginf(before), torch.nan, 0.0)
    elementwise, matrix = linear.layers[0].chain
    parts = {elementwise: nothing, matrix: nothing}
    for index in range(len(blocks) - 1, -1, -1):
        layer, (factors, states, delta, above) = linear.layers[index], local[index]
        blocks[index] = delta[0]
        before = _add(parts, elementwise, before, blocks)
        ((back,),) = layer.paths(factors, states, delta, above).values()
        assert back is not None
        blocks[index] = back
        if index:
            below = local[index - 1].above  # what this layer sends down
            assert below is not None
            blocks[index - 1] = blocks[index - 1] + below
        before = _add(parts, matrix, before, blocks)
    return parts


def _add(parts: dict[str, Tensor], name: str, before: Tensor, blocks: list[Tensor]) -> Tensor:
    """Book the change of the log norm since `before` on `name`; what is zero already changes by 0, not by -inf minus -inf."""
    after = log_norm(torch.cat(blocks, -1))
    parts[name] = parts[name] + torch.where(torch.isneginf(before), 0.0, after - before)
    return after


def path_shares(linear: ModuleLinearization, adjoints: Tensor, local: list[Local]) -> dict[str, Tensor]:
    """Signed shares <path, sum> / ||sum||^2 of each path of a gated cell, [c, B], layers added up; nan where the sum is 0."""
    paths: dict[str, Tensor] = {}
    for layer, place, (factors, states, delta, above) in zip(linear.layers, linear.places, local, strict=True):
        for name, parts in layer.paths(factors, states, delta, above).items():
            whole = paths.setdefault(name, torch.zeros_like(adjoints))
            for columns, part in zip(place, parts, strict=True):
                if part is not None:
                    whole[..., columns] = part
    total = torch.stack(list(paths.values())).sum(0)
    scaled, log = scaled_vectors(total)
    square = scaled.double().square().sum(-1)
    top = torch.where(torch.isneginf(log), 0.0, log).exp().unsqueeze(-1)
    return {name: (path.double() / top * scaled.double()).sum(-1) / square for name, path in paths.items()}
