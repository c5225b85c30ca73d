"""Entries of a profile against float64 autograd, which knows nothing of closed forms or logs.

A leaf is put where the gradient is taken, the recurrence itself (PyTorch's own module in float64, or the step function)
is run from there to the source, and autograd differentiates it. Slow, and it underflows where the profile does not.

Of a module that runs both ways PyTorch's own one-layer modules run each direction of each layer step by step; a leaf of zeros
is added to what each step passes on, so that the gradient there is that of the state, h and c independent.
Axes: S sources, T steps, B sequences, N state coordinates, P output of one direction.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from rnnvg.bptt import arguments
from rnnvg.bptt.cells import cell_of, read_cells
from rnnvg.bptt.cells.diagonal import Diagonal
from rnnvg.bptt.certificate import Certificate, check_unchanged, compare
from rnnvg.bptt.linearize import Recurrence, linearize
from rnnvg.bptt.logscale import log_norm
from rnnvg.bptt.stack import ModuleLinearization
from rnnvg.bptt.stepping import Step, initial_parts, map_state, module_step, whole_state, widened
from rnnvg.bptt.tensors import tensors_of
from rnnvg.bptt.weights import at_least_single, one_layer, plain_module
from rnnvg.bptt.why.contributions import contributions_of
from rnnvg.pytorch import gradients

if TYPE_CHECKING:
    from rnnvg.bptt.result import GradientProfile

Reference = Callable[[int, int, int], float]  # row, distance and sequence -> ln of the gradient's norm


@dataclass(frozen=True)
class Origin:
    """What a profile was made from, kept so that it can be checked (`verify`); not saved with it."""

    recurrence: Recurrence
    inputs: Tensor
    state: Any
    steps: np.ndarray  # [S, B]
    covectors: Tensor  # [S, B, N]
    layer: int | None
    versions: tuple[tuple[int, int], ...]  # of the weights

    def certify(self, profile: GradientProfile, n: int) -> Certificate:
        """Compare up to `n` entries, spread over the distances, with float64 autograd."""
        check_unchanged(self.recurrence, self.versions)
        return compare(profile, n, _reference(profile, self), _dtype(self), _weights(self))


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
        parts = [part.flatten(1) for part in tensors_of(origin.state)]
        return _autograd(profile, origin, _function_step(origin), inputs, parts)
    module = plain_module(origin.recurrence).double()
    inputs = arguments.module_inputs(module, origin.inputs.double())
    parts = initial_parts(module, map_state(origin.state, widened), inputs)
    return _autograd(profile, origin, module_step(module), inputs, parts)


def _function_step(origin: Origin) -> Step:
    function = origin.recurrence
    assert not isinstance(function, Diagonal)
    single, shapes = isinstance(origin.state, Tensor), [part.shape[1:] for part in tensors_of(origin.state)]

    def step(x: Tensor, parts: list[Tensor]) -> list[Tensor]:
        pairs = zip(parts, shapes, strict=True)
        shaped = tuple(part.reshape(len(part), *shape) for part, shape in pairs)
        after = function(x, shaped[0] if single else shaped)
        return [part.flatten(1) for part in tensors_of(after)]

    return step


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
            found = gradients(loss, leaves)
        squares = sum(float(widened(each[sequence]).abs().square().sum()) for each in found if each is not None)
        return 0.5 * math.log(squares) if squares > 0 else -math.inf

    return reference


def _named(profile: GradientProfile, origin: Origin, parts: list[Tensor]) -> list[Tensor]:
    """Of [h of every layer, c of every layer] those that `wrt` and `layer` name."""
    recurrence = origin.recurrence
    if not isinstance(recurrence, nn.Module) or cell_of(recurrence) is None:
        kinds = ("hidden", "cell") + ("other",) * len(parts)
        named = [(0, kinds[i]) for i in range(len(parts))]
    else:
        layers = list(enumerate(read_cells(recurrence)))
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


@dataclass(frozen=True)
class BothWaysOrigin:
    """The module and the covectors of a profile; `way` is 0 for forward states, 1 for backward, None for the input."""

    module: nn.RNNBase
    inputs: Tensor
    state: Any
    lengths: np.ndarray  # [B]
    steps: np.ndarray  # [S, B]
    outputs: Tensor  # [S, B, 2 P]
    way: int | None
    versions: tuple[tuple[int, int], ...]  # of the weights

    def certify(self, profile: GradientProfile, n: int) -> Certificate:
        """Compare up to `n` entries, spread over the distances, with float64 autograd."""
        check_unchanged(self.module, self.versions)
        with torch.enable_grad():
            run = _Unrolled(self)

            def reference(row: int, distance: int, sequence: int) -> float:
                source = int(self.steps[row, sequence])
                return run.log_norm(source, sequence, self.outputs[row, sequence], source - distance, profile)

            return compare(profile, n, reference, self.inputs.dtype)


class _Unrolled:
    """The module in float64, every state that a step passes on open to differentiation."""

    def __init__(self, origin: BothWaysOrigin) -> None:
        module, self.way, self.lengths = plain_module(origin.module).double(), origin.way, origin.lengths
        inputs = arguments.module_inputs(module, origin.inputs.double())
        cells = [
            cell for pair in zip(read_cells(module), read_cells(module, reverse=True), strict=True) for cell in pair
        ]
        self.kinds = [part.kind for part in cells[0].parts]
        state = map_state(origin.state, lambda part: part.detach().double())
        states = arguments.module_state(module, state, inputs, cells)
        self.x = [x.clone().requires_grad_() for x in inputs]
        self.leaves: dict[tuple[int, int, int], list[Tensor]] = {}  # (layer, step in true order, way) -> parts
        outputs = self.x
        for layer in range(module.num_layers):
            both = [self._run(module, layer, way, outputs, states[2 * layer + way]) for way in (0, 1)]
            outputs = [torch.cat(pair, -1) for pair in zip(*both, strict=True)]
        self.outputs = outputs

    def _run(
        self, module: nn.RNNBase, layer: int, way: int, inputs: list[Tensor], state: tuple[Tensor, ...]
    ) -> list[Tensor]:
        """One direction of one layer; behind a sequence's end it gives zeros, and a backward one has not begun there."""
        step = module_step(one_layer(module, layer, way))
        parts = [part.clone().requires_grad_() for part in state]
        steps = list(range(len(inputs)))
        self.leaves[layer, -1 if way == 0 else len(steps), way] = parts
        found: list[Tensor] = [parts[0]] * len(steps)
        lengths = torch.as_tensor(self.lengths, device=parts[0].device)
        for t in reversed(steps) if way else steps:
            after = step(inputs[t], parts)
            valid = (t < lengths).unsqueeze(1)
            found[t] = torch.where(valid, after[0], 0.0)
            leaves = [torch.zeros_like(part, requires_grad=True) for part in after]
            self.leaves[layer, t, way] = leaves
            parts = [torch.where(valid, new + leaf, old) for new, leaf, old in zip(after, leaves, parts, strict=True)]
        return found

    def log_norm(self, source: int, sequence: int, covector: Tensor, t: int, profile: GradientProfile) -> float:
        """ln of the gradient at step t of one source's loss in one sequence."""
        loss = (self.outputs[source][sequence] * covector.double()).sum()
        layers = range(1 + max(layer for layer, _, _ in self.leaves))
        if self.way is None:
            wanted = [self.x[t]]
        else:
            if self.way == 1 and t == self.lengths[sequence]:
                t = len(self.x)  # its initial state stands behind the end of the longest
            wanted = [
                part
                for layer in layers
                for part, kind in zip(self.leaves[layer, t, self.way], self.kinds, strict=True)
                if profile.layer in (None, layer) and profile.wrt in ("state", kind)
            ]
        found = gradients(loss, wanted, retain=True)
        square = sum(float(each[sequence].square().sum()) for each in found if each is not None)
        if self.way is not None and t == source and profile.layer in (None, layers[-1]) and profile.wrt != "cell":
            width = len(covector) // 2  # what the loss reads directly is not passed on
            own = covector[self.way * width : (self.way + 1) * width].double()
            top = self.leaves[layers[-1], t, self.way][0]
            passed = next(gradient for gradient, each in zip(found, wanted, strict=True) if each is top)
            added = own if passed is None else own + passed[sequence]
            square += float(added.square().sum() - (0 if passed is None else passed[sequence].square().sum()))
        return 0.5 * math.log(square) if square > 0 else -math.inf
