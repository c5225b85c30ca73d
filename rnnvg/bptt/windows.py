"""The last steps before a loss, cut out of long sequences: as many as are asked for are followed, whatever the length.

PyTorch's own kernel runs the calls again, stopping at the step where each window begins: that gives the states there and the
output that must be the one that was seen. The windows then stand side by side as one batch.
Axes: T steps, B sequences, W windows, P output, L layers.
"""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rnnvg.bptt.calls import Call, Recorder
from rnnvg.bptt.profile import GradientProfile
from rnnvg.bptt.quick import quick_profile
from rnnvg.bptt.replay import Again, check_replay, stand_in
from rnnvg.bptt.sequences import End, Sequences
from rnnvg.bptt.watched import linearised, profile_at
from rnnvg.bptt.weights import one_layer
from rnnvg.pytorch import from_numpy

SHORT = 2  # sequences of up to so many times the distance are followed to their start, which costs less than cutting them up


def profile_within(
    recorder: Recorder, calls: list[Call], found: Sequences, steps: list[int], distance: int
) -> tuple[GradientProfile, np.ndarray]:
    """The profile of the losses at `steps` up to `distance` steps back, and the step at which each of its columns begins.

    Sequences that are not longer are columns as they are, with a source for each of `steps`; of longer ones each window is a
    column, with one source.
    """
    whole = np.zeros(len(found.lengths), dtype=np.int64)
    if len(found.inputs) <= SHORT * distance:
        quick = quick_profile(recorder, calls, found, steps)
        if quick is not None:
            kept = slice(distance + 1)
            return dataclasses.replace(quick, log_norm=quick.log_norm[:, kept], distance=quick.distance[kept]), whole
    if len(found.inputs) <= distance:
        return profile_at(linearised(recorder, stand_in(recorder, calls), found), steps), whole
    module = stand_in(recorder, calls)
    last = np.array([step for step in steps for length in found.lengths if step < length])
    which = np.array([b for step in steps for b, length in enumerate(found.lengths) if step < length])
    start = np.maximum(0, last + 1 - distance)
    outputs, states = _states_at(module, found, start, which)
    again = Again(module, found.inputs, found.module_state, found.masks or None, found.lengths)
    check_replay(recorder, again, outputs[-1], found.seen, found.known)
    cut, below = _cut(found, start, last, which, states, outputs)
    quick = quick_profile(recorder, calls, cut, "last", below)
    return quick or profile_at(linearised(recorder, module, cut, checked=True), "last"), start


def _cut(
    found: Sequences,
    start: np.ndarray,
    last: np.ndarray,
    which: np.ndarray,
    states: list[Tensor],
    outputs: list[Tensor],
) -> tuple[Sequences, list[Tensor]]:
    """Steps start[w]..last[w] of sequences which[w], with the gradient of the last one alone, and the layers' outputs below
    the top one."""
    lengths = last + 1 - start
    steps = np.minimum(start + np.arange(int(lengths.max()))[:, None], last)  # behind the end the last step once more
    rows, columns = from_numpy(steps), from_numpy(which)
    output_grad = found.output_grad.new_zeros(*steps.shape, found.output_grad.shape[-1])
    ends = from_numpy(lengths - 1), torch.arange(len(which), device="cpu")
    output_grad[ends] = found.output_grad[from_numpy(last), columns]
    at_end: list[End] = []
    for its_last, its_which, grads in found.ends:
        pairs = [(w, i) for w in range(len(which)) for i in range(len(its_which))]
        pairs = [(w, i) for w, i in pairs if its_which[i] == which[w] and its_last[i] == last[w]]
        if pairs:
            here, there = (np.array(each) for each in zip(*pairs, strict=True))
            at_end.append(End(lengths[here] - 1, here, [grad[:, from_numpy(there)] for grad in grads]))
    seen = outputs[-1][rows, columns]
    cut = dataclasses.replace(
        found,
        inputs=found.inputs[rows, columns],
        lengths=lengths,
        state=states,
        output_grad=output_grad,
        ends=at_end,
        seen=seen,
        known=from_numpy(np.arange(len(steps))[:, None] < lengths) & torch.isfinite(seen).all(-1),
        masks=[mask[rows, columns] for mask in found.masks],
    )
    return cut, [output[rows, columns] for output in outputs[:-1]]


@torch.no_grad()
def _states_at(
    module: nn.RNNBase, found: Sequences, start: np.ndarray, which: np.ndarray
) -> tuple[list[Tensor], list[Tensor]]:
    """The layers' outputs of all steps, [T, B, P] each, and the parts of the states before steps start[w], [L, W, .]."""
    bounds = sorted({0, *start.tolist(), len(found.inputs)})
    x, columns = found.inputs, from_numpy(which)
    every: list[Tensor] = []
    taken: list[list[Tensor]] = [[] for _ in found.state]
    for layer in range(module.num_layers):
        if layer and found.masks:
            x = x * found.masks[layer - 1].to(x.dtype)
        single = one_layer(module, layer)
        state = [part[layer : layer + 1].contiguous() for part in found.state]
        outputs: list[Tensor] = []
        before: dict[int, list[Tensor]] = {}
        for first, stop in itertools.pairwise(bounds):
            before[first] = state
            given: Any = tuple(state) if len(state) > 1 else state[0]
            output, after = single(x[first:stop], given)
            state = list(after) if len(state) > 1 else [after]
            outputs.append(output)
        x = torch.cat(outputs)
        every.append(x)
        for index, parts in enumerate(taken):
            parts.append(torch.stack([before[s][index][0, b] for s, b in zip(start.tolist(), columns, strict=True)]))
    return every, [torch.stack(parts) for parts in taken]
