"""A recurrence written as one step, unrolled over a sequence. Axes: T steps, B sequences, I inputs, H hidden units."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rnnvg.errors import InputError

StepState = Tensor | tuple[Tensor, ...]


class SteppedCore(nn.Module):
    """One layer that goes from step to step; called as an nn.RNN is, time first.

    A subclass has `drive`, all that depends on the input alone, for every step at once; `advance`, the rest of a step; and
    where the output is not the state's first tensor, `read`.
    """

    def __init__(self, n_inputs: int, hidden: int, layers: int = 1) -> None:
        super().__init__()
        if layers != 1:
            raise InputError(f"`layers` must be 1 for cell {type(self).__name__.lower()!r}; got {layers}.")
        self.n_inputs, self.hidden_size, self.num_layers = n_inputs, hidden, 1

    def start(self, inputs: Tensor) -> StepState:
        """The state before the first step of inputs [T, B, I]: zeros [B, H]."""
        return inputs.new_zeros(inputs.shape[1], self.hidden_size)

    def drive(self, inputs: Tensor) -> Tensor:
        """What a step needs of its input [..., I], [..., D]."""
        raise NotImplementedError

    def constants(self) -> tuple[Tensor, ...]:
        """What `advance` takes that is the same at every step."""
        return ()

    def advance(self, driven: Tensor, state: StepState, *constants: Tensor) -> StepState:
        """The state after a step, from `drive` of its input [B, D] and the state before."""
        raise NotImplementedError

    def read(self, states: Tensor, inputs: Tensor) -> Tensor:
        """Outputs [T, B, H] from the first tensor of every state and the inputs."""
        return states

    def step(self, x: Tensor, state: StepState) -> StepState:
        """The state after one input [B, I]: the recurrence as `rnnvg.gradient_profile` takes it."""
        return self.advance(self.drive(x), state, *self.constants())

    def forward(self, inputs: Tensor, state: StepState | None = None) -> tuple[Tensor, StepState]:
        """Outputs [T, B, H] and the state after the last step."""
        state = self.start(inputs) if state is None else state
        constants = self.constants()
        states: list[Tensor] = []
        for driven in self.drive(inputs):
            state = self.advance(driven, state, *constants)
            states.append(state[0] if isinstance(state, tuple) else state)
        return self.read(torch.stack(states), inputs), state
