"""The calls that a watcher saw as one batch of sequences, with a gradient at every step.

Calls joined through their state become one sequence; separate ones stand side by side, padded to the longest.
Axes: T steps, B sequences of all calls, P output, L layers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from rnnvg.bptt.calls import Call, Gradients, Recorder, version
from rnnvg.bptt.replay import masks_of, same_weights, stand_in
from rnnvg.bptt.weights import at_least_single
from rnnvg.errors import InputError
from rnnvg.pytorch import from_numpy


class End(NamedTuple):
    """Of some sequences [B'] the last steps [B'], and the gradients of the parts of the state there, [L, B', .] each."""

    last: np.ndarray
    which: np.ndarray
    grads: list[Tensor]


@dataclass(frozen=True)
class Sequences:
    """A batch of sequences and their direct gradients, time first.

    inputs [T, B, I]; lengths [B]; state the parts of the initial state [L, B, .]; output_grad [T, B, P];
    seen: the output of the calls themselves [T, B, P], and where it is known [T, B];
    masks: what dropout multiplied the layers' outputs by, [T, B, P] for each border between two; [] without dropout.
    """

    inputs: Tensor
    lengths: np.ndarray
    state: list[Tensor]
    output_grad: Tensor
    ends: list[End]
    seen: Tensor
    known: Tensor
    masks: list[Tensor]

    @property
    def module_state(self) -> Any:
        """The initial state as a module takes it: a pair for an LSTM, else a tensor."""
        return tuple(self.state) if len(self.state) > 1 else self.state[0]


def steps_with_gradient(found: Sequences) -> np.ndarray:
    """The steps, of the batch that Watcher.profile analyses, at which any sequence has a direct gradient."""
    steps = torch.nonzero(found.output_grad.flatten(1).any(1)).flatten().cpu().numpy()
    every = set(steps.tolist()).union(*(last.tolist() for last, _, _ in found.ends))
    return np.array(sorted(every), dtype=np.int64)  # np.unique imports a tenth of a second's worth


def reached_chains(recorder: Recorder, chosen: set[int]) -> list[list[Call]]:
    """Calls joined through their state, one list a sequence, of those that the chosen backward passes reached."""
    return [chain for chain in _chains(recorder.calls) if any(chosen & call.gradients.keys() for call in chain)]


def collected(recorder: Recorder, chains: list[list[Call]], chosen: set[int]) -> tuple[nn.RNNBase, Sequences]:
    """A stand-in for the module as the calls used it, and the chains side by side with the chosen passes' gradients."""
    return stand_in(recorder, [call for chain in chains for call in chain]), gathered(recorder, chains, chosen)


def gathered(recorder: Recorder, chains: list[list[Call]], chosen: set[int]) -> Sequences:
    """The chains side by side with the chosen passes' gradients."""
    return _side_by_side([_chain(recorder.module, chain, chosen) for chain in chains])


def by_weights(chains: list[list[Call]]) -> list[list[int]]:
    """The chains' indices, together those that ran with the same weights, in the order in which these came."""
    groups: list[list[int]] = []
    for index, chain in enumerate(chains):
        weights = chain[0].weights
        home = next((group for group in groups if same_weights(chains[group[0]][0].weights, weights)), None)
        if home is None:
            groups.append([index])
        else:
            home.append(index)
    return groups


def columns_of(chains: list[list[Call]], groups: list[list[int]]) -> list[np.ndarray]:
    """Group by group the columns of its chains where all chains stand side by side."""
    first: list[int] = np.cumsum([0, *(batch_of(chain[0]) for chain in chains)]).tolist()
    return [np.concatenate([np.arange(first[index], first[index + 1]) for index in group]) for group in groups]


def batch_of(call: Call) -> int:
    """How many sequences a call was handed."""
    inputs = call.inputs
    if isinstance(inputs, PackedSequence):
        return int(inputs.batch_sizes[0])
    if inputs.ndim == 2:
        return 1
    return inputs.shape[0 if call.recorder.module.batch_first else 1]


def evenly(count: int, most: int) -> list[int]:
    """At most `most` of the indices below `count`, spread from the first to the last."""
    return sorted(set(np.linspace(0, count - 1, min(most, count)).round().astype(int).tolist()))


def some_of(found: Sequences, most: int) -> Sequences:
    """At most `most` of the sequences, spread evenly over the batch."""
    batch = len(found.lengths)
    if batch <= most:
        return found
    chosen = np.array(evenly(batch, most))
    index = from_numpy(chosen).to(found.inputs.device)
    ends: list[End] = []
    for last, which, grads in found.ends:
        here = np.flatnonzero(np.isin(which, chosen))
        rows = from_numpy(here).to(index.device)
        ends.append(End(last[here], np.searchsorted(chosen, which[here]), [grad[:, rows] for grad in grads]))
    return replace(
        found,
        **_by_step([found], lambda parts: parts[0][:, index]),
        lengths=found.lengths[chosen],
        state=[part[:, index] for part in found.state],
        ends=ends,
    )


def _chains(calls: list[Call]) -> list[list[Call]]:
    """Calls joined through their state, first one first."""
    chains: list[list[Call]] = []
    for call in calls:
        before = call.before if call.before is not None and call.before.recorder is call.recorder else None
        home = next((chain for chain in chains if chain[-1] is before), None)
        if before is not None and home is None:
            raise InputError(
                "One call's final state began two later calls, so the sequence forks; detach it for one of them, or watch "
                "them separately."
            )
        if home is None:
            chains.append([call])
        else:
            home.append(call)
    return chains


def _chain(module: nn.RNNBase, calls: list[Call], chosen: set[int]) -> Sequences:
    """Joined calls as one run of sequences."""
    pieces = [_call(module, call, chosen) for call in calls]
    if len(pieces) == 1:
        return pieces[0]
    for piece in pieces[:-1]:
        if (piece.lengths != piece.inputs.shape[0]).any():
            raise InputError(
                "Packed sequences of different lengths were joined with a later call through their state; detach the state, "
                "or watch the calls separately."
            )
    starts = np.cumsum([0] + [piece.inputs.shape[0] for piece in pieces[:-1]])
    return Sequences(
        **_by_step(pieces, torch.cat),
        lengths=pieces[-1].lengths + starts[-1],
        state=pieces[0].state,
        ends=[
            end._replace(last=end.last + start)
            for piece, start in zip(pieces, starts, strict=True)
            for end in piece.ends
        ],
    )


def _call(module: nn.RNNBase, call: Call, chosen: set[int]) -> Sequences:
    data = call.inputs.data if isinstance(call.inputs, PackedSequence) else call.inputs
    if version(data) != call.input_version:
        raise InputError("The inputs of a watched call were overwritten in place since; call profile() before that.")
    inputs = at_least_single(_by_time(call.inputs, module).detach())
    steps, batch = inputs.shape[:2]
    lengths = np.full(batch, steps)
    if isinstance(call.inputs, PackedSequence):
        lengths = pad_packed_sequence(call.inputs)[1].numpy()
    ways = 2 if module.bidirectional else 1
    width = module.proj_size or module.hidden_size
    gradients = _summed([found for task, found in call.gradients.items() if task in chosen], len(call.finals))
    output_grad = inputs.new_zeros(steps, batch, ways * width)
    if gradients.output[0] is not None:
        assert call.output is not None
        output_grad = at_least_single(_by_time(_like(call.output, gradients.output[0]), module))
    finals: list[Tensor] = []
    for index, (total, passed_on) in enumerate(zip(gradients.finals, gradients.passed_on, strict=True)):
        size = width if index == 0 else module.hidden_size
        direct = inputs.new_zeros(ways * module.num_layers, batch, size)
        if total is not None:
            direct = at_least_single(total if passed_on is None else total - passed_on).reshape(direct.shape)
        finals.append(direct)
    ends = [End(lengths - 1, np.arange(batch), finals)] if any(bool(part.any()) for part in finals) else []
    has_cell = isinstance(module, nn.LSTM)
    sizes = (width, module.hidden_size)[: 1 + has_cell]
    given = call.state or tuple(inputs.new_zeros(ways * module.num_layers, batch, size) for size in sizes)
    state = [at_least_single(part).reshape(ways * module.num_layers, batch, -1) for part in given]
    seen, known = _seen(module, call, lengths)
    if call.masks_lost:
        known = torch.zeros_like(known)  # analysed without its dropout, whose masks are lost
    assert call.output is not None
    masks = [_time_major(_like(call.output, mask)) for mask in masks_of(call)]
    return Sequences(inputs, lengths, state, output_grad, ends, seen, known, masks)


def _time_major(masks: Tensor | PackedSequence) -> Tensor:
    if isinstance(masks, PackedSequence):
        return pad_packed_sequence(masks)[0]
    return masks.unsqueeze(1) if masks.ndim == 2 else masks


def _by_step(runs: list[Sequences], join: Callable[[list[Tensor]], Tensor]) -> dict[str, Any]:
    """What has a value at every step, by its name in Sequences: that of all runs joined.

    Border by border the masks are ones for a run without dropout, beside others that have it.
    """
    names = ("inputs", "output_grad", "seen", "known")
    found: dict[str, Any] = {name: join([getattr(run, name) for run in runs]) for name in names}
    borders = range(max(len(run.masks) for run in runs))
    every = [[run.masks[each] if run.masks else torch.ones_like(run.seen) for run in runs] for each in borders]
    return found | {"masks": [join(masks) for masks in every]}


def _seen(module: nn.RNNBase, call: Call, lengths: np.ndarray) -> tuple[Tensor, Tensor]:
    """The call's own output, [T, B, P], and where it is known: at the last steps only once it was changed in place."""
    assert call.output is not None
    assert call.last is not None
    data = call.output.data if isinstance(call.output, PackedSequence) else call.output
    seen = _by_time(call.output, module)
    steps = torch.arange(seen.shape[0], device=seen.device)[:, None]
    last = from_numpy(lengths).to(seen.device) - 1
    if version(data) == call.output_version:
        known = steps <= last
    elif module.bidirectional:
        raise InputError(
            "The output of a watched call was changed in place since, and a bidirectional module's final states do not "
            "determine it; change a copy."
        )
    else:
        known = steps == last
        seen = torch.where(known.unsqueeze(-1), call.last.to(seen.dtype), 0)
    return seen, known & torch.isfinite(seen.sum(-1, dtype=at_least_single(seen[:0]).dtype))


def _summed(found: list[Gradients], n_finals: int) -> Gradients:
    """The gradients of several passes together."""

    def added(parts: list[Tensor | None]) -> Tensor | None:
        present = [part for part in parts if part is not None]
        return torch.stack(present).sum(0) if len(present) > 1 else present[0] if present else None

    return Gradients(
        finals=[added([each.finals[index] for each in found]) for index in range(n_finals)],
        passed_on=[added([each.passed_on[index] for each in found]) for index in range(n_finals)],
        handed_on=[None] * n_finals,
        output=[added([each.output[0] for each in found])],
    )


def _side_by_side(runs: list[Sequences]) -> Sequences:
    """Separate runs in one batch, zeros behind the end of the shorter ones."""
    if len(runs) == 1:
        return runs[0]
    steps = max(run.inputs.shape[0] for run in runs)
    offsets = np.cumsum([0] + [run.inputs.shape[1] for run in runs[:-1]])

    def side_by_side(tensors: list[Tensor]) -> Tensor:
        return torch.cat([torch.cat([each, each.new_zeros(steps - len(each), *each.shape[1:])]) for each in tensors], 1)

    return Sequences(
        **_by_step(runs, side_by_side),
        lengths=np.concatenate([run.lengths for run in runs]),
        state=[torch.cat(parts, 1) for parts in zip(*(run.state for run in runs), strict=True)],
        ends=[
            end._replace(which=end.which + offset)
            for run, offset in zip(runs, offsets, strict=True)
            for end in run.ends
        ],
    )


def _by_time(sequence: Tensor | PackedSequence, module: nn.RNNBase) -> Tensor:
    """What the module takes or gives, time first with a batch axis, zeros behind the ends of packed sequences."""
    if isinstance(sequence, PackedSequence):
        return pad_packed_sequence(sequence)[0]
    if sequence.ndim == 2:  # one sequence without a batch axis
        return sequence.unsqueeze(1)
    return sequence.transpose(0, 1) if module.batch_first else sequence


def as_taken(by_time: Tensor, module: nn.RNNBase) -> Tensor:
    """The inverse: what is time first as the module takes it."""
    return by_time.transpose(0, 1) if module.batch_first else by_time


def _like(output: Tensor | PackedSequence, data: Tensor) -> Tensor | PackedSequence:
    """`data` laid out as the output is."""
    if isinstance(output, Tensor):
        return data
    return PackedSequence(data, output.batch_sizes, output.sorted_indices, output.unsorted_indices)
