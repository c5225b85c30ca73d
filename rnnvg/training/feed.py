"""Where a training step's sequences come from: drawn afresh, or one long text read on and on with the state carried.

Both feeds move their saved position only in `advance`, once the step is done, so that a step cut short is done again.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from rnnvg.errors import InputError
from rnnvg.models import SequenceModel
from rnnvg.models.sequence_model import State

if TYPE_CHECKING:
    from rnnvg.tasks import Batch, Task


class DrawnFeed:
    """Fresh sequences from a generator, each starting from a zero state."""

    def __init__(self, task: Task, batch: int, generator: torch.Generator) -> None:
        self.task, self.batch, self.generator = task, batch, generator

    def draw(self) -> tuple[Batch, State]:
        """The sequences of the next step and the state to start from."""
        return self.task.batch(self.batch, self.generator), None

    def advance(self, state: State) -> None:
        """Takes the state after the step."""

    def position(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """What `restore` needs, as tensors and as JSON."""
        return {}, {}

    def restore(self, tensors: dict[str, Tensor], header: dict[str, Any]) -> None:
        """Goes on from a position; the generator is put back by the caller."""


class StreamedFeed:
    """Consecutive windows of a text (truncated backpropagation through time, Williams & Peng 1990).

    The state is carried from window to window without its graph, and starts from zeros with every pass over the text.
    """

    def __init__(self, task: Task, batch: int, bptt: int) -> None:
        self.task, self.batch, self.bptt = task, batch, bptt
        self.passes = self.index = 0
        self.state: State = None
        self.windows: Iterator[Batch] = iter(())
        self._start_pass()

    def draw(self) -> tuple[Batch, State]:
        """The next window and the state to start from."""
        window = next(self.windows, None)
        if window is None:
            if self.index == 0:
                raise InputError(
                    f"The training text is too short for one window of {self.bptt} steps in each of {self.batch} "
                    "sequences. Pass a smaller batch or bptt, or a longer text."
                )
            self.passes, self.index, self.state = self.passes + 1, 0, None
            self._start_pass()
            return self.draw()
        return window, self.state

    def advance(self, state: State) -> None:
        """Takes the state after the step."""
        self.index += 1
        self.state = SequenceModel.detach_state(state)

    def position(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """What `restore` needs, as tensors and as JSON."""
        state = self.state if isinstance(self.state, tuple) else () if self.state is None else (self.state,)
        tensors = {f"state.{i}": each.clone() for i, each in enumerate(state)}
        return tensors, {"passes": self.passes, "index": self.index, "is_tuple": isinstance(self.state, tuple)}

    def restore(self, tensors: dict[str, Tensor], header: dict[str, Any]) -> None:
        """Goes on from a position."""
        self.passes, self.index = header["passes"], header["index"]
        self._start_pass()
        self.windows = islice(self.windows, self.index, None)
        state = tuple(tensors[f"state.{i}"] for i in range(len(tensors)))
        self.state = state if header["is_tuple"] else next(iter(state), None)

    def _start_pass(self) -> None:
        self.windows = iter(self.task.stream(self.batch, self.bptt, "train"))
