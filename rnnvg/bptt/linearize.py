"""A recurrence linearised along one trajectory: products with its step Jacobians J_t = ds_t / ds_{t-1}.

    pullback(t, a)      J_t^T a    adjoints, backwards in time
    pushforward(t, v)   J_t v      tangents, forwards in time

Steps are numbered from 0; s_{-1} is the initial state. Everything that step t passes to step t+1 is one vector of N
coordinates per sequence, layer by layer, h before c; h and c are independent coordinates.
Axes: T steps, B sequences, N state coordinates, n adjoints or tangents carried together.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from rnnvg.bptt import arguments
from rnnvg.bptt.diagonal import Diagonal, DiagonalLinearization
from rnnvg.bptt.layers import Buffers, GRULayer, Layer, LayerWeights, LSTMLayer, RNNLayer, StateViews, Trajectory
from rnnvg.bptt.segments import KEEP_BYTES, Coordinate, Linearization, split_steps
from rnnvg.bptt.step_function import StepLinearization
from rnnvg.bptt.weights import NAMES, own_weights
from rnnvg.errors import InputError

# A segment's gates should stay in a core's own cache between the passes over them, and its products be large enough.
SEGMENT_NUMBERS = 2**18
# From so many adjoints on, forming a GRU step's Jacobian costs less than it saves.
DENSE_FROM = 24

Recurrence = nn.Module | Diagonal | Callable[..., Any]


def linearize(
    recurrence: Recurrence, inputs: Tensor, state: Any = None, *, keep_bytes: int = KEEP_BYTES
) -> Linearization:
    """Linearise `recurrence` along the trajectory that `inputs` drive it through from `state`.

    Args:
        recurrence: an nn.RNN, nn.LSTM or nn.GRU of any number of layers (closed forms), one of the nn.*Cell classes
            (closed forms), a `Diagonal` recurrence, or any function `step(x_t, state) -> state` (by autograd).
        inputs: [T, B, I], or [B, T, I] where the module says batch_first; a cell or step function is handed inputs[t].
        state: the initial state as the module takes it; None for zeros (a step function needs one).
        keep_bytes: states are kept for every step up to this many bytes, and beyond it only at checkpoints.

    Raises:
        InputError: an argument that does not fit, with what to pass.

    >>> cell = nn.RNN(1, 1, dtype=torch.float64)
    >>> linear = linearize(cell, torch.zeros(5, 1, 1, dtype=torch.float64))
    >>> linear.pullback(4, torch.ones(1, 1, dtype=torch.float64)).shape
    torch.Size([1, 1])
    """
    if isinstance(recurrence, Diagonal):
        return DiagonalLinearization(recurrence.factors(inputs), state)
    if isinstance(recurrence, (nn.RNNBase, nn.RNNCellBase)):
        layers = module_layers(recurrence)
        sequence = arguments.module_inputs(recurrence, inputs)
        states = arguments.module_state(recurrence, state, sequence)
        return ModuleLinearization(layers, sequence, states, keep_bytes)
    if callable(recurrence):
        return StepLinearization(recurrence, inputs, state, keep_bytes)
    raise InputError(
        f"`recurrence` is a {type(recurrence).__name__}; pass an nn.RNN, nn.LSTM, nn.GRU, one of their cells, "
        "or a function step(x_t, state) -> state."
    )


def module_layers(module: nn.RNNBase | nn.RNNCellBase) -> list[Layer]:
    """The closed forms of a module's layers, bottom first, over its own weights (detached, not copied).

    Raises:
        InputError: the module is bidirectional, has active dropout between layers, or overrides its class's forward.
    """
    arguments.check_module(module)
    found, nonlinearity = own_weights(module), getattr(module, "nonlinearity", "tanh")
    if isinstance(module, nn.RNNCellBase):
        return [_layer(module, found, "", nonlinearity)]
    return [_layer(module, found, f"_l{index}", nonlinearity) for index in range(module.num_layers)]


def _layer(module: nn.Module, found: dict[str, Tensor], suffix: str, nonlinearity: str) -> Layer:
    into, hidden, *others = (found.get(name + suffix) for name in NAMES)
    assert into is not None
    assert hidden is not None
    weights = LayerWeights(into, hidden, *others)
    if isinstance(module, (nn.LSTM, nn.LSTMCell)):
        return LSTMLayer(weights)
    if isinstance(module, (nn.GRU, nn.GRUCell)):
        return GRULayer(weights)
    return RNNLayer(weights, nonlinearity)


@dataclass(frozen=True)
class _LayerState:
    """Where a layer's part of the state lies: columns of h and, for an LSTM, of c."""

    hidden: slice
    cell: slice | None


