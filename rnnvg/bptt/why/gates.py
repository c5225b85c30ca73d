"""What the gates of a network do along a trajectory: means, saturation, and the time constants that they imply."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from rnnvg.bptt.cells import Gate
from rnnvg.bptt.stack import ModuleLinearization, ModuleSegment

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
    logs: dict[int, Tensor] = {}
    for index, _, gates in gates_along(linear):
        for gate in gates:
            value = gate.values
            counts = torch.stack([value.sum(), (value < CLOSED).sum(), (value > OPEN).sum()]).double()
            counts = torch.cat([counts, counts.new_tensor([value.numel()])])
            sums[index][gate.name] = sums[index].get(gate.name, 0) + counts
            if gate.log_carry is not None:
                logs[index] = logs.get(index, 0) + gate.log_carry.double().sum((0, 1))
    found: list[GateStatistics] = []
    for index, layer in enumerate(linear.layers):
        for name, counts in sums[index].items():
            mean, closed, opened = (float(each) for each in (counts[:3] / counts[3]).cpu())
            middle, longest = None, None
            if index in logs and name == layer.carry_gate:
                constants = -linear.n_steps * linear.batch / logs[index]
                middle, longest = constants.median().item(), constants.max().item()
            found.append(GateStatistics(index, name, mean, closed, opened, middle, longest))
    return tuple(found)


def gate_values(linear: ModuleLinearization) -> Iterator[tuple[int, int, dict[str, Tensor]]]:
    """Every gate's values along the trajectory, segment by segment: layer, first step, gate -> values [c, B, H].

    Of a candidate or a vanilla unit the absolute value.
    """
    for index, start, gates in gates_along(linear):
        yield index, start, {gate.name: gate.values for gate in gates}


def gates_along(linear: ModuleLinearization) -> Iterator[tuple[int, int, list[Gate]]]:
    """The gates segment by segment: layer, first step, gates; values may be void when the next are asked for."""
    for segment in linear.segments(reuse=True):
        assert isinstance(segment, ModuleSegment)
        for index, (layer, path) in enumerate(zip(segment.layers, segment.paths, strict=True)):
            yield index, segment.start, layer.gates(path)
