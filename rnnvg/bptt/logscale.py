"""Vectors with their scale kept as a logarithm, so that 10^-3000 is as good a length as 1.

Axes: the last one is the vector's; everything before it is looped over. Logs are natural and float64.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from rnnvg.pytorch import vector_norm

SAFE = 2.0**-40  # norms from here to its inverse are taken without scaling first


def nonzero(values: Tensor) -> Tensor:
    """`values` with 1 for 0, to divide by."""
    return torch.where(values == 0, 1.0, values)


def lengths(vectors: Tensor) -> Tensor:
    """Euclidean lengths [..., 1]; a complex vector as the real one of twice its width, which is ten times quicker."""
    if vectors.dtype.is_complex:
        vectors = torch.view_as_real(vectors.resolve_conj()).flatten(-2)
    return vector_norm(vectors, dim=-1, keepdim=True)


def scaled_vectors(vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Vectors over their largest coordinate (a zero stays zero), and its log, -inf for a zero vector."""
    largest = vectors.abs().amax(-1, keepdim=True)
    return vectors / nonzero(largest), largest.double().log().squeeze(-1)


def unit_vectors(vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Vectors of length 1 (a zero stays zero), and the logs of their lengths, -inf for a zero vector."""
    norm = vector_norm(vectors, dim=-1, keepdim=True)
    if bool(((norm > SAFE) & (norm < 1 / SAFE)).all()):
        return vectors / norm, norm.double().log().squeeze(-1)
    scaled, log = scaled_vectors(vectors)  # squares of what is smaller would leave the dtype's range
    norm = vector_norm(scaled, dim=-1, keepdim=True)
    return scaled / nonzero(norm), log + norm.double().log().squeeze(-1)


def log_norm(vectors: Tensor) -> Tensor:
    """ln of the Euclidean length, -inf for a zero vector; computed in float64, and no square leaves the range."""
    if vectors.dtype == torch.float32:  # whose squares are all in float64's range
        return vector_norm(vectors, dim=-1, dtype=torch.float64).log()
    wide = vectors.to(torch.complex128 if vectors.dtype.is_complex else torch.float64)
    largest = wide.abs().amax(-1, keepdim=True)
    safe = nonzero(largest)
    return (vector_norm(wide / safe, dim=-1, keepdim=True).log() + safe.log()).squeeze(-1)


def log_norm_of_parts(logs: list[Tensor]) -> Tensor:
    """ln of the length of a vector from those of its parts."""
    return logs[0] if len(logs) == 1 else 0.5 * torch.logsumexp(2 * torch.stack(logs), 0)


class LogSum:
    """A sum of terms exp(log) x tensor, of any size: `mantissa` times exp(`log`)."""

    def __init__(self, like: Tensor) -> None:
        self.mantissa: Tensor = like
        self.log = 0.0

    def add(self, logs: Tensor, terms: Tensor) -> None:
        """Add the terms [c, ...] at scales exp(logs) [c]; -inf is an exact zero."""
        weights = self._weights(logs)
        if weights is not None:
            self.mantissa += (weights.to(terms.dtype) @ terms.flatten(1)).view_as(self.mantissa)

    def add_products(self, logs: Tensor, left: Tensor, right: Tensor) -> None:
        """Add left (x) right at scales exp(logs), for [c], [c, B, R] and [c, B, Q]: one product, no terms."""
        weights = self._weights(logs)
        if weights is not None:
            self.mantissa += (left * weights[:, None, None]).flatten(0, 1).t() @ right.flatten(0, 1)

    def _weights(self, logs: Tensor) -> Tensor | None:
        """What terms at these scales count for on the sum's own, which grows where one is larger; None where all are zero."""
        highest = float(logs.max())
        if highest == -torch.inf:
            return None
        if not self.mantissa.any():
            self.log = highest
        elif highest > self.log:
            self.mantissa *= math.exp(self.log - highest)
            self.log = highest
        return (logs - self.log).exp()
