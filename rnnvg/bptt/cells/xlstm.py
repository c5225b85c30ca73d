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

from rnnvg.bptt.cells.cell import Paths
from rnnvg.bptt.cells.linear import ElementwiseCell, Pulled, initial, ones, outer
from rnnvg.bptt.cells.parts import Buffers, Gate, Part, StateViews, Trajectory, slope_of_tanh
from rnnvg.bptt.cells.preactivated import PreactivatedCell, Preactivations, as_rows, blocks, sigmoid_slope

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
    names = ("weight_k", "weight_v", "weight_gates", "bias_gates")
    carry_gate = "forget gate"

    def __init__(self, into_k: Tensor, into_v: Tensor, gates: Tensor, bias: Tensor) -> None:
        self.root = math.sqrt(into_k.shape[0])
        self.into_k, self.into_v, self.into_gates_, self.bias = into_k / self.root, into_v, gates, bias
        self.shape = (into_k.shape[0], into_v.shape[0] + 1)
        super().__init__(math.prod(self.shape), into_k.shape[1], into_k)

    def drive(self, x: Tensor) -> MValues:
        i, f = F.linear(x, self.into_gates_, self.bias).chunk(2, -1)
        v = torch.cat([x @ self.into_v.T, ones(x)], -1)
        return MValues(x, torch.sigmoid(f), sigmoid_slope(f), torch.exp(i), x @ self.into_k.T, v)

    def driven(self, values: MValues) -> Tensor:
        return outer(values.i * values.k, values.v)

    def _adjoints(self, step: MValues, a: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of the gates' preactivations (i, f) [..., 2], of k [..., K] and of v [..., V]."""
        matrix = torch.unflatten(a, -1, self.shape)
        by_f = (a * step.before).sum(-1, keepdim=True) * step.slope
        by_k = step.i * (matrix @ step.v.unsqueeze(-1)).squeeze(-1)
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
    """Preactivations (z, i, f, o) [c, B, 4 H]."""

    pre: Tensor


class SFactors(NamedTuple):
    """Derivatives. Of h by c and n after the step [c, B, 2, H]; of c by the preactivations (z, i, f) [c, B, 3, H]; of n by
    (i, f) [c, B, 2, H]; of c and n by themselves before, and of h by o's preactivation, [c, B, 1, H]."""

    h_by: Tensor
    c_by: Tensor
    n_by: Tensor
    kept: Tensor
    h_by_o: Tensor


class SLSTM(PreactivatedCell):
    modules = (SLSTMCell,)
    names = ("weight_ih", "weight_hh", "bias")
    carry_gate = "forget gate"

    def __init__(self, weight: Tensor, recurrent: Tensor, bias: Tensor) -> None:
        hidden = recurrent.shape[1]
        self.matrix = recurrent
        super().__init__(weight, bias, (Part("hidden", hidden), Part("cell", hidden), Part("other", hidden)), 4, 7)

    def roll(self, pre: Tensor, states: Tensor) -> SValues:
        H, into = self.matrix.shape[1], self.matrix.t().contiguous()
        # Of one step: what follows from the preactivations costs less to compute again for all steps than to keep here.
        # Copies of a step's results cost less than views of its parts.
        i, gates, candidates = (pre.new_ones(pre.shape[1], count, H) for count in (1, 2, 2))
        z, f, o = candidates[:, 0], gates[:, :1], gates[:, 1]
        inside, state = torch.empty_like(pre[0]), states[0].clone()
        z_in, i_in, f_o_in = (
            inside[:, :H],
            inside[:, H : 2 * H].unsqueeze(1),
            torch.unflatten(inside[:, 2 * H :], -1, (2, H)),
        )
        h, c_n = state[:, :H], torch.unflatten(state[:, H:], -1, (2, H))
        c, n = c_n.unbind(1)
        for whole, after in zip(pre.unbind(), states[1:].unbind(), strict=True):
            torch.addmm(whole, h, into, out=inside)
            torch.tanh(z_in, out=z)
            torch.exp(i_in, out=i)
            torch.sigmoid(f_o_in, out=gates)
            torch.mul(c_n, f, out=c_n)
            torch.addcmul(c_n, candidates, i, out=c_n)
            torch.div(c, n, out=h)
            torch.mul(h, o, out=h)
            whole.copy_(inside)
            after.copy_(state)
        return SValues(pre)

    def factors(self, path: Trajectory, new: Buffers, change: str | None = None) -> SFactors:
        (pre,), (_, c, n) = path.values, path.states
        steps, batch, H = c[1:].shape
        z_in, i_in, f_o = pre[..., :H], pre[..., H : 2 * H], torch.unflatten(pre[..., 2 * H :], -1, (2, H))
        h_by, c_by, n_by, gates, slopes = (
            blocks(new, name, pre, steps, batch, count, H)
            for name, count in (("h by", 2), ("c by", 3), ("n by", 2), ("gates", 2), ("slopes", 2))
        )
        torch.sigmoid(f_o, out=gates)
        torch.neg(f_o, out=slopes).sigmoid_().mul_(gates)
        by_z, by_i, by_f = c_by.unbind(-2)
        i, n_by_f = n_by.unbind(-2)
        f_slope, o_slope = slopes.unbind(-2)
        torch.exp(i_in, out=i)
        slope_of_tanh(z_in, by_z).mul_(i)
        torch.tanh(z_in, out=by_i).mul_(i)
        torch.mul(f_slope, c[:-1], out=by_f)
        torch.mul(f_slope, n[:-1], out=n_by_f)
        by_c, by_n = h_by.unbind(-2)
        torch.div(c[1:], n[1:], out=by_n)
        o_slope.mul_(by_n)
        torch.div(gates[..., 1, :], n[1:], out=by_c)
        by_n.mul_(by_c).neg_()
        return SFactors(h_by, c_by, n_by, gates[..., :1, :], slopes[..., 1:, :])

    def cut_adjoint(self, a: Tensor) -> tuple[Tensor, ...]:
        """h as rows, and with an axis for what it is multiplied by; c and n."""
        H = self.parts[0].width
        return as_rows(a)[..., :H], a[..., :H].unsqueeze(-2), torch.unflatten(a[..., H:], -1, (2, H))

    def cut_pre(self, pre: Tensor) -> tuple[Tensor, ...]:
        """All as rows; (z, i, f), (i, f) and o; memory for the adjoints of c and n after the step, together and each."""
        four = torch.unflatten(pre, -1, (4, -1))
        c_n = torch.empty_like(four[..., :2, :])
        return (
            as_rows(pre),
            four[..., :3, :],
            four[..., 1:3, :],
            four[..., 3:, :],
            c_n,
            c_n[..., :1, :],
            c_n[..., 1:, :],
        )

    def gate(self, step: SFactors, a: tuple[Tensor, ...], pre: tuple[Tensor, ...], out: tuple[Tensor, ...]) -> None:
        (_, h, c_n), (_, z_i_f, i_f, o, after, after_c, after_n) = a, pre
        torch.addcmul(c_n, step.h_by, h, out=after)
        torch.mul(after_c, step.c_by, out=z_i_f)
        torch.addcmul(i_f, after_n, step.n_by, out=i_f)
        torch.mul(h, step.h_by_o, out=o)

    def carry(self, step: SFactors, pre: tuple[Tensor, ...], out: tuple[Tensor, ...]) -> None:
        torch.mm(pre[0], self.matrix, out=out[0])
        torch.mul(pre[4], step.kept, out=out[2])

    def forwards(self, step: SFactors, v: tuple[Tensor, ...], driven: Tensor | float) -> tuple[Tensor, ...]:
        moved = torch.unflatten(driven + v[0] @ self.matrix.t(), -1, (4, -1))
        kept = step.kept.squeeze(-2)
        c = kept * v[1] + (step.c_by * moved[..., :3, :]).sum(-2)
        n = kept * v[2] + (step.n_by * moved[..., 1:3, :]).sum(-2)
        h = (step.h_by_o * moved[..., 3:, :]).squeeze(-2) + (step.h_by * torch.stack([c, n], -2)).sum(-2)
        return h, c, n

    def gates(self, path: Trajectory) -> list[Gate]:
        z, i, f, o = path.values.pre.chunk(4, -1)
        return [
            Gate("input gate", i.exp()),
            Gate("forget gate", torch.sigmoid(f), F.logsigmoid(f)),
            Gate("candidate", z.tanh().abs_()),
            Gate("output gate", torch.sigmoid(o)),
        ]

    def recurrent_inputs(self, path: Trajectory) -> dict[str, tuple[slice, Tensor]]:
        return {"weight_hh": (slice(None), path.states[0][:-1])}

    def paths(self, step: SFactors, a: StateViews, delta: Preactivations, above: Tensor | None) -> Paths:
        after = self._after(a, above)
        c_and_n = torch.stack(after[1:], -2) + after[0].unsqueeze(-2) * step.h_by
        c, n = (c_and_n * step.kept).unbind(-2)
        return {"carry": (None, c, n), "hidden state": (delta.adjoint @ self.matrix, None, None)}
