"""temporal_contributions(): what each time step adds to the gradient of each parameter, one way or both ways."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor, nn

from rnnvg.bptt import arguments
from rnnvg.bptt.cells import cell_of
from rnnvg.bptt.contributions_both_ways import contributions_both_ways
from rnnvg.bptt.linearize import linearize
from rnnvg.bptt.stack import ModuleLinearization
from rnnvg.bptt.stepping import map_state
from rnnvg.bptt.why.contributions import TemporalContributions, contributions_of
from rnnvg.errors import InputError


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
    if isinstance(module, nn.RNNBase) and module.bidirectional:
        return _both_ways(module, inputs, state, output_grad, lengths)
    linear = linearize(module, inputs, state)
    assert isinstance(linear, ModuleLinearization)
    shape = (linear.n_steps, linear.batch, linear.n_outputs)
    direct = arguments.output_gradients(
        module, output_grad, shape, linear.device, finite=True, unbatched=inputs.ndim == 2
    )
    return contributions_of(module, linear, inputs, state, direct)


def _both_ways(
    module: nn.RNNBase, inputs: Tensor, state: Any, output_grad: Tensor, lengths: Any
) -> TemporalContributions:
    x = arguments.module_inputs(module, inputs)
    steps, batch, _ = x.shape
    valid = arguments.check_lengths(lengths, steps, batch)
    shape = (steps, batch, 2 * (module.proj_size or module.hidden_size))
    direct = arguments.output_gradients(module, output_grad, shape, x.device, finite=True, unbatched=inputs.ndim == 2)
    if inputs.ndim == 2 and isinstance(state, (Tensor, tuple, list)):  # a batch of one, as the inputs are
        state = map_state(
            state, lambda part: part.unsqueeze(1) if isinstance(part, Tensor) and part.ndim == 2 else part
        )
    return contributions_both_ways(module, x, state, direct, np.full(batch, steps) if valid is None else valid)
