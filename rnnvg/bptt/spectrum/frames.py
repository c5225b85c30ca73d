"""Orthonormal frames carried along a trajectory: tangents pushed forwards, made orthonormal again, logs kept.

The QR factors here resolve what a Jacobian's rows are: saturated units make rows of very different length, and a dead unit a
row of exact zeros. With the rows in order of length Householder's method is accurate row by row (Cox and Higham 1998), so a
slope of 1e-30 beside one of 1 is measured, and an exact zero stays one.
Axes: B sequences, N state coordinates, n tangents.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rnnvg.bptt import arguments
from rnnvg.bptt.cells import cell_of
from rnnvg.bptt.linearize import Recurrence, linearize, module_layers
from rnnvg.bptt.segments import Linearization
from rnnvg.bptt.stack import ModuleLinearization
from rnnvg.bptt.tensors import check_tensor
from rnnvg.bptt.weights import own_weights
from rnnvg.pytorch import lu_factor_ex, qr, vector_norm


def linearize_wide(recurrence: Recurrence, inputs: Tensor, state: object) -> Linearization:
    """`linearize`, a module in float64 whatever its own dtype: products of small and large numbers need the digits."""
    check_tensor("inputs", inputs, "[T, B, I]")
    if cell_of(recurrence) is None or inputs.dtype == torch.float64:
        return linearize(recurrence, inputs, state)
    assert isinstance(recurrence, torch.nn.Module)
    widened = {name: wide(each) for name, each in own_weights(recurrence).items()}
    layers = module_layers(recurrence)
    sequence = arguments.module_inputs(recurrence, inputs, layers)
    states = arguments.module_state(recurrence, state, sequence, layers)
    parts = [tuple(wide(part) for part in each) for each in states]
    found = ModuleLinearization(module_layers(recurrence, widened), sequence.double(), parts)
    found.note = arguments.dropout_note(recurrence)
    return found


def wide(tensor: Tensor) -> Tensor:
    """In double precision, real or complex as it is."""
    return tensor.to(torch.complex128 if tensor.is_complex() else torch.float64)


def random_frame(linear: Linearization, n: int, seed: int = 0) -> Tensor:
    """n orthonormal tangents in no special direction, the same for every sequence, [B, N, n] in double precision.

    The first n of more tangents are these n.
    """
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(n, linear.size, generator=generator, dtype=linear.wide_dtype)
    frame = qr(drawn.t())[0].to(linear.device)
    return frame.expand(linear.batch, linear.size, n)


def push(linear: Linearization, t: int, frame: Tensor) -> Tensor:
    """J_t times the columns of `frame`, [B, N, n]."""
    tangents = linear.pushforward(t, frame.permute(2, 0, 1).to(linear.dtype))
    return tangents.permute(1, 2, 0).to(frame.dtype)


def factor(vectors: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Q [B, N, n] with orthonormal columns and R [B, n, n] upper triangular, `vectors` = Q R.

    A diagonal entry within rounding (`eps` relative to the rows it is made of) is an exact zero.
    """
    size, n = vectors.shape[-2:]
    lengths = vector_norm(vectors, dim=-1)
    order = lengths.argsort(dim=-1, descending=True, stable=True)
    rows = order.unsqueeze(-1).expand_as(vectors)
    sorted_q, r = qr(vectors.gather(-2, rows))
    noise = _trailing_norms(lengths.gather(-1, order))[..., :n] * (size * eps)
    diagonal = r.diagonal(dim1=-2, dim2=-1)
    diagonal[diagonal.abs() <= noise] = 0
    return torch.empty_like(vectors).scatter_(-2, rows, sorted_q), r


def _trailing_norms(lengths: Tensor) -> Tensor:
    """sqrt(sum_{i >= j} lengths_i^2) for lengths [B, N] that descend; the largest is divided out first."""
    top = lengths[..., :1]
    scaled = lengths / torch.where(top == 0, 1.0, top)
    return scaled.square().flip(-1).cumsum(-1).flip(-1).sqrt() * top


def log_abs_det(linear: Linearization, t: int) -> Tensor:
    """ln |det J_t| per sequence, [B] float64, from the explicit Jacobian: rows by pullback, then LU; -inf where singular."""
    eye = torch.eye(linear.size, dtype=linear.dtype, device=linear.device)
    units = eye.unsqueeze(1).expand(linear.size, linear.batch, linear.size)
    rows = linear.pullback(t, units).transpose(0, 1).to(linear.wide_dtype).conj()
    lengths = vector_norm(rows, dim=-1, keepdim=True)
    pivots = lu_factor_ex(rows / torch.where(lengths == 0, 1.0, lengths))[0].diagonal(dim1=-2, dim2=-1).abs()
    eps = linear.size * torch.finfo(linear.dtype).eps
    logs = torch.where(pivots <= eps, -torch.inf, pivots.log())
    return (logs + lengths.squeeze(-1).log()).sum(-1)
