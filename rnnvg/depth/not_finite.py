"""Where numbers are not finite: the first of them in a batch, in weights, or in what layers give out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

_DEPTH = 6  # containers inside containers


@dataclass(frozen=True)
class Place:
    """A tensor that holds something else than finite numbers.

    Attributes:
        name: as a user would write it: "batch[0]", "rnn.weight_hh_l0".
        value: the first that is not finite: "nan", "inf" or "-inf".
        index: its place in the tensor.
        count, size: how many are not finite, of how many.
    """

    name: str
    value: str
    index: tuple[int, ...]
    count: int
    size: int

    def __str__(self) -> str:
        at = f" at {list(self.index)}" if self.index else ""
        return f"{self.count} of {self.size} values of {self.name} are not finite, the first is {self.value}{at}"


def place(name: str, tensor: Tensor) -> Place | None:
    """The first number of `tensor` that is not finite, or None."""
    values = tensor.detach()
    if values.layout is not torch.strided:
        values = values.to_dense() if values.layout is torch.sparse_coo else values.values()
    if not (values.is_floating_point() or values.is_complex()) or not values.numel():
        return None
    wrong = ~torch.isfinite(values)
    count = int(wrong.sum())
    if not count:
        return None
    index = tuple(int(each) for each in wrong.nonzero()[0])
    return Place(name, f"{values[index].item():g}" if not values.is_complex() else "nan", index, count, values.numel())


def places_in_batch(batch: Any) -> tuple[Place, ...]:
    """Every tensor or array of a batch that holds a number that is not finite."""
    found = (place(name, tensor) for name, tensor in _tensors("batch", batch, _DEPTH))
    return tuple(each for each in found if each is not None)


def places_in_weights(model: nn.Module) -> tuple[Place, ...]:
    """Every parameter, then every buffer, that holds a number that is not finite. Masks of -inf are buffers too, and fine."""
    found = []
    for name, tensor in model.named_parameters():
        if not isinstance(tensor, UninitializedParameter):
            found.append(place(name, tensor))
    for name, tensor in model.named_buffers():
        if not isinstance(tensor, UninitializedBuffer) and bool(torch.isnan(tensor).any()):
            found.append(place(name, tensor))
    return tuple(each for each in found if each is not None)


def _tensors(name: str, value: Any, depth: int) -> Iterator[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        yield name, value
    elif isinstance(value, nn.utils.rnn.PackedSequence):
        yield f"{name}.data", value.data
    elif isinstance(value, np.ndarray):
        if value.dtype.kind == "f":
            yield name, torch.from_numpy(np.ascontiguousarray(value))
    elif isinstance(value, float):
        yield name, torch.tensor(value, dtype=torch.float64)
    elif depth and isinstance(value, Mapping):
        for key, each in value.items():
            yield from _tensors(f"{name}[{key!r}]", each, depth - 1)
    elif depth and isinstance(value, (tuple, list)):
        names = getattr(value, "_fields", None)
        for index, each in enumerate(value):
            yield from _tensors(f"{name}.{names[index]}" if names else f"{name}[{index}]", each, depth - 1)
    elif depth and hasattr(value, "__dict__") and not isinstance(value, (type, nn.Module)):
        for key, each in vars(value).items():
            yield from _tensors(f"{name}.{key}", each, depth - 1)
