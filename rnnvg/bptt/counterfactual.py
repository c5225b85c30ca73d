"""The same trajectory with another backward pass: what the gradient would do if slopes were 1 or gates stood open.

States, gates and their values stay as they were; only factors of the step Jacobians are changed, and the same sweep runs over
them. "open" means that a gate's factor is 1 and, being constant, passes no gradient itself.
Axes: c steps of a segment, B sequences, H hidden.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from rnnvg.bptt.layers import Buffers, GRULayer, Layer, LSTMLayer, RNNLayer, Trajectory, slope_of_tanh
from rnnvg.bptt.linearize import ModuleLinearization, ModuleSegment
from rnnvg.bptt.sweep import sweep

SLOPE_1, HELD, FORGET_OPEN, RESET_OPEN, OPEN = (
    "tanh slopes 1",
    "gates held",
    "forget gate open",
    "reset gate open",
    "all gates open",
)
CHANGES: dict[type, tuple[str, ...]] = {
    RNNLayer: (SLOPE_1,),
    LSTMLayer: (SLOPE_1, HELD, FORGET_OPEN, OPEN),
    GRULayer: (SLOPE_1, HELD, RESET_OPEN, OPEN),
}


def log_norms(linear: ModuleLinearization, source: int, covector: Tensor) -> dict[str, np.ndarray]:
    """Change -> ln ||dL/ds||, [K, B], K = source + 2, from the covector dL/ds_source [B, N]."""
    steps = np.full((1, linear.batch), source)
    found = {}
    for change in CHANGES[type(linear.layers[0])]:
        changed = _Changed(linear, change)
        found[change] = sweep(changed, steps, covector.double().unsqueeze(0), [slice(0, linear.size)], source + 2)[0]
    return found


class _Changed(ModuleLinearization):
    """A linearisation whose segments have their factors changed."""

    def __init__(self, linear: ModuleLinearization, change: str) -> None:
        self.__dict__.update(linear.__dict__)
        self._change = change
        self._current = None

    def segment(self, index: int, reuse: bool = False) -> ModuleSegment:
        segment = super().segment(index, reuse)
        segment.factors = [
            changed_factors(layer, path, self._change)
            for layer, path in zip(segment.layers, segment.paths, strict=True)
        ]
        return segment


def changed_factors(layer: Layer, path: Trajectory, change: str | None) -> list[Any]:
    """A layer's per-step factors, as `layer.factors` gives them, under one of CHANGES (None: as they are)."""
    if isinstance(layer, LSTMLayer):
        return _lstm(path, change)
    if isinstance(layer, GRULayer):
        return _gru(layer, path, change)
    if change is None:
        return layer.factors(path, Buffers())
    return list(torch.ones_like(path.hidden[1:]).unbind())


def _slope(z: Tensor) -> Tensor:
    return slope_of_tanh(z, torch.empty_like(z))


def _lstm(path: Trajectory, change: str | None) -> list[Any]:
    (z,), cell = path.preactivations, path.cell
    assert cell is not None
    before, after = cell[:-1], cell[1:]
    values, slopes = torch.sigmoid(z), torch.sigmoid(z) * torch.sigmoid(-z)
    i, f, _, o = values.unbind(-2)
    si, sf, _, so = slopes.unbind(-2)
    s_new, s_cell = _slope(z[:, :, 2].contiguous()), _slope(after.contiguous())
    zero, one = torch.zeros_like(i), torch.ones_like(i)
    if change == SLOPE_1:
        s_new, s_cell = one, one
    if change in (HELD, OPEN):
        si, sf, so = zero, zero, zero
    if change == FORGET_OPEN:
        f, sf = one, zero
    if change == OPEN:
        i, f, o = one, one, one
    into_cell = torch.stack([torch.tanh(z[:, :, 2]) * si, before * sf, i * s_new], -2)
    return list(zip(o * s_cell, into_cell, torch.tanh(after) * so, f, strict=True))


def _gru(layer: GRULayer, path: Trajectory, change: str | None) -> list[Any]:
    from_x, from_h = path.preactivations
    (xr, xz, xn), (hr, hz, hn) = from_x.split(layer.hidden, -1), from_h.split(layer.hidden, -1)
    r, z, closing = torch.sigmoid(xr + hr), torch.sigmoid(xz + hz), torch.sigmoid(-(xz + hz))
    candidate = xn + r * hn
    sr, sz, s_new = r * torch.sigmoid(-(xr + hr)), z * closing, _slope(candidate)
    zero, one = torch.zeros_like(r), torch.ones_like(r)
    if change == SLOPE_1:
        s_new = one
    if change in (HELD, OPEN):
        sr, sz = zero, zero
    if change == RESET_OPEN:
        r, sr = one, zero
    if change == OPEN:
        r, z, closing = one, one, one
    into_n = s_new * closing
    into = torch.stack([into_n, into_n * hn * sr, (path.hidden[:-1] - torch.tanh(candidate)) * sz, into_n * r], -2)
    return list(zip(into, z, strict=True))
