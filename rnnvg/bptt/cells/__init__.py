"""Recurrences with closed forms: one file each, with all of its equations.

    vanilla.py lstm.py gru.py      layers that stack            cell.py     what each of them answers
    diagonal.py                    decay factors alone          parts.py    what they are made of
    step_function.py               any step(x_t, state), by automatic differentiation

    linear in the state (linear.py)                             by preactivations (preactivated.py)
    min_rnn.py    minGRU, minLSTM                               xlstm.py        sLSTM (and mLSTM, linear)
    state_space.py    LRU (also real), S5, S4D                  oscillators.py  LEM, coRNN
    selective.py  S6
    linear_attention.py  GLA, DeltaNet

A new recurrence is a new file with a subclass of `Cell`, and its class in CELLS: then `gradient_profile`,
`lyapunov_spectrum`, `attribute_decay` and `temporal_contributions` take its module. What `Cell` leaves to it:

    read           the module's weights -> the layers, bottom first
    run            inputs and a first state -> the trajectory over a segment
    factors        trajectory -> what each step's Jacobian is made of, by name
    into_gates     adjoint of a state -> adjoints of the preactivations     pull   on to the state before     push   J v
    input_adjoint, contributions, paths     what the input, each parameter, each path gets of it

The module is called like nn.RNN, `module(inputs, state) -> output, state` with states [layers, B, width], where it has
`num_layers`, and like nn.RNNCell, `module(x, state) -> state`, where it has not; a state of several parts is a tuple.
A Jacobian may be diagonal (a minGRU's factors are its gates, of the input alone), structured (a DeltaNet's
state is a part of d_k d_v coordinates: unflatten it, and pull by I - beta k k^T) or complex (`state_dtype`): `pull` and `push`
are the cell's own, and nothing outside looks into its factors.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from rnnvg.bptt.cells.cell import Cell, Paths, steps_of
from rnnvg.bptt.cells.gru import GRU
from rnnvg.bptt.cells.linear_attention import GLA, DeltaNet
from rnnvg.bptt.cells.lstm import LSTM
from rnnvg.bptt.cells.min_rnn import MinGRU, MinLSTM
from rnnvg.bptt.cells.oscillators import LEM, CoRNN
from rnnvg.bptt.cells.parts import Buffers, Gate, LastingBuffers, Part, StateViews, Trajectory
from rnnvg.bptt.cells.selective import S6
from rnnvg.bptt.cells.state_space import LRU, S4D, S5, Rotations
from rnnvg.bptt.cells.vanilla import Vanilla
from rnnvg.bptt.cells.xlstm import MLSTM, SLSTM
from rnnvg.bptt.weights import at_least_single, own_weights

CELLS: list[type[Cell]] = [
    Vanilla,
    LSTM,
    GRU,
    MinGRU,
    MinLSTM,
    LRU,
    S5,
    S4D,
    S6,
    GLA,
    DeltaNet,
    MLSTM,
    SLSTM,
    LEM,
    CoRNN,
    Rotations,
]

__all__ = [
    "CELLS",
    "Buffers",
    "LastingBuffers",
    "Cell",
    "Gate",
    "Part",
    "Paths",
    "StateViews",
    "Trajectory",
    "cell_of",
    "read_cells",
    "steps_of",
]


def cell_of(module: object) -> type[Cell] | None:
    """The closed form of a module's class, or None where there is none."""
    return next((cell for cell in CELLS if isinstance(module, cell.modules)), None)


def read_cells(module: nn.Module, weights: Mapping[str, Tensor] | None = None, reverse: bool = False) -> list[Cell]:
    """A module's layers, bottom first, over the weights by name, detached, or its own as its next call uses them.

    Its own are at_least_single to float32 where they are narrower.
    """
    cell = cell_of(module)
    assert cell is not None
    if weights is None:
        weights = {name: at_least_single(own) for name, own in own_weights(module).items()}
    return list(cell.read(module, weights, reverse))
