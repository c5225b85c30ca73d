"""The passes that check_backward compares: a fused kernel's, those of the plain step in float64, and the same rounded.

Axes: T steps, B sequences.
"""

from __future__ import annotations

import contextlib
import copy
import inspect
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from rnnvg.bptt.stepping import map_state
from rnnvg.bptt.tensors import members, tensors_of
from rnnvg.errors import InputError
from rnnvg.pytorch import gradients

Kernel = Callable[..., Any]


class Run:
    """Outputs [T, B, ...] of one forward pass, with leaves at every step's input and at the initial state."""

    def __init__(
        self,
        call: Callable[[list[Tensor], Any], Tensor],
        inputs: list[Tensor],
        state: Any,
        arithmetic: contextlib.AbstractContextManager[Any] | None = None,
    ) -> None:
        self.arithmetic = arithmetic or contextlib.nullcontext()
        self.inputs = [each.detach().clone().requires_grad_() for each in inputs]
        parts = [] if state is None else [state] if isinstance(state, Tensor) else list(state)
        self.state = [part.detach().clone().requires_grad_(part.is_floating_point()) for part in parts]
        again = None if state is None else self.state[0] if isinstance(state, Tensor) else tuple(self.state)
        with self.arithmetic:
            self.outputs = call(self.inputs, again)

    def gradient(self, source: int, covector: Tensor) -> tuple[Tensor, Tensor]:
        """By every step's input [T, B, numbers] and by the initial state [B, numbers], in float64."""
        initial = [part for part in self.state if part.requires_grad]
        leaves = [*self.inputs, *initial]
        loss = (self.outputs[source].flatten(1) * covector.to(self.outputs.dtype)).sum()
        try:
            with self.arithmetic:
                found = gradients(loss, leaves, retain=True)
        except RuntimeError as error:
            raise InputError(f"The backward pass failed: {str(error).splitlines()[0]}") from error
        wide = [
            torch.zeros_like(leaf, dtype=torch.float64) if grad is None else grad.double()
            for leaf, grad in zip(leaves, found, strict=True)
        ]
        n = len(self.inputs)
        by_input = torch.cat([each.flatten(2) if each.ndim > 2 else each.unsqueeze(2) for each in wide[:n]], 2)
        by_state = [each.flatten(1) for each in wide[n:]]
        return by_input, torch.cat(by_state, 1) if by_state else by_input.new_zeros(by_input.shape[1], 0)


def in_double(part: Tensor) -> Tensor:
    """A part of a state in float64; counters and flags stay as they are."""
    return part.double() if part.is_floating_point() else part


def in_float64(step: Kernel) -> Kernel:
    if not isinstance(step, nn.Module):
        return step
    try:
        return copy.deepcopy(step).double().requires_grad_(False)
    except Exception as error:  # a module of TorchScript, for one
        raise InputError(
            f"`step` cannot be copied to float64 ({_first_line(error)}); pass a function that takes float64."
        ) from error


def fused_outputs(fused: Kernel) -> Callable[[list[Tensor], Any], Tensor]:
    batch_first = bool(getattr(fused, "batch_first", False))

    def call(inputs: list[Tensor], state: Any) -> Tensor:
        handed: list[Any] = [each.transpose(0, 1) for each in inputs] if batch_first else list(inputs)
        if state is not None and takes(fused, len(handed) + 1):
            handed.append(map_state(state, lambda part: part.unsqueeze(0)) if isinstance(fused, nn.RNNBase) else state)
        try:
            found = fused(*handed)
        except Exception as error:
            raise InputError(f"`fused` failed: {type(error).__name__}: {_first_line(error)}") from error
        outputs = next(iter(members(found)), None)
        if not isinstance(outputs, Tensor) or outputs.ndim < 2 or not outputs.requires_grad:
            what = "a tensor without a graph" if isinstance(outputs, Tensor) else f"a {type(outputs).__name__}"
            raise InputError(f"`fused` returned {what}; return outputs [T, B, H] that autograd can follow to `inputs`.")
        return outputs.transpose(0, 1) if batch_first else outputs

    return call


def takes(fused: Kernel, count: int) -> bool:
    """Whether a callable takes `count` positional arguments; one that does not say is handed them."""
    try:
        parameters = inspect.signature(fused).parameters.values()
    except (TypeError, ValueError):
        return True
    kinds = [each.kind for each in parameters]
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return inspect.Parameter.VAR_POSITIONAL in kinds or sum(kind in positional for kind in kinds) >= count


def unrolled(step: Kernel, single: bool) -> Callable[[list[Tensor], Any], Tensor]:
    """The step over all inputs in float64."""

    def call(inputs: list[Tensor], state: Any) -> Tensor:
        rows: list[Tensor] = []
        shapes = None if state is None else [list(part.shape) for part in _parts(state, 0)]
        for t in range(inputs[0].shape[0]):
            x = tuple(each[t] for each in inputs)
            try:
                state = step(x[0] if single else x, state)
            except Exception as error:
                raise InputError(
                    f"`step` failed at step {t} in float64: {type(error).__name__}: {_first_line(error)}; pass a module, or a "
                    "function of (x_t, state) that takes float64, with its initial state."
                ) from error
            after = _parts(state, t)
            shapes, before = [list(part.shape) for part in after], shapes
            if before not in (None, shapes):
                raise InputError(
                    f"`step` changes the state's shape at step {t}: it was given {_words(before)} and returned "
                    f"{_words(shapes)}; return the same."
                )
            rows.append(after[0])
        outputs = torch.stack(rows)
        if outputs.dtype != torch.float64:
            raise InputError(f"`step` returned {outputs.dtype} for float64 inputs; compute it in float64.")
        return outputs

    return call


def _parts(state: Any, t: int) -> list[Tensor]:
    """The tensors of what the step returned at step `t`."""
    parts = tensors_of(state)
    if not parts:
        raise InputError(
            f"`step` returned a {type(state).__name__} at step {t}; return the state, a tensor or a tuple of tensors with the "
            "output first."
        )
    return parts


def _words(shapes: list[list[int]]) -> str:
    return " and ".join(map(str, shapes))


def _first_line(error: Exception) -> str:
    return (str(error).strip() or "no message").splitlines()[0]


class Rounding(TorchDispatchMode):
    """Arithmetic of another dtype inside float64: the result of every operation is rounded to it.

    To the nearest number, or with a `seed` other than 0 up or down by chance, so that each seed makes other errors; to
    float64 itself by noise of half a unit, which is what another order of the same operations may change.
    """

    def __init__(self, dtype: torch.dtype, seed: int = 0) -> None:
        super().__init__()  # pyright: ignore[reportUnknownMemberType]
        self.dtype, self.nearest = dtype, seed == 0 and dtype != torch.float64
        self.noise = torch.Generator().manual_seed(seed)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> object:
        found = func(*args, **(kwargs or {}))
        returns = func._schema.returns
        if not isinstance(found, tuple):
            return self._result(found, returns[0].alias_info) if len(returns) == 1 else found
        several = cast("tuple[object, ...]", found)
        if len(several) != len(returns):
            return several
        return tuple(self._result(each, given.alias_info) for each, given in zip(several, returns, strict=True))

    def _result(self, found: object, alias: Any) -> object:
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
