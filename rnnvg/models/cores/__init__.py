"""Networks beside PyTorch's own that can be trained in their place: one file each, and an entry in `names.CORES`.

A core is a module made as Core(n_inputs, hidden, layers) that turns inputs [T, B, I] into outputs [T, B, H]. One with a
recurrence has `step(x, state) -> state` and `start(inputs) -> state`, from which gradients by the state are followed; one
without has none, and only its gradient by the input exists.
"""

from __future__ import annotations

import importlib
from typing import Any

from rnnvg.models import names

CORES: dict[str, Any] = {
    name: getattr(importlib.import_module(f"{__name__}.{name}"), kind) for name, kind in names.CORES.items()
}
