"""A recorded training step in a few numbers, and the word for it: vanishing, exploding, neither, not finite, not measured.

Of long sequences the last steps before a loss are cut out: as many as are asked for are followed, whatever the length.
PyTorch's own kernel runs the calls again, stopping at the step where each window begins: that gives the states there and the
output that must be the one that was seen. The windows then stand side by side as one batch.
Axes: T steps, B sequences, W windows, P output, L layers.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from rnnvg.bptt.bidirectional import DIRECTIONS
from rnnvg.bptt.calls import Call, Recorder
from rnnvg.bptt.handed_on import at_outputs, both_ways, check_apart, profile_seen
from rnnvg.bptt.passes import chosen_passes
from rnnvg.bptt.profile import GradientProfile
from rnnvg.bptt.quick import quick_both_ways, quick_profile
from rnnvg.bptt.replay import Again, check_replay, stand_in
from rnnvg.bptt.sequences import (
    End,
    Sequences,
    by_weights,
    evenly,
    gathered,
    reached_chains,
    some_of,
    steps_with_gradient,
)
from rnnvg.bptt.tensors import all_finite
from rnnvg.bptt.watched import linearised, pairs_side_by_side, profile_at
from rnnvg.bptt.weights import one_layer
from rnnvg.errors import InputError
from rnnvg.horizon.memory import last_reach
from rnnvg.pytorch import from_numpy

Verdict = Literal["vanishing", "exploding", "neither", "not finite", "not measured"]
CODES: dict[Verdict, float] = {
    "vanishing": -1.0,
    "neither": 0.0,
    "exploding": 1.0,
    "not finite": 2.0,
    "not measured": 3.0,
}

WORST: tuple[Verdict, ...] = ("not finite", "exploding", "vanishing", "neither", "not measured")

DISTANCES = (1, 10, 100)  # a monitor follows a gradient back as far as the last of them, or as it is asked to
SOURCES, SEQUENCES = 4, 8  # followed at most
MAJORITY = 0.5
CHANGED_STATE = (
    " The calls began from a state that was computed on the way from one to the next (multiplied by a mask where an episode "
    "is done?), which ends a sequence here; hand over the final state as it is, or reset it between two calls of more steps."
)
HORIZON = -1.0  # ln of the gain at the horizon


def measure(recorder: Recorder, distance: int, vanished: float, exploded: float) -> tuple[dict[str, float], str]:
    """The numbers that GradientMonitor.metrics documents, "step" apart, and why some are missing; never raises."""
    try:
        return _measure(recorder, distance, vanished, exploded)
    except InputError as error:
        return {"verdict": CODES["not measured"]}, str(error)
    except Exception as error:  # the training goes on, whatever is wrong here
        return {"verdict": CODES["not measured"]}, f"The analysis failed: {type(error).__name__}: {error}"


def _measure(recorder: Recorder, distance: int, vanished: float, exploded: float) -> tuple[dict[str, float], str]:
    chosen = chosen_passes(recorder, None)
    chains = reached_chains(recorder, chosen)
    if recorder.module.bidirectional:
        return _measure_both_ways(recorder, chains, chosen, distance, vanished, exploded)
    groups = by_weights(chains)
    groups = [groups[each] for each in evenly(len(groups), SEQUENCES)]
    collections: list[tuple[list[Call], Sequences]] = []
    for group in groups:
        own = [chains[index] for index in group]
        calls = [call for chain in own for call in chain]
        collections.append((calls, gathered(recorder, own, chosen)))
    for calls, found in collections:
        broken = _nonfinite(calls[0].weights, found)
        if broken is not None:
            return _not_finite(*broken)
    profiles: list[GradientProfile] = []
    for calls, found in collections:
        fewer = some_of(found, max(1, SEQUENCES // len(groups)))
        steps = steps_with_gradient(fewer)
        if not len(steps):
            continue
        places = [int(steps[each]) for each in evenly(len(steps), SOURCES)]
        profile, start = profile_within(recorder, calls, fewer, places, max(distance, DISTANCES[-1]))
        first = (profile.first_nonfinite + start)[profile.first_nonfinite >= 0]
        if first.size:
            return _not_finite(int(first.min()), "The state")
        profiles.append(profile)
    if not profiles:
        return _all_zero()
    profile = profiles[0] if len(profiles) == 1 else pairs_side_by_side(profiles)
    numbers, reason = _judged(profile, distance, vanished, exploded)
    if reason and any(call.computed_state for chain in chains for call in chain):
        reason += CHANGED_STATE
    return numbers, reason


def _measure_both_ways(
    recorder: Recorder, chains: list[list[Call]], chosen: set[int], distance: int, vanished: float, exploded: float
) -> tuple[dict[str, float], str]:
    """The numbers of each direction's own state under "forward/" and "backward/", and the worse verdict of the two."""
    check_apart(chains)
    found = gathered(recorder, chains, chosen)
    broken = _nonfinite(chains[0][0].weights, found)
    if broken is not None:
        return _not_finite(*broken)
    found = some_of(at_outputs(recorder.module, found), SEQUENCES)
    steps = steps_with_gradient(found)
    sources = [int(steps[each]) for each in evenly(len(steps), SOURCES)] if len(steps) else []
    profiles = None
    if sources and recorder.module.num_layers == 1 and len(by_weights(chains)) == 1:
        profiles = quick_both_ways(recorder, [call for chain in chains for call in chain], found, sources)
    if profiles is None:
        module, found = both_ways(recorder, chains, chosen)
        if not sources:
            return _all_zero()
        found = some_of(found, SEQUENCES)
        signed = [profile_seen(module, found, sources=sources, direction=direction) for direction in DIRECTIONS]
        profiles = [_own_way(profile, direction) for profile, direction in zip(signed, DIRECTIONS, strict=True)]
    numbers: dict[str, float] = {}
    reasons: dict[float, str] = {}
    for direction, profile in zip(DIRECTIONS, profiles, strict=True):
        first = profile.first_nonfinite[profile.first_nonfinite >= 0]
        its, reason = (
            _not_finite(int(first.min()), "The state") if first.size else _judged(profile, distance, vanished, exploded)
        )
        numbers |= {f"{direction}/{key}": value for key, value in its.items()}
        reasons[its["verdict"]] = f"In the {direction} direction: {reason}"
    code = next(CODES[word] for word in WORST if CODES[word] in reasons)
    explained = code in (CODES["not finite"], CODES["not measured"])
    return numbers | {"verdict": code}, reasons[code] if explained else ""


