"""A cell from elsewhere, by import path: checked once on a small example, and unrolled where it is written as a step.

    class Core(nn.Module):
        def __init__(self, n_inputs, hidden): ...
        def step(self, x, state): ...          # x [B, n_inputs], state [B, hidden] or a tuple whose first tensor is the output

or, without a recurrence, `forward(self, inputs)` from [T, B, n_inputs] to [T, B, hidden]. Optional: `start(self, inputs)`, the
state before the first step of inputs [T, B, n_inputs], where it is not zeros [B, hidden].
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor, nn

from rnnvg.errors import InputError
from rnnvg.models.cores.stepped import StepState
from rnnvg.tasks import imported

_STEPS, _BATCH, _INPUTS, _HIDDEN = 3, 2, 5, 4


class Unrolled(nn.Module):
    """Somebody's step over a whole sequence, called as an nn.RNN is, time first.

    Attributes:
        cell: the module from elsewhere.
    """

    def __init__(self, cell: Any, hidden: int) -> None:
        super().__init__()
        self.cell, self.hidden_size, self.num_layers = cell, hidden, 1

    def start(self, inputs: Tensor) -> StepState:
        if hasattr(self.cell, "start"):
            return self.cell.start(inputs)
        return inputs.new_zeros(inputs.shape[1], self.hidden_size)

    def step(self, x: Tensor, state: StepState) -> StepState:
        return self.cell.step(x, state)

    def forward(self, inputs: Tensor, state: StepState | None = None) -> tuple[Tensor, StepState]:
        state = self.start(inputs) if state is None else state
        outputs = []
        for x in inputs:
            state = self.step(x, state)
            outputs.append(_first(state))
        return torch.stack(outputs), state


class Whole(nn.Module):
    """Somebody's map from a sequence to a sequence: no recurrence, and no state that is carried."""

    def __init__(self, cell: Any, hidden: int) -> None:
        super().__init__()
        self.cell, self.hidden_size, self.num_layers = cell, hidden, 1

    def forward(self, inputs: Tensor, state: None = None) -> tuple[Tensor, None]:
        return self.cell(inputs), None


def make(path: str, n_inputs: int, hidden: int, layers: int = 1) -> Unrolled | Whole:
    """The core at an import path, for inputs [T, B, n_inputs] and outputs [T, B, hidden].

    Raises:
        InputError: it is not there, or does not keep to the protocol: what is missing is named.
    """
    if layers != 1:
        raise InputError(f"`layers` must be 1 for cell {path!r}; got {layers}.")
    check(path)
    return _make(path, n_inputs, hidden)


@functools.cache
def check(path: str) -> None:
    """Makes the core at an import path once, small, and runs it.

    Raises:
        InputError: as `make`.
    """
    with torch.random.fork_rng(devices=[]), torch.device("cpu"), torch.no_grad():
        core = _make(path, _INPUTS, _HIDDEN)
        inputs = torch.randn(_STEPS, _BATCH, _INPUTS)
        try:
            if isinstance(core, Unrolled):
                before = core.start(inputs)
                _check_state(path, before, core.step(inputs[0], before))
            outputs = core(inputs)[0]
        except InputError:
            raise
        except Exception as error:  # whatever its code raises
            raise InputError(
                f"`cell` {path!r} cannot be run on inputs [{_STEPS}, {_BATCH}, {_INPUTS}] with hidden={_HIDDEN}: "
                f"{type(error).__name__}: {error}"
            ) from error
    found = str(list(outputs.shape)) if isinstance(outputs, Tensor) else f"a {type(outputs).__name__}"
    if found != str([_STEPS, _BATCH, _HIDDEN]):
        raise InputError(
            f"`cell` {path!r} must give outputs [T, B, hidden] = [{_STEPS}, {_BATCH}, {_HIDDEN}]; it gave {found}."
        )


def _check_state(path: str, before: StepState, after: Any) -> None:
    if _shapes(before) != _shapes(after):
        raise InputError(
            f"`cell` {path!r}: `step` must give a state shaped like the one before; it took {_shapes(before)} and gave "
            f"{_shapes(after)}."
        )


def _make(path: str, n_inputs: int, hidden: int) -> Unrolled | Whole:
    factory = imported.load(path, "cell")
    try:
        cell = factory(n_inputs, hidden)
    except TypeError as error:
        raise InputError(f"`cell` {path!r} must be made as Core(n_inputs, hidden): {error}.") from error
    if not isinstance(cell, nn.Module):
        raise InputError(f"`cell` {path!r} must be an nn.Module; Core(n_inputs, hidden) gave a {type(cell).__name__}.")
    if callable(getattr(cell, "step", None)):
        return Unrolled(cell, hidden)
    if type(cell).forward is nn.Module.forward:
        raise InputError(
            f"`cell` {path!r} has neither `step(x, state)`, a recurrence, nor `forward(inputs)`, a map of whole sequences. "
            "Write one of the two."
        )
    return Whole(cell, hidden)


def _first(state: StepState) -> Tensor:
    return state[0] if isinstance(state, tuple) else state


def _shapes(state: Any) -> str:
    parts = state if isinstance(state, tuple) else (state,)
    shapes = [str(list(each.shape)) if isinstance(each, Tensor) else type(each).__name__ for each in parts]
    return shapes[0] if not isinstance(state, tuple) else f"({', '.join(shapes)})"
