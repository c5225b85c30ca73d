"""Which tensors the analyzer takes: ordinary ones, with a value in every place, finite ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

from rnnvg.errors import InputError


def check_tensor(argument: str, value: object, layout: str) -> Tensor:
    """`value` where it is an ordinary tensor; `layout` says what to pass.

    Raises:
        InputError: no tensor, or a nested or sparse one, or of a dtype without arithmetic.
    """
    if not isinstance(value, Tensor):
        raise InputError(f"`{argument}` is a {type(value).__name__}; pass a tensor {layout}.")
    if value.is_nested:
        raise InputError(f"`{argument}` is a nested tensor; pass a padded one {layout}.")
    if value.layout is not torch.strided:
        raise InputError(f"`{argument}` is sparse; pass its .to_dense(), {layout}.")
    if value.dtype.itemsize == 1 and value.dtype.is_floating_point:
        raise InputError(f"`{argument}` has dtype {value.dtype}; pass float32 or float64.")
    return value


def check_has_values(argument: str, value: Tensor) -> None:
    """Nothing where `value` is on a device that holds values."""
    if value.device.type == "meta":
        raise InputError(f"`{argument}` is on the meta device, which holds no values; pass a tensor on a real one.")


def all_finite(numbers: Tensor) -> bool:
    """Whether every number is finite; one sum tells, unless it overflows on its own."""
    return bool(torch.isfinite(numbers.sum())) or bool(torch.isfinite(numbers).all())


def check_finite(argument: str, value: Tensor) -> None:
    """Nothing where every number of `value` is finite."""
    if not all_finite(value):
        raise InputError(f"`{argument}` holds a value that is not finite; pass finite numbers.")


def shape_of(value: object) -> list[int] | str:
    """A tensor's shape, or the name of another value's type: to compare with what fits, and for a sentence about it."""
    return list(value.shape) if isinstance(value, Tensor) else type(value).__name__


def sequence(value: object) -> Sequence[object] | None:
    """`value` where it is a tuple or a list."""
    return cast("Sequence[object]", value) if isinstance(value, (tuple, list)) else None


def members(value: object) -> Sequence[object]:
    """What a tuple or a list holds; anything else is alone."""
    found = sequence(value)
    return [value] if found is None else found


def tensors_of(value: object) -> list[Tensor]:
    """A tensor, or those of a tuple or list of nothing else; empty for everything else."""
    found = members(value)
    tensors = [each for each in found if isinstance(each, Tensor)]
    return tensors if len(tensors) == len(found) else []
