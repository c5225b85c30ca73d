"""Through what a gradient comes back one step: an exact split of one step's pullback, a segment of steps at a time.

A vanilla RNN's pullback is a chain, adjoint -> slopes -> matrix, so the logs of its norms add up. A gated cell's is a sum of
paths that end side by side in s_{t-1}: the carry (an LSTM's cell, a GRU's update gate) and, by its recurrent matrix, each gate
and the candidate; the paths' signed shares of the sum add up to 1.
Axes: c steps of a segment, B sequences, N state coordinates.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rnnvg.bptt.layers import GRULayer, LSTMLayer
from rnnvg.bptt.summed_adjoint import Adjoints, scaled_vectors, unit_vectors

# A cell's blocks of W_hh in PyTorch's order, and the name of what is carried without it.
LSTM_GATES = ("input gate", "forget gate", "candidate", "output gate")
GRU_GATES = ("reset gate", "update gate", "candidate")
CARRY = {LSTMLayer: "cell", GRULayer: "carry"}
GATES = {LSTMLayer: LSTM_GATES, GRULayer: GRU_GATES}


def log_length(vectors: Tensor) -> Tensor:
    """ln of the Euclidean norm over the last axis in float64, -inf for a zero vector; squares never leave the range."""
    return unit_vectors(vectors)[1]


def chain_parts(found: Adjoints) -> tuple[dict[str, Tensor], Tensor]:
    """Nats that a step of a vanilla RNN adds by "saturation" (its slopes) and by "matrix", [c, B]; and what arrives [c, B, N].

    In a stack the upper layer comes first: its slopes, its two matrices (to its own past and to the layer below), then the
    lower layer's; the norm is the whole state's after each.
    """
    segment = found.segment
    blocks = [found.states[..., place.hidden] for place in segment.places]
    before = log_length(found.states)
    nothing = torch.where(torch.isneginf(before), torch.nan, 0.0)
    parts = {"saturation": nothing, "matrix": nothing}
    for index in range(len(blocks) - 1, -1, -1):
        layer, (delta, _) = segment.layers[index], found.deltas[index]
        blocks[index] = delta
        before = _add(parts, "saturation", before, blocks)
        blocks[index] = delta @ layer.weights.hidden
        if index:
            blocks[index - 1] = blocks[index - 1] + delta @ layer.weights.input
        before = _add(parts, "matrix", before, blocks)
    return parts, torch.cat(blocks, -1)


def _add(parts: dict[str, Tensor], name: str, before: Tensor, blocks: list[Tensor]) -> Tensor:
    """Book the change of the log norm since `before` on `name`; what is zero already changes by 0, not by -inf minus -inf."""
    after = log_length(torch.cat(blocks, -1))
    parts[name] = parts[name] + torch.where(torch.isneginf(before), 0.0, after - before)
    return after


def path_shares(found: Adjoints) -> tuple[dict[str, Tensor], Tensor]:
    """Signed shares <path, sum> / ||sum||^2 of each path of a gated cell, [c, B], layers added up; and the sum [c, B, N].

    Shares are nan where the sum is zero. The sum is on the scale of `found`.
    """
    paths = _paths(found)
    total = torch.stack(list(paths.values())).sum(0)
    scaled, log = scaled_vectors(total)
    square = scaled.double().square().sum(-1)
    top = torch.where(torch.isneginf(log), 0.0, log).exp().unsqueeze(-1)
    return {name: (path.double() / top * scaled.double()).sum(-1) / square for name, path in paths.items()}, total


def _paths(found: Adjoints) -> dict[str, Tensor]:
    """What each path brings to s_{t-1}, [c, B, N]."""
    segment = found.segment
    kind = type(segment.layers[0])
    paths = {name: torch.zeros_like(found.states) for name in (CARRY[kind], *GATES[kind])}
    above = None
    for index in range(len(segment.layers) - 1, -1, -1):
        layer, place = segment.layers[index], segment.places[index]
        _, into_hidden = found.deltas[index]
        blocks = zip(into_hidden.chunk(layer.gates, -1), layer.weights.hidden.chunk(layer.gates), strict=True)
        for name, (delta, weight) in zip(GATES[kind], blocks, strict=True):
            paths[name][..., place.hidden] = delta @ weight
        a_h = found.states[..., place.hidden] if above is None else found.states[..., place.hidden] + above
        factors = segment.factors[index]
        if isinstance(layer, LSTMLayer):
            assert place.cell is not None
            slope, forget = (torch.stack([step[which] for step in factors]) for which in (0, 3))
            before_projection = a_h if layer.weights.projection is None else a_h @ layer.weights.projection
            paths["cell"][..., place.cell] = (found.states[..., place.cell] + before_projection * slope) * forget
        else:
            paths["carry"][..., place.hidden] = a_h * torch.stack([step[1] for step in factors])
        above = found.deltas[index][0] @ layer.weights.input
    return paths
