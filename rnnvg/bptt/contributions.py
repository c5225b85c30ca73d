"""temporal_contributions(): what each time step adds to the gradient of each parameter, one way or both ways.

In modules that run both ways each direction of each layer is a recurrence of its own. What passes down between layers is the
gradient of a layer's inputs, in float64: a part of it below 1e-308 reads as zero.
Axes: T steps, B sequences, I input, P output of one direction, R x Q a parameter's rows and columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from rnnvg.bptt import arguments
from rnnvg.bptt.bidirectional import BothWays, runs_both_ways
from rnnvg.bptt.cells import cell_of
from rnnvg.bptt.linearize import linearize
from rnnvg.bptt.stack import ModuleLinearization
from rnnvg.bptt.stepping import widened
from rnnvg.bptt.weights import plain_module
from rnnvg.bptt.why.contributions import TemporalContributions, contributions_of
from rnnvg.bptt.why.rank_one import Chunk, FirstPass, chunks_of, totals
from rnnvg.errors import InputError
from rnnvg.pytorch import from_numpy, weight_names


def temporal_contributions(
    module: nn.Module, inputs: Tensor, state: Any = None, *, output_grad: Tensor, lengths: Any = None
) -> TemporalContributions:
    """What each time step adds to the gradient of each parameter, for the sum of all steps' losses.

    Args:
        module: an nn.RNN, nn.LSTM or nn.GRU of any number of layers, bidirectional too, or one of their cells.
        inputs: [T, B, I] (or [B, T, I] where the module says batch_first).
        state: the initial state as the module takes it; None for zeros.
        output_grad: the direct gradient dL_t/d(output_t) of each step's own loss, shaped like the output.
        lengths: valid steps per sequence, [B]; what lies behind them counts for nothing, and a bidirectional module reads
            each sequence backwards from its own end, as it reads a packed one.

    Raises:
        InputError: an argument that does not fit: which, what was found, what to pass.

    >>> import torch
    >>> module = nn.RNN(1, 1, nonlinearity="relu", bias=False, dtype=torch.float64)
    >>> _ = nn.init.constant_(module.weight_hh_l0, 0.5), nn.init.ones_(module.weight_ih_l0)
    >>> last = torch.zeros(4, 1, 1, dtype=torch.float64)
    >>> last[-1] = 1
    >>> found = temporal_contributions(module, torch.ones(4, 1, 1, dtype=torch.float64), output_grad=last)
    >>> np.exp(found.log_norm["weight_ih_l0"]).round(6).tolist()
    [0.125, 0.25, 0.5, 1.0]
    """
    if cell_of(module) is None:
        raise InputError(
            f"`module` is a {type(module).__name__}; pass an nn.RNN, nn.LSTM, nn.GRU or one of their cells, whose "
            "parameters are known."
        )
    arguments.check_module(module, "module", both_ways=True)
    if lengths is not None:
        inputs = arguments.without_padding(module, inputs, lengths)
        output_grad = arguments.without_padding(module, output_grad, lengths)
    if runs_both_ways(module):
        linear = BothWays(module, inputs, state, lengths)
    else:
        linear = linearize(module, inputs, state)
    shape = (linear.n_steps, linear.batch, linear.n_outputs)
    direct = arguments.output_gradients(
        module, output_grad, shape, linear.device, finite=True, unbatched=inputs.ndim == 2
    )
    if isinstance(linear, BothWays):
        return contributions_both_ways(linear, direct)
    assert isinstance(linear, ModuleLinearization)
    return contributions_of(module, linear, inputs, state, direct)


@dataclass(frozen=True)
class _Origin:
    """What the contributions were computed from, for `verify`; gradients as `contributions_both_ways` takes them."""

    module: nn.RNNBase
    inputs: Tensor  # [T, B, I]
    states: list[tuple[Tensor, ...]]  # of each direction of each layer
    lengths: np.ndarray  # [B]
    output_grad: Tensor
    finals: Sequence[Tensor]
    versions: tuple[tuple[int, int], ...]

    def gradients(self, names: list[str]) -> list[Tensor]:
        """PyTorch's own module in float64, over packed sequences: the gradients of its parameters."""
        module = plain_module(self.module).double().requires_grad_()
        module.batch_first = False
        inputs, lengths = self.inputs.double(), from_numpy(self.lengths)
        state = [torch.stack(parts).double() for parts in zip(*self.states, strict=True)]
        with torch.enable_grad():
            packed = pack_padded_sequence(inputs, lengths, enforce_sorted=False)
            output, ends = module(packed, tuple(state) if len(state) > 1 else state[0])
            output = pad_packed_sequence(output, total_length=len(inputs))[0]
            loss = (output * widened(self.output_grad)).sum()
            for end, grad in zip([ends] if isinstance(ends, Tensor) else ends, self.finals, strict=False):
                loss = loss + (end * widened(grad)).sum()
            return list(torch.autograd.grad(loss, [getattr(module, name) for name in names]))


