"""A recorded training step in a few numbers, and the word for it: vanishing, exploding, neither, not finite, not measured."""

from __future__ import annotations

import dataclasses
import math
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from rnnvg.bptt.bidirectional import DIRECTIONS
from rnnvg.bptt.calls import Call, Recorder
from rnnvg.bptt.handed_on import at_outputs, both_ways, check_apart, profile_seen
from rnnvg.bptt.passes import chosen_passes
from rnnvg.bptt.profile import GradientProfile
from rnnvg.bptt.quick import quick_both_ways
from rnnvg.bptt.sequences import Sequences, by_weights, evenly, gathered, reached_chains, some_of, steps_with_gradient
from rnnvg.bptt.tensors import all_finite
from rnnvg.bptt.watched import pairs_side_by_side
from rnnvg.bptt.windows import profile_within
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
