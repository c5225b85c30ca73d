"""The same trajectory with another backward pass: what the gradient would do if slopes were 1 or gates stood open.

States, gates and their values stay as they were; only factors of the step Jacobians are changed (`Cell.changes`), and the same
sweep runs over them. Axes: B sequences, N state coordinates, K distances.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor

from rnnvg.bptt.stack import ModuleLinearization
from rnnvg.bptt.sweep import sweep


def log_norms(linear: ModuleLinearization, source: int, covector: Tensor) -> dict[str, np.ndarray]:
    """Change -> ln ||dL/ds||, [K, B], K = source + 2, from the covector dL/ds_source [B, N]."""
    steps = np.full((1, linear.batch), source)
    whole = [slice(0, linear.size)]
    return {
        change: sweep(linear, steps, covector.unsqueeze(0), whole, source + 2, change=change)[0]
        for change in linear.layers[0].changes
    }
