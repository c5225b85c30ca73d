"""Entries of a profile against float64 autograd, which knows nothing of closed forms or logs.

A leaf is put where the gradient is taken, the recurrence itself (PyTorch's own module in float64, or the step function)
is run from there to the source, and autograd differentiates it. Slow, and it underflows where the profile does not.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor

from rnnvg.bptt import arguments
from rnnvg.bptt.cells import cell_of, read_cells
from rnnvg.bptt.cells.diagonal import Diagonal
from rnnvg.bptt.certificate import Certificate, check_unchanged, compare
from rnnvg.bptt.linearize import linearize
from rnnvg.bptt.logscale import log_norm
from rnnvg.bptt.stack import ModuleLinearization
from rnnvg.bptt.stepping import Step, initial_parts, map_state, module_step, whole_state, widened
from rnnvg.bptt.weights import at_least_single, plain_module
from rnnvg.bptt.why.contributions import contributions_of

if TYPE_CHECKING:
    from rnnvg.bptt.profile import GradientProfile, Origin

Reference = Callable[[int, int, int], float]  # row, distance and sequence -> ln of the gradient's norm


def certify(profile: GradientProfile, origin: Origin, n: int) -> Certificate:
    """Compare up to `n` entries of `profile`, spread over its distances, with float64 autograd."""
    check_unchanged(origin.recurrence, origin.versions)
    return compare(profile, n, _reference(profile, origin), _dtype(origin), _weights(origin))


def _dtype(origin: Origin) -> torch.dtype:
    if origin.inputs.is_floating_point() or origin.inputs.is_complex():
        return at_least_single(origin.inputs[:0]).dtype
    return (origin.state if isinstance(origin.state, Tensor) else origin.state[0]).dtype


def _reference(profile: GradientProfile, origin: Origin) -> Reference:
    inputs = origin.inputs.detach()
    if isinstance(origin.recurrence, Diagonal):
        factors, step = origin.recurrence.factors(origin.inputs), origin.recurrence.step
        if origin.recurrence.drive is None:
            return _product(origin, factors)
        parts = [torch.zeros_like(factors[0]) if origin.state is None else origin.state]
        return _autograd(profile, origin, lambda x, before: [step(x, before[0])], inputs, parts)
    if cell_of(origin.recurrence) is None:
        parts = [part.flatten(1) for part in _parts(origin.state)]
        return _autograd(profile, origin, _function_step(origin), inputs, parts)
    module = plain_module(origin.recurrence).double()
    inputs = arguments.module_inputs(module, origin.inputs.double())
    parts = initial_parts(module, map_state(origin.state, widened), inputs)
    return _autograd(profile, origin, module_step(module), inputs, parts)


def _function_step(origin: Origin) -> Step:
    single, shapes = isinstance(origin.state, Tensor), [part.shape[1:] for part in _parts(origin.state)]

    def step(x: Tensor, parts: list[Tensor]) -> list[Tensor]:
        pairs = zip(parts, shapes, strict=True)
        shaped = tuple(part.reshape(len(part), *shape) for part, shape in pairs)
        after = origin.recurrence(x, shaped[0] if single else shaped)  # type: ignore[operator]
        return [part.flatten(1) for part in _parts(after)]

    return step


def _parts(state: Any) -> list[Tensor]:
    return [state] if isinstance(state, Tensor) else list(state)


def _autograd(profile: GradientProfile, origin: Origin, step: Step, inputs: Tensor, initial: list[Tensor]) -> Reference:
    initial = [part.detach() for part in initial]
    layers = int(getattr(origin.recurrence, "num_layers", 1))

    def reference(row: int, distance: int, sequence: int) -> float:
        source = int(origin.steps[row, sequence])
        begin = source - distance + 1  # the first step after the state that the gradient is taken by
        parts = initial
        with torch.no_grad():
            for t in range(begin if profile.wrt != "input" else begin - 1):
                parts = step(inputs[t], parts)
        with torch.enable_grad():
            if profile.wrt == "input":
                leaf = inputs[begin - 1].clone().requires_grad_()
                leaves, parts = [leaf], step(leaf, parts)
            else:
                parts = [part.clone().requires_grad_() for part in parts]
                leaves = _named(profile, origin, parts)
            for t in range(begin, source + 1):
                parts = step(inputs[t], parts)
            whole = whole_state(parts, layers)[sequence]  # layer by layer, h before c, as the covectors are
            loss = (whole * origin.covectors[row, sequence].to(parts[0].dtype).conj()).sum().real
            found = cast("tuple[Tensor | None, ...]", torch.autograd.grad(loss, leaves, allow_unused=True))
        squares = sum(float(widened(each[sequence]).abs().square().sum()) for each in found if each is not None)
        return 0.5 * math.log(squares) if squares > 0 else -math.inf

    return reference


def _named(profile: GradientProfile, origin: Origin, parts: list[Tensor]) -> list[Tensor]:
    """Of [h of every layer, c of every layer] those that `wrt` and `layer` name."""
    if cell_of(origin.recurrence) is None:
        kinds = ("hidden", "cell") + ("other",) * len(parts)
        named = [(0, kinds[i]) for i in range(len(parts))]
    else:
        layers = list(enumerate(read_cells(origin.recurrence)))  # type: ignore[arg-type]
        named = [(index, cell.parts[i].kind) for i in range(len(layers[0][1].parts)) for index, cell in layers]
    return [
        part
        for part, (layer, kind) in zip(parts, named, strict=True)
        if profile.wrt in ("state", kind) and profile.layer in (None, layer)
    ]


def _product(origin: Origin, factors: Tensor) -> Reference:
    def reference(row: int, distance: int, sequence: int) -> float:
        source = int(origin.steps[row, sequence])
        product = factors[source - distance + 1 : source + 1, sequence].to(torch.complex128).prod(0)
        return float(log_norm(product * origin.covectors[row, sequence]))

    return reference


def _weights(origin: Origin) -> dict[str, float]:
    """Relative distance of the summed temporal contributions from autograd's gradient, in float64."""
    if cell_of(origin.recurrence) is None:
        return {}
    module = plain_module(origin.recurrence).double()
    inputs = origin.inputs.detach().double()
    state = map_state(origin.state, widened)
    linear = linearize(module, inputs, state)
    assert isinstance(linear, ModuleLinearization)
    grads: dict[int, Tensor] = {}
    for row, steps in enumerate(origin.steps):
        for sequence in np.flatnonzero(steps >= 0):
            at = grads.setdefault(int(steps[sequence]), torch.zeros_like(origin.covectors[0]))
            at[sequence] += origin.covectors[row, sequence]
    none = inputs.new_zeros(linear.n_steps, linear.batch, linear.output.stop - linear.output.start)
    return contributions_of(module, linear, inputs, state, none, grads).verify().weights
