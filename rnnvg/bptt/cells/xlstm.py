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
from rnnvg.bptt.cells.linear import LinearCell, Pulled, initial, ones, outer
from rnnvg.bptt.cells.parts import Gate, Part, StateViews, Trajectory
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
    """The state before [c, B, K (V + 1)]; f, its slope and i [c, B, 1]; k [c, B, K]; v with a 1 at its end [c, B, V + 1]."""

    before: Tensor
    f: Tensor
    slope: Tensor
    i: Tensor
    k: Tensor
    v: Tensor


class MLSTM(LinearCell):
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

    def advance(self, step: MValues, s: Tensor) -> Tensor:
        return torch.addcmul(outer(step.i * step.k, step.v), step.f, s)

    def carried(self, step: MValues, a: Tensor) -> Tensor:
        return a * step.f

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
        return [Gate("forget gate", path.values.f, path.values.f.log()), Gate("input gate", path.values.i)]

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

    def backwards(self, step: SValues, a: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        z, i, f, o = step.pre.chunk(4, -1)
        entered, kept, share = torch.exp(i), torch.sigmoid(f), step.c_after / step.n_after
        a_c = a[1] + a[0] * torch.sigmoid(o) / step.n_after
        a_n = a[2] - a[0] * torch.sigmoid(o) * share / step.n_after
        pre = torch.cat(
            [
                a_c * entered * tanh_slope(z),
                (a_c * torch.tanh(z) + a_n) * entered,
                (a_c * step.c + a_n * step.n) * sigmoid_slope(f),
                a[0] * share * sigmoid_slope(o),
            ],
            -1,
        )
        return pre, (pre @ self.matrix, a_c * kept, a_n * kept)

    def forwards(self, step: SValues, v: tuple[Tensor, ...], driven: Tensor | float) -> tuple[Tensor, ...]:
        z, i, f, o = step.pre.chunk(4, -1)
        v_z, v_i, v_f, v_o = (driven + v[0] @ self.matrix.t()).chunk(4, -1)
        entered, kept, share = torch.exp(i), torch.sigmoid(f), step.c_after / step.n_after
        forget = sigmoid_slope(f) * v_f
        c = kept * v[1] + forget * step.c + entered * (v_i * torch.tanh(z) + tanh_slope(z) * v_z)
        n = kept * v[2] + forget * step.n + entered * v_i
        h = sigmoid_slope(o) * v_o * share + torch.sigmoid(o) * (c - share * n) / step.n_after
        return h, c, n

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

    def paths(self, step: SValues, a: StateViews, delta: Preactivations, above: Tensor | None) -> Paths:
        pre, (by_h, a_c, a_n) = self.backwards(step, self._after(a, above))
        del pre
        return {"carry": (None, a_c, a_n), "hidden state": (by_h, None, None)}
