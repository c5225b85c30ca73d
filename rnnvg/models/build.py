"""A model that fits a task, and how many parameters it has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from rnnvg.errors import InputError, check_flag, check_float, check_int, check_name
from rnnvg.models.initialisers import CONSTRAINTS, check_init, constrain, initialise
from rnnvg.models.names import CELLS
from rnnvg.models.sequence_model import SequenceModel, check_cell

if TYPE_CHECKING:
    from rnnvg.tasks import Task

# A width or depth above it is a slip: one matrix of that width is 4 TB.
LARGEST_SIZE = 10**6


def build(
    task: Task,
    cell: str,
    *,
    hidden: int,
    layers: int = 1,
    init: str = "default",
    embed: int | None = None,
    tied: bool = False,
    dropout: float = 0.0,
    t_max: int | None = None,
    gain: float | None = None,
    constraint: str | None = None,
) -> SequenceModel:
    """A network for a task, its weights drawn from torch's global generator.

    Args:
        task: gives the number of inputs and outputs, and whether inputs are numbers or token ids.
        cell: one of rnnvg.models.CELLS, or of OWN_CELLS: of these "attention" and "tcn" alone have several layers; or the
            import path of a core, "package.module:Core" (rnnvg.models.imported_core has the protocol).
        hidden: units a layer, H.
        layers: recurrent layers on top of each other.
        init: one of rnnvg.models.INITS, for the recurrent core; encoder and readout start as PyTorch draws them,
            a tied embedding from U(-0.1, 0.1).
        embed: width of the embedding (None: `hidden`), or of a linear encoder for numbers (None: no encoder).
        tied: the readout's weight is the embedding's; needs tokens in and out, and `embed` equal to `hidden`.
        dropout: probability, in [0, 1), of the locked dropout that SequenceModel describes.
        t_max: the longest dependency in steps: for chrono (None: the longest that the task knows of), and for leaky and
            residual, whose step size is 1 / t_max (None: 0.1).
        gain: factor on the recurrent matrices as they were drawn; None: 1.
        constraint: "orthogonal" draws the recurrent matrices of "rnn" and "rnn-relu" orthogonal and keeps them so in training
            (rnnvg.models.initialisers.constrain); None: they are free.

    Raises:
        InputError: an unknown cell or initialiser, a size below 1, an initialiser that does not fit the cell, weights
            that cannot be tied, chrono where no longest dependency is known, a constraint that does not fit the cell.

    >>> from rnnvg import models, tasks
    >>> model = models.build(tasks.make("adding", length=50), "lstm", hidden=16, init="forget-bias")
    >>> model.core
    LSTM(2, 16)
    """
    check_task(task)
    for name, size in (("hidden", hidden), ("layers", layers), ("embed", embed)):
        if size is not None:
            check_int(name, size, least=1, ceiling=LARGEST_SIZE)
    check_flag("tied", tied)
    own = check_cell(cell) not in CELLS
    if own:
        check_name("init", init, ("default",))
    else:
        check_init(init, cell)
    if t_max is not None:
        check_int("t_max", t_max, least=2)
    elif init == "chrono":
        t_max = _longest_dependency(task)
    model = SequenceModel(
        **_spec(task, cell, hidden, layers, embed, tied), dropout=_dropout(dropout), init=init, t_max=t_max
    )
    if tied:
        # A readout row of N(0, 1), as PyTorch draws an embedding, would start with logits of several nats.
        nn.init.uniform_(model.readout.weight, -0.1, 0.1)
    if not own:
        initialise(model.core, cell, init, t_max)
    elif t_max is not None and "step_size" in dict(model.core.named_buffers()):
        model.core.get_buffer("step_size").fill_(1 / t_max)
    if gain is not None:
        _stretch(model.core, check_float("gain", gain, above=0))
    if constraint is not None:
        check_name("constraint", constraint, CONSTRAINTS)
        constrain(model.core, cell)
    return model


@torch.no_grad()
def _stretch(core: nn.Module, gain: float) -> None:
    for name, parameter in core.named_parameters():
        if name.startswith("weight_hh"):
            parameter.mul_(gain)


def blueprint(task: Task, cell: str, **network: Any) -> SequenceModel:
    """The network that `build` makes with its shapes and without its numbers: nothing is drawn and nothing is held.

    >>> from rnnvg import models, tasks
    >>> models.blueprint(tasks.make("adding", length=50), "gru", hidden=10**4).readout.weight.shape
    torch.Size([1, 10000])
    """
    with torch.device("meta"):
        return build(task, cell, **network)


def count_parameters(model: nn.Module) -> int:
    """How many numbers training can change; a tied weight counts once.

    >>> count_parameters(nn.Linear(3, 2))
    8
    """
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def matched_hidden(
    task: Task, cell: str, parameters: int, *, layers: int = 1, embed: int | None = None, tied: bool = False
) -> int:
    """The hidden size that brings `build(task, cell, ...)` nearest to a number of parameters (the smaller of two).

    Args:
        parameters: the count to come near to, such as count_parameters of another cell's model.
        task, cell, layers, embed, tied: as in `build`.

    Raises:
        InputError: as `build`.

    >>> from rnnvg import models, tasks
    >>> task = tasks.make("adding", length=50)
    >>> lstm = models.build(task, "lstm", hidden=32)
    >>> models.matched_hidden(task, "rnn", models.count_parameters(lstm))
    66
    """
    check_cell(cell)
    check_int("parameters", parameters, least=1)

    def count(hidden: int) -> int:
        with torch.device("meta"):  # shapes without numbers
            return count_parameters(SequenceModel(**_spec(task, cell, hidden, layers, embed, tied)))

    above = 1
    while count(above) < parameters:
        above *= 2
    below = above // 2  # count(below) < parameters <= count(above), or above is 1
    while above - below > 1:
        middle = (above + below) // 2
        below, above = (middle, above) if count(middle) < parameters else (below, middle)
    if below < 1:
        return above
    return below if parameters - count(below) <= count(above) - parameters else above


def check_task(task: object) -> None:
    """Nothing where `task` says what goes into a model and what comes out; otherwise an InputError.

    >>> from rnnvg import tasks
    >>> check_task(tasks.make("adding", length=5))  # says nothing: it is one
    """
    if not all(hasattr(task, name) for name in ("kind", "n_inputs", "n_outputs")):
        raise InputError(f"`task` is a {type(task).__name__}; pass a task, such as rnnvg.tasks.make('adding').")


def check_fits(spec: dict[str, Any], task: Task, what: str = "`model`") -> None:
    """Nothing where a model of this spec can read the task's inputs and answer it; otherwise an InputError.

    >>> from rnnvg import models, tasks
    >>> task = tasks.make("adding", length=5)
    >>> models.check_fits(models.build(task, "gru", hidden=4).spec, task)  # says nothing: it fits
    """
    sizes = ("kind", "n_inputs", "n_outputs")
    found, needed = [spec[name] for name in sizes], [getattr(task, name) for name in sizes]
    if found != needed:
        raise InputError(
            f"{what} takes {found[0]}, {found[1]} in and {found[2]} out; task {task.name!r} has {needed[0]}, "
            f"{needed[1]} in and {needed[2]} out. Pass the task that it was made for, or build another model."
        )


def _spec(task: Task, cell: str, hidden: int, layers: int, embed: int | None, tied: bool) -> dict[str, Any]:
    hidden = check_int("hidden", hidden, least=1)
    layers = check_int("layers", layers, least=1)
    if embed is not None:
        embed = check_int("embed", embed, least=1)
    if tied:
        _check_tied(task, hidden, embed)
    return {
        "cell": cell,
        "kind": task.kind,
        "n_inputs": task.n_inputs,
        "n_outputs": task.n_outputs,
        "hidden": hidden,
        "layers": layers,
        "embed": embed,
        "tied": bool(tied),
    }


def _check_tied(task: Task, hidden: int, embed: int | None) -> None:
    if task.kind != "tokens":
        raise InputError(f"`tied` shares an embedding with the readout; task {task.name!r} has none. Pass tied=False.")
    if task.n_inputs != task.n_outputs:
        raise InputError(
            f"`tied` needs as many outputs as tokens; task {task.name!r} has {task.n_inputs} tokens and "
            f"{task.n_outputs} outputs. Pass tied=False."
        )
    if embed is not None and embed != hidden:
        raise InputError(
            f"`tied` needs `embed` and `hidden` to be equal; got {embed} and {hidden}. "
            f"Pass embed={hidden} or tied=False."
        )


def _dropout(dropout: float) -> float:
    return 0.0 if dropout == 0 else check_float("dropout", dropout, above=0, below=1)


def _longest_dependency(task: Task) -> int:
    if task.distances is None:
        raise InputError(
            f"`init` 'chrono' needs the longest dependency in steps, which task {task.name!r} does not know. "
            "Pass t_max, for example t_max=35."
        )
    return max(2, int(task.distances.max()))
