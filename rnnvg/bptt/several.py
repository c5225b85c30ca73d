"""Calls that ran with different weights, each followed with its own, as one profile with their sequences side by side.

Axes: S sources, K distances, B sequences.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from rnnvg.bptt.certificate import Certificate
from rnnvg.bptt.result import GradientProfile
from rnnvg.errors import check_int


@dataclass(frozen=True)
class SeveralWeights:
    """The origin of such a profile: its parts, and the columns that each has in the whole."""

    parts: list[GradientProfile]
    columns: list[np.ndarray]

    def certify(self, profile: GradientProfile, n: int) -> Certificate:
        """Up to `n` entries, from every part a share of them."""
        check_int("n", n, least=1)
        each = -(-n // len(self.parts))
        found = [part.origin.certify(part, each) for part in self.parts]
        joined = {
            name: np.concatenate([getattr(its, name) for its in found])
            for name in ("source", "distance", "log_norm", "reference")
        }
        sequence = np.concatenate([where[its.sequence] for its, where in zip(found, self.columns, strict=True)])
        weights = {name: max(its.weights.get(name, 0.0) for its in found) for its in found[:1] for name in its.weights}
        skipped = sum(its.skipped for its in found)
        return dataclasses.replace(found[0], **joined, sequence=sequence, skipped=skipped, weights=weights)


def side_by_side(parts: list[GradientProfile], columns: list[np.ndarray]) -> GradientProfile:
    """One profile; `columns` are the places of each part's sequences in it."""
    if len(parts) == 1:
        return parts[0]
    first, n_distances = parts[0], max(part.log_norm.shape[1] for part in parts)
    batch = sum(map(len, columns))
    log_norm = np.full((len(first.sources), n_distances, batch), np.nan)
    nonfinite = np.full(batch, -1, dtype=np.int64)
    for part, where in zip(parts, columns, strict=True):
        log_norm[:, : part.log_norm.shape[1], where] = part.log_norm
        nonfinite[where] = part.first_nonfinite
    note = f"The calls ran with {len(parts)} different sets of weights; each sequence is followed with its own."
    return dataclasses.replace(
        first,
        log_norm=log_norm,
        distance=np.arange(n_distances),
        first_nonfinite=nonfinite,
        note=" ".join(dict.fromkeys([*(part.note for part in parts if part.note), note])),
        origin=SeveralWeights(parts, columns),
    )


def pairs_side_by_side(parts: list[GradientProfile]) -> GradientProfile:
    """One profile in which every source of every sequence is a column, for numbers that are taken over all of them."""
    flat = []
    for part in parts:
        sources, distances, batch = part.log_norm.shape
        log_norm = part.log_norm.swapaxes(1, 2).reshape(sources * batch, distances).T[None]
        nonfinite = np.tile(part.first_nonfinite, sources)
        flat.append(dataclasses.replace(part, log_norm=log_norm, sources=part.sources[-1:], first_nonfinite=nonfinite))
    ends = np.cumsum([part.log_norm.shape[2] for part in flat])
    return side_by_side(
        flat, [np.arange(end - part.log_norm.shape[2], end) for part, end in zip(flat, ends, strict=True)]
    )
