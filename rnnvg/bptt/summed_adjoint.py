"""The adjoint of a summed loss, and what each step's parameters see of it: rank-one matrices, adjoint x input.

    dL/ds_t = J_{t+1}^T dL/ds_{t+1} + d+L/ds_t        (Pascanu, Mikolov and Bengio 2013)

It runs backwards with one log scale per sequence, set anew where a direct gradient joins.
Axes: c steps of a segment, B sequences, N state coordinates, G gates, R x Q a parameter's rows and columns.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from rnnvg.bptt.layers import GRULayer, Layer, LSTMLayer
from rnnvg.bptt.linearize import ModuleLinearization, ModuleSegment

SAFE = 2.0**-40  # norms from here to its inverse are taken without scaling first


class Adjoints(NamedTuple):
    """Adjoints over one segment: ln scale [c, B] and, over that scale, dL/ds_t [c, B, N] and layer by layer the adjoints of
    W_ih x + b_ih and of W_hh h + b_hh, [c, B, G H]."""

    segment: ModuleSegment
    log_scale: Tensor
    states: Tensor
    deltas: list[tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Chunk:
    """One parameter's contributions at steps start..stop-1 as sums over b of exp(log_weight) left (x) right.

    log_weight [c, B] float64; left [c, B, R] and right [c, B, Q] of length 1 (or exactly 0)."""

    name: str
    start: int
    stop: int
    log_weight: Tensor
    left: Tensor
    right: Tensor

    def scaled(self) -> tuple[Tensor, Tensor]:
        """ln of each step's scale, [c] (0 where all is zero), and the left factors with what is then left of the weights."""
        top = self.log_weight.max(1).values
        top = torch.where(torch.isneginf(top), 0.0, top)
        return top, self.left * (self.log_weight - top[:, None]).exp().to(self.left.dtype).unsqueeze(-1)

    def shares(self, mantissa: Tensor, log: float) -> np.ndarray:
        """<M_t, M> / ||M||^2 for the total M = exp(log) mantissa, [c]."""
        square = mantissa.square().sum()
        if not square > 0:
            return np.full(self.stop - self.start, np.nan)
        top, left = self.scaled()
        along = ((left.double() @ mantissa) * self.right.double()).sum((1, 2))
        return (along / square * (top - log).exp()).cpu().numpy()


def chunks(
    linear: ModuleLinearization, output_grad: Tensor, state_grads: Mapping[int, Tensor], names: list[str]
) -> Iterator[Chunk]:
    """Every parameter's rank-one factors, segment by segment, backwards in time."""
    for segment, log_scale, adjoints, deltas in summed_adjoints(linear, output_grad, state_grads):
        pairs = []
        for index, layer in enumerate(linear.layers):
            x = segment.paths[index - 1].hidden[1:] if index else segment.inputs
            into_input, into_hidden = deltas[index]
            one = x.new_ones(*x.shape[:2], 1)
            pairs += [(into_input, x), (into_hidden, segment.paths[index].hidden[:-1])]
            if layer.weights.input_bias is not None:
                pairs += [(into_input, one), (into_hidden, one)]
            if isinstance(layer, LSTMLayer) and layer.weights.projection is not None:
                adjoint = adjoints[..., segment.places[index].hidden]
                if index + 1 < len(linear.layers):
                    adjoint = adjoint + deltas[index + 1][0] @ linear.layers[index + 1].weights.input
                pairs.append((adjoint, layer.unprojected(segment.paths[index])))
        for name, (left, right) in zip(names, pairs, strict=True):
            (left, log_left), (right, log_right) = unit_vectors(left), unit_vectors(right)
            yield Chunk(name, segment.start, segment.stop, log_scale + log_left + log_right, left, right)


