"""The covectors that profiles follow, dL/d(output) at each source: drawn at random, or rows of a given gradient.

Axes: S sources, T steps, B sequences, P output.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from rnnvg.bptt import arguments
from rnnvg.bptt.logscale import vector_norm
from rnnvg.errors import InputError, check_int


def source_covectors(
    recurrence: object,
    output_grad: Any,
    steps: np.ndarray,
    shape: tuple[int, int, int],
    generator: torch.Generator | None,
    device: torch.device,
    dtype: torch.dtype,
    unbatched: bool = False,
) -> Tensor:
    """Covectors of the output [T, B, P] of `shape` at the sources [S, B], as [S, B, P] of a double `dtype`.

    Rows of `output_grad`, zero where a sequence has no such source; random unit covectors where that is None.
    """
    if generator is not None and not isinstance(generator, torch.Generator):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InputError(
            f"`generator` is a {type(generator).__name__}; pass a torch.Generator, or None for one seeded 0."
        )
    if output_grad is None:
        return unit_covectors(len(steps), shape[1], shape[2], generator, device, dtype)
    by_time = arguments.output_gradients(recurrence, output_grad, shape, device, unbatched=unbatched)
    present = torch.as_tensor(steps >= 0).to(device)
    index = torch.as_tensor(np.maximum(steps, 0)).to(device)
    chosen = by_time[index, torch.arange(shape[1], device=device)]
    if not bool(torch.isfinite(chosen).all()):
        raise InputError("`output_grad` holds a value that is not finite at a source; pass finite numbers.")
    return chosen.to(dtype) * present.unsqueeze(-1)


def unit_covectors(
    n_sources: int,
    batch: int,
    width: int,
    generator: torch.Generator | None,
    device: torch.device,
    dtype: torch.dtype = torch.float64,
) -> Tensor:
    """A random unit covector for each source and sequence, [S, B, width] in double precision; None is seeded 0."""
    if generator is None:
        generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(n_sources, batch, width, generator=generator, dtype=dtype, device=generator.device)
    return (drawn / vector_norm(drawn, dim=-1, keepdim=True)).to(device)


def check_size(n_sources: int, n_distances: int, batch: int, max_bytes: int) -> None:
    """Refuse a result [S, K, B] float64 that takes more than `max_bytes`."""
    check_int("max_bytes", max_bytes, least=1)
    needed = n_sources * n_distances * batch * 8
    if needed > max_bytes:
        raise InputError(
            f"`sources` needs {n_sources} sources x {n_distances} distances x {batch} sequences, {needed / 2**30:.1f} GiB; "
            f"pass fewer sources (an int), or max_bytes={needed} if there is room."
        )