class ModuleLinearization(Linearization):
    """A stack of closed-form layers along its trajectory.

    The states and gates come from a loop of one small product and a few elementwise operations a step, after one product
    for all inputs of a segment. That costs what PyTorch's fused forward pass costs, and leaves the gates, which the fused
    pass does not show.
    """

    def __init__(
        self,
        layers: list[Layer],
        inputs: Tensor,
        states: list[tuple[Tensor, Tensor | None]],
        keep_bytes: int = KEEP_BYTES,
    ) -> None:
        self.layers = layers
        self.inputs = inputs
        self.places, coordinates = _places(layers)
        super().__init__(
            n_steps=inputs.shape[0],
            batch=inputs.shape[1],
            coordinates=coordinates,
            output=self.places[-1].hidden,
            n_inputs=inputs.shape[2],
            like=inputs,
        )
        widest = max(layer.gates * layer.hidden for layer in layers)
        self.bounds = split_steps(self.n_steps, SEGMENT_NUMBERS // (self.batch * widest))
        self._buffers = [Buffers() for _ in layers]
        per_step = sum((2 * layer.gates + 1) * layer.hidden + 2 * layer.output for layer in layers)
        keep = self.n_steps * self.batch * per_step * inputs.element_size() <= keep_bytes
        self._kept: list[Trajectory] | None = None
        self._checkpoints: list[list[tuple[Tensor, Tensor | None]]] = []
        if keep:
            self._kept = self._run(inputs, states, [Buffers() for _ in layers])
            for path in self._kept:
                self._note_nonfinite(path.hidden[1:], 0)
            return
        for start, stop in self.bounds:
            self._checkpoints.append(states)
            paths = self._run(inputs[start:stop], states, self._buffers)
            states = [(path.hidden[-1].clone(), None if path.cell is None else path.cell[-1].clone()) for path in paths]
            for path in paths:
                self._note_nonfinite(path.hidden[1:], start)

    @torch.no_grad()
    def _run(self, x: Tensor, states: list[tuple[Tensor, Tensor | None]], buffers: list[Buffers]) -> list[Trajectory]:
        """Every layer's trajectory over one segment."""
        paths = []
        for layer, (h, c), new in zip(self.layers, states, buffers, strict=True):
            paths.append(layer.run(x, h, c, new))
            x = paths[-1].hidden[1:]
        return paths

    def outputs(self) -> Tensor:
        """What the module gives, [T, B, P]: the top layer's h after every step."""
        if self._kept is not None:
            return self._kept[-1].hidden[1:]
        found = self.inputs.new_empty(self.n_steps, self.batch, self.output.stop - self.output.start)
        for (start, stop), states in zip(self.bounds, self._checkpoints, strict=True):
            found[start:stop] = self._run(self.inputs[start:stop], states, self._buffers)[-1].hidden[1:]
        return found

    def segment(self, index: int, reuse: bool = False) -> ModuleSegment:
        start, stop = self.bounds[index]
        buffers = self._buffers if reuse else [Buffers() for _ in self.layers]
        x = self.inputs[start:stop]
        if self._kept is not None:
            paths = [path.between(start, stop) for path in self._kept]
        else:
            paths = self._run(x, self._checkpoints[index], buffers)
        return ModuleSegment(self, start, x, paths, buffers)

    def view(self, vectors: Tensor) -> list[StateViews]:
        """Layer by layer, the parts of `vectors` [n, B, N] that a pull reads or writes."""
        rows = vectors.view(-1, self.size)
        return [
            StateViews(
                vectors[..., place.hidden],
                rows[:, place.hidden],
                None if place.cell is None else vectors[..., place.cell],
            )
            for place in self.places
        ]


def _places(layers: list[Layer]) -> tuple[list[_LayerState], tuple[Coordinate, ...]]:
    places, coordinates, at = [], [], 0
    for index, layer in enumerate(layers):
        hidden = slice(at, at + layer.output)
        coordinates.append(Coordinate(index, "hidden", hidden))
        cell = None
        if layer.has_cell:
            cell = slice(hidden.stop, hidden.stop + layer.hidden)
            coordinates.append(Coordinate(index, "cell", cell))
        places.append(_LayerState(hidden, cell))
        at = (cell or hidden).stop
    return places, tuple(coordinates)


class ModuleSegment:
    """The factors of a run of steps, and the two products with them.

    Attributes, layer by layer: layers, places; factors (step by step); paths: the trajectories; deltas: what the pull that
    came last left.
    """

    def __init__(
        self, whole: ModuleLinearization, start: int, x: Tensor, paths: list[Trajectory], buffers: list[Buffers]
    ) -> None:
        self.start, self.stop = start, start + x.shape[0]
        self.layers, self.places = whole.layers, whole.places
        self.inputs, self.paths = x, paths
        with torch.no_grad():
            found = zip(self.layers, paths, buffers, strict=True)
            self.factors = [layer.factors(path, new) for layer, path, new in found]
        self.deltas: list[tuple[Tensor, ...]] = []
        self._buffers = buffers
        self._n = -1

    def pull(self, t: int, a: list[StateViews], out: list[StateViews], inputs: bool = True) -> None:
        like = a[0].hidden
        if self._n != like.shape[0]:
            self._n = like.shape[0]
            self.deltas = [layer.new_delta(like, new) for layer, new in zip(self.layers, self._buffers, strict=True)]
        step, above = t - self.start, None
        for index in range(len(self.layers) - 1, -1, -1):
            layer, delta = self.layers[index], self.deltas[index]
            if index == 0 and not inputs and self._n >= DENSE_FROM and isinstance(layer, GRULayer):
                layer.pull_dense(self.factors[0][step], a[0], out[0], above, self._buffers[0])
                return
            layer.pull(self.factors[index][step], a[index], out[index], delta, above)
            if index:
                above = layer.input_adjoint(delta)

    def input_adjoint(self) -> Tensor:
        return self.layers[0].input_adjoint(self.deltas[0])

    def push(self, t: int, v: Tensor) -> Tensor:
        out = torch.empty_like(v)
        below = None
        for layer, place, factors in zip(self.layers, self.places, self.factors, strict=True):
            v_c = None if place.cell is None else v[..., place.cell]
            hidden, cell = layer.push(factors[t - self.start], v[..., place.hidden], v_c, below)
            out[..., place.hidden] = hidden
            if place.cell is not None and cell is not None:
                out[..., place.cell] = cell
            below = hidden
        return out
