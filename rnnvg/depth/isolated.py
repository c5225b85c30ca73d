"""A copy of someone's model to try things on: nothing that is done to it reaches the original or the program around it."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rnnvg.errors import InputError


@contextmanager
def isolated(model: nn.Module) -> Iterator[None]:
    """Random states of torch, NumPy and Python seeded, and put back afterwards; gradients on, whatever they were outside.

    A model may draw from any of the three: dropout from torch's, teacher forcing often from Python's.
    """
    devices = sorted({each.device.index or 0 for each in model.parameters() if each.device.type == "cuda"})
    python, numbers = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=devices), torch.inference_mode(False), torch.enable_grad():
            torch.manual_seed(0)
            random.seed(0)
            np.random.seed(0)
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numbers)


def copied(model: nn.Module, optimizer: Any, batch: Any) -> tuple[nn.Module, Any, Any]:
    """Copies of all three, taken together: the optimiser's copy holds the copied weights.

    Weights that a wrapper or a parametrization computed for a recurrent module stand in it as results of autograd, which
    copy.deepcopy refuses; their copies are constants until the module computes them again.

    Raises:
        InputError: one of them cannot be copied.
    """
    memo: dict[int, Any] = {}
    for module in model.modules():
        if isinstance(module, nn.RNNBase):
            _remember(memo, (*module._flat_weights, *vars(module).values()))
    try:
        return copy.deepcopy((getattr(model, "_orig_mod", model), optimizer, batch), memo)
    except Exception as error:  # whatever a user's own classes raise: there is nothing to diagnose without a copy
        raise InputError(
            f"The model, its optimiser or the batch cannot be copied ({type(error).__name__}: {error}); pass ones that "
            "copy.deepcopy takes."
        ) from None


def _remember(memo: dict[int, Any], values: tuple) -> None:
    for value in values:
        if isinstance(value, Tensor) and not value.is_leaf:
            memo[id(value)] = value.detach().clone()


def scripted_part(model: nn.Module) -> str | None:
    """The name of the first part that torch.jit made ("`model`" for all of it), or None."""
    for name, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            return f"`{name or 'model'}`"
    return None
