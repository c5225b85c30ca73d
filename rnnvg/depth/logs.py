"""Logs of lengths for the rooms of depth, over the analyzer's own arithmetic in log space."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from rnnvg.bptt import logscale

NATS_PER_DECADE = math.log(10)


def log_norm(parts: Sequence[Tensor]) -> float:
    """ln of the Euclidean norm of all parts together; -inf for an exact zero, inf for an infinity, nan for a nan."""
    found = float(logscale.log_norm_of_parts([logscale.log_norm(part.detach().reshape(-1)) for part in parts]))
    infinite = math.isnan(found) and not any(bool(part.isnan().any()) for part in parts)
    return math.inf if infinite else found


def log_root_sum(logs: Sequence[float]) -> float:
    """ln of the root of the sum of squares of exp(logs); nan where one is nan."""
    return float(logscale.log_norm_of_parts(list(torch.tensor(logs, dtype=torch.float64))))
