"""A recurrence linearised along one trajectory: products with its step Jacobians J_t = ds_t / ds_{t-1}.

    pullback(t, a)      J_t^T a    adjoints, backwards in time
    pushforward(t, v)   J_t v      tangents, forwards in time

Steps are numbered from 0; s_{-1} is the initial state. Everything that step t passes to step t+1 is one vector of N
coordinates per sequence, layer by layer, h before c; h and c are independent coordinates.
Axes: T steps, B sequences, N state coordinates, n adjoints or tangents carried together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from rnnvg.bptt import arguments
from rnnvg.bptt.cells import Cell, cell_of, read_cells
from rnnvg.bptt.cells.diagonal import Diagonal, DiagonalLinearization
from rnnvg.bptt.cells.step_function import StepLinearization
from rnnvg.bptt.segments import KEEP_BYTES, Linearization
from rnnvg.bptt.stack import ModuleLinearization
from rnnvg.errors import InputError
from rnnvg.pytorch import named_modules

Recurrence = nn.Module | Diagonal | Callable[..., Any]


def linearize(
    recurrence: Recurrence,
    inputs: Tensor,
    state: Any = None,
    *,
    masks: Sequence[Tensor] | None = None,
    keep_bytes: int = KEEP_BYTES,
    trajectory: bool = True,
) -> Linearization:
    """Linearise `recurrence` along the trajectory that `inputs` drive it through from `state`.

    Args:
        recurrence: an nn.RNN, nn.LSTM or nn.GRU of any number of layers (closed forms), one of the nn.*Cell classes
            (closed forms), a `Diagonal` recurrence, or any function `step(x_t, state) -> state` (by autograd).
        inputs: [T, B, I], or [B, T, I] where the module says batch_first; a cell or step function is handed inputs[t].
        state: the initial state as the module takes it; None for zeros (a step function needs one).
        masks: of a module's dropout between layers, what each layer's output is multiplied by before the next one reads it,
            time first [T, B, P] each, L - 1 of them; None leaves such dropout out, and `note` says so.
        keep_bytes: states are kept for every step up to this many bytes, and beyond it only at checkpoints.
        trajectory: False where nothing but adjoints will be asked for, which then take less time and memory.

    Raises:
        InputError: an argument that does not fit, with what to pass.

    >>> import torch
    >>> cell = nn.RNN(1, 1, dtype=torch.float64)
    >>> linear = linearize(cell, torch.zeros(5, 1, 1, dtype=torch.float64))
    >>> linear.pullback(4, torch.ones(1, 1, dtype=torch.float64)).shape
    torch.Size([1, 1])
    """
    if masks is not None and cell_of(recurrence) is None:
        raise InputError(
            f"`masks` are of dropout between layers, and `recurrence` is a {type(recurrence).__name__}; pass None."
        )
    if isinstance(recurrence, Diagonal):
        return DiagonalLinearization(recurrence, inputs, state)
    if cell_of(recurrence) is not None:
        assert isinstance(recurrence, nn.Module)
        layers = module_layers(recurrence)
        sequence = arguments.module_inputs(recurrence, inputs, layers)
        states = arguments.module_state(recurrence, state, sequence, layers)
        found = ModuleLinearization(layers, sequence, states, keep_bytes, masks, trajectory)
        found.note = arguments.dropout_note(recurrence) if masks is None else ""
        return found
    if isinstance(recurrence, type):
        raise InputError(f"`recurrence` is the class {recurrence.__name__}; pass an instance of it.")
    if isinstance(recurrence, nn.Module) and state is None:
        _check_not_a_model(recurrence)
    if callable(recurrence):
        return StepLinearization(recurrence, inputs, state, keep_bytes)
    raise InputError(
        f"`recurrence` is a {type(recurrence).__name__}; pass an nn.RNN, nn.LSTM, nn.GRU, one of their cells, "
        "or a function step(x_t, state) -> state."
    )


def _check_not_a_model(module: nn.Module) -> None:
    """Nothing for a module that may be a step function; a whole model is named with the recurrent modules inside it."""
    found = [(name, each) for name, each in named_modules(module) if isinstance(each, nn.RNNBase)]
    if found:
        listed = " and ".join(f"an nn.{type(each).__name__} at `{name}`" for name, each in found)
        raise InputError(
            f"`recurrence` is a {type(module).__name__}, a whole model: found {listed}; pass model.{found[0][0]}, or the "
            "model to rnnvg.input_profile, or watch(model) around a training step."
        )


def module_layers(module: nn.Module, weights: Mapping[str, Tensor] | None = None) -> list[Cell]:
    """The closed forms of a module's layers, bottom first, over its own weights (detached, not copied).

    Args:
        weights: by name, to take instead of the module's own.

    Raises:
        InputError: the module is bidirectional or overrides its class's forward.
    """
    arguments.check_module(module)
    return read_cells(module, weights)
