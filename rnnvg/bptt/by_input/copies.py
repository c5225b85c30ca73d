"""A model's copy to measure on, and what it lacks of the original."""

from __future__ import annotations

import copy
import inspect
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from rnnvg.errors import InputError
from rnnvg.pytorch import BATCH_NORMS, DROPOUTS, apply

HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")


def module_copy(module: nn.Module, dtype: torch.dtype | None) -> nn.Module:
    """A copy in evaluation mode and in `dtype` (None: its own), whose weights need no gradient.

    Recurrent modules stay in training mode without dropout: cuDNN has no backward pass for them in evaluation mode. Hooks are
    left out, for they may record or count; those of PyTorch, which set weights, stay.
    """
    memo: dict[int, Any] = {}
    for each in module.modules():
        for name in HOOKS:
            memo[id(getattr(each, name))] = _kept(getattr(each, name))
        for value in vars(each).values():  # what an old weight_norm computes anew before each call
            if isinstance(value, Tensor) and not value.is_leaf:
                memo[id(value)] = value.detach().clone()
    try:
        with torch.inference_mode(False):
            found = copy.deepcopy(module, memo)
        found.requires_grad_(False).eval()  # which a module of TorchScript refuses
        if dtype is not None:
            _convert(found, dtype)
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(
            f"`model` cannot be copied ({reason}); pass a function of the inputs, which is run as it is."
        ) from error
    for each in found.modules():
        if isinstance(each, nn.RNNBase):
            each.dropout = 0.0
            each.train()
    return found


def _convert(module: nn.Module, dtype: torch.dtype) -> None:
    """What `module.to(dtype)` does to real numbers, and to complex ones as wide: that would drop their imaginary parts."""

    def wider(tensor: Tensor) -> Tensor:
        if tensor.is_complex():
            return tensor.to(dtype.to_complex())
        return tensor.to(dtype) if tensor.is_floating_point() else tensor

    apply(module, wider)


def _home(hook: Any) -> str:
    """The package that a hook comes from."""
    owner = hook.__self__ if inspect.ismethod(hook) else hook
    module = owner.__module__ if inspect.isfunction(owner) else type(owner).__module__
    return module.split(".")[0]


def _kept(hooks: Mapping[int, Any]) -> OrderedDict[int, Any]:
    return OrderedDict((key, hook) for key, hook in hooks.items() if _home(hook) == "torch")


def hooks_left_out(module: nn.Module) -> list[str]:
    """A user's own hooks, which the copy does without, in one sentence."""
    hooks = [hook for each in module.modules() for name in HOOKS for hook in getattr(each, name).values()]
    n = sum(_home(hook) not in ("torch", "rnnvg") for hook in hooks)
    return [f"Measured without the model's {n} hooks; a function of the inputs keeps them."] if n else []


def switched_off(module: nn.Module) -> list[str]:
    """What evaluation mode changes in a model that was in training mode, in one sentence."""
    off: set[str] = set()
    for each in module.modules():
        if not each.training:
            continue
        if isinstance(each, DROPOUTS) and each.p > 0:
            off.add("dropout is off")
        if isinstance(each, nn.RNNBase) and each.dropout > 0 and each.num_layers > 1:
            off.add("dropout is off")
        if isinstance(each, BATCH_NORMS):
            off.add("batch normalisation uses its running averages")
    return [f"Measured in evaluation mode: {' and '.join(sorted(off))}."] if off else []
