"""What a bidirectional module's profile was made from, and its certificate by float64 autograd.

PyTorch's own one-layer modules run each direction of each layer step by step; a leaf of zeros is added to what each step
passes on, so that the gradient there is that of the state, h and c independent.
Axes: S sources, T steps, B sequences, P output of one direction.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from rnnvg.bptt import arguments
from rnnvg.bptt.cells import read_cells
from rnnvg.bptt.certificate import Certificate, check_unchanged, compare
from rnnvg.bptt.stepping import map_state, module_step
from rnnvg.bptt.weights import one_layer, plain_module

if TYPE_CHECKING:
    from rnnvg.bptt.result import GradientProfile


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
        lengths = torch.from_numpy(self.lengths).to(parts[0].device)
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
        gradients = torch.autograd.grad(loss, wanted, retain_graph=True, allow_unused=True)
        square = sum(float(each[sequence].square().sum()) for each in gradients if each is not None)
        if self.way is not None and t == source and profile.layer in (None, layers[-1]) and profile.wrt != "cell":
            width = len(covector) // 2  # what the loss reads directly is not passed on
            own = covector[self.way * width : (self.way + 1) * width].double()
            top = self.leaves[layers[-1], t, self.way][0]
            passed = next(gradient for gradient, each in zip(gradients, wanted, strict=True) if each is top)
            added = own if passed is None else own + passed[sequence]
            square += float(added.square().sum() - (0 if passed is None else passed[sequence].square().sum()))
        return 0.5 * math.log(square) if square > 0 else -math.inf
