"""The module of a watched call once more: its weights as they were used, and whether it still gives the output that was seen.

A hook sees tensors, not causes. Weights change without a version (fused optimisers, `.data`), wrappers set them anew, a
subclass changes its input on the way: whatever it was, the same weights on the same inputs then give another output.
Axes: T steps, B sequences, P output, L layers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from rnnvg.bptt.calls import Call, Recorder, version
from rnnvg.bptt.linearize import linearize
from rnnvg.bptt.stack import ModuleLinearization
from rnnvg.bptt.stepping import map_state
from rnnvg.bptt.weights import FUSED, plain_module
from rnnvg.errors import InputError
from rnnvg.pytorch import from_numpy, vector_norm

# Rounding errors of one pass, in units of eps times the output's size, that need no explanation; beyond that the output may
# differ by so many times what it changes when weights and inputs are disturbed by eps: of wide and of narrow dtypes.
PLAIN = {torch.float64: 64, torch.float32: 64, torch.float16: 4, torch.bfloat16: 4}
DISTURBED = {torch.float64: 64, torch.float32: 64, torch.float16: 8, torch.bfloat16: 8}
DISTURBANCES = 3


def stand_in(recorder: Recorder, calls: list[Call]) -> nn.RNNBase:
    """A plain module with copies of the weights that the calls ran with, as float32 or float64, in eval mode."""
    module = recorder.module
    for call in calls:
        if call.versions and tuple(version(weight) for weight in call.weights.values()) != call.versions:
            raise InputError(
                "A weight of `module` was changed since the forward pass (by an optimiser's step?); ask for the profile "
                "before that, or pass snapshot=True to watch()."
            )
    first = calls[0].weights
    if not all(same_weights(first, call.weights) for call in calls[1:]):
        raise InputError(
            "`module`'s weights changed between the calls, by an optimiser's step or because they are made anew for each call "
            "(weight drop, spectral norm), and the answer would mix them: one sequence that went on over several calls, or a "
            "sum over all of them; use one watcher for each optimiser step or call."
        )
    return plain_module(module, first)


def masks_of(call: Call) -> list[Tensor]:
    """What dropout multiplied each layer's output by, as the output is laid out; [] where nothing is known of it.

    Drawn again from a copy of the generator: the masks of a call are its only draws.
    """
    if not call.dropout or call.masks_lost or call.random is None:
        return []
    assert call.output is not None
    output = call.output.data if isinstance(call.output, PackedSequence) else call.output
    batch_first = call.recorder.module.batch_first and output.ndim == 3 and not isinstance(call.output, PackedSequence)
    shape = (output.transpose(0, 1) if batch_first else output).shape
    generator = torch.Generator()
    generator.set_state(call.random)
    keep = 1 - call.dropout
    masks: list[Tensor] = []
    for _ in range(call.recorder.module.num_layers - 1):
        drawn = torch.empty(shape, dtype=output.dtype, device="cpu").bernoulli_(keep, generator=generator)
        masks.append(drawn.div_(keep) if keep else drawn.zero_())
    return masks


@dataclass(frozen=True)
class Again:
    """What a stand-in is run on again: inputs [T, B, I], its state, the masks between its layers or None, lengths [B]."""

    module: nn.RNNBase
    inputs: Tensor
    state: Any
    masks: list[Tensor] | None
    lengths: np.ndarray

    @torch.no_grad()
    def output(self) -> Tensor:
        """The module's own output, [T, B, P]; by the closed forms where there are masks between its layers."""
        module, batch_first = self.module, self.module.batch_first
        inputs = self.inputs.transpose(0, 1) if batch_first else self.inputs
        if self.masks is not None:
            linear = linearize(module, inputs, self.state, masks=self.masks)
            assert isinstance(linear, ModuleLinearization)
            return linear.outputs()
        if module.bidirectional:  # which reads each sequence backwards from its own end
            lengths = from_numpy(self.lengths)
            packed = pack_padded_sequence(inputs, lengths, batch_first=batch_first, enforce_sorted=False)
            return pad_packed_sequence(module(packed, self.state)[0], total_length=len(self.inputs))[0]
        found = module(inputs, self.state)[0]
        return found.transpose(0, 1) if batch_first else found

    def disturbed(self, eps: float, seed: int) -> Again:
        """With every weight, input and state changed by about eps of itself."""
        weights = {name: _noisy(weight, eps, seed) for name, weight in self.module.named_parameters()}
        state = map_state(self.state, lambda part: _noisy(part, eps, seed))
        return replace(
            self, module=plain_module(self.module, weights), inputs=_noisy(self.inputs, eps, seed), state=state
        )


