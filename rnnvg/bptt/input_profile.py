"""input_profile(): the gradient by the input against signed distance, for any model from a sequence to a sequence.

A model without a recurrent state has no adjoint to follow from step to step; what every sequence model has is the gradient of
its output at one step by its input at another. One vector-Jacobian product gives a source's whole curve.
Axes: S sources, K distances, T steps, B sequences, P numbers of one step's output.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rnnvg.bptt import arguments
from rnnvg.bptt.by_input.layout import find_layout, says_batch_first
from rnnvg.bptt.by_input.origin import InputOrigin
from rnnvg.bptt.by_input.passes import Future, Passes
from rnnvg.bptt.by_input.subject import Forward, Outputs, Subject
from rnnvg.bptt.profile import MAX_BYTES, GradientProfile
from rnnvg.errors import InputError
from rnnvg.pytorch import fork_rng


def input_profile(
    model: nn.Module | Callable[..., Any],
    inputs: Tensor,
    *,
    sources: arguments.Sources = "last",
    outputs: Outputs = None,
    at: str | None = None,
    causal: bool = False,
    layout: str | None = None,
    dtype: torch.dtype | None = torch.float64,
    generator: torch.Generator | None = None,
    max_bytes: int = MAX_BYTES,
) -> GradientProfile:
    """||d output_S / d input_t|| of any sequence model against the signed distance S - t, for each source on its own.

    The model is copied, and the copy runs in float64 and in evaluation mode: weights, gradients, random states, flags and
    hooks' results of the original stay as they are. Each source's output is multiplied by one random unit covector a
    sequence, the same ones that `gradient_profile` draws: for an nn.LSTM the two agree.

    Args:
        model: an nn.Module, one of its methods, or a function, from a sequence to a sequence or to one output a sequence
            (whose source is the last step). A function runs as it is, in the dtype of `inputs`.
        inputs: [T, B, I], [B, T, I] or, for convolutions, [B, I, T]; token ids [T, B] or [B, T]. Which axis is which is found
            by the gradients: sequences do not mix.
        sources: steps of the output: "last"; "all"; an int n; or a list of step indices.
        outputs: which of the model's outputs is followed: a name, an index, or a function that picks a tensor of what the
            model returns. None takes the tensor, the first of a tuple, or `logits` or `last_hidden_state` by name.
        at: the name of a module (as in named_modules()) whose output the gradient is measured at instead of the input. Token
            ids need one; None takes the embedding that reads them.
        causal: promise that no output sees the future, and have it checked at four more steps.
        layout: "TBI", "BTI" or "BIT" where the axes are not to be found.
        dtype: what the copy runs in; None leaves its own.
        generator: for the random covectors; None is a fresh one seeded 0.
        max_bytes: the result takes S K B 8 bytes; refused above this.

    Returns:
        A GradientProfile by "input" whose distances are signed: positive into the past, negative into the future. `note` says
        what the future contributes, and how small a gradient the pass could hold: smaller ones are nan and never zero.

    Raises:
        InputError: an argument that does not fit; the output does not depend on the input; sequences mix; `causal` is promised
            and a gradient comes from the future.

    >>> shift = torch.nn.Conv1d(1, 1, 3, padding=2, bias=False).double()
    >>> _ = torch.nn.init.ones_(shift.weight)
    >>> found = input_profile(lambda x: shift(x)[..., :8], torch.randn(2, 1, 8, dtype=torch.float64), layout="BIT")
    >>> found.log_norm[0, :5, 0].round(12)
    array([  0.,   0.,   0., -inf, -inf])
    """
    arguments.check_generator(generator)
    if dtype is not None and dtype not in (torch.float32, torch.float64):
        raise InputError(f"`dtype` is {dtype!r}; pass torch.float64, torch.float32, or None for the model's own.")
    with torch.inference_mode(False), torch.enable_grad():
        subject = Subject(model, inputs, outputs, at, dtype)
        forward = subject.forward()
        if not forward.output.requires_grad:
            raise InputError(_without_a_graph(subject, forward))
        axes = find_layout(forward, layout, says_batch_first(model))
        passes = Passes(forward, axes)
        shared = _steps(sources, passes)
        future_steps = passes.n_steps - 1 - int(shared.min())
        distance = np.arange(-future_steps, int(shared.max()) + 2)
        arguments.check_size(len(shared), len(distance), passes.batch, max_bytes)
        covectors = arguments.unit_covectors(len(shared), passes.batch, passes.width, generator, forward.output.device)
        future = Future(passes.narrowest)
        log_norm = np.full((len(shared), len(distance), passes.batch), np.nan)
        for row, source in enumerate(shared):
            logs = passes.log_norms(int(source), covectors[row])
            future.see(logs, int(source))
            log_norm[row, (distance <= source) & (distance > source - passes.n_steps)] = logs[::-1]
        if not (log_norm > -np.inf).any() and np.isneginf(log_norm).any():
            raise InputError(
                "`model`'s output at the sources does not depend on `inputs`: the gradient is exactly zero at every step; "
                "pass outputs= or at= where another tensor is meant."
            )
        for source in _steps_to_look_ahead_from(shared, passes, causal):
            (covector,) = arguments.unit_covectors(1, passes.batch, passes.width, None, covectors.device)
            future.see(passes.log_norms(source, covector, counted=False), source)
        if causal and future.leaks:
            raise InputError(
                f"`causal` is promised and `model` sees the future: {future}; mask, shift or pad it, or pass causal=False."
            )
        return GradientProfile(
            log_norm=log_norm,
            sources=shared,
            distance=distance,
            wrt="input",
            first_nonfinite=passes.first_nonfinite,
            note=" ".join([*subject.notes, *passes.notes(), *future.notes()]),
            origin=InputOrigin(
                model, inputs, outputs, at, dtype, axes, covectors, shared, arguments.weight_versions(model)
            ),
        )


def _steps(sources: arguments.Sources, passes: Passes) -> np.ndarray:
    """The sources' steps, [S]; one output a sequence belongs to the last."""
    shared, _ = arguments.source_steps(sources, passes.n_steps, None, passes.batch)
    if passes.one_output and list(shared) != [passes.n_steps - 1]:
        raise InputError(
            f"`sources` is {sources!r} and `model` gives one output a sequence, which belongs to the last step; pass 'last'."
        )
    return shared


def _steps_to_look_ahead_from(shared: np.ndarray, passes: Passes, causal: bool) -> list[int]:
    """More steps whose outputs are asked for the future: the sources may have none, and a promise is checked at several."""
    if passes.one_output:
        return []
    last = passes.n_steps - 1
    if not causal:
        return [last // 2] if shared.min() == last and last > 0 else []
    return sorted({0, last // 4, last // 2, 3 * last // 4} - {last} - set(map(int, shared)))


def _without_a_graph(subject: Subject, forward: Forward) -> str:
    moved = [leaf.detach() + 0.1 * torch.randn_like(leaf) for leaf in forward.leaves]
    with fork_rng(devices=[]):
        after = subject.forward(moved, grad=False).output
    if after.shape == forward.output.shape and torch.equal(after, forward.output.detach()):
        return "`model`'s output does not depend on `inputs`; pass outputs= or at= where another tensor is meant."
    return (
        "`model`'s output changes with `inputs`, but autograd cannot follow it: take torch.no_grad(), .detach() and .item() "
        "out of the model."
    )
