"""Networks beside PyTorch's own that can be trained in their place: one file each, and a line in the list below.

A core is a module made as Core(n_inputs, hidden, layers) that turns inputs [T, B, I] into outputs [T, B, H]. One with a
recurrence has `step(x, state) -> state` and `start(inputs) -> state`, from which gradients by the state are followed; one
without has none, and only its gradient by the input exists.
"""

from __future__ import annotations

from rnnvg.models.cores.attention import Attention
from rnnvg.models.cores.lem import LEM
from rnnvg.models.cores.lru import LRU
from rnnvg.models.cores.mingru import MinGRU
from rnnvg.models.cores.tcn import TCN

CORES = {"mingru": MinGRU, "lru": LRU, "lem": LEM, "attention": Attention, "tcn": TCN}
