"""Terms that are added to a task's loss so that gradients neither vanish nor explode on the way back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from rnnvg.errors import InputError
from rnnvg.models import SequenceModel
from rnnvg.models.sequence_model import at_outputs
from rnnvg.pytorch import qr, vector_norm
from rnnvg.training.descent import Descent

if TYPE_CHECKING:
    from rnnvg.tasks import Batch, Task

FITS = ("rnn", "rnn-relu")
FLOSSES = ("rnn",)
# Flossing during training: one step in so many, on so many sequences.
FLOSS_EVERY, FLOSS_SEQUENCES = 10, 4
FLOSS_LR = 0.003
_SMALL = 1e-200


def check_fits(cell: str, name: str, fits: tuple[str, ...]) -> None:
    """Refuse a penalty whose equations are for other cells.

    Raises:
        InputError: which, and what it fits.
    """
    if cell not in fits:
        raise InputError(
            f"`{name}` is for networks of one recurrent matrix; got cell {cell!r}. It fits: {', '.join(fits)}."
        )


def omega(model: SequenceModel, task: Task, batch: Batch) -> Tensor:
    """Pascanu's regulariser, the mean over steps and sequences of (||dL/dh_t-1|| / ||dL/dh_t|| - 1)^2.

    Only the way through the step's own Jacobian counts, W^T D_t dL/dh_t, and of that only the matrix W is learned: states and
    gradients are constants, as in the paper. A step that no gradient reaches is left out.

    Args:
        model: with an nn.RNN of one layer for a core.

    Source: Pascanu, Mikolov and Bengio 2013, section 3.3.
    """
    core: Any = model.core
    with torch.no_grad():
        hidden = core(model.encode(batch.inputs))[0]
    direct = at_outputs(model, task, batch, hidden)
    matrix = core.weight_hh_l0
    slopes = 1 - hidden * hidden if core.nonlinearity == "tanh" else (hidden > 0).to(hidden.dtype)
    with torch.no_grad():
        fixed: Tensor = matrix.detach().double()
        adjoints: list[Tensor] = []
        scaled: list[Tensor] = []
        adjoint = direct[-1].double()
        for t in range(len(hidden) - 1, 0, -1):
            adjoints.append(adjoint)
            scaled.append(slopes[t].double() * adjoint)
            adjoint = scaled[-1] @ fixed + direct[t - 1].double()
    before, after = torch.stack(adjoints), torch.stack(scaled)
    lengths = vector_norm(before, dim=-1)
    seen = lengths > _SMALL
    if not bool(seen.any()):
        return matrix.sum() * 0
    after = after[seen] / lengths[seen].unsqueeze(-1)
    ratios = vector_norm(after.to(matrix.dtype) @ matrix, dim=-1)
    return (ratios - 1).square().mean()


def exponents(core: Any, inputs: Tensor, n: int) -> Tensor:
    """The n leading finite-time Lyapunov exponents of a tanh network, [n] nats a step, differentiable by its weights.

    The mean over sequences of ln of the diagonals of Q R = D_t W Q along the trajectory, as rnnvg.lyapunov_spectrum has it
    without a graph.

    Args:
        core: a tanh nn.RNN of one layer.
        inputs: what the core is handed, [T, B, E].
    """
    matrix = core.weight_hh_l0
    driven = inputs @ core.weight_ih_l0.t() + core.bias_ih_l0 + core.bias_hh_l0
    state = driven.new_zeros(driven.shape[1:])
    q = torch.eye(core.hidden_size, n, dtype=driven.dtype, device=driven.device).expand(driven.shape[1], -1, -1)
    logs = driven.new_zeros(n)
    for row in driven:
        state = torch.tanh(row + state @ matrix.t())
        q, r = qr((1 - state * state).unsqueeze(-1) * (matrix @ q))
        logs = logs + r.diagonal(dim1=-2, dim2=-1).abs().log().mean(0)
    return logs / len(driven)


def flossing(core: Any, inputs: Tensor) -> Tensor:
    """The sum of squares of the leading half of the exponents: gradient flossing's loss (Engelken 2023, equation 6)."""
    return exponents(core, inputs, max(1, core.hidden_size // 2)).square().sum()


def penalty(
    model: SequenceModel, task: Task, omega_weight: float | None, flossed: bool
) -> Callable[[Batch, int], Tensor] | None:
    """What is added to the loss of a batch at a step, or None where nothing is.

    Raises:
        InputError: a cell, or a number of layers, that a penalty is not for.
    """
    for wanted, name, fits in ((omega_weight is not None, "omega", FITS), (flossed, "flossing", FLOSSES)):
        if wanted:
            check_fits(str(model.spec["cell"]), name, fits)
            if model.spec["layers"] > 1:
                raise InputError(f"`{name}` is for one recurrent layer; got {model.spec['layers']}. Pass layers=1.")
    if omega_weight is None and not flossed:
        return None

    def added(batch: Batch, step: int) -> Tensor:
        found = model.readout.weight.new_zeros(())
        if omega_weight is not None:
            found = found + omega_weight * omega(model, task, batch)
        if flossed and step % FLOSS_EVERY == 0:
            with torch.no_grad():
                inputs = model.encode(batch.inputs[:, :FLOSS_SEQUENCES])
            found = found + flossing(model.core, inputs)
        return found

    return added


def floss(model: SequenceModel, task: Task, steps: int, generator: torch.Generator) -> None:
    """Before training: so many updates of the recurrent core that bring its leading exponents to 0.

    Raises:
        InputError: a core that flossing is not for.
    """
    check_fits(str(model.spec["cell"]), "flossing", FLOSSES)

    def losses() -> Iterator[Tensor]:
        for _ in range(steps):
            batch = task.batch(FLOSS_SEQUENCES, generator)
            with torch.no_grad():
                inputs = model.encode(batch.inputs)
            yield flossing(model.core, inputs)

    optimizer = torch.optim.Adam(model.core.parameters(), lr=FLOSS_LR)
    for _ in Descent(optimizer).follow(losses()):
        pass
    optimizer.zero_grad()
