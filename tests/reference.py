"""Slow, obviously right versions: recurrent equations in plain torch operations, unrolled, differentiated by autograd.

Every state that step t passes to step t+1 gets a leaf of zeros, added only where it is passed on. The gradient at that leaf
is dL/ds_t with h_t and c_t as independent coordinates: what step t itself puts out does not see the leaf.
Axes: S sources, T steps, B sequences, K distances.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Part:
    """One tensor of the state: what kind of coordinates it holds and of which layer."""

    kind: str  # "hidden", "cell" or "other"
    layer: int


@dataclass(frozen=True)
class Unrollable:
    """A recurrence as a plain function: step(x, parts) -> (output, parts)."""

    parts: tuple[Part, ...]
    step: Callable[[Tensor, list[Tensor]], tuple[Tensor, list[Tensor]]]


def rounding(dtype: torch.dtype, steps: int, terms: int) -> float:
    """How far two right computations of the log of a gradient `steps` back may part, each step a sum of `terms` products.

    Machines differ in the order of a sum and in fused multiply-adds. A sum of n terms rounds like sqrt(n) units for terms of
    one size (n in the worst case), every step adds its own to those that came before, and either side has its own: twice
    that, and twice for cancellation and for the few roundings of the nonlinearity.
    """
    return 4 * steps * math.sqrt(terms) * torch.finfo(dtype).eps


# The equations of torch.nn.RNN, LSTM and GRU as PyTorch documents them, for one layer and one step -----------------------


def rnn_equation(weights: dict[str, Tensor], activation: str, x: Tensor, h: Tensor) -> Tensor:
    a = x @ weights["ih"].T + weights["b_ih"] + h @ weights["hh"].T + weights["b_hh"]
    return torch.tanh(a) if activation == "tanh" else torch.relu(a)


def lstm_equation(weights: dict[str, Tensor], x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    def gate(n: int) -> Tensor:
        rows = slice(n * c.shape[-1], (n + 1) * c.shape[-1])
        return x @ weights["ih"][rows].T + weights["b_ih"][rows] + h @ weights["hh"][rows].T + weights["b_hh"][rows]

    i, f, g, o = torch.sigmoid(gate(0)), torch.sigmoid(gate(1)), torch.tanh(gate(2)), torch.sigmoid(gate(3))
    c = f * c + i * g
    h = o * torch.tanh(c)
    return (h @ weights["hr"].T if "hr" in weights else h), c


def gru_equation(weights: dict[str, Tensor], x: Tensor, h: Tensor) -> Tensor:
    def rows(n: int) -> slice:
        return slice(n * h.shape[-1], (n + 1) * h.shape[-1])

    def from_x(n: int) -> Tensor:
        return x @ weights["ih"][rows(n)].T + weights["b_ih"][rows(n)]

    def from_h(n: int) -> Tensor:
        return h @ weights["hh"][rows(n)].T + weights["b_hh"][rows(n)]

    r = torch.sigmoid(from_x(0) + from_h(0))
    z = torch.sigmoid(from_x(1) + from_h(1))
    n = torch.tanh(from_x(2) + r * from_h(2))
    return (1 - z) * n + z * h


def weights_of(module: nn.Module, layer: int) -> dict[str, Tensor]:
    """ih, hh, b_ih, b_hh (zeros without bias) and hr, in float64."""
    suffix = "" if isinstance(module, nn.RNNCellBase) else f"_l{layer}"
    found = dict(module.named_parameters())
    names = {"ih": "weight_ih", "hh": "weight_hh", "b_ih": "bias_ih", "b_hh": "bias_hh", "hr": "weight_hr"}
    weights = {short: found[name + suffix].detach().double() for short, name in names.items() if name + suffix in found}
    zeros = weights["ih"].new_zeros(weights["ih"].shape[0])
    return {"b_ih": zeros, "b_hh": zeros} | weights


def unrollable(module: nn.Module) -> Unrollable:
    """A module of PyTorch's as a function of one step, written out by hand."""
    layers = 1 if isinstance(module, nn.RNNCellBase) else module.num_layers
    weights = [weights_of(module, layer) for layer in range(layers)]
    hidden = tuple(Part("hidden", layer) for layer in range(layers))
    if isinstance(module, (nn.LSTM, nn.LSTMCell)):

        def lstm(x: Tensor, parts: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
            h, c = parts[:layers], parts[layers:]
            new_h, new_c = [], []
            for layer in range(layers):
                x, cell = lstm_equation(weights[layer], x, h[layer], c[layer])
                new_h.append(x)
                new_c.append(cell)
            return x, new_h + new_c

        return Unrollable(hidden + tuple(Part("cell", layer) for layer in range(layers)), lstm)

    def simple(x: Tensor, parts: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        new = []
        for layer in range(layers):
            if isinstance(module, (nn.GRU, nn.GRUCell)):
                x = gru_equation(weights[layer], x, parts[layer])
            else:
                x = rnn_equation(weights[layer], module.nonlinearity, x, parts[layer])
            new.append(x)
        return x, new

    return Unrollable(hidden, simple)


def unrollable_step(step: Callable, state) -> Unrollable:
    """A user's step(x_t, state) -> state, its state a tensor or a tuple."""
    count = 1 if isinstance(state, Tensor) else len(state)
    kinds = ["hidden", "cell"] + ["other"] * count

    def call(x: Tensor, parts: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        new = step(x, parts[0] if isinstance(state, Tensor) else tuple(parts))
        new = [new] if isinstance(new, Tensor) else list(new)
        return new[0], new

    return Unrollable(tuple(Part(kind, 0) for kind in kinds[:count]), call)


def initial_parts(recurrence, inputs: Tensor, state) -> list[Tensor]:
    """The initial state as a list of [B, N] in float64, one per part; zeros where `state` is None."""
    if not isinstance(recurrence, nn.Module):
        return [part.double() for part in ([state] if isinstance(state, Tensor) else state)]
    is_cell, batch = isinstance(recurrence, nn.RNNCellBase), inputs.shape[1]
    if state is not None:
        tensors = [state] if isinstance(state, Tensor) else list(state)
        return [part.double() for tensor in tensors for part in ([tensor] if is_cell else tensor)]
    layers = 1 if is_cell else recurrence.num_layers
    parts = []
    for sizes in ("hh", "cell") if isinstance(recurrence, (nn.LSTM, nn.LSTMCell)) else ("hh",):
        for layer in range(layers):
            width = weights_of(recurrence, layer)["hh"].shape[1] if sizes == "hh" else recurrence.hidden_size
            parts.append(torch.zeros(batch, width, dtype=torch.float64))
    return parts


def time_first(recurrence, tensor: Tensor) -> Tensor:
    return tensor.transpose(0, 1) if getattr(recurrence, "batch_first", False) else tensor


# Sources ----------------------------------------------------------------------------------------------------------------


def resolve(sources, steps: int, lengths: Sequence[int]) -> tuple[list[int], list[list[int | None]]]:
    """Steps for a sequence of full length, [S], and each sequence's own, [S][B]; None where it has no such step."""

    def within(step: int, length: int) -> int | None:
        return step if 0 <= step < length else None

    if sources == "last":
        sources = [-1]
    if sources == "all":
        sources = list(range(steps))
    if isinstance(sources, int):
        full = [round((i + 1) * steps / sources) - 1 for i in range(sources)]
        return full, [
            [within(round((i + 1) * length / sources) - 1, length) for length in lengths] for i in range(sources)
        ]
    full = [s if s >= 0 else steps + s for s in sources]
    return full, [[within(s if s >= 0 else length + s, length) for length in lengths] for s in sources]


# Gradients --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Gradients:
    """dL/ds and dL/dx of one loss <covector, output at `source`>.

    state: per part [source + 2, B, N], by distance: 0 is the source's own state, source + 1 the initial one.
    inputs: [source + 1, B, I], by distance.
    """

    parts: tuple[Part, ...]
    state: list[Tensor]
    inputs: Tensor


def gradients(recurrence, inputs: Tensor, state, covector: Tensor, source: int) -> Gradients:
    """Autograd through the unrolled recurrence; inputs [T, B, I] time first, covector [B, P]."""
    plain = unrollable(recurrence) if isinstance(recurrence, nn.Module) else unrollable_step(recurrence, state)
    parts = initial_parts(recurrence, inputs, state)
    xs = [x.detach().double().requires_grad_() for x in inputs[: source + 1]]
    leaves, output = [], None
    for x in xs:
        leaves.append([torch.zeros_like(part, requires_grad=True) for part in parts])
        passed = [part + leaf for part, leaf in zip(parts, leaves[-1], strict=True)]
        output, parts = plain.step(x, passed)
    loss = (output * covector.double()).sum()
    flat = [leaf for step in leaves for leaf in step] + xs
    if loss.requires_grad:
        found = torch.autograd.grad(loss, flat, allow_unused=True)
    else:  # a step that depends on nothing
        found = [None] * len(flat)
    found = [torch.zeros_like(leaf) if grad is None else grad for leaf, grad in zip(flat, found, strict=True)]
    count, n = source + 1, len(plain.parts)
    own = [torch.zeros_like(part) for part in parts]
    own[top_hidden(plain.parts)] = covector.double()
    by_distance = [torch.stack([own[p]] + [found[t * n + p] for t in range(count - 1, -1, -1)]) for p in range(n)]
    return Gradients(plain.parts, by_distance, torch.stack(found[count * n :][::-1]))


def top_hidden(parts: Sequence[Part]) -> int:
    return max((p for p, part in enumerate(parts) if part.kind == "hidden"), key=lambda p: parts[p].layer)


def selected(found: Gradients, wrt: str, layer: int | None = None) -> Tensor:
    """The gradient's coordinates that `wrt` and `layer` name, [K, B, N]."""
    if wrt == "input":
        return found.inputs
    return torch.cat(
        [
            grad
            for part, grad in zip(found.parts, found.state, strict=True)
            if wrt in ("state", part.kind) and layer in (None, part.layer)
        ],
        dim=-1,
    )


def log_norms(
    recurrence, inputs, state=None, *, output_grad, sources="last", lengths=None, wrt="state", layer=None
) -> np.ndarray:
    """What gradient_profile(...).log_norm must be, [S, K, B]."""
    xs, grads = time_first(recurrence, inputs), time_first(recurrence, output_grad)
    steps, batch = xs.shape[:2]
    if lengths is not None:  # a step that looks at the whole batch sees zeros where a sequence is over
        over = torch.arange(steps)[:, None] >= torch.tensor([int(n) for n in lengths])
        xs = xs.masked_fill(over.view(steps, batch, *[1] * (xs.ndim - 2)), 0)
    full, own = resolve(sources, steps, [steps] * batch if lengths is None else [int(n) for n in lengths])
    result = np.full((len(full), max(full) + 2, batch), np.nan)
    for source in {step for row in own for step in row if step is not None}:
        found = gradients(recurrence, xs, state, grads[source], source)
        norm = selected(found, wrt, layer).norm(dim=-1).numpy()
        with np.errstate(divide="ignore"):
            log_norm = np.log(norm)
        for s, row in enumerate(own):
            for b, step in enumerate(row):
                if step == source:
                    result[s, : len(log_norm), b] = log_norm[:, b]
    return result


def restarted_log_norms(module: nn.Module, inputs: Tensor, covector: Tensor, source: int) -> np.ndarray:
    """A second way, without equations of our own: run PyTorch's fused layer again from the state it had at step t.

    The gradient at the state handed in is dL/ds_t, h and c independent. Distances 1 to source + 1, [K - 1, B].
    """
    result = []
    for t in range(source + 1):  # restart before step t: distance source + 1 - t
        with torch.no_grad():
            state = module(inputs[:t])[1] if t else None
        if state is None:
            state = zero_state(module, inputs.shape[1])
        tensors = [part.detach().requires_grad_() for part in ([state] if isinstance(state, Tensor) else state)]
        output = module(inputs[t : source + 1], tensors[0] if len(tensors) == 1 else tuple(tensors))[0]
        grads = torch.autograd.grad((output[-1] * covector).sum(), tensors)
        squares = sum(grad.double().square().sum(dim=(0, 2)) for grad in grads)
        result.append(squares.sqrt().log().numpy())
    return np.stack(result[::-1])


def zero_state(module: nn.Module, batch: int):
    width = getattr(module, "proj_size", 0) or module.hidden_size
    h = torch.zeros(module.num_layers, batch, width, dtype=torch.float64)
    return (h, h.new_zeros(module.num_layers, batch, module.hidden_size)) if isinstance(module, nn.LSTM) else h


# Comparison -------------------------------------------------------------------------------------------------------------

SMALLEST = math.log(1e-280)  # below, autograd's own float64 numbers begin to underflow


def assert_same(found: np.ndarray, expected: np.ndarray, relative: float = 1e-9) -> None:
    """Equal to `relative` wherever the reference did not underflow; the same nan and the same exact zeros."""
    assert found.dtype == np.float64
    assert found.shape == expected.shape
    np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
    np.testing.assert_array_equal(found == -np.inf, expected == -np.inf)
    seen = expected > SMALLEST
    np.testing.assert_allclose(found[seen], expected[seen], rtol=0, atol=relative)
