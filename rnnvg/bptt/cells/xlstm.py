"""xLSTM's cells (Beck et al. 2024): mLSTM with a matrix memory, sLSTM with exponential input gates.

    mLSTM    C' = f C + i k v^T,  n' = f n + i k                          i = exp(w_i x + b_i), f = sigmoid(w_f x + b_f)
    sLSTM    c' = f c + i z,  n' = f n + i,  h' = o c' / n'               z, i, f, o of W x + R h + b

k = W_k x / sqrt(K), v = W_v x. The papers' stabiliser m only scales C, n and c; here they are unscaled, in coordinates that do
not depend on the past's largest gate. mLSTM's C and n are one matrix [K, V + 1] with n for its last column.
Every equation of them. Axes: c steps of a segment, B sequences, I input, H hidden, n adjoints.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rnnvg.bptt.cells.cell import Paths, Weight
from rnnvg.bptt.cells.linear import ElementwiseCell, Pulled, initial, ones, outer
from rnnvg.bptt.cells.parts import Buffers, Gate, Part, StateViews, Trajectory
from rnnvg.bptt.cells.preactivated import PreactivatedCell, Preactivations, sigmoid_slope, tanh_slope

State = tuple[Tensor, Tensor, Tensor]


class MLSTMCell(nn.Module):
    """One step of an mLSTM: cell(x [B, I], s [B, K (V + 1)]) -> s."""

    def __init__(self, input_size: int, key_size: int, value_size: int) -> None:
        super().__init__()
        self.input_size, self.key_size, self.value_size = input_size, key_size, value_size
        bound = 1 / math.sqrt(input_size)
        self.weight_k = nn.Parameter(torch.empty(key_size, input_size).uniform_(-bound, bound))
        self.weight_v = nn.Parameter(torch.empty(value_size, input_size).uniform_(-bound, bound))
        self.weight_gates = nn.Parameter(torch.empty(2, input_size).uniform_(-bound, bound))
        self.bias_gates = nn.Parameter(torch.tensor([0.0, 3.0]))

    def forward(self, x: Tensor, s: Tensor | None = None) -> Tensor:
        i, f = F.linear(x, self.weight_gates, self.bias_gates).chunk(2, -1)
        k, v = x @ self.weight_k.T / math.sqrt(self.key_size), x @ self.weight_v.T
        v = torch.cat([v, torch.ones_like(v[..., :1])], -1)
        return torch.sigmoid(f) * initial(s, x, k.shape[-1] * v.shape[-1]) + torch.exp(i) * outer(k, v)


class SLSTMCell(nn.Module):
    """One step of an sLSTM: cell(x [B, I], (h, c, n)) -> (h, c, n), [B, H] each. Blocks (z, i, f, o) of W, R and b."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.input_size, self.hidden_size = input_size, hidden_size
        bound = 1 / math.sqrt(hidden_size)
        self.weight_ih = nn.Parameter(torch.empty(4 * hidden_size, input_size).uniform_(-bound, bound))
        self.weight_hh = nn.Parameter(torch.empty(4 * hidden_size, hidden_size).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(4 * hidden_size))

    def forward(self, x: Tensor, state: State | None = None) -> State:
        h, c, n = (x.new_zeros(x.shape[0], self.hidden_size),) * 3 if state is None else state
        z, i, f, o = (F.linear(x, self.weight_ih, self.bias) + h @ self.weight_hh.T).chunk(4, -1)
        i, f = torch.exp(i), torch.sigmoid(f)
        c, n = f * c + i * torch.tanh(z), f * n + i
        return torch.sigmoid(o) * c / n, c, n


class MValues(NamedTuple):
    """The state before [c, B, K (V + 1)]; f (the decay), its slope and i [c, B, 1]; k [c, B, K]; v with a 1 at its end
    [c, B, V + 1]."""

    before: Tensor
    decay: Tensor
    slope: Tensor
    i: Tensor
    k: Tensor
    v: Tensor


