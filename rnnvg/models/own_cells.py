"""Recurrences of our own, for what PyTorch has no module: leaky, residual and layer-normalised tanh networks.

With f = tanh(W h + U x + b) and a step size a, 1 / t_max where a longest dependency is given:

    leaky       h' = (1 - a) h + a f               Mozer 1992; Jaeger et al. 2007
    residual    h' = h + a f                       Chang et al. 2019; FastRNN (Kusupati et al. 2018) with its h kept whole
    layer-norm  h' = tanh(LN(W h + U x + b))       Ba, Kiros and Hinton 2016

A loop over steps in Python: for networks small enough to look at. Axes: T steps, B sequences, I inputs, H hidden units.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rnnvg.bptt.cells.min_rnn import MinGRUCell
from rnnvg.bptt.cells.oscillators import LEMCell
from rnnvg.bptt.cells.state_space import RotationCell
from rnnvg.errors import InputError
from rnnvg.models.cores import CORES
from rnnvg.models.cores.lem import LEM
from rnnvg.models.cores.lru import LRU
from rnnvg.models.cores.mingru import MinGRU

STEP_SIZE = 0.1


class OwnCore(nn.Module):
    """One layer of tanh units with a memory of its own kind; called as an nn.RNN is, time first.

    The same state of torch's global generator draws the same weights as for an nn.RNN: networks with one seed differ in
    their form alone.

    Attributes:
        form: "leaky", "residual" or "layer-norm".
        step_size: a, a buffer; of no use to layer-norm.
        weight_ih, weight_hh, bias_ih, bias_hh: [H, I], [H, H], [H], [H], as nn.RNNCell's.
    """

    step_size: Tensor

    def __init__(self, form: str, n_inputs: int, hidden: int, layers: int = 1) -> None:
        super().__init__()
        if layers != 1:
            raise InputError(f"`layers` must be 1 for cell {form!r}; got {layers}.")
        self.form, self.hidden_size, self.num_layers = form, hidden, 1
        bound = 1 / math.sqrt(hidden)
        self.weight_ih = nn.Parameter(torch.empty(hidden, n_inputs).uniform_(-bound, bound))
        self.weight_hh = nn.Parameter(torch.empty(hidden, hidden).uniform_(-bound, bound))
        self.bias_ih = nn.Parameter(torch.empty(hidden).uniform_(-bound, bound))
        self.bias_hh = nn.Parameter(torch.empty(hidden).uniform_(-bound, bound))
        self.register_buffer("step_size", torch.tensor(STEP_SIZE))
        self.norm = nn.LayerNorm(hidden) if form == "layer-norm" else nn.Identity()

    def forward(self, inputs: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """States [T, B, H] and the last of them [1, B, H], from inputs [T, B, I] and the state before the first step."""
        driven = F.linear(inputs, self.weight_ih, self.bias_ih + self.bias_hh)
        h = driven.new_zeros(driven.shape[1:]) if state is None else state[0]
        a = float(self.step_size)
        states: list[Tensor] = []
        for each in driven:
            h = self._advance(each, h, a)
            states.append(h)
        return torch.stack(states), h.unsqueeze(0)

    def start(self, inputs: Tensor) -> Tensor:
        """The state [B, H] before the first step of inputs [T, B, I]: zeros."""
        return inputs.new_zeros(inputs.shape[1], self.hidden_size)

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        """The state [B, H] after one input [B, I]: the recurrence as `rnnvg.gradient_profile` takes it."""
        driven = F.linear(x, self.weight_ih, self.bias_ih + self.bias_hh)
        return self._advance(driven, h, float(self.step_size))

    def _advance(self, driven: Tensor, h: Tensor, a: float) -> Tensor:
        f = torch.tanh(self.norm(torch.addmm(driven, h, self.weight_hh.T)))
        if self.form == "leaky":
            return torch.lerp(h, f, a)
        return h + a * f if self.form == "residual" else f


def has_recurrence(core: nn.Module) -> bool:
    """Whether a core goes from step to step by a state, so that there are gradients by it.

    >>> has_recurrence(nn.GRU(2, 4))
    True
    """
    return isinstance(core, nn.RNNBase) or hasattr(core, "step")


def recurrence(core: nn.Module, inputs: Tensor) -> tuple[Any, Any]:
    """What `rnnvg.gradient_profile` takes of a model's core, and the first state for inputs [T, B, E].

    Of PyTorch's modules themselves and None, which stands for zeros; of a minGRU, an LRU and an LEM the closed form over
    their weights; of any other core its step. With the latter two, the core's first state.

    >>> import torch
    >>> from rnnvg import models, tasks
    >>> task = tasks.make("adding", length=5)
    >>> found, state = models.recurrence(models.build(task, "gru", hidden=4).core, task.batch(3, torch.Generator()).inputs)
    >>> type(found).__name__, state
    ('GRU', None)
    """
    if isinstance(core, nn.RNNBase):
        return core, None
    made: Any = core
    return _closed_form(core) or made.step, made.start(inputs)


def _closed_form(core: nn.Module) -> nn.Module | None:
    """A cell over the very weights of a core of one layer, whose steps are the core's; None where there is no closed form."""
    with torch.device("meta"):  # nothing is drawn and nothing is held: the weights are the core's
        if type(core) is MinGRU:
            both = core.gate_and_candidate
            cell: nn.Module = MinGRUCell(both.in_features, core.hidden_size)
            cell.register_parameter("weight_ih", cast(nn.Parameter, both.weight))
            cell.register_parameter("bias_ih", both.bias)
        elif type(core) is LEM:
            cell = LEMCell(core.weight_ih.shape[1], core.hidden_size)
            for name in ("weight_ih", "bias", "weight_y", "weight_z"):
                setattr(cell, name, getattr(core, name))
        elif type(core) is LRU:
            cell = RotationCell(core.nu, core.theta, core.gamma, core.b)
        else:
            return None
    return cell.train(core.training)


OWN: dict[str, Callable[..., nn.Module]] = {
    **{form: partial(OwnCore, form) for form in ("leaky", "residual", "layer-norm")},
    **CORES,
}