def check_replay(recorder: Recorder, again: Again, replayed: Tensor, seen: Tensor, known: Tensor) -> None:
    """Refuse where the calls, run again, do not give the output that was seen.

    Args:
        recorder: what watched them.
        again: what they are run on.
        replayed: the output by the closed forms, [T, B, P].
        seen: the output of the call itself, in its own dtype, [T, B, P].
        known: where that is known and finite, [T, B].
    """
    narrowest = narrowest_of(recorder)
    eps = torch.finfo(narrowest).eps
    if agrees(replayed, seen, known, narrowest):
        return
    plain = again.output()  # by PyTorch's own kernel: the same bits, mostly, where rounding errors grow
    if agrees(plain, seen, known, narrowest):
        return
    size = _size(seen, known, plain.dtype)
    apart = _apart(plain, seen, known)
    moved = apart.new_zeros(len(apart))
    for seed in range(DISTURBANCES):
        disturbed = again.disturbed(eps, seed).output()
        moved = torch.maximum(moved, _apart(disturbed, plain, known).amax(1))
    allowed = DISTURBED[narrowest] * torch.maximum(moved.cummax(0).values, eps * size.max())
    beyond = apart.amax(1) > allowed
    if not bool(beyond.any()):
        return
    first = int(beyond.to(torch.uint8).argmax())
    raise InputError(
        f"The calls run again give another output than the one that was seen, from step {first} on, so what was kept is not "
        f"what was used: {_cause(recorder)}."
    )


def narrowest_of(recorder: Recorder) -> torch.dtype:
    """The narrowest dtype that any of the calls computed in."""
    return max((call.narrowest for call in recorder.calls), key=lambda dtype: torch.finfo(dtype).eps)


def agrees(found: Tensor, seen: Tensor, known: Tensor, narrowest: torch.dtype) -> bool:
    """Whether an output [T, B, P] is the one that was seen, up to rounding errors of one pass that need no explanation."""
    allowed = PLAIN[narrowest] * torch.finfo(narrowest).eps * _size(seen, known, found.dtype)
    return bool((_apart(found, seen, known) <= allowed).all())


def _cause(recorder: Recorder) -> str:
    module = recorder.module
    kind = next(kind for kind in FUSED if isinstance(module, kind))
    if type(module).forward is not kind.forward or "forward" in vars(module):
        return (
            f"`module` is a {type(module).__name__} with a forward of its own, which changes its inputs or computes something "
            "else; watch the module that it calls, or pass a function step(x_t, state) -> state to gradient_profile"
        )
    if recorder.snapshot:
        return (
            "the inputs, the initial state or the output were changed in place since, in a way that PyTorch does not count "
            "(`.data`)"
        )
    return (
        "a weight, an input or the output was changed in place since, in a way that PyTorch does not count (a fused "
        "optimiser's step, `.data`); call profile() before that, or pass snapshot=True to watch()"
    )


def same_weights(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    """Whether two calls ran with the same numbers."""
    return one is other or all(torch.equal(weight, other[name]) for name, weight in one.items())


def _size(seen: Tensor, known: Tensor, dtype: torch.dtype) -> Tensor:
    """The largest root mean square of a sequence's outputs, [B]."""
    return _root_mean_square(torch.where(known.unsqueeze(-1), seen.to(dtype), 0.0)).amax(0)


def _root_mean_square(vectors: Tensor) -> Tensor:
    return vector_norm(vectors, dim=-1) / vectors.shape[-1] ** 0.5


def _apart(one: Tensor, other: Tensor, known: Tensor) -> Tensor:
    """Root mean square over the coordinates of the difference, [T, B]; 0 where it is not known, inf where it is nan."""
    found = _root_mean_square(one - other.to(one.dtype)).nan_to_num(nan=torch.inf)
    return torch.where(known, found, 0.0)


def _noisy(tensor: Tensor, eps: float, seed: int) -> Tensor:
    """Every number changed by about eps of itself, by a generator of its own."""
    generator = torch.Generator("cpu").manual_seed(seed)
    noise = torch.randn(tensor.shape, generator=generator, dtype=torch.float64, device="cpu")
    return tensor * (1 + eps * noise.to(tensor.device)).to(tensor.dtype)
