"""The profile of what was seen in few operations, for steps so short that these are what it costs.

Where the output of every step is known the calls need not be run again step by step: each step of the closed forms starts
from the output that was seen before it, all of them in one product, and must give the one that was seen after it.
Axes: S sources, T steps, B sequences, P output, L layers.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rnnvg.bptt import arguments
from rnnvg.bptt.calls import Call, Recorder
from rnnvg.bptt.cells import Buffers, Cell, Trajectory, read_cells
from rnnvg.bptt.replay import agrees, narrowest_of, stand_in
from rnnvg.bptt.result import GradientProfile
from rnnvg.bptt.segments import KEEP_BYTES
from rnnvg.bptt.sequences import Sequences
from rnnvg.bptt.short_sweep import short_sweep
from rnnvg.bptt.stack import places_of
from rnnvg.bptt.threads import threads_for
from rnnvg.bptt.watched import covectors_of
from rnnvg.bptt.weights import at_least_single, one_layer
from rnnvg.pytorch import from_numpy


def quick_profile(
    recorder: Recorder,
    calls: list[Call],
    found: Sequences,
    sources: arguments.Sources,
    below: list[Tensor] | None = None,
) -> GradientProfile | None:
    """What `profile_at` gives, without its origin; None where this is not the way to it.

    Args:
        recorder: what watched the calls.
        calls: all of them, which ran with the same weights.
        found: the calls as one batch.
        sources: as `profile_at` takes them.
        below: the outputs of the layers below the top one, [T, B, P] each; None to run them.
    """
    shared, steps = arguments.source_steps(sources, len(found.inputs), found.lengths, len(found.lengths))
    return _quick(recorder, calls, found, shared, steps, below)


def quick_both_ways(
    recorder: Recorder, calls: list[Call], found: Sequences, sources: list[int]
) -> list[GradientProfile] | None:
    """Of one layer that runs both ways, each direction's own states against the distance that it runs, forward first; None
    where this is not the way to it.

    Args:
        recorder, calls: as `quick_profile` takes them.
        found: the calls as one batch, with direct gradients at the output alone.
        sources: absolute steps.
    """
    places = np.array(sources, dtype=np.int64)
    profiles: list[GradientProfile] = []
    for way in (0, 1):
        own = np.where(places[:, None] < found.lengths, places[:, None], -1)
        if way:
            own = np.where(own >= 0, found.lengths - 1 - own, -1)
        profile = _quick(recorder, calls, _one_way(found, way), places, own, [], reverse=bool(way))
        if profile is None:
            return None
        profiles.append(profile)
    return profiles


def _one_way(found: Sequences, way: int) -> Sequences:
    """One direction of a single layer in its own order of steps; the backward one begins at each sequence's last step."""
    t, lengths = np.arange(len(found.inputs))[:, None], found.lengths
    order = from_numpy(
        np.where(t < lengths, lengths - 1 - t, t) if way else np.broadcast_to(t, found.known.shape).copy()
    )
    columns, width = torch.arange(len(lengths), device="cpu"), found.seen.shape[-1] // 2
    own = slice(way * width, (way + 1) * width)
    return replace(
        found,
        inputs=found.inputs[order, columns],
        state=[part[way : way + 1] for part in found.state],
        output_grad=found.output_grad[..., own][order, columns],
        seen=found.seen[..., own][order, columns],
        known=found.known[order, columns],
    )


@torch.no_grad()
def _quick(
    recorder: Recorder,
    calls: list[Call],
    found: Sequences,
    shared: np.ndarray,
    steps: np.ndarray,
    below: list[Tensor] | None,
    reverse: bool = False,
) -> GradientProfile | None:
    """As `quick_profile`, for sources that are known step by step, [S, B]; -1 where a sequence has none."""
    weights = {name: at_least_single(weight) for name, weight in calls[0].weights.items()}
    layers = read_cells(recorder.module, weights, reverse)
    narrowest, lengths = narrowest_of(recorder), from_numpy(found.lengths)
    inputs, batch = found.inputs, found.inputs.shape[1]
    n_bytes = sum(2 * layer.kept for layer in layers) * found.known.numel() * inputs.element_size()
    valid = torch.arange(len(inputs), device="cpu")[:, None] < lengths
    if (
        not all(layer.by_outputs for layer in layers)
        or narrowest != inputs.dtype
        or n_bytes > KEEP_BYTES
        or not bool((found.known | ~valid).all())
    ):
        return None
    if below is None:
        below = _outputs_below(stand_in(recorder, calls), found) if len(layers) > 1 else []
    paths = _trajectories(layers, found, below)
    if not agrees(paths[-1].states[0][1:], found.seen, found.known, narrowest):
        return None
    factors = [layer.factors(path, Buffers()) for layer, path in zip(layers, paths, strict=True)]
    places, coordinates = places_of(layers)
    covectors = covectors_of(found, steps, coordinates, places[-1][0])
    n_distances = int(steps.max()) + 2
    work = max(layer.widest * layer.parts[0].width for layer in layers)
    with threads_for(work * steps.size, inputs.device):
        log_norm = short_sweep(layers, factors, found.masks or [None] * len(below), steps, covectors, n_distances)
    if log_norm is None:
        return None
    return GradientProfile(
        log_norm=log_norm,
        sources=shared,
        distance=np.arange(n_distances),
        wrt="state",
        first_nonfinite=np.full(batch, -1, dtype=np.int64),
        note=arguments.narrow_note(narrowest),
    )


def _outputs_below(module: nn.RNNBase, found: Sequences) -> list[Tensor]:
    """The outputs of the layers below the top one, by PyTorch's own kernel."""
    x = found.inputs
    outputs: list[Tensor] = []
    for layer in range(module.num_layers - 1):
        state: Any = [part[layer : layer + 1].contiguous() for part in found.state]
        outputs.append(one_layer(module, layer)(x, tuple(state) if len(state) > 1 else state[0])[0])
        x = outputs[-1] * found.masks[layer] if found.masks else outputs[-1]
    return outputs


def _trajectories(layers: list[Cell], found: Sequences, below: list[Tensor]) -> list[Trajectory]:
    x = found.inputs
    paths: list[Trajectory] = []
    for index, (layer, output) in enumerate(zip(layers, [*below, found.seen], strict=True)):
        state = tuple(part[index] for part in found.state)
        paths.append(layer.retrace(x, output, state, Buffers()))
        x = output * found.masks[index] if found.masks and index < len(below) else output
    return paths