def contributions_both_ways(
    linear: BothWays, output_grad: Tensor, finals: Sequence[Tensor] = ()
) -> TemporalContributions:
    """What each time step adds to the gradient of each parameter of a bidirectional module.

    Args:
        linear: the module linearised; the backward direction begins at each sequence's own last step.
        output_grad: direct gradients at the output, [T, B, 2 P].
        finals: direct gradients of h_n and c_n, [2 L, B, .] each, each direction's at the end of its own order; () for none.
    """
    module = linear.made_from[0]
    first, share = FirstPass(linear.n_steps), {}
    valid = torch.arange(linear.n_steps, device="cpu")[:, None] < from_numpy(linear.lengths)
    onwards = torch.where(valid.unsqueeze(-1).to(output_grad.device), output_grad.double(), 0.0)
    for layer, pair in reversed(list(enumerate(linear.layers))):
        below = torch.zeros(*pair[0].inputs.shape, dtype=torch.float64, device=linear.device)
        for way, direction in enumerate(pair):
            width = direction.n_outputs
            own = linear.own(onwards[..., way * width : (way + 1) * width].contiguous(), way)
            into = torch.zeros_like(below)
            ends = _ends(linear, [part[2 * layer + way] for part in finals])
            for chunk in _by_step(linear, list(chunks_of(direction, own, ends, into)), way):
                first.add(chunk)
                share[chunk.name] = chunk.shares(first.total[chunk.name])
            below += linear.own(into, way)
        onwards = below
    total, log_norm_total = totals(module, first)
    names = [name for name in weight_names(module) if name in total]
    return TemporalContributions(
        log_norm={name: first.log_norm[name] for name in names},
        share={name: share[name] for name in names},
        cosine={name: first.cosine[name] for name in names},
        log_norm_total={name: log_norm_total[name] for name in names},
        total={name: total[name] for name in names},
        note=linear.note,
        origin=_Origin(
            module, linear.inputs, linear.states, linear.lengths, output_grad, finals, arguments.weight_versions(module)
        ),
    )


def _ends(linear: BothWays, grads: list[Tensor]) -> dict[int, Tensor]:
    """Step -> gradients of one direction's state after it, [B, N], of the sequences that end there."""
    if not grads:
        return {}
    whole = torch.cat(grads, -1)
    ends = from_numpy(linear.lengths - 1).to(whole.device)
    return {step: torch.where((ends == step)[:, None], whole, 0.0) for step in map(int, set(linear.lengths - 1))}


def _by_step(linear: BothWays, chunks: list[Chunk], way: int) -> list[Chunk]:
    """Each parameter's factors over all steps, in the order of the sequence and not of the direction."""
    found: list[Chunk] = []
    for name in dict.fromkeys(chunk.name for chunk in chunks):
        its = sorted((chunk for chunk in chunks if chunk.name == name), key=lambda chunk: chunk.start)
        parts = (torch.cat([getattr(chunk, part) for chunk in its]) for part in ("log_weight", "left", "right"))
        found.append(Chunk(name, 0, linear.n_steps, *(linear.own(part, way) for part in parts)))
    return found
