"""A watcher's sequences on their trajectory, checked by a replay: profiles and contributions.

Calls that ran with different weights are each followed with their own, and stand side by side in one profile.
Axes: S sources, K distances, T steps, B sequences of all calls, N state coordinates, L layers.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rnnvg.bptt import arguments
from rnnvg.bptt.calls import Call, Recorder
from rnnvg.bptt.certificate import Certificate
from rnnvg.bptt.linearize import linearize
from rnnvg.bptt.profile import MAX_BYTES, GradientProfile, Origin, profiles_of
from rnnvg.bptt.replay import Again, check_replay, narrowest_of
from rnnvg.bptt.segments import Coordinate
from rnnvg.bptt.sequences import Sequences, as_taken, collected
from rnnvg.bptt.stack import ModuleLinearization
from rnnvg.bptt.why.contributions import TemporalContributions, contributions_of
from rnnvg.errors import check_int
from rnnvg.pytorch import from_numpy

# Stands for the origin of what cannot be run again.
MASKED = (
    "The call had dropout between its layers, and a module that is run again draws other masks, so verify() has "
    "no call to compare with. Two other checks were made: its replay gave the output that was seen, and the contributions add "
    "up to .grad."
)


@dataclass(frozen=True)
class Run:
    """Calls as one linearised batch: the stand-in module, its inputs and state as it takes them, and what was found."""

    module: nn.RNNBase
    inputs: Tensor
    state: Any
    linear: ModuleLinearization
    found: Sequences
    note: str


def profile_at(
    run: Run,
    sources: arguments.Sources,
    wrt: str = "state",
    layer: int | None = None,
    max_bytes: int = MAX_BYTES,
) -> GradientProfile:
    """The profile of the collected calls for the direct gradients at `sources`."""
    linear, found = run.linear, run.found
    return profile_for(
        run, *arguments.source_steps(sources, linear.n_steps, found.lengths, linear.batch), wrt, layer, max_bytes
    )


def profile_for(
    run: Run, shared: np.ndarray, steps: np.ndarray, wrt: str, layer: int | None, max_bytes: int
) -> GradientProfile:
    """The same for sources that are known step by step, [S, B]; -1 where a sequence has none."""
    linear, found = run.linear, run.found
    arguments.check_size(steps.shape[0], int(shared.max()) + 2, linear.batch, max_bytes)
    covectors = covectors_of(found, steps, linear.coordinates, linear.output)
    versions = arguments.weight_versions(run.module)
    origin = Origin(run.module, run.inputs, run.state, steps, covectors, layer, versions)
    return profiles_of(linear, shared, origin, [wrt], run.note)[0]


def covectors_of(found: Sequences, steps: np.ndarray, coordinates: Sequence[Coordinate], output: slice) -> torch.Tensor:
    """The direct gradients of the whole state at sources that are known step by step, [S, B, N] float64."""
    size, device = coordinates[-1].columns.stop, found.output_grad.device
    covectors = torch.zeros(*steps.shape, size, dtype=torch.float64, device=device)
    index = from_numpy(np.maximum(steps, 0)).to(device)
    covectors[..., output] = found.output_grad[index, torch.arange(steps.shape[1], device=device)].double()
    for last, which, grads in found.ends:
        whole = _whole_state(coordinates, grads)
        for row in range(len(steps)):
            here = np.flatnonzero(steps[row, which] == last)
            covectors[row, from_numpy(which[here])] += whole[from_numpy(here)]
    if (steps < 0).any():
        covectors[from_numpy(steps < 0).to(device)] = 0
    return covectors


def contributions_one_way(run: Run) -> TemporalContributions:
    """The contributions of the collected calls of a module that runs one way."""
    linear, found = run.linear, run.found
    state_grads: dict[int, Tensor] = {}
    for last, which, grads in found.ends:
        whole = _whole_state(linear.coordinates, grads).to(linear.dtype)
        for step in np.unique(last):
            here = from_numpy(np.flatnonzero(last == step))
            at = state_grads.setdefault(
                int(step), torch.zeros(linear.batch, linear.size, dtype=linear.dtype, device=linear.device)
            )
            at[from_numpy(which)[here]] += whole[here]
    found_here = contributions_of(run.module, linear, run.inputs, run.state, found.output_grad, state_grads)
    return dataclasses.replace(found_here, origin=MASKED) if found.masks else found_here


def run_of(recorder: Recorder, chains: list[list[Call]], chosen: set[int]) -> Run:
    """The chains side by side, linearised, after the check that they give what was seen."""
    return linearised(recorder, *collected(recorder, chains, chosen))


def linearised(recorder: Recorder, module: nn.RNNBase, found: Sequences, checked: bool = False) -> Run:
    """The collected calls along their trajectory, after the check that it is the one that was seen.

    `checked`: they are a part of what was checked as a whole.
    """
    state = found.module_state
    inputs = as_taken(found.inputs, module)
    linear = linearize(module, inputs, state, masks=found.masks or None)
    assert isinstance(linear, ModuleLinearization)
    if not checked:
        again = Again(module, found.inputs, state, found.masks or None, found.lengths)
        check_replay(recorder, again, linear.outputs(), found.seen, found.known)
    return Run(module, inputs, state, linear, found, note_of(recorder))


def note_of(recorder: Recorder) -> str:
    """What a reader must know of how the calls were analysed."""
    notes = [arguments.narrow_note(narrowest_of(recorder))]
    lost = [call.dropout for call in recorder.calls if call.masks_lost]
    if lost:
        notes.append(f"Dropout {lost[0]:g} between the layers is analysed as off: its masks are lost.")
    return " ".join(filter(None, notes))


def _whole_state(coordinates: Sequence[Coordinate], grads: list[Tensor]) -> Tensor:
    """Gradients of (h_n, c_n) [L, B, .] as rows of the whole state, [B, N] float64."""
    size = coordinates[-1].columns.stop
    whole = torch.zeros(grads[0].shape[1], size, dtype=torch.float64, device=grads[0].device)
    for each in coordinates:
        whole[:, each.columns] = grads[0 if each.kind == "hidden" else 1][each.layer].double()
    return whole


@dataclass(frozen=True)
class SeveralWeights:
    """The origin of such a profile: its parts, and the columns that each has in the whole."""

    parts: list[GradientProfile]
    columns: list[np.ndarray]

    def certify(self, profile: GradientProfile, n: int) -> Certificate:
        """Up to `n` entries, from every part a share of them."""
        check_int("n", n, least=1)
        each = -(-n // len(self.parts))
        found = [part.verify(each) for part in self.parts]
        joined = {
            name: np.concatenate([getattr(its, name) for its in found])
            for name in ("source", "distance", "log_norm", "reference")
        }
        sequence = np.concatenate([where[its.sequence] for its, where in zip(found, self.columns, strict=True)])
        weights = {name: max(its.weights.get(name, 0.0) for its in found) for its in found[:1] for name in its.weights}
        skipped = sum(its.skipped for its in found)
        return dataclasses.replace(found[0], **joined, sequence=sequence, skipped=skipped, weights=weights)


def side_by_side(parts: list[GradientProfile], columns: list[np.ndarray]) -> GradientProfile:
    """One profile; `columns` are the places of each part's sequences in it."""
    if len(parts) == 1:
        return parts[0]
    first, n_distances = parts[0], max(part.log_norm.shape[1] for part in parts)
    batch = sum(map(len, columns))
    log_norm = np.full((len(first.sources), n_distances, batch), np.nan)
    nonfinite = np.full(batch, -1, dtype=np.int64)
    for part, where in zip(parts, columns, strict=True):
        log_norm[:, : part.log_norm.shape[1], where] = part.log_norm
        nonfinite[where] = part.first_nonfinite
    note = f"The calls ran with {len(parts)} different sets of weights; each sequence is followed with its own."
    return dataclasses.replace(
        first,
        log_norm=log_norm,
        distance=np.arange(n_distances),
        first_nonfinite=nonfinite,
        note=" ".join(dict.fromkeys([*(part.note for part in parts if part.note), note])),
        origin=SeveralWeights(parts, columns),
    )


def pairs_side_by_side(parts: list[GradientProfile]) -> GradientProfile:
    """One profile in which every source of every sequence is a column, for numbers that are taken over all of them."""
    flat: list[GradientProfile] = []
    for part in parts:
        sources, distances, batch = part.log_norm.shape
        log_norm = part.log_norm.swapaxes(1, 2).reshape(sources * batch, distances).T[None]
        nonfinite = np.tile(part.first_nonfinite, sources)
        flat.append(dataclasses.replace(part, log_norm=log_norm, sources=part.sources[-1:], first_nonfinite=nonfinite))
    edges: list[int] = np.cumsum([0, *(part.log_norm.shape[2] for part in flat)]).tolist()
    return side_by_side(flat, [np.arange(*pair) for pair in itertools.pairwise(edges)])
