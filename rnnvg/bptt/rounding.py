"""Arithmetic of a narrower dtype inside float64, for what rounding alone may do to a result."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


class Rounding(TorchDispatchMode):
    """Arithmetic of another dtype inside float64: the result of every operation is rounded to it.

    To the nearest number, or with a `seed` other than 0 up or down by chance, so that each seed makes other errors; to
    float64 itself by noise of half a unit, which is what another order of the same operations may change.
    """

    def __init__(self, dtype: torch.dtype, seed: int = 0) -> None:
        super().__init__()
        self.dtype, self.nearest = dtype, seed == 0 and dtype != torch.float64
        self.noise = torch.Generator().manual_seed(seed)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        returns = func._schema.returns
        if isinstance(found, Tensor) and len(returns) == 1:
            return self._result(found, returns[0].alias_info)
        if isinstance(found, tuple) and len(found) == len(returns):
            return tuple(self._result(each, given.alias_info) for each, given in zip(found, returns, strict=True))
        return found

    def _result(self, found: Any, alias: Any) -> Any:
        if not isinstance(found, Tensor) or found.dtype != torch.float64:
            return found
        if alias is None:
            return self._round(found)
        return found.copy_(self._round(found)) if alias.is_write else found  # a view's numbers are rounded already

    def _round(self, x: Tensor) -> Tensor:
        if not self.nearest:
            drawn = torch.rand(x.shape, generator=self.noise, dtype=x.dtype).to(x.device)
            x = x * (1 + (drawn - 0.5) * torch.finfo(self.dtype).eps)
        return x.to(self.dtype).to(x.dtype)
