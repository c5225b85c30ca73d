"""A recurrence of several parts: where a module began from the final state of another one, the gradient goes on into that.

An encoder hands h_n (and c_n) to a decoder: the adjoint of the decoder's initial state is the adjoint of the encoder's last
state, and is followed there. Axes: S sources, K distances, B sequences, N state coordinates.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rnnvg.bptt import arguments
from rnnvg.bptt.adjoints import Sources, adjoints
from rnnvg.bptt.bidirectional import BothWays
from rnnvg.bptt.calls import Call, Recorder
from rnnvg.bptt.contributions import contributions_both_ways
from rnnvg.bptt.passes import check_sum, chosen_passes
from rnnvg.bptt.profile import MAX_BYTES, GradientProfile, gradient_profile
from rnnvg.bptt.replay import Again, check_replay
from rnnvg.bptt.segments import state_columns
from rnnvg.bptt.sequences import Sequences, as_taken, by_weights, collected, columns_of, reached_chains
from rnnvg.bptt.stack import ModuleLinearization
from rnnvg.bptt.sweep import sweep
from rnnvg.bptt.watched import MASKED, Run, contributions_one_way, note_of, profile_for, run_of, side_by_side
from rnnvg.bptt.why.contributions import TemporalContributions
from rnnvg.errors import InputError, check_name
from rnnvg.pytorch import from_numpy


def profile_calls(
    recorder: Recorder,
    sources: arguments.Sources,
    wrt: str,
    layer: int | None,
    direction: str | None,
    backward: int | None,
    max_bytes: int | None,
) -> GradientProfile:
    """Watcher.profile."""
    check_name("wrt", wrt, arguments.WRT)
    chosen = chosen_passes(recorder, backward)
    chains = reached_chains(recorder, chosen)
    most = MAX_BYTES if max_bytes is None else max_bytes
    if recorder.module.bidirectional:
        module, found = both_ways(recorder, chains, chosen)
        how = {"sources": sources, "wrt": wrt, "layer": layer, "direction": direction, "max_bytes": most}
        profile = profile_seen(module, found, **how)
        return dataclasses.replace(profile, note=f"{profile.note} {note_of(recorder)}".strip())
    if direction is not None:
        raise InputError(f"`direction` is {direction!r} and the module runs one way; pass direction=None.")
    groups = by_weights(chains)
    runs = [run_of(recorder, [chains[index] for index in group], chosen) for group in groups]
    columns = columns_of(chains, groups)
    lengths = np.empty(sum(map(len, columns)), dtype=np.int64)
    for its_columns, run in zip(columns, runs, strict=True):
        lengths[its_columns] = run.found.lengths
    shared, steps = arguments.source_steps(sources, int(lengths.max()), lengths, len(lengths))
    parts: list[GradientProfile] = []
    for group, its_columns, run in zip(groups, columns, runs, strict=True):
        profile = profile_for(run, shared, steps[:, its_columns], wrt, layer, most)
        profile = carried_on(profile, run, [chains[index] for index in group], chosen, most)
        parts.append(dataclasses.replace(profile, origin=MASKED) if run.found.masks else profile)
    return side_by_side(parts, columns)


def profile_seen(module: nn.RNNBase, found: Sequences, **how: Any) -> GradientProfile:
    """`gradient_profile` of the collected calls of a bidirectional module, for the direct gradients that came back."""
    inputs, grad = as_taken(found.inputs, module), as_taken(found.output_grad, module)
    return gradient_profile(module, inputs, found.module_state, output_grad=grad, lengths=found.lengths, **how)


def contributions_of_calls(recorder: Recorder, backward: int | None) -> TemporalContributions:
    """Watcher.temporal_contributions."""
    chosen = chosen_passes(recorder, backward)
    chains = reached_chains(recorder, chosen)
    if recorder.module.bidirectional:
        module, found = _both_ways_checked(recorder, chains, chosen)
        linear = BothWays(module, as_taken(found.inputs, module), found.module_state, found.lengths)
        contributions = contributions_both_ways(linear, found.output_grad, _at_the_ends(found))
        note = " ".join(filter(None, (contributions.note, note_of(recorder))))
        contributions = dataclasses.replace(contributions, note=note)
    else:
        contributions = contributions_one_way(run_of(recorder, chains, chosen))
    check_sum(recorder, contributions)
    return contributions


def _at_the_ends(found: Sequences) -> list[Tensor]:
    """The direct gradients of the final states, part by part [2 L, B, .]; [] where no loss read them."""
    finals = [torch.zeros_like(part) for part in found.state] if found.ends else []
    for _, which, grads in found.ends:
        for whole, its in zip(finals, grads, strict=True):
            whole[:, from_numpy(which)] += its.to(whole.dtype)
    return finals


def _both_ways_checked(recorder: Recorder, chains: list[list[Call]], chosen: set[int]) -> tuple[nn.RNNBase, Sequences]:
    """The calls of a bidirectional module, checked by a replay."""
    check_apart(chains)
    module, found = collected(recorder, chains, chosen)
    again = Again(module, found.inputs, found.module_state, None, found.lengths)
    check_replay(recorder, again, again.output(), found.seen, found.known)
    return module, found


def check_apart(chains: list[list[Call]]) -> None:
    """Refuse calls of a bidirectional module that were joined through their states."""
    if any(len(chain) > 1 for chain in chains):
        raise InputError(
            "A bidirectional module's final states began a later call, and one of them lies at the start of its sequence; "
            "detach them, or watch the calls separately."
        )


def both_ways(recorder: Recorder, chains: list[list[Call]], chosen: set[int]) -> tuple[nn.RNNBase, Sequences]:
    """The calls of a bidirectional module for a profile, checked by a replay: as `at_outputs` gives them."""
    module, found = _both_ways_checked(recorder, chains, chosen)
    return module, at_outputs(module, found)


def at_outputs(module: nn.RNNBase, found: Sequences) -> Sequences:
    """The collected calls of a bidirectional module where a loss through h_n enters at the outputs that h_n is of.

    The forward direction's last state is its output at a sequence's last step, the backward one's its output at step 0.
    """
    if not found.ends:
        return found
    output_grad, top = found.output_grad.clone(), 2 * (module.num_layers - 1)
    for last, which, (hidden, *cell) in found.ends:
        if bool(hidden[:top].any()) or any(bool(part.any()) for part in cell):
            raise InputError(
                "A loss read the final state of a lower layer, or c_n, of a bidirectional module; only outputs and the top "
                "layer's h_n are followed there."
            )
        rows, columns = from_numpy(which), hidden.shape[-1]
        output_grad[from_numpy(last), rows, :columns] += hidden[top]
        output_grad[0, rows, columns:] += hidden[top + 1]
    return dataclasses.replace(found, output_grad=output_grad, ends=[])


def carried_on(
    profile: GradientProfile, run: Run, chains: list[list[Call]], chosen: set[int], max_bytes: int
) -> GradientProfile:
    """The profile of `run` with the distances beyond the initial state, through the modules that handed it on.

    Distance source + 1 of a sequence is the border: the initial state of the one module, the last state of the other. The
    profile stays as it is where its sequences did not all begin from another module's final state, and where one layer alone
    is looked at.
    """
    earlier = _earlier(chains)
    if earlier is None or profile.layer is not None:
        return profile
    assert profile.origin is not None
    steps, covectors = profile.origin.steps, profile.origin.covectors
    log_norm = profile.log_norm
    names: list[str] = []
    log = np.zeros(steps.shape)
    ends = steps.copy()  # distances so far, by source and sequence: up to `ends` + 1
    while earlier is not None:
        covectors, grown = _at_start(run.linear, steps, covectors)
        log = log + grown
        recorder, chains = earlier[0][-1].recorder, earlier
        run = run_of(recorder, chains, chosen)
        names.append(type(recorder.module).__name__)
        last = np.where(steps >= 0, run.found.lengths - 1, -1)
        n_distances = int(last.max()) + 2
        arguments.check_size(len(steps), log_norm.shape[1] + n_distances - 1, steps.shape[1], max_bytes)
        columns = state_columns(run.linear, profile.wrt, None)
        further = sweep(run.linear, last, covectors, columns, n_distances) + log[:, None]
        log_norm = _joined(log_norm, further, ends)
        ends, steps, earlier = np.where(steps >= 0, ends + 1 + last, -1), last, _earlier(chains)
    parts = ", then ".join(names)
    note = f"From distance source + 1 on the path goes through the module that handed its final state on: {parts}."
    return dataclasses.replace(
        profile, log_norm=log_norm, distance=np.arange(log_norm.shape[1]), note=f"{profile.note} {note}".strip()
    )


def _earlier(chains: list[list[Call]]) -> list[list[Call]] | None:
    """For each chain the calls of one other module that its initial state came from; None where some began elsewhere."""
    ends = [chain[0].before for chain in chains]
    if any(end is None or end.recorder is not ends[0].recorder for end in ends if ends[0] is not None) or not ends[0]:
        return None
    found: list[list[Call]] = []
    for end in ends:
        assert end is not None
        chain = [end]
        while (before := chain[0].before) is not None and before.recorder is end.recorder:
            chain.insert(0, before)
        found.append(chain)
    return found


def _at_start(linear: ModuleLinearization, steps: np.ndarray, covectors: Tensor) -> tuple[Tensor, np.ndarray]:
    """The adjoints of the initial state, [S, B, N] on scales whose logs are [S, B]: zero where there is no source."""
    entering = Sources(linear, steps, covectors)
    vectors, log = torch.zeros_like(covectors), np.zeros(steps.shape)
    for block in adjoints(linear, entering, entering.last, len(entering.order)):
        if block.last >= 0:
            continue
        vectors[from_numpy(entering.order)] = block.vectors[0].to(covectors.dtype)
        log[entering.order] = block.log_scale[0].cpu().numpy()
    return vectors, log


def _joined(near: np.ndarray, far: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Rows [S, K, B] up to distance `ends` + 1 of each source and sequence, and from there on `far`, whose 0 is that one."""
    length: int = near.shape[1] + far.shape[1] - 1
    joined = np.full((near.shape[0], length, near.shape[2]), np.nan)
    joined[:, : near.shape[1]] = near
    at = np.arange(length)[None, :, None] - (ends[:, None, :] + 1)
    inside = (at >= 0) & (at < far.shape[1]) & (ends[:, None, :] >= 0)
    found = np.take_along_axis(far, np.clip(at, 0, far.shape[1] - 1), 1)
    return np.where(inside, found, joined)
