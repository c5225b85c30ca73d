"""gradient_profile(): gradient magnitude against time-step distance, and what can be asked of it.

Axes: S sources, K distances, B sequences, T steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rnnvg.bptt import arguments
from rnnvg.bptt.autograd_check import Origin
from rnnvg.bptt.bidirectional import BothWays, runs_both_ways, way_of
from rnnvg.bptt.cells import cell_of
from rnnvg.bptt.linearize import Recurrence, linearize
from rnnvg.bptt.result import GradientProfile
from rnnvg.bptt.segments import Linearization, state_columns
from rnnvg.bptt.sweep import sweep_all
from rnnvg.errors import InputError, check_name

MAX_BYTES = 2**31


def gradient_profile(
    recurrence: Recurrence,
    inputs: Tensor,
    state: Any = None,
    *,
    output_grad: Tensor | None = None,
    sources: arguments.Sources = "last",
    lengths: Any = None,
    wrt: str = "state",
    generator: torch.Generator | None = None,
    layer: int | None = None,
    direction: str | None = None,
    max_bytes: int = MAX_BYTES,
) -> GradientProfile:
    """Gradient magnitude against time-step distance, exactly and in log space, for each source on its own.

    Args:
        recurrence: an nn.RNN, nn.LSTM, nn.GRU (any number of layers), one of their cells, a `Diagonal`, or a function
            step(x_t, state) -> state with `state` a tensor [B, H] (or with more axes) or a tuple of them, the output first.
        inputs: [T, B, I] (or [B, T, I] where the module says batch_first), or [T, I] for one sequence. The sweep runs in
            this dtype, in float32 where it is narrower; norms and logs are float64.
        state: initial state as the recurrence takes it; None for zeros (a step function needs one).
        output_grad: the direct gradient dL_t/d(output_t) of each step's own loss, shaped like the output. None draws one
            random unit covector per source and sequence.
        sources: steps of the loss: "last"; "all"; an int n (steps round((i+1) T/n) - 1); or step indices, also negative.
        lengths: valid steps per sequence, [B]. "last", negatives and n count on each sequence's own length; "all" and
            non-negative indices are absolute, nan at or beyond a sequence's length.
        wrt: "state" (all coordinates that a step passes on), "hidden", "cell" or "input".
        generator: for the random covectors; None is a fresh one seeded 0.
        layer: restrict "state", "hidden" or "cell" to one layer, 0 the lowest.
        direction: of a bidirectional module, "forward" or "backward": whose states are meant. Distance is then signed,
            positive into the past, and with wrt "input" both directions count. Each sequence of `lengths` is read backwards
            from its own end, as a packed sequence is.
        max_bytes: the result takes S K B 8 bytes; refused above this.

    Raises:
        InputError: an argument that does not fit: which, what was found, what to pass.

    >>> module = torch.nn.RNN(1, 1, nonlinearity="relu", bias=False, dtype=torch.float64)
    >>> _ = torch.nn.init.constant_(module.weight_hh_l0, 0.5), torch.nn.init.ones_(module.weight_ih_l0)
    >>> profile = gradient_profile(module, torch.ones(2000, 1, 1, dtype=torch.float64))
    >>> bool(np.isclose(profile.log_norm[0, 2000, 0], 2000 * np.log(0.5), rtol=1e-12))
    True
    """
    check_name("wrt", wrt, arguments.WRT)
    return gradient_profiles(
        recurrence,
        inputs,
        state,
        [wrt],
        output_grad=output_grad,
        sources=sources,
        lengths=lengths,
        generator=generator,
        layer=layer,
        direction=direction,
        max_bytes=max_bytes,
    )[0]


def gradient_profiles(
    recurrence: Recurrence,
    inputs: Tensor,
    state: Any,
    wrt: Sequence[str],
    *,
    output_grad: Tensor | None = None,
    sources: arguments.Sources = "last",
    lengths: Any = None,
    generator: torch.Generator | None = None,
    layer: int | None = None,
    direction: str | None = None,
    max_bytes: int = MAX_BYTES,
    known: Linearization | None = None,
) -> list[GradientProfile]:
    """`gradient_profile` by each of `wrt`, from one pass: the same covectors along the same trajectory.

    `known` is `recurrence` linearised along these inputs, where somebody has that already and it runs one way.
    """
    if lengths is not None:
        inputs = arguments.without_padding(recurrence, inputs, lengths)
    if runs_both_ways(recurrence):
        ways = [way_of(each, layer, direction) for each in wrt]
        linear = BothWays(recurrence, inputs, state, lengths)
        for each in wrt:
            linear.check_columns(each, layer)
    elif direction is not None:
        raise InputError(f"`direction` is {direction!r} and `recurrence` runs one way; pass direction=None.")
    else:
        ways, linear = [], known or linearize(recurrence, inputs, state, trajectory=False)
    lengths = arguments.check_lengths(lengths, linear.n_steps, linear.batch)
    shared, steps = arguments.source_steps(sources, linear.n_steps, lengths, linear.batch)
    n_distances = int(shared.max()) + 2 + isinstance(linear, BothWays) * linear.n_steps
    arguments.check_size(len(steps), n_distances, linear.batch, max_bytes)
    shape = (linear.n_steps, linear.batch, linear.n_outputs)
    unbatched = cell_of(recurrence) is not None and inputs.ndim == 2
    outputs = arguments.source_covectors(
        recurrence, output_grad, steps, shape, generator, linear.device, linear.wide_dtype, unbatched
    )
    if isinstance(linear, BothWays):
        return [linear.profile(shared, steps, outputs, each, way, layer) for each, way in zip(wrt, ways, strict=True)]
    if lengths is not None:  # what happens in the padding is nobody's
        linear.first_nonfinite[linear.first_nonfinite >= torch.as_tensor(lengths)] = -1
    covectors = linear.covectors(outputs)
    origin = Origin(recurrence, inputs, state, steps, covectors, layer, arguments.weight_versions(recurrence))
    note = arguments.narrow_note(inputs.dtype) if linear.dtype != inputs.dtype else ""
    return profiles_of(linear, shared, origin, wrt, note)


def profiles_of(
    linear: Linearization, shared: np.ndarray, origin: Origin, wrt: Sequence[str], note: str = ""
) -> list[GradientProfile]:
    """The profiles of a linearised recurrence for whole-state covectors, [S, B, N] in `origin`; `shared` as `.sources`."""
    columns = [state_columns(linear, each, origin.layer) for each in wrt]
    n_distances = int(shared.max()) + 2
    first = linear.first_nonfinite.numpy()
    behind = (first >= 0) & (origin.steps >= first)  # sources whose gradient passes through a state that is not finite
    found: list[GradientProfile] = []
    for name, own, log_norm in zip(
        wrt, columns, sweep_all(linear, origin.steps, origin.covectors, columns, n_distances), strict=True
    ):
        log_norm[:, 0 if own is None else 1 :].swapaxes(1, 2)[behind] = np.nan
        found.append(
            GradientProfile(
                log_norm=log_norm,
                sources=shared,
                distance=np.arange(n_distances),
                wrt=name,
                layer=origin.layer,
                first_nonfinite=first,
                note=" ".join(filter(None, (linear.note, linear.input_note if name == "input" else "", note))),
                origin=origin,
            )
        )
    return found
