"""A cell from elsewhere, by import path: checked once on a small example, and unrolled where it is written as a step.

    class Core(nn.Module):
        def __init__(self, n_inputs, hidden): ...
        def step(self, x, state): ...          # x [B, n_inputs], state [B, hidden] or a tuple whose first tensor is the output

or, without a recurrence, `forward(self, inputs)` from [T, B, n_inputs] to [T, B, hidden], causal: an output depends on the
inputs up to its own step. Optional: `start(self, inputs)`, the
state before the first step of inputs [T, B, n_inputs], where it is not zeros [B, hidden].
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Generator
from typing import Any

import torch
from torch import Tensor, nn

from rnnvg.bptt.tensors import members, sequence, shape_of
from rnnvg.errors import InputError
from rnnvg.models.cores.stepped import StepState
from rnnvg.pytorch import fork_rng
from rnnvg.tasks import imported

_STEPS, _BATCH, _INPUTS, _HIDDEN = 3, 2, 5, 4
_LONGER = 12  # steps, over which the future is looked for


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
        outputs: list[Tensor] = []
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
    with fork_rng(devices=[]), torch.device("cpu"), torch.no_grad():
        core = _make(path, _INPUTS, _HIDDEN)
        inputs = torch.randn(_STEPS, _BATCH, _INPUTS)
        with _as_one_sentence(path, inputs):
            if isinstance(core, Unrolled):
                before = core.start(inputs)
                _check_state(path, before, core.step(inputs[0], before))
            outputs = core(inputs)[0]
    found = str(list(outputs.shape)) if isinstance(outputs, Tensor) else f"a {type(outputs).__name__}"
    if found != str([_STEPS, _BATCH, _HIDDEN]):
        raise InputError(
            f"`cell` {path!r} must give outputs [T, B, hidden] = [{_STEPS}, {_BATCH}, {_HIDDEN}]; it gave {found}."
        )
    with fork_rng(devices=[]), torch.device("cpu"), torch.no_grad():
        _check_what_it_reads(path, core.eval())


@contextlib.contextmanager
def _as_one_sentence(path: str, inputs: Tensor) -> Generator[None]:
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # whatever its code raises
        raise InputError(
            f"`cell` {path!r} cannot be run on inputs {list(inputs.shape)} with hidden={_HIDDEN}: "
            f"{type(error).__name__}: {error}"
        ) from error


def _check_what_it_reads(path: str, core: nn.Module) -> None:
    """Outputs change with the inputs, and none with those that come after it; in evaluation mode, with the same draws."""

    def outputs(inputs: Tensor) -> Tensor:
        torch.default_generator.manual_seed(0)
        with _as_one_sentence(path, inputs):
            return core(inputs)[0]

    inputs, others = torch.randn(2, _LONGER, _BATCH, _INPUTS)
    found = outputs(inputs)
    if not torch.equal(found, outputs(inputs)):
        return  # it draws numbers of its own: nothing can be said
    if torch.equal(found, outputs(others)):
        raise InputError(f"`cell` {path!r} gives outputs that do not depend on its inputs; let them reach the outputs.")
    for step in (0, _LONGER // 2, _LONGER - 2):
        changed = outputs(torch.cat([inputs[: step + 1], others[step + 1 :]]))
        if not torch.allclose(found[: step + 1], changed[: step + 1], rtol=1e-4, atol=1e-5, equal_nan=True):
            raise InputError(
                f"`cell` {path!r} sees the future: its outputs up to step {step} change with later inputs; mask, shift or "
                "pad it."
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


def _shapes(state: object) -> str:
    shapes = ", ".join(str(shape_of(each)) for each in members(state))
    return shapes if sequence(state) is None else f"({shapes})"
