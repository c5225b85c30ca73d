"""Gradients of one loss by many tensors, beyond float32's range, and the logs of their norms."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from rnnvg.bptt import logscale

RESCALE = 2.0**100  # a second look at gradients that read 0: float32 ends at 1e-38 (1e-45 with denormals)
Grad = tuple[Tensor, float]  # a gradient, and the log of what it was multiplied by


def gradients(loss: Tensor, wanted: Sequence[Tensor]) -> list[Grad | None]:
    """The gradient by each tensor; None where the loss does not depend on it. The graph is kept."""
    if not wanted:
        return []
    grads = torch.autograd.grad(loss, list(wanted), allow_unused=True, retain_graph=True)
    found = [None if each is None else (_dense(each), 0.0) for each in grads]
    gone = [index for index, each in enumerate(found) if each is not None and not bool(each[0].any())]
    if gone and loss.dtype in (torch.float32, torch.float64):
        again = torch.autograd.grad(
            loss * RESCALE, [wanted[index] for index in gone], allow_unused=True, retain_graph=True
        )
        for index, grad in zip(gone, again, strict=True):
            if grad is not None and bool(torch.isfinite(_dense(grad)).all()):
                found[index] = (_dense(grad), math.log(RESCALE))
    return found


def _dense(grad: Tensor) -> Tensor:
    return grad.coalesce().values() if grad.is_sparse else grad


def log_norm(parts: Sequence[Tensor]) -> float:
    """ln of the Euclidean norm of all parts together; -inf for an exact zero, inf for an infinity, nan for a nan."""
    found = float(logscale.log_norm_of_parts([logscale.log_norm(part.detach().reshape(-1)) for part in parts]))
    infinite = math.isnan(found) and not any(bool(part.isnan().any()) for part in parts)
    return math.inf if infinite else found


def log_root_sum(logs: Sequence[float]) -> float:
    """ln of the root of the sum of squares of exp(logs); nan where one is nan."""
    return float(logscale.log_norm_of_parts(list(torch.tensor(logs, dtype=torch.float64))))


def by_norm(grads: Sequence[Grad | None]) -> float:
    """ln of the norm of all together, inf where one is not finite; nan where there is none."""
    logs = [log_norm([grad]) - scale for grad, scale in filter(None, grads) if grad.numel()]
    return log_root_sum([math.inf if math.isnan(each) else each for each in logs]) if logs else math.nan