class MLSTM(ElementwiseCell):
    modules = (MLSTMCell,)
    carry_gate = "forget gate"

    def __init__(self, into_k: Tensor, into_v: Tensor, gates: Tensor, bias: Tensor) -> None:
        self.root = math.sqrt(into_k.shape[0])
        self.into_k, self.into_v, self.into_gates_, self.bias = into_k / self.root, into_v, gates, bias
        self.shape = (into_k.shape[0], into_v.shape[0] + 1)
        super().__init__(math.prod(self.shape), into_k.shape[1], into_k)

    @classmethod
    def read(cls, module: nn.Module, weight: Weight, reverse: bool = False) -> list[MLSTM]:
        names = ("weight_k", "weight_v", "weight_gates", "bias_gates")
        return [cls(*(weight(name) for name in names))]  # type: ignore[arg-type]

    def drive(self, x: Tensor) -> MValues:
        i, f = F.linear(x, self.into_gates_, self.bias).chunk(2, -1)
        v = torch.cat([x @ self.into_v.T, ones(x)], -1)
        return MValues(x, torch.sigmoid(f), sigmoid_slope(f), torch.exp(i), x @ self.into_k.T, v)

    def driven(self, values: MValues) -> Tensor:
        return outer(values.i * values.k, values.v)

    def _adjoints(self, step: MValues, a: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of the gates' preactivations (i, f) [..., 2], of k [..., K] and of v [..., V]."""
        matrix = a.unflatten(-1, self.shape)
        by_f = (a * step.before).sum(-1, keepdim=True) * step.slope
        by_k = step.i * (matrix * step.v.unsqueeze(-2)).sum(-1)
        by_i = (by_k * step.k).sum(-1, keepdim=True)
        by_v = step.i * (matrix * step.k.unsqueeze(-1)).sum(-2)
        return torch.cat([by_i, by_f], -1), by_k, by_v[..., :-1]

    def of_input(self, step: MValues, a: Tensor) -> Tensor:
        gates, by_k, by_v = self._adjoints(step, a)
        return gates @ self.into_gates_ + by_k @ self.into_k + by_v @ self.into_v

    def to_input(self, step: MValues, v_x: Tensor) -> Tensor:
        i, f = (v_x @ self.into_gates_.T).chunk(2, -1)
        v = torch.cat([v_x @ self.into_v.T, torch.zeros_like(i)], -1)
        k = v_x @ self.into_k.T + i * step.k
        return step.slope * f * step.before + step.i * (outer(k, step.v) + outer(step.k, v))

    def gates(self, path: Trajectory) -> list[Gate]:
        return [Gate("forget gate", path.values.decay, path.values.decay.log()), Gate("input gate", path.values.i)]

    def contributions(
        self, x: Tensor, path: Trajectory, a: StateViews, delta: Pulled, above: Tensor | None
    ) -> dict[str, tuple[Tensor, Tensor]]:
        gates, by_k, by_v = self._adjoints(delta.step, delta.a[0])
        return {
            "weight_k": (by_k / self.root, x),
            "weight_v": (by_v, x),
            "weight_gates": (gates, x),
            "bias_gates": (gates, ones(x)),
        }


class SValues(NamedTuple):
    """Preactivations (z, i, f, o) [c, B, 4 H]; h, c and n before the step and c and n after it [c, B, H]."""

    pre: Tensor
    h: Tensor
    c: Tensor
    n: Tensor
    c_after: Tensor
    n_after: Tensor


class SFactors(NamedTuple):
    """Derivatives [c, B, H]: of h by c and n after the step; of those by the preactivations (z, i, f) and by c and n before;
    of h by o's preactivation."""

    h_by_c: Tensor
    h_by_n: Tensor
    c_by_z: Tensor
    c_by_i: Tensor
    n_by_i: Tensor
    c_by_f: Tensor
    n_by_f: Tensor
    kept: Tensor
    h_by_o: Tensor


class SLSTM(PreactivatedCell):
    modules = (SLSTMCell,)
    carry_gate = "forget gate"

    def __init__(self, weight: Tensor, recurrent: Tensor, bias: Tensor) -> None:
        hidden = recurrent.shape[1]
        self.matrix = recurrent
        super().__init__(weight, bias, (Part("hidden", hidden), Part("cell", hidden), Part("other", hidden)), 4)

    @classmethod
    def read(cls, module: nn.Module, weight: Weight, reverse: bool = False) -> list[SLSTM]:
        return [cls(*(weight(name) for name in ("weight_ih", "weight_hh", "bias")))]  # type: ignore[arg-type]

    def advance(self, driven: Tensor, state: tuple[Tensor, ...]) -> tuple[SValues, tuple[Tensor, ...]]:
        h, c, n = state
        pre = torch.addmm(driven, h, self.matrix.t())
        z, i, f, o = pre.chunk(4, -1)
        i, f = torch.exp(i), torch.sigmoid(f)
        c_after, n_after = f * c + i * torch.tanh(z), f * n + i
        return SValues(pre, h, c, n, c_after, n_after), (torch.sigmoid(o) * c_after / n_after, c_after, n_after)

    def factors(self, path: Trajectory, new: Buffers, change: str | None = None) -> SFactors:
        pre, _, c, n, c_after, n_after = path.values
        share = c_after / n_after
        z, i, f, o = pre.chunk(4, -1)
        entered, opened, slope = torch.exp(i), torch.sigmoid(o), sigmoid_slope(f)
        return SFactors(
            opened / n_after,
            -opened * share / n_after,
            entered * tanh_slope(z),
            entered * torch.tanh(z),
            entered,
            slope * c,
            slope * n,
            torch.sigmoid(f),
            share * sigmoid_slope(o),
        )

    def backwards(self, step: SFactors, a: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        a_c, a_n = torch.addcmul(a[1], a[0], step.h_by_c), torch.addcmul(a[2], a[0], step.h_by_n)
        by_i = torch.addcmul(a_c * step.c_by_i, a_n, step.n_by_i)
        by_f = torch.addcmul(a_c * step.c_by_f, a_n, step.n_by_f)
        pre = torch.cat([a_c * step.c_by_z, by_i, by_f, a[0] * step.h_by_o], -1)
        return pre, (pre @ self.matrix, a_c * step.kept, a_n * step.kept)

    def forwards(self, step: SFactors, v: tuple[Tensor, ...], driven: Tensor | float) -> tuple[Tensor, ...]:
        v_z, v_i, v_f, v_o = (driven + v[0] @ self.matrix.t()).chunk(4, -1)
        c = step.kept * v[1] + step.c_by_f * v_f + step.c_by_i * v_i + step.c_by_z * v_z
        n = step.kept * v[2] + step.n_by_f * v_f + step.n_by_i * v_i
        return step.h_by_o * v_o + step.h_by_c * c + step.h_by_n * n, c, n

    def gates(self, path: Trajectory) -> list[Gate]:
        z, i, f, o = path.values.pre.chunk(4, -1)
        return [
            Gate("input gate", torch.exp(i)),
            Gate("forget gate", torch.sigmoid(f), F.logsigmoid(f)),
            Gate("candidate", torch.tanh(z).abs()),
            Gate("output gate", torch.sigmoid(o)),
        ]

    def recurrent_inputs(self, path: Trajectory) -> dict[str, tuple[slice, Tensor]]:
        return {"weight_hh": (slice(None), path.values.h)}

    def paths(self, step: SFactors, a: StateViews, delta: Preactivations, above: Tensor | None) -> Paths:
        _, (by_h, a_c, a_n) = self.backwards(step, self._after(a, above))
        return {"carry": (None, a_c, a_n), "hidden state": (by_h, None, None)}