def _own_way(profile: GradientProfile, direction: str) -> GradientProfile:
    """A profile over signed distance as one over the distances that its direction runs, from 0 on."""
    sign = 1 if direction == "forward" else -1
    own = profile.distance * sign >= 0
    log_norm = profile.log_norm[:, own][:, ::sign]
    return dataclasses.replace(profile, log_norm=log_norm, distance=np.arange(log_norm.shape[1]), origin=None)


def _judged(profile: GradientProfile, distance: int, vanished: float, exploded: float) -> tuple[dict[str, float], str]:
    numbers = _gains(profile)
    shares = _shares(profile, distance, vanished, exploded)
    if shares is None:
        reason = "No loss comes a step or more after the start of its sequence, so there is no gain over time to judge."
        return numbers | {"verdict": CODES["not measured"]}, reason
    numbers |= {"vanished": shares[0], "exploded": shares[1], "verdict_threshold": MAJORITY}
    word: Verdict = "vanishing" if shares[0] > MAJORITY else "exploding" if shares[1] > MAJORITY else "neither"
    return numbers | {"verdict": CODES[word]}, ""


def _all_zero() -> tuple[dict[str, float], str]:
    return {"verdict": CODES["not measured"]}, "Every gradient that came back is exactly zero."


def _not_finite(step: int, what: str) -> tuple[dict[str, float], str]:
    return {"verdict": CODES["not finite"], "first_nonfinite": float(step)}, f"{what} at step {step} is not finite."


def _nonfinite(weights: dict[str, Tensor], found: Sequences) -> tuple[int, str] | None:
    """The first step at which something is inf or nan, and what: causes before what they bring about."""
    for name, weight in weights.items():
        if not all_finite(weight):
            return 0, f"The weight {name}"
    if not all(all_finite(part) for part in found.state):
        return 0, "The initial state"
    valid = torch.arange(found.inputs.shape[0], device="cpu")[:, None] < from_numpy(found.lengths)
    places = (("The input", found.inputs), ("The state", found.seen), ("The gradient at the output", found.output_grad))
    for what, values in places:
        if all_finite(values):
            continue
        bad = ~torch.isfinite(values).all(-1).cpu() & valid
        if bool(bad.any()):
            return int(torch.nonzero(bad)[0, 0]), what
    for last, _, grads in found.ends:
        if not all(all_finite(grad) for grad in grads):
            return int(last.min()), "The gradient at the final state"
    return None


def _gains(profile: GradientProfile) -> dict[str, float]:
    numbers: dict[str, float] = {}
    reach = last_reach(profile.mean_log_gain(), HORIZON)
    if reach is not None:
        numbers |= {"horizon": float(reach[0]), "horizon_censored": float(reach[1])}
    from_loss = profile.log_gain(reference=0)
    for distance in DISTANCES:
        if distance < from_loss.shape[1]:
            gains = from_loss[:, distance][~np.isnan(from_loss[:, distance])]
            if gains.size:
                numbers[f"gain_{distance}"] = float(np.exp(gains.mean()))
    return numbers


def _shares(profile: GradientProfile, distance: int, vanished: float, exploded: float) -> tuple[float, float] | None:
    """Of the sources and sequences with a gradient two steps back or more, the shares vanished and exploded at `distance`."""
    gain = profile.log_gain()[:, : distance + 1]
    seen = ~np.isnan(gain)
    counted = seen[:, 2:].any(1)
    if not counted.any():
        return None
    last = gain.shape[1] - 1 - np.argmax(seen[:, ::-1], axis=1)
    at_last = np.take_along_axis(gain, last[:, None], 1)[:, 0][counted]
    return float((at_last < math.log(vanished)).mean()), float((at_last > math.log(exploded)).mean())


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
