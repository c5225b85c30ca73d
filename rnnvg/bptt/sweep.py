"""How much of a gradient survives k steps back: the adjoint recursion's norms, by distance from each source.

Linearised recurrence in, logs of norms out. No modules, tasks or files here.
Axes: S sources, T steps, B sequences, N state coordinates, K distances.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from rnnvg.bptt.adjoints import Block, Sources, adjoints
from rnnvg.bptt.logscale import log_norm, log_norm_of_parts
from rnnvg.bptt.segments import Linearization


def sweep(
    linear: Linearization,
    sources: np.ndarray,
    covectors: Tensor,
    columns: list[slice] | None,
    n_distances: int,
    *,
    root: Tensor | None = None,
    change: str | None = None,
) -> np.ndarray:
    """ln ||dL_S / d(columns, k steps before the source)||, each source on its own.

    Args:
        linear: the linearised recurrence.
        sources: step of each source in each sequence, [S, B] int64; -1 where a sequence has none.
        covectors: dL_S/ds_S, [S, B, N], float64 (or complex128).
        columns: the state columns whose norm is taken, or None for the input's.
        n_distances: K, at least max(source) + 2.
        root: a matrix R [N, N] that the states' adjoints are multiplied by, ||a R||, before their norm is taken.
        change: of the backward pass, as `adjoints` takes it.

    Returns:
        [S, K, B] float64: -inf is an exact zero; nan lies before the start, or behind a state that is not finite.
    """
    return sweep_all(linear, sources, covectors, [columns], n_distances, root=root, change=change)[0]


def sweep_all(
    linear: Linearization,
    sources: np.ndarray,
    covectors: Tensor,
    wanted: Sequence[list[slice] | None],
    n_distances: int,
    *,
    root: Tensor | None = None,
    change: str | None = None,
) -> list[np.ndarray]:
    """What `sweep` gives for each of several columns, all from the same adjoints."""
    S, B = sources.shape
    entering = Sources(linear, sources, covectors)
    found: list[np.ndarray] = []
    for columns in wanted:
        rows = np.full((S, n_distances, B), np.nan)  # row t + 1 is step t until the end, when it becomes distance S - t
        rows[entering.silent] = -np.inf
        if columns is None:
            rows[entering.silent, 0] = np.nan  # the initial state has no input
        found.append(rows)
    inputs = any(columns is None for columns in wanted)
    whole = root is None and all(columns == [slice(0, linear.size)] for columns in wanted)
    blocks = adjoints(linear, entering, entering.last, len(entering.order), inputs=inputs, change=change, lengths=whole)
    for block in blocks:
        for columns, rows in zip(wanted, found, strict=True):
            if columns is not None:
                values = block_log_norms(linear, block, columns, root)
            elif block.inputs is not None:
                values = block.log_scale + log_norm(block.inputs)
            else:
                continue
            values = values.flip(0).transpose(0, 1)
            rows[entering.order[: len(values)], block.first + 1 : block.last + 2] = values.cpu().numpy()
    return [by_distance(rows, sources) for rows in found]


def block_log_norms(linear: Linearization, block: Block, columns: list[slice], root: Tensor | None = None) -> Tensor:
    """ln of the norms over `columns` of a block's adjoints, after multiplication by `root`, [c, n, B]."""
    if root is None and block.unit and columns == [slice(0, linear.size)]:
        return block.log_scale  # all of the vector is wanted, and it was divided by its norm
    vectors = block.vectors if root is None else block.vectors @ root
    return block.log_scale + log_norm_of_parts([log_norm(vectors[..., each]) for each in columns])


def by_distance(rows: np.ndarray, sources: np.ndarray) -> np.ndarray:
    """Turn rows by step into rows by distance from each sequence's own source, in place."""
    distance = np.arange(int(rows.shape[1]))
    for source, steps in enumerate(sources):
        end = int(steps[0]) + 2
        if end > 1 and (steps == steps[0]).all():
            rows[source, :end] = rows[source, end - 1 :: -1].copy()
            rows[source, end:] = np.nan
            continue
        row = steps[None, :] + 1 - distance[:, None]
        found = np.take_along_axis(rows[source], np.maximum(row, 0), 0)
        rows[source] = np.where((row >= 0) & (steps >= 0), found, np.nan)
    return rows
