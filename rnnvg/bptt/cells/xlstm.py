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
from rnnvg.bptt.cells.preactivated import PreactivatedCell, Preactivations, rows, sigmoid_slope, tanh_slope

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
    """Preactivations (z, i, f, o) [c, B, 4 H]; i [c, B, H]; f and o [c, B, 2 H]; tanh(z), and c over n after the step,
    [c, B, H]; h, c and n before it and c and n after it [c, B, H]."""

    pre: Tensor
    i: Tensor
    gates: Tensor
    candidate: Tensor
    share: Tensor
    h: Tensor
    c: Tensor
    n: Tensor
    c_after: Tensor
    n_after: Tensor


class SFactors(NamedTuple):
    """Derivatives. Of h by c and n after the step [c, B, 2, H]; of c by the preactivations (z, i, f) [c, B, 3, H]; of n by
    (i, f) [c, B, 2, H]; of c and n by themselves before, and of h by o's preactivation, [c, B, H]."""

    h_by: Tensor
    c_by: Tensor
    n_by: Tensor
    kept: Tensor
    h_by_o: Tensor


class SLSTM(PreactivatedCell):
    modules = (SLSTMCell,)
    carry_gate = "forget gate"

    def __init__(self, weight: Tensor, recurrent: Tensor, bias: Tensor) -> None:
        hidden = recurrent.shape[1]
        self.matrix = recurrent
        super().__init__(weight, bias, (Part("hidden", hidden), Part("cell", hidden), Part("other", hidden)), 4, 12)

    @classmethod
    def read(cls, module: nn.Module, weight: Weight, reverse: bool = False) -> list[SLSTM]:
        return [cls(*(weight(name) for name in ("weight_ih", "weight_hh", "bias")))]  # type: ignore[arg-type]

    def roll(self, pre: Tensor, states: Tensor) -> SValues:
        h, c, n = self.cut(states)
        H, into = h.shape[-1], self.matrix.t()
        i, gates, candidate, share = (pre.new_empty(*pre.shape[:2], width) for width in (H, 2 * H, H, H))
        f, o = gates.chunk(2, -1)
        blocks = (pre, pre[..., :H], pre[..., H : 2 * H], pre[..., 2 * H :])
        found, before, after = (candidate, i, gates, f, o, share), (h, c, n), (h[1:], c[1:], n[1:])
        for whole, z_in, i_in, f_o_in, z_t, i_t, f_o, f_t, o_t, share_t, h_t, c_t, n_t, h_next, c_next, n_next in zip(
            *(each.unbind() for each in (*blocks, *found, *before, *after)), strict=False
        ):
            torch.addmm(whole, h_t, into, out=whole)
            torch.tanh(z_in, out=z_t)
            torch.exp(i_in, out=i_t)
            torch.sigmoid(f_o_in, out=f_o)
            torch.mul(f_t, c_t, out=c_next).addcmul_(i_t, z_t)
            torch.addcmul(i_t, f_t, n_t, out=n_next)
            torch.div(c_next, n_next, out=share_t)
            torch.mul(o_t, share_t, out=h_next)
        return SValues(pre, i, gates, candidate, share, h[:-1], c[:-1], n[:-1], c[1:], n[1:])

    def factors(self, path: Trajectory, new: Buffers, change: str | None = None) -> SFactors:
        values: SValues = path.values
        H = values.h.shape[-1]
        f_slope, o_slope = torch.sigmoid(-values.pre[..., 2 * H :]).mul_(values.gates).chunk(2, -1)
        f, o = values.gates.chunk(2, -1)
        by_c = o / values.n_after
        return SFactors(
            torch.stack([by_c, -by_c * values.share], -2),
            torch.stack(
                [
                    values.i * tanh_slope(values.pre[..., :H]),
                    values.i * values.candidate,
                    f_slope * values.c,
                ],
                -2,
            ),
            torch.stack([values.i, f_slope * values.n], -2),
            f,
            values.share * o_slope,
        )

    def back(self, step: SFactors, a: tuple[Tensor, ...], pre: Tensor, out: StateViews | None) -> None:
        blocks = pre.unflatten(-1, (4, -1))
        c_and_n = torch.stack(a[1:], -2).addcmul_(a[0].unsqueeze(-2), step.h_by)
        a_c, a_n = c_and_n[..., :1, :], c_and_n[..., 1:, :]
        torch.mul(a_c, step.c_by, out=blocks[..., :3, :])
        blocks[..., 1:3, :].addcmul_(a_n, step.n_by)
        torch.mul(a[0], step.h_by_o, out=blocks[..., 3, :])
        if out is not None:
            torch.mm(rows(pre), self.matrix, out=out.rows[0])
            torch.mul(c_and_n[..., 0, :], step.kept, out=out.parts[1])
            torch.mul(c_and_n[..., 1, :], step.kept, out=out.parts[2])

    def forwards(self, step: SFactors, v: tuple[Tensor, ...], driven: Tensor | float) -> tuple[Tensor, ...]:
        moved = (driven + v[0] @ self.matrix.t()).unflatten(-1, (4, -1))
        c = step.kept * v[1] + (step.c_by * moved[..., :3, :]).sum(-2)
        n = step.kept * v[2] + (step.n_by * moved[..., 1:3, :]).sum(-2)
        h = step.h_by_o * moved[..., 3, :] + (step.h_by * torch.stack([c, n], -2)).sum(-2)
        return h, c, n

    def gates(self, path: Trajectory) -> list[Gate]:
        values: SValues = path.values
        f, o = values.gates.chunk(2, -1)
        H = f.shape[-1]
        return [
            Gate("input gate", values.i),
            Gate("forget gate", f, F.logsigmoid(values.pre[..., 2 * H : 3 * H])),
            Gate("candidate", values.candidate.abs()),
            Gate("output gate", o),
        ]

    def recurrent_inputs(self, path: Trajectory) -> dict[str, tuple[slice, Tensor]]:
        return {"weight_hh": (slice(None), path.values.h)}

    def paths(self, step: SFactors, a: StateViews, delta: Preactivations, above: Tensor | None) -> Paths:
        after = self._after(a, above)
        c_and_n = torch.stack(after[1:], -2) + after[0].unsqueeze(-2) * step.h_by
        carry = (None, c_and_n[..., 0, :] * step.kept, c_and_n[..., 1, :] * step.kept)
        return {"carry": carry, "hidden state": (delta.adjoint @ self.matrix, None, None)}