def unit_vectors(vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Vectors [c, B, R] of length 1 (a zero stays zero), and the logs of their lengths [c, B] in float64."""
    norm = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    if bool(((norm > SAFE) & (norm < 1 / SAFE)).all()):
        return vectors / norm, norm.double().log().squeeze(-1)
    scaled, log = scaled_vectors(vectors)  # squares of what is smaller would leave the dtype's range
    norm = torch.linalg.vector_norm(scaled, dim=-1, keepdim=True)
    return scaled / torch.where(norm == 0, 1.0, norm), log + norm.double().log().squeeze(-1)


def summed_adjoints(
    linear: ModuleLinearization, output_grad: Tensor, state_grads: Mapping[int, Tensor]
) -> Iterator[Adjoints]:
    """The adjoint of the summed loss, dL/ds_t = J_{t+1}^T dL/ds_{t+1} + d+L/ds_t, segment by segment, backwards."""
    B, N = linear.batch, linear.size
    empty = {"dtype": linear.dtype, "device": linear.device}
    a, pulled, into = torch.zeros(1, B, N, **empty), torch.empty(1, B, N, **empty), torch.empty(1, B, N, **empty)
    joint_view, pulled_view = linear.view(into), linear.view(pulled)
    log = torch.full((B,), -torch.inf, dtype=torch.float64, device=linear.device)
    with torch.no_grad():
        for segment in linear.segments(backwards=True, reuse=True):
            assert isinstance(segment, ModuleSegment)
            direct, log_direct = _direct(linear, segment, output_grad, state_grads)
            steps = segment.stop - segment.start
            log_scale, adjoints = log.new_empty(steps, B), a.new_empty(steps, B, N)
            deltas = [
                _empty_pair(layer, a.new_empty(steps, B, layer.weights.hidden.shape[0])) for layer in linear.layers
            ]
            for k in range(steps - 1, -1, -1):
                joint = torch.maximum(log, log_direct[k])
                base = torch.where(torch.isneginf(joint), 0.0, joint)
                torch.mul(a, (log - base).exp().to(a.dtype).unsqueeze(-1), out=into)
                into += direct[k] * (log_direct[k] - base).exp().to(a.dtype).unsqueeze(-1)
                log_scale[k], adjoints[k] = joint, into[0]
                segment.pull(segment.start + k, joint_view, pulled_view)
                for kept, layer, delta in zip(deltas, linear.layers, segment.deltas, strict=True):
                    into_input, into_hidden = layer.weight_adjoints(delta)
                    kept[0][k] = into_input[0]
                    if kept[1] is not kept[0]:
                        kept[1][k] = into_hidden[0]
                a, grown = scaled_vectors(pulled)
                log = joint + grown[0]
            yield Adjoints(segment, log_scale, adjoints, deltas)


def _empty_pair(layer: Layer, empty: Tensor) -> tuple[Tensor, Tensor]:
    """Room for a layer's two adjoints: one and the same but for a GRU, whose reset gate acts on the hidden part alone."""
    return (empty, torch.empty_like(empty)) if isinstance(layer, GRULayer) else (empty, empty)


def _direct(
    linear: ModuleLinearization, segment: ModuleSegment, output_grad: Tensor, state_grads: Mapping[int, Tensor]
) -> tuple[Tensor, Tensor]:
    """Direct gradients of a segment's states, [c, B, N] over their largest coordinate, and the log of that [c, B]."""
    given = output_grad[segment.start : segment.stop]
    direct = given.new_zeros(*given.shape[:2], linear.size, dtype=torch.float64)
    direct[..., linear.output] = given.double()
    for t, grad in state_grads.items():
        if segment.start <= t < segment.stop:
            direct[t - segment.start] += grad.double()
    scaled, log = scaled_vectors(direct)
    return scaled.to(linear.dtype), log


def scaled_vectors(vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Vectors over their largest coordinate (a zero stays zero), and its log in float64, -inf for a zero vector."""
    largest = vectors.abs().amax(-1, keepdim=True)
    return vectors / torch.where(largest == 0, 1.0, largest), largest.double().log().squeeze(-1)
