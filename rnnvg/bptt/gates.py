"""What the gates of a network do along a trajectory: means, saturation, and the time constants that they imply."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from rnnvg.bptt.layers import GRULayer, Layer, LSTMLayer, RNNLayer, Trajectory
from rnnvg.bptt.linearize import ModuleLinearization
from rnnvg.bptt.paths import GRU_GATES, LSTM_GATES

CLOSED, OPEN = 0.1, 0.9  # a gate below or above counts as saturated (Karpathy, Johnson and Fei-Fei 2016)


@dataclass(frozen=True)
class GateStatistics:
    """One gate of one layer over all its units, steps and sequences.

    Attributes:
        layer: 0 the lowest.
        name: "input gate" and so on; "candidate" for what a tanh proposes, "activation" for a vanilla RNN's units. Of these
            two kinds the absolute value is meant.
        mean: of the gate's value.
        closed, open: fraction of values below 0.1 and above 0.9.
        time_constant: of the gate that carries the state (forget, update): -1 / mean ln f in steps, the median over units;
            what the carry alone would keep. None for the other gates.
        longest_time_constant: the same for the unit that keeps longest.
    """

    layer: int
    name: str
    mean: float
    closed: float
    open: float
    time_constant: float | None
    longest_time_constant: float | None


def gate_statistics(linear: ModuleLinearization) -> tuple[GateStatistics, ...]:
    """The statistics of every gate along the trajectory, layer by layer."""
    sums: list[dict[str, Tensor]] = [{} for _ in linear.layers]
    logs = [torch.zeros(layer.hidden, dtype=torch.float64, device=linear.device) for layer in linear.layers]
    for segment in linear.segments(reuse=True):
        for index, (layer, path) in enumerate(zip(linear.layers, segment.paths, strict=True)):  # pyright: ignore
            values, log_carry = _gates(layer, path)
            for name, value in values.items():
                counts = torch.stack([value.sum(), (value < CLOSED).sum(), (value > OPEN).sum()]).double()
                sums[index][name] = sums[index].get(name, 0) + counts
            if log_carry is not None:
                logs[index] += log_carry.double().sum((0, 1))
    found = []
    for index, layer in enumerate(linear.layers):
        samples = linear.n_steps * linear.batch
        constants = -samples / logs[index]
        for name, counts in sums[index].items():
            mean, closed, opened = (counts / (samples * layer.hidden)).tolist()
            carries = name == {LSTMLayer: "forget gate", GRULayer: "update gate"}.get(type(layer))
            middle, longest = (constants.median().item(), constants.max().item()) if carries else (None, None)
            found.append(GateStatistics(index, name, mean, closed, opened, middle, longest))
    return tuple(found)


def gate_values(linear: ModuleLinearization) -> Iterator[tuple[int, int, dict[str, Tensor]]]:
    """Every gate's values along the trajectory, segment by segment: layer, first step, gate -> values [c, B, H].

    Of a candidate or a vanilla unit the absolute value.
    """
    for segment in linear.segments(reuse=True):
        for index, (layer, path) in enumerate(zip(linear.layers, segment.paths, strict=True)):  # pyright: ignore
            yield index, segment.start, _gates(layer, path)[0]


def _gates(layer: Layer, path: Trajectory) -> tuple[dict[str, Tensor], Tensor | None]:
    """Gate -> values [c, B, H], and ln of the carrying gate."""
    if isinstance(layer, RNNLayer):
        return {"activation": path.hidden[1:].abs()}, None
    if isinstance(layer, LSTMLayer):
        (z,) = path.preactivations
        values = [torch.tanh(z[:, :, 2]).abs() if k == 2 else torch.sigmoid(z[:, :, k]) for k in range(4)]
        return dict(zip(LSTM_GATES, values, strict=True)), logsigmoid(z[:, :, 1])
    from_x, from_h = path.preactivations
    (xr, xz, xn), (hr, hz, hn) = from_x.split(layer.hidden, -1), from_h.split(layer.hidden, -1)
    reset = torch.sigmoid(xr + hr)
    values = [reset, torch.sigmoid(xz + hz), torch.tanh(xn + reset * hn).abs()]
    return dict(zip(GRU_GATES, values, strict=True)), logsigmoid(xz + hz)
