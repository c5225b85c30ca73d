"""The weights that a module runs with, read without changing anything, and a plain module over copies of them.

A weight may be computed when it is read (parametrizations), and reading it may draw a mask or move a power iteration on. Or
a hook writes it before each call (weight_norm, spectral_norm, pruning), so that it is out of date between two calls.
"""

from __future__ import annotations

import copy
import itertools
import operator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from rnnvg.pytorch import forward_pre_hooks, pruned, weight_names

FUSED = (nn.RNN, nn.LSTM, nn.GRU)
CELLS = (nn.RNNCell, nn.LSTMCell, nn.GRUCell)


def _nothing(module: nn.Module) -> None: ...


# The same classes without the drawing of initial weights, which on the meta device takes longer than an analysis.
BLANK = {kind: type(kind.__name__, (kind,), {"reset_parameters": _nothing}) for kind in (*FUSED, *CELLS)}
NARROW = (torch.float16, torch.bfloat16)
NAMES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")


def own_weights(module: nn.Module) -> dict[str, Tensor]:
    """The weights of a module by name, detached, as its next call in evaluation mode would use them.

    Nothing of the module changes: computed weights are computed in evaluation mode (no mask, no power iteration).
    """
    if isinstance(module, nn.RNNBase):
        names = weight_names(module)
    elif isinstance(module, nn.RNNCellBase):
        names = [name for name in NAMES if getattr(module, name, None) is not None]
    else:
        names = [name for name, _ in itertools.chain(module.named_parameters(), module.named_buffers())]
        names += list(getattr(module, "parametrizations", {}))
    computed = getattr(module, "parametrizations", None)
    inside = [] if computed is None else [each for each in computed.modules() if each.training]
    try:
        for each in inside:
            each.training = False
        with torch.no_grad():
            found = {name: operator.attrgetter(name)(module).detach() for name in names}
            found |= {name: weight.detach() for name, weight in _written_by_hooks(module).items() if name in found}
    finally:
        for each in inside:
            each.training = True
    return found


def _written_by_hooks(module: nn.Module) -> dict[str, Tensor]:
    """Weights that a hook will write before the next call; what the attribute holds is of the last one."""
    found: dict[str, Tensor] = {}
    for hook in forward_pre_hooks(module):
        if isinstance(hook, WeightNorm):
            found[hook.name] = hook.compute_weight(module)
        elif isinstance(hook, SpectralNorm):
            found[hook.name] = hook.compute_weight(module, do_power_iteration=False)
        elif isinstance(hook, BasePruningMethod):
            found |= pruned(hook, module)
    return found


def plain_module(module: Any, weights: dict[str, Tensor] | None = None) -> Any:
    """PyTorch's own module or cell of the same shape, in evaluation mode, with copies of `weights` that take no gradient.

    Args:
        module: the one to follow; a module of another kind is copied whole.
        weights: by name; None for the module's own. Narrower ones than float32 become float32.
    """
    kind = next((kind for kind in (*FUSED, *CELLS) if isinstance(module, kind)), None)
    if kind is None:
        return copy.deepcopy(module).requires_grad_(False).eval()
    settings: dict[str, Any] = {}
    if isinstance(module, nn.RNNBase):
        settings = {name: getattr(module, name) for name in ("num_layers", "batch_first", "bidirectional")}
    plain = _blank(kind, module, module.input_size, **settings)
    for name, weight in (own_weights(module) if weights is None else weights).items():
        setattr(plain, name, nn.Parameter(at_least_single(weight.detach()).clone(), requires_grad=False))
    return plain.eval()


def one_layer(module: nn.RNNBase, layer: int, way: int = 0) -> nn.RNNBase:
    """One direction of layer `layer` of a plain module on its own, forwards and time first, over the same weights."""
    kind = next(kind for kind in FUSED if isinstance(module, kind))
    suffix = f"_l{layer}{'_reverse' * way}"
    single = _blank(kind, module, getattr(module, f"weight_ih{suffix}").shape[1])
    for name in weight_names(single):
        setattr(single, name, getattr(module, name.removesuffix("_l0") + suffix))
    return single.eval()


def _blank(kind: type, module: Any, n_inputs: int, **settings: Any) -> Any:
    """A module or cell of PyTorch's own with the hidden size and equations of `module`, without weights."""
    if isinstance(module, (nn.RNN, nn.RNNCell)):
        settings["nonlinearity"] = getattr(module, "nonlinearity", "tanh")
    if getattr(module, "proj_size", 0):
        settings["proj_size"] = module.proj_size
    blank = BLANK[kind](n_inputs, module.hidden_size, bias=module.bias, device="meta", **settings)
    blank.__class__ = kind
    return blank


def at_least_single(tensor: Tensor) -> Tensor:
    """float16 and bfloat16 as float32, everything else as it is."""
    return tensor.float() if tensor.dtype in NARROW else tensor
