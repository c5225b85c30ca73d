"""What the closed forms of all cells are made of: parts of a state, weights, memory, trajectories, views, exact slopes.

Axes: c steps of a segment, B sequences, I input, H hidden, P output (H, or proj_size), n adjoints, G gates.

Slopes are never taken from the activation: 1 - tanh(z)^2 is exactly 0 in float32 from |z| = 9 on, and a gradient read
from it would be called zero where it is small. With p = sigmoid(-|z|) <= 1/2, sigmoid'(z) = p - p^2, and tanh'(z) =
4 sigmoid'(2z): both keep their relative precision until the number itself leaves the dtype's range.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from rnnvg.bptt.memory import empty

Kind = Literal["hidden", "cell", "other"]

# Changes of a backward pass along the same trajectory. "open": a gate's factor is 1 and, being constant, passes no gradient.
SLOPES_1, GATES_HELD, FORGET_OPEN, RESET_OPEN, ALL_OPEN = (
    "tanh slopes 1",
    "gates held",
    "forget gate open",
    "reset gate open",
    "all gates open",
)


class Part(NamedTuple):
    """One block of a cell's state: "hidden", "cell" or "other", and how many coordinates it has."""

    kind: Kind
    width: int


class StateViews(NamedTuple):
    """One cell's columns of an adjoint [n, B, N], part by part: parts [n, B, width], and the same as rows [n B, width]."""

    parts: tuple[Tensor, ...]
    rows: tuple[Tensor, ...]


class Gate(NamedTuple):
    """One gate along a trajectory: its values [c, B, H], and where it carries the state over, their logarithms."""

    name: str
    values: Tensor
    log_carry: Tensor | None = None


class Trajectory(NamedTuple):
    """What one cell went through over a segment.

    states: part by part [c+1, B, width], the state before the segment first; values: a named tuple of the cell's own tensors
    [c, B, ...], whatever its `factors` needs.
    """

    states: tuple[Tensor, ...]
    values: Any

    def between(self, start: int, stop: int) -> Trajectory:
        """The part from step `start` to before step `stop`."""
        return Trajectory(
            tuple(each[start : stop + 1] for each in self.states),
            type(self.values)(*(each[start:stop] for each in self.values)),
        )


class Buffers:
    """Memory that one segment's factors are written into. Handing the same Buffers to the next segment overwrites them."""

    def __init__(self) -> None:
        self._memory: dict[str, Tensor] = {}
        self._rows: dict[int, list[Any]] = {}

    def __call__(self, name: str, like: Tensor, *shape: int) -> Tensor:
        """An uninitialised tensor of `shape`, the same memory for the same name while it is large enough."""
        size = math.prod(shape)
        memory = self._memory.get(name)
        if memory is None or memory.numel() < size:
            # A little more than is asked for, because the number of adjoints grows by one source at a time.
            memory = self._memory[name] = empty(like, size if memory is None else 2 * size)
            self._rows.clear()
        return memory[:size].view(shape)

    def rows(self, states: Sequence[Tensor], *values: Tensor) -> list[Any]:
        """What a loop over steps reads and writes at each of them, cut up once for all segments of c steps: the rows of
        `values` [c, ...], and of each of `states` [c+1, ...] the one before the step and the one after it."""
        steps = len(values[0])
        found = self._rows.get(steps)
        if found is None:
            columns = [each.unbind() for each in values]
            for state in states:
                rows = state.unbind()
                columns += rows[:-1], rows[1:]
            found = self._rows[steps] = list(zip(*columns, strict=True))
        return found

    def lasting(self, name: str, like: Tensor, *shape: int) -> Tensor:
        """As a call, for what `Cell.factors` returns."""
        return self(name, like, *shape)

    def kept(self, name: str, values: Tensor) -> Tensor:
        """Values of the trajectory that `Cell.factors` returns as they are."""
        return values


class LastingBuffers(Buffers):
    """Buffers of a run of segments, in order of time, whose trajectories overwrite each other and whose factors stay."""

    def __init__(self, n_steps: int) -> None:
        super().__init__()
        self._n_steps = n_steps
        self._whole: dict[str, tuple[Tensor, int]] = {}

    def lasting(self, name: str, like: Tensor, *shape: int) -> Tensor:
        steps, rest = shape[0], shape[1:]
        whole, first = self._whole.get(name) or (empty(like, self._n_steps * math.prod(rest)).view(-1, *rest), 0)
        self._whole[name] = whole, first + steps
        return whole[first : first + steps]

    def kept(self, name: str, values: Tensor) -> Tensor:
        return self.lasting(name, values, *values.shape).copy_(values)


@dataclass(frozen=True)
class Weights:
    """One layer's weights as torch.nn lays them out, detached: input [G H, I], hidden [G H, P], biases [G H] or None,
    projection [P, H] or None; `suffix` ends their names in the module ("", "_l0", "_l0_reverse")."""

    input: Tensor
    hidden: Tensor
    input_bias: Tensor | None
    hidden_bias: Tensor | None
    projection: Tensor | None = None
    suffix: str = ""

    @property
    def bias(self) -> Tensor | None:
        if self.input_bias is None or self.hidden_bias is None:
            return None
        return self.input_bias + self.hidden_bias

    def rank_one(
        self, into_input: Tensor, into_hidden: Tensor, x: Tensor, h: Tensor
    ) -> dict[str, tuple[Tensor, Tensor]]:
        """Each weight's contributions as adjoint (x) value: those of W_ih x + b_ih and W_hh h + b_hh, [c, B, G H]."""
        one = x.new_ones(*x.shape[:2], 1)
        found = {"weight_ih": (into_input, x), "weight_hh": (into_hidden, h)}
        if self.input_bias is not None:
            found |= {"bias_ih": (into_input, one), "bias_hh": (into_hidden, one)}
        return {name + self.suffix: pair for name, pair in found.items()}


def torch_weights(module: nn.Module, weights: Mapping[str, Tensor], reverse: bool = False) -> list[Weights]:
    """The layers' weights of an nn.RNN, nn.LSTM, nn.GRU or one of their cells, bottom first, from those by name.

    `reverse`: those of a bidirectional module's backward direction.
    """

    def layer(suffix: str) -> Weights:
        optional = (weights.get(name + suffix) for name in ("bias_ih", "bias_hh", "weight_hr"))
        return Weights(weights["weight_ih" + suffix], weights["weight_hh" + suffix], *optional, suffix=suffix)

    if isinstance(module, nn.RNNBase):
        return [layer(f"_l{index}{'_reverse' * reverse}") for index in range(module.num_layers)]
    return [layer("")]


def slope_of_tanh(z: Tensor, out: Tensor) -> Tensor:
    """d tanh(z)/dz to full relative precision, into `out`."""
    torch.abs(z, out=out).mul_(-2).sigmoid_()  # copysign takes three times as long as abs
    return out.addcmul_(out, out, value=-1).mul_(4)


def products(x: Tensor, weight: Tensor, bias: Tensor | None, out: Tensor) -> Tensor:
    """W x + b for every step and sequence, [c, B, G H], into `out`."""
    rows, found = x.reshape(-1, x.shape[-1]), out.view(-1, weight.shape[0])
    if bias is None:
        torch.mm(rows, weight.t(), out=found)
    else:
        torch.addmm(bias, rows, weight.t(), out=found)
    return out


def states_from(name: str, first: Tensor, steps: int, new: Buffers) -> Tensor:
    states = new(name, first, steps + 1, *first.shape)
    states[0] = first
    return states
