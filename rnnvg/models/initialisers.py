"""How a recurrent core's weights start: one function per published recipe, the cells that each one fits, and a constraint.

Each starts from PyTorch's own default, U(-1/sqrt(H), 1/sqrt(H)) for every weight and bias, and changes what its
recipe names and nothing else: with one seed, two initialisers differ in that alone. PyTorch adds *two* bias vectors;
a bias that a recipe fixes goes into the first and the second is 0 there.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

from rnnvg.errors import InputError, check_name

# PyTorch's order of the gates along the first axis of every weight and bias.
GATES = {"lstm": ("input", "forget", "candidate", "output"), "gru": ("reset", "update", "candidate")}


def default(core: nn.RNNBase, cell: str, t_max: int | None) -> None:
    """PyTorch's: every weight and bias from U(-1/sqrt(H), 1/sqrt(H))."""


def orthogonal(core: nn.RNNBase, cell: str, t_max: int | None) -> None:
    """Each recurrent matrix [H, H], one a gate, orthogonal (Saxe, McClelland, Ganguli 2014)."""
    for layer in range(core.num_layers):
        for matrix in getattr(core, f"weight_hh_l{layer}").split(core.hidden_size):
            nn.init.orthogonal_(matrix)


def identity(core: nn.RNNBase, cell: str, t_max: int | None) -> None:
    """IRNN (Le, Jaitly, Hinton 2015): the recurrent matrix is 1, the biases 0, input weights N(0, 0.001^2)."""
    for layer in range(core.num_layers):
        nn.init.eye_(getattr(core, f"weight_hh_l{layer}"))
        nn.init.normal_(getattr(core, f"weight_ih_l{layer}"), std=0.001)
        _zero_biases(core, layer)


def forget_bias(core: nn.RNNBase, cell: str, t_max: int | None) -> None:
    """The forget gate's two biases sum to 1 (Gers, Schmidhuber, Cummins 2000; Jozefowicz et al. 2015)."""
    for layer in range(core.num_layers):
        _set_gate_bias(core, cell, layer, "forget", torch.ones(core.hidden_size))


def chrono(core: nn.RNNBase, cell: str, t_max: int | None) -> None:
    """Chrono (Tallec & Ollivier 2018): b_f = ln U[1, t_max - 1], b_i = -b_f, so that a unit keeps its memory
    for 2 to t_max steps.

    A GRU's update gate likewise: PyTorch writes h' = (1-z)n + zh, so z is the gate that *keeps* and its bias is
    +ln U[1, t_max - 1], where the paper's z, which lets the new in, has the negative.
    """
    assert t_max is not None
    for layer in range(core.num_layers):
        bias = torch.empty(core.hidden_size).uniform_(1, t_max - 1).log_()
        if cell == "lstm":
            _set_gate_bias(core, cell, layer, "forget", bias)
            _set_gate_bias(core, cell, layer, "input", -bias)
        else:
            _set_gate_bias(core, cell, layer, "update", bias)


def keras(core: nn.RNNBase, cell: str, t_max: int | None) -> None:
    """The defaults of Keras: input weights Glorot uniform, recurrent weights orthogonal, biases 0, an LSTM's forget gate at 1.

    Keras keeps the matrices of all G gates in one: Glorot's limit is sqrt(6 / (I + G H)), smaller than a single gate's, and
    the matrix [G H, H] as a whole has orthonormal columns (Chollet et al. 2015; Jozefowicz et al. 2015 for the bias).
    """
    for layer in range(core.num_layers):
        nn.init.xavier_uniform_(getattr(core, f"weight_ih_l{layer}"))
        nn.init.orthogonal_(getattr(core, f"weight_hh_l{layer}"))
        _zero_biases(core, layer)
        if cell == "lstm":
            _set_gate_bias(core, cell, layer, "forget", torch.ones(core.hidden_size))


def xavier(core: nn.RNNBase, cell: str, t_max: int | None) -> None:
    """Every matrix of every gate from U(-a, a), a = sqrt(6 / (inputs + outputs)), and biases 0 (Glorot & Bengio 2010)."""
    for layer in range(core.num_layers):
        for weight in ("weight_ih", "weight_hh"):
            for matrix in getattr(core, f"{weight}_l{layer}").split(core.hidden_size):
                nn.init.xavier_uniform_(matrix)
        _zero_biases(core, layer)


