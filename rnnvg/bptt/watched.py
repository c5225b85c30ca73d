"""From what a watcher saw to one batch of sequences with a gradient at every step, ready for the sweep.

Calls joined through their state become one sequence; separate ones stand side by side, padded to the longest.
Axes: T steps, B sequences of all calls, P output, N state coordinates, L layers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from rnnvg.bptt import arguments
from rnnvg.bptt.contributions import TemporalContributions, contributions_of
from rnnvg.bptt.linearize import ModuleLinearization, linearize
from rnnvg.bptt.profile import MAX_BYTES, GradientProfile, Origin, check_size, profile_of
from rnnvg.bptt.watch import Call, Watcher, weights_of
from rnnvg.errors import InputError, check_name


@dataclass(frozen=True)
class _Sequences:
    """A batch of sequences and their direct gradients, time first.

    inputs [T, B, I]; lengths [B]; state the parts of the initial state [L, B, .]; output_grad [T, B, P];
    ends: (last steps [B'], sequences [B'], gradients of the parts of the state there [L, B', .]).
    """

    inputs: Tensor
    lengths: np.ndarray
    state: list[Tensor]
    output_grad: Tensor
    ends: list[tuple[np.ndarray, np.ndarray, list[Tensor]]]


def profile_calls(
    watcher: Watcher, sources: arguments.Sources, wrt: str, layer: int | None, max_bytes: int | None
) -> GradientProfile:
    """Watcher.profile."""
    check_name("wrt", wrt, arguments.WRT)
    module, found = _collect(watcher)
    state = _as_state(module, found.state)
    inputs = found.inputs.transpose(0, 1) if module.batch_first else found.inputs
    linear = linearize(module, inputs, state)
    shared, steps = arguments.source_steps(sources, linear.n_steps, found.lengths, linear.batch)
    check_size(steps.shape[0], int(shared.max()) + 2, linear.batch, MAX_BYTES if max_bytes is None else max_bytes)
    covectors = torch.zeros(*steps.shape, linear.size, dtype=torch.float64, device=linear.device)
    sequences = torch.arange(linear.batch, device=linear.device)
    index = torch.from_numpy(np.maximum(steps, 0)).to(linear.device)
    covectors[..., linear.output] = found.output_grad[index, sequences].double()
    for last, which, grads in found.ends:
        whole = _whole_state(linear, grads)
        for row in range(len(steps)):
            here = np.flatnonzero(steps[row, which] == last)
            covectors[row, torch.from_numpy(which[here])] += whole[torch.from_numpy(here)]
    covectors[torch.from_numpy(steps < 0).to(linear.device)] = 0
    versions = arguments.weight_versions(module)
    return profile_of(linear, shared, Origin(module, inputs, state, steps, covectors, layer, versions), wrt)


def contributions_of_calls(watcher: Watcher) -> TemporalContributions:
    """Watcher.temporal_contributions."""
    module, found = _collect(watcher)
    state = _as_state(module, found.state)
    inputs = found.inputs.transpose(0, 1) if module.batch_first else found.inputs
    linear = linearize(module, inputs, state)
    assert isinstance(linear, ModuleLinearization)
    state_grads: dict[int, Tensor] = {}
    for last, which, grads in found.ends:
        whole = _whole_state(linear, grads).to(linear.dtype)
        for step in np.unique(last):
            here = torch.from_numpy(np.flatnonzero(last == step))
            at = state_grads.setdefault(
                int(step), torch.zeros(linear.batch, linear.size, dtype=linear.dtype, device=linear.device)
            )
            at[torch.from_numpy(which)[here]] += whole[here]
    return contributions_of(module, linear, inputs, state, found.output_grad, state_grads)


def steps_with_gradient(watcher: Watcher) -> np.ndarray:
    """The steps, of the batch that Watcher.profile analyses, at which any sequence has a direct gradient."""
    _, found = _collect(watcher)
    steps = torch.nonzero(found.output_grad.flatten(1).any(1)).flatten().cpu().numpy()
    return np.unique(np.concatenate([steps, *(last for last, _, _ in found.ends)]).astype(np.int64))


def _collect(watcher: Watcher) -> tuple[nn.RNNBase, _Sequences]:
    if not watcher.calls:
        raise InputError(
            "The watcher saw no forward call that can be differentiated; run the model inside `with watch(...)`."
        )
    chains = [chain for chain in _chains(watcher.calls) if any(call.reached for call in chain)]
    if not chains:
        raise InputError(
            "No gradient has come back to the recurrent module's output, h_n or c_n; call loss.backward() before profile()."
        )
    calls = [call for chain in chains for call in chain]
    module = _stand_in(watcher.module, calls)
    return module, _side_by_side([_chain(module, chain) for chain in chains])


def _chains(calls: list[Call]) -> list[list[Call]]:
    """Calls joined through their state, first one first."""
    chains: list[list[Call]] = []
    for call in calls:
        home = next((chain for chain in chains if chain[-1] is call.before), None)
        if call.before is not None and home is None:
            raise InputError(
                "One call's final state began two later calls, so the sequence forks; detach it for one of them, or watch "
                "them separately."
            )
        if home is None:
            chains.append([call])
        else:
            home.append(call)
    return chains


def _stand_in(module: nn.RNNBase, calls: list[Call]) -> nn.RNNBase:
    """A module with the weights that the calls ran with, as float32 or float64, in eval mode."""
    if any(call.dropout for call in calls):
        raise InputError(
            f"`module` ran with dropout {module.dropout:g} active between its layers, so its masks are not known; set its "
            "dropout to 0, or run it in eval mode, while it is watched."
        )
    if len({call.versions for call in calls}) > 1:
        raise InputError("`module`'s weights changed between the calls; use one watcher for each optimiser step.")
    weights = calls[0].weights
    if weights is None:
        if calls[0].versions != arguments.weight_versions(module):
            raise InputError(
                "A weight of `module` was changed since the forward pass (by an optimiser's step?); ask for the profile "
                "before that, or pass snapshot=True to watch()."
            )
        weights = weights_of(module)
    settings: dict[str, Any] = {"nonlinearity": module.nonlinearity} if isinstance(module, nn.RNN) else {}
    if module.proj_size:
        settings["proj_size"] = module.proj_size
    kind = next(kind for kind in arguments.FUSED if isinstance(module, kind))
    copy = kind(
        module.input_size,
        module.hidden_size,
        module.num_layers,
        bias=module.bias,
        batch_first=module.batch_first,
        device="meta",
        **settings,
    )
    for name, weight in weights.items():
        setattr(copy, name, nn.Parameter(_wide(weight.detach()), requires_grad=False))
    return copy.eval()


def _chain(module: nn.RNNBase, calls: list[Call]) -> _Sequences:
    """Joined calls as one run of sequences."""
    pieces = [_call(module, call) for call in calls]
    if len(pieces) == 1:
        return pieces[0]
    for piece in pieces[:-1]:
        if (piece.lengths != piece.inputs.shape[0]).any():
            raise InputError(
                "Packed sequences of different lengths were joined with a later call through their state; detach the state, "
                "or watch the calls separately."
            )
    starts = np.cumsum([0] + [piece.inputs.shape[0] for piece in pieces[:-1]])
    return _Sequences(
        inputs=torch.cat([piece.inputs for piece in pieces]),
        lengths=pieces[-1].lengths + starts[-1],
        state=pieces[0].state,
        output_grad=torch.cat([piece.output_grad for piece in pieces]),
        ends=[
            (last + start, which, grads)
            for piece, start in zip(pieces, starts, strict=True)
            for last, which, grads in piece.ends
        ],
    )


def _call(module: nn.RNNBase, call: Call) -> _Sequences:
    packed = isinstance(call.inputs, PackedSequence)
    data = call.inputs.data if isinstance(call.inputs, PackedSequence) else call.inputs
    if data._version != call.input_version:
        raise InputError(
            "The inputs of a watched call were overwritten in place since; ask for the profile before that."
        )
    if isinstance(call.inputs, PackedSequence):
        inputs, lengths = pad_packed_sequence(call.inputs)
        lengths = lengths.numpy()
    else:
        inputs = _time_first(call.inputs, module)
        lengths = np.full(inputs.shape[1], inputs.shape[0])
    inputs = _wide(inputs.detach())
    batch = inputs.shape[1]
    width = module.proj_size or module.hidden_size
    output_grad = inputs.new_zeros(inputs.shape[0], batch, width)
    if call.output_grad is not None:
        grad = call.output_grad
        if packed:
            assert call.output is not None
            output_grad = _wide(pad_packed_sequence(call.output._replace(data=grad))[0])
        else:
            output_grad = _wide(_time_first(grad, module))
    finals = []
    for index, total in enumerate(call.final_grads):
        size = width if index == 0 else module.hidden_size
        direct = inputs.new_zeros(module.num_layers, batch, size)
        passed_on = call.passed_on[index]
        if total is not None:
            direct = _wide(total if passed_on is None else total - passed_on).view_as(direct)
        finals.append(direct)
    ends = [(lengths - 1, np.arange(batch), finals)] if any(bool(part.any()) for part in finals) else []
    has_cell = isinstance(module, nn.LSTM)
    sizes = (width, module.hidden_size)[: 1 + has_cell]
    given = call.state or tuple(inputs.new_zeros(module.num_layers, batch, size) for size in sizes)
    state = [_wide(part).reshape(module.num_layers, batch, -1) for part in given]
    return _Sequences(inputs, lengths, state, output_grad, ends)


def _side_by_side(runs: list[_Sequences]) -> _Sequences:
    """Separate runs in one batch, zeros behind the end of the shorter ones."""
    if len(runs) == 1:
        return runs[0]
    steps = max(run.inputs.shape[0] for run in runs)
    offsets = np.cumsum([0] + [run.inputs.shape[1] for run in runs[:-1]])

    def padded(tensor: Tensor) -> Tensor:
        return torch.cat([tensor, tensor.new_zeros(steps - tensor.shape[0], *tensor.shape[1:])])

    return _Sequences(
        inputs=torch.cat([padded(run.inputs) for run in runs], 1),
        lengths=np.concatenate([run.lengths for run in runs]),
        state=[torch.cat(parts, 1) for parts in zip(*(run.state for run in runs), strict=True)],
        output_grad=torch.cat([padded(run.output_grad) for run in runs], 1),
        ends=[
            (last, which + offset, grads)
            for run, offset in zip(runs, offsets, strict=True)
            for last, which, grads in run.ends
        ],
    )


def _time_first(tensor: Tensor, module: nn.RNNBase) -> Tensor:
    if tensor.ndim == 2:  # one sequence without a batch axis
        return tensor.unsqueeze(1)
    return tensor.transpose(0, 1) if module.batch_first else tensor


def _wide(tensor: Tensor) -> Tensor:
    """float64 as it is, everything narrower as float32."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def _as_state(module: nn.RNNBase, parts: list[Tensor]) -> Any:
    return tuple(parts) if isinstance(module, nn.LSTM) else parts[0]


def _whole_state(linear: Any, grads: list[Tensor]) -> Tensor:
    """Gradients of (h_n, c_n) [L, B, .] as rows of the whole state, [B, N] float64."""
    whole = torch.zeros(grads[0].shape[1], linear.size, dtype=torch.float64, device=linear.device)
    for each in linear.coordinates:
        whole[:, each.columns] = grads[0 if each.kind == "hidden" else 1][each.layer].double()
    return whole
