"""What a profile by the input was made from, and its certificate by finite differences.

The model is run again on inputs moved a little along the gradient and across it; backpropagation plays no part in the
differences. They resolve what is not much smaller than the output's rounding, and differ where a ReLU has its kink.
Axes: T steps, B sequences, I numbers that the leaf has for each step and sequence.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from rnnvg.bptt.by_input.layout import Layout
from rnnvg.bptt.by_input.passes import narrowest_dtype
from rnnvg.bptt.by_input.subject import Forward, Outputs, Subject
from rnnvg.bptt.certificate import Certificate, check_unchanged, entries_to_compare
from rnnvg.pytorch import vector_norm

if TYPE_CHECKING:
    from rnnvg.bptt.profile import GradientProfile

DIGITS = 1e4  # entries so far above what the differences resolve are compared


@dataclass(frozen=True)
class InputOrigin:
    """The model and inputs of a profile, and how they were read."""

    model: Any
    inputs: Tensor
    outputs: Outputs
    at: str | None
    dtype: torch.dtype | None
    axes: Layout
    covectors: Tensor  # [S, B, P]
    steps: np.ndarray  # [S]
    versions: tuple[tuple[int, int], ...]  # of the weights

    @torch.inference_mode(False)
    @torch.enable_grad()
    def certify(self, profile: GradientProfile, n: int) -> Certificate:
        """Compare up to `n` entries, spread over the distances, with finite differences in float64."""
        check_unchanged(self.model, self.versions, "model")
        subject = Subject(self.model, self.inputs, self.outputs, self.at, None if self.dtype is None else torch.float64)
        forward = subject.forward()
        found: list[tuple[int, int, int, float, float]] = []
        skipped = 0
        for row, k, sequence in entries_to_compare(profile, n):
            distance, value = int(profile.distance[k]), float(profile.log_norm[row, k, sequence])
            reference, resolved = self._difference(subject, forward, row, distance, sequence)
            if value > -math.inf and max(value, reference) < resolved + math.log(DIGITS):
                skipped += 1
            else:
                reference = reference if value > -math.inf or reference > resolved else -math.inf
                found.append((int(self.steps[row]), distance, sequence, value, reference))
        dtype = narrowest_dtype(forward.output, forward.leaves)
        return Certificate.of(found, skipped, dtype, route="finite differences")

    def _difference(
        self, subject: Subject, forward: Forward, row: int, distance: int, sequence: int
    ) -> tuple[float, float]:
        """ln of the gradient's norm by differences along and across it, and ln of the smallest that they resolve."""
        source = int(self.steps[row])
        output = self.axes.at_source(forward.output, source)
        covector = torch.zeros_like(self.covectors[row]).to(output)
        covector[sequence] = self.covectors[row, sequence].to(output)
        base = [leaf.detach() for leaf in forward.leaves]
        places = [torch.zeros_like(leaf) for leaf in base]
        spot = _spot(places, self.axes, source - distance, sequence)
        gradient = forward.gradient(output, covector)
        along = torch.zeros_like(spot) if gradient is None else _at(gradient, self.axes, source - distance, sequence)
        along = _unit(along.double().reshape(-1))
        generator = torch.Generator().manual_seed(0)
        drawn = torch.randn(along.shape, generator=generator, dtype=torch.float64).to(along.device)
        across = _unit(drawn - (drawn @ along) * along)
        eps = torch.finfo(narrowest_dtype(forward.output, forward.leaves)).eps
        size = max(float(leaf.square().mean().sqrt()) for leaf in base) or 1.0
        step = eps**0.2 * size

        def value(direction: Tensor, amount: float) -> float:
            spot.copy_((direction * amount).reshape(spot.shape))
            moved = [leaf + place for leaf, place in zip(base, places, strict=True)]
            after = self.axes.at_source(subject.forward(moved, grad=False).output, source)
            return float((after[sequence].double() * covector[sequence].double()).sum())

        norms = [_derivative(value, direction, step) for direction in (along, across) if direction.abs().sum() > 0]
        scale = [1.0, math.sqrt(max(along.numel() - 1, 0))] if along.abs().sum() > 0 else [math.sqrt(along.numel())]
        squares = sum((weight * norm) ** 2 for weight, norm in zip(scale, norms, strict=False))
        noise = 10 * eps * float(vector_norm(output[sequence].detach().double())) / step
        return 0.5 * math.log(squares) if squares > 0 else -math.inf, math.log(noise) if noise > 0 else -math.inf


def _derivative(value: Callable[[Tensor, float], float], direction: Tensor, step: float) -> float:
    """Central differences of fourth order."""
    near = value(direction, step) - value(direction, -step)
    far = value(direction, 2 * step) - value(direction, -2 * step)
    return (8 * near - far) / (12 * step)


def _unit(vector: Tensor) -> Tensor:
    largest = vector.abs().max()
    if largest == 0:
        return vector
    vector = vector / largest
    return vector / vector_norm(vector)


def _spot(places: list[Tensor], axes: Layout, step: int, sequence: int) -> Tensor:
    """The numbers of one step and sequence, a view."""
    if len(places) > 1:
        return places[step][sequence]
    return _at(places[0], axes, step, sequence)


def _at(leaf: Tensor, axes: Layout, step: int, sequence: int) -> Tensor:
    return leaf.movedim((axes.leaf_time, axes.leaf_batch), (0, 1))[step, sequence]