INITIALISERS = {
    "default": default,
    "orthogonal": orthogonal,
    "identity": identity,
    "forget-bias": forget_bias,
    "chrono": chrono,
    "keras": keras,
    "xavier": xavier,
}

# What an initialiser needs of a cell, for those that do not fit them all.
FITS = {
    "identity": (("rnn", "rnn-relu"), "makes the one recurrent matrix of a network without gates the identity"),
    "forget-bias": (("lstm",), "sets the bias of a forget gate"),
    "chrono": (("lstm", "gru"), "sets the biases of gates"),
}


def check_init(init: str, cell: str) -> str:
    """`init` where it is known and has a meaning for `cell`; otherwise an InputError that says which cells it fits."""
    check_name("init", init, INITIALISERS)
    if init in FITS and cell not in FITS[init][0]:
        cells, what = FITS[init]
        raise InputError(f"`init` {init!r} {what} and does not fit cell {cell!r}. It fits: {', '.join(cells)}.")
    return init


@torch.no_grad()
def initialise(core: nn.RNNBase, cell: str, init: str, t_max: int | None = None) -> None:
    """Changes what the named recipe names, drawing from torch's global generator.

    Args:
        core: an nn.RNN, nn.LSTM or nn.GRU of any number of layers, as PyTorch made it.
        cell: one of rnnvg.models.CELLS, what `core` is.
        init: one of rnnvg.models.INITS.
        t_max: the longest dependency in steps; chrono alone needs it.

    Raises:
        InputError: an initialiser that is unknown or does not fit the cell.
    """
    check_init(init, cell)
    INITIALISERS[init](core, cell, t_max)


def _zero_biases(core: nn.RNNBase, layer: int) -> None:
    for bias in ("bias_ih", "bias_hh"):
        nn.init.zeros_(getattr(core, f"{bias}_l{layer}"))


def _set_gate_bias(core: nn.RNNBase, cell: str, layer: int, gate: str, value: Tensor) -> None:
    start = GATES[cell].index(gate) * core.hidden_size
    rows = slice(start, start + core.hidden_size)
    getattr(core, f"bias_ih_l{layer}")[rows] = value
    getattr(core, f"bias_hh_l{layer}")[rows] = 0.0


CONSTRAINTS = ("orthogonal",)
CONSTRAINED = ("rnn", "rnn-relu")  # cells whose recurrent matrix can be kept orthogonal


def constrain(core: nn.Module, cell: str) -> None:
    """Draw every recurrent matrix [H, H] orthogonal from torch's global generator, and keep it so through training.

    By PyTorch's own parametrization: every update moves along orthogonal matrices (Lezcano-Casado and Martinez-Rubio 2019), so
    what the matrix takes from a gradient is nothing at every step of training, where an orthogonal start only begins so.

    Raises:
        InputError: a cell with gates, whose recurrent weights are no square matrix.
    """
    if cell not in CONSTRAINED:
        raise InputError(
            f"`constraint` 'orthogonal' keeps one square recurrent matrix orthogonal and does not fit cell {cell!r}. It fits: "
            f"{', '.join(CONSTRAINED)}."
        )
    for name in _matrices(core):
        with torch.no_grad():
            nn.init.orthogonal_(core.get_parameter(name))
        parametrizations.orthogonal(core, name)


def unconstrain(core: nn.Module) -> None:
    """Leave every constrained matrix in the core as an ordinary parameter, with the value that it has.

    >>> from rnnvg import models, tasks
    >>> core = models.build(tasks.make("adding", length=5), "rnn", hidden=4, constraint="orthogonal").core
    >>> models.unconstrain(core)
    >>> core.weight_hh_l0.shape
    torch.Size([4, 4])
    """
    for name in _matrices(core) if isinstance(core, nn.RNNBase) else ():
        if parametrize.is_parametrized(core, name):
            parametrize.remove_parametrizations(core, name, leave_parametrized=True)


def _matrices(core: nn.Module) -> list[str]:
    return [f"weight_hh_l{layer}" for layer in range(int(core.num_layers))]  # type: ignore[arg-type]
