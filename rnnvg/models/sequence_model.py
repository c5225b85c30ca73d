"""An encoder, PyTorch's own recurrent module, and a readout, with the time axis first; and what the core is handed in it.

Axes: T steps, B sequences, I inputs, E the width the core is handed, H hidden units, O outputs.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from rnnvg.errors import check_name
from rnnvg.models import imported_core
from rnnvg.models.names import EVERY_CELL
from rnnvg.models.own_cells import OWN
from rnnvg.tasks import imported
from rnnvg.tasks.scoring import evaluating

if TYPE_CHECKING:
    from rnnvg.tasks import Batch, Task

CORES: dict[str, Callable[[int, int, int], nn.RNNBase]] = {
    "rnn": partial(nn.RNN, nonlinearity="tanh"),
    "rnn-relu": partial(nn.RNN, nonlinearity="relu"),
    "lstm": nn.LSTM,
    "gru": nn.GRU,
}


def check_cell(cell: str, argument: str = "cell") -> str:
    """`cell` where it is one of EVERY_CELL, or the import path of a core; otherwise an InputError.

    >>> check_cell("gru")
    'gru'
    """
    if imported.is_path(cell):
        imported_core.check(cell)
        return cell
    return check_name(argument, cell, EVERY_CELL)


def make_core(cell: str, n_inputs: int, hidden: int, layers: int) -> nn.Module:
    """The core of a network, from inputs [T, B, n_inputs] to outputs [T, B, hidden]."""
    if imported.is_path(cell):
        return imported_core.make(cell, n_inputs, hidden, layers)
    return (CORES | OWN)[cell](n_inputs, hidden, layers)


State = Tensor | tuple[Tensor, ...] | None


class SequenceModel(nn.Module):
    """A recurrent network that reads a sequence and answers at every step.

    `rnnvg.models.build` makes one that fits a task; the constructor takes sizes and checks nothing.

    Attributes:
        encoder: nn.Embedding for token ids; for numbers nn.Identity, or nn.Linear where `embed` is given.
        core: the nn.RNN, nn.LSTM or nn.GRU itself, time first, no dropout of its own; of OWN_CELLS one of
            rnnvg.models.cores, and of an import path somebody's own.
        readout: nn.Linear from H to O; its weight is the embedding's where the model is tied (Press & Wolf 2017).
        spec: the constructor's arguments; `SequenceModel(**model.spec)` has the same shape.

    With `dropout` the encoder's and the core's output each lose units through a locked mask: one mask per sequence,
    the same at every step (Gal & Ghahramani 2016), drawn from torch's global generator at each call. Nothing is dropped
    inside the core, between layers or from step to step, so that its gradients stay those of one fixed recurrence.

    >>> import torch
    >>> from rnnvg import models
    >>> model = models.SequenceModel(cell="gru", kind="numbers", n_inputs=2, n_outputs=1, hidden=8)
    >>> model(torch.randn(20, 4, 2))[0].shape
    torch.Size([20, 4, 1])
    """

    def __init__(
        self,
        *,
        cell: str,
        kind: str,
        n_inputs: int,
        n_outputs: int,
        hidden: int,
        layers: int = 1,
        embed: int | None = None,
        tied: bool = False,
        dropout: float = 0.0,
        init: str = "default",
        t_max: int | None = None,
    ) -> None:
        super().__init__()
        self.spec: dict[str, Any] = {
            "cell": cell,
            "kind": kind,
            "n_inputs": n_inputs,
            "n_outputs": n_outputs,
            "hidden": hidden,
            "layers": layers,
            "embed": embed,
            "tied": tied,
            "dropout": dropout,
            # These two shape nothing; they say how the weights were drawn.
            "init": init,
            "t_max": t_max,
        }
        self.encoder: nn.Module
        if kind == "tokens":
            width = hidden if embed is None else embed
            self.encoder = nn.Embedding(n_inputs, width)
        elif embed is None:
            width = n_inputs
            self.encoder = nn.Identity()
        else:
            width = embed
            self.encoder = nn.Linear(n_inputs, width)
        self.core: nn.RNNBase = make_core(cell, width, hidden, layers)  # type: ignore[assignment]
        self.readout = nn.Linear(hidden, n_outputs)
        if tied:
            self.readout.weight = self.encoder.weight  # type: ignore[assignment]
        self.dropout = LockedDropout(dropout)

    def encode(self, inputs: Tensor) -> Tensor:
        """What the core is handed, [T, B, E], from numbers [T, B, I] or token ids [T, B]."""
        return self.dropout(self.encoder(inputs))

    def forward(self, inputs: Tensor, state: State = None) -> tuple[Tensor, State]:
        """Outputs [T, B, O] and the state after the last step, as the core returns it.

        Args:
            inputs: numbers [T, B, I] or token ids [T, B].
            state: what an earlier call returned; None starts from zeros.
        """
        hidden, state = self.core(self.encode(inputs), state)
        return self.readout(self.dropout(hidden)), state

    @staticmethod
    def detach_state(state: State) -> State:
        """The same state, cut off from the graph that made it: where truncated backpropagation stops."""
        if isinstance(state, tuple):
            return tuple(each.detach() for each in state)
        return None if state is None else state.detach()


class LockedDropout(nn.Module):
    """Dropout with one mask per sequence and unit, the same at every step (Gal & Ghahramani 2016)."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """`x` [T, B, E] times one mask [1, B, E], scaled by 1/(1-p); unchanged in eval mode."""
        if not self.training or self.p == 0:
            return x
        mask = torch.empty_like(x[:1]).bernoulli_(1 - self.p).div_(1 - self.p)
        return x * mask


def encoded(model: SequenceModel, inputs: Tensor) -> Tensor:
    """What the core is handed for `inputs`, [T, B, E] on the model's device: dropout off, no graph, modes put back.

    >>> import torch
    >>> from rnnvg import models, tasks
    >>> task = tasks.make("adding", length=5)
    >>> models.encoded(models.build(task, "gru", hidden=4), task.batch(3, torch.Generator()).inputs).shape
    torch.Size([5, 3, 2])
    """
    with evaluating(model) as device:
        return model.encode(inputs.to(device))


def loss_gradient(model: SequenceModel, task: Task, batch: Batch) -> Tensor:
    """dL/d(output) of the core, [T, B, H], of the task's own loss on `batch`, dropout off.

    >>> import torch
    >>> from rnnvg import models, tasks
    >>> task = tasks.make("adding", length=5)
    >>> models.loss_gradient(models.build(task, "gru", hidden=4), task, task.batch(3, torch.Generator())).shape
    torch.Size([5, 3, 4])
    """
    with evaluating(model) as device:
        batch = batch.to(device)
        outputs = model.core(model.encode(batch.inputs))[0]
    return at_outputs(model, task, batch, outputs)


def at_outputs(model: SequenceModel, task: Task, batch: Batch, outputs: Tensor) -> Tensor:
    """dL/d(output) of the core where it gave `outputs`, [T, B, H], in the mode that the model is in."""
    outputs = outputs.detach().requires_grad_()
    with torch.enable_grad():
        return torch.autograd.grad(task.loss(model.readout(outputs), batch), outputs)[0]
