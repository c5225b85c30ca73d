"""One forward and backward pass through any nn.Module, watched: weights, gradients, adjoints and activations, layer by layer.

A *layer* is a module that owns a weight matrix (two axes or more): linear, convolutional, recurrent, embedding or one's own.
Its adjoint is dL/d(its output), over all items and all calls. Activations are seen where they are computed, as a module or
as a function call, and are counted with the layer that ran before them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils.parametrize import ParametrizationList
from torch.nn.utils.rnn import PackedSequence
from torch.overrides import TorchFunctionMode

from rnnvg.depth.adjoints import Grad, by_norm, gradients, log_root_sum
from rnnvg.depth.not_finite import Place, place
from rnnvg.depth.recurrent import EARLY, FLAT, Call, can_follow

CHAIN = 8  # a layer called so often, each call upon the one before, is a recurrence written by hand
_RELU, _SIGMOID, _TANH, _HARD = "relu", "sigmoid", "tanh", "hardtanh"
_KINDS: dict[Any, str] = {
    **dict.fromkeys((F.relu, F.relu_, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_), _RELU),
    **dict.fromkeys((F.sigmoid, torch.sigmoid, torch.sigmoid_, Tensor.sigmoid, Tensor.sigmoid_), _SIGMOID),
    **dict.fromkeys((F.tanh, torch.tanh, torch.tanh_, Tensor.tanh, Tensor.tanh_), _TANH),
    **dict.fromkeys((F.hardtanh, F.hardtanh_), _HARD),
}


@dataclass
class Units:
    """What an activation's units did over all items: which ever fired, and how many values sit where the slope is flat."""

    kind: str
    fired: Tensor
    flat: int = 0
    values: int = 0
    hidden: bool = False  # a layer came after it

    @property
    def items(self) -> int:
        return self.values // len(self.fired)

    @property
    def dead(self) -> float:
        """Share of units that are 0 for every item; nan for what cannot die."""
        return 1 - float(self.fired.double().mean()) if self.kind == _RELU else math.nan

    @property
    def saturated(self) -> float:
        """Share of values on a flat part; nan for what has none."""
        return math.nan if self.kind == _RELU else self.flat / max(1, self.values)


@dataclass
class LayerView:
    """One layer in one pass. Logs are natural; nan where there was nothing to measure."""

    name: str
    module: nn.Module
    weights: list[nn.Parameter]
    calls: list[list[Tensor]] = field(default_factory=list)  # the outputs of each
    handed: list[Call] = field(default_factory=list)  # of a fused recurrent module or cell
    units: list[Units] = field(default_factory=list)
    not_finite: Place | None = None  # in its first output that is not finite
    clean_inputs: bool = True  # what it was handed before that was finite
    log_adjoint: float = math.nan
    log_gradient: float = math.nan
    connected: bool = False  # some weight has a gradient, be it 0
    log_by_call: list[float] = field(
        default_factory=list
    )  # gradient at each call's output, where calls follow on each other
    lost_early: bool = True  # the loss itself does not look at the first steps' outputs

    @property
    def outputs(self) -> list[Tensor]:
        return [each for call in self.calls for each in call]

    @property
    def gain(self) -> float:
        """Root mean square weight times sqrt(fan-in), the largest of its matrices; nan for an embedding."""
        if isinstance(self.module, (nn.Embedding, nn.EmbeddingBag)):
            return math.nan
        return max(float(each.detach().double().norm()) / math.sqrt(each.shape[0]) for each in self.weights)

    @property
    def called(self) -> bool:
        return bool(self.calls)


@dataclass(frozen=True)
class Observation:
    """One watched pass: the loss, and the layers in the order in which they gave their first output."""

    loss: float
    layers: list[LayerView]


def weight_layers(model: nn.Module) -> list[LayerView]:
    """The modules that own a weight matrix, in order of registration."""
    found = []
    for name, module in model.named_modules():
        weights = _matrices(module)
        if weights and not isinstance(module, ParametrizationList):
            found.append(LayerView(name or type(module).__name__, module, weights))
    return found


def _matrices(module: nn.Module) -> list[nn.Parameter]:
    """Its own weight matrices, and those that a parametrization makes them of."""
    own = list(module.parameters(recurse=False))
    if hasattr(module, "parametrizations"):
        own += list(module.parametrizations.parameters())  # type: ignore[union-attr]
    return [each for each in own if each.ndim >= 2]


def observe(model: nn.Module, compute: Callable[[], Tensor]) -> Observation:
    """Run `compute` (a pass through `model` that returns its loss) once and look at everything.

    The model's parameters, gradients and mode stay as they are; buffers move as they do in any forward pass.
    """
    layers = weight_layers(model)
    watch = _Watch(layers)
    try:
        watch.attach()
        with torch.enable_grad(), watch:
            loss = compute()
    finally:
        watch.detach()
    ordered = [layers[index] for index in watch.order] + [each for each in layers if not each.called]
    _gradients(loss, ordered)
    return Observation(float(loss.detach()), ordered)


class _Watch(TorchFunctionMode):
    """Hooks on the layers, and an eye on every activation function called meanwhile."""

    def __init__(self, layers: list[LayerView]) -> None:
        super().__init__()
        self.layers, self.order, self.hooks = layers, [], []
        self.current: LayerView | None = None
        self.since = 0  # activations since the current layer's call

    def attach(self) -> None:
        for index, layer in enumerate(self.layers):
            if isinstance(layer.module, (nn.RNNBase, nn.RNNCellBase)) and can_follow(layer.module):
                self.hooks.append(layer.module.register_forward_pre_hook(_handed_to(layer), with_kwargs=True))
            self.hooks.append(layer.module.register_forward_hook(self._after(index)))

    def detach(self) -> None:
        for hook in self.hooks:
            hook.remove()

    def _after(self, index: int) -> Callable[..., Any]:
        layer = self.layers[index]

        def hook(module: nn.Module, given: tuple, output: Any) -> Any:
            for earlier in self.layers:
                for units in earlier.units:
                    units.hidden = True
            if not layer.called:
                self.order.append(index)
            self.current, self.since = layer, 0
            if isinstance(module, nn.RNNCell) and isinstance(output, Tensor):
                self.record(_RELU if module.nonlinearity == "relu" else _TANH, output)
            with torch.enable_grad():
                found: list[Tensor] = []
                tracked = _track_all(output, found)
            layer.calls.append(found)
            if layer.not_finite is None:
                _note_not_finite(layer, given, found)
            return tracked

        return hook

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        kind = _KINDS.get(func)
        if kind is not None and isinstance(result, Tensor):
            self.record(kind, result)
        return result

    @torch.no_grad()
    def record(self, kind: str, values: Tensor) -> None:
        layer = self.current
        if layer is None or values.ndim < 2 or not values.numel() or not values.is_floating_point():
            return
        channels = isinstance(layer.module, _ConvNd) and values.ndim >= 3
        rows = values.detach().movedim(1 if channels else -1, -1).flatten(0, -2)
        if self.since == len(layer.units):
            layer.units.append(Units(kind, torch.zeros(rows.shape[1], dtype=torch.bool, device=rows.device)))
        units = layer.units[self.since]
        self.since += 1
        if units.kind != kind or len(units.fired) != rows.shape[1]:
            return  # the same layer served somewhere else
        units.fired |= (rows != 0).any(0)
        units.flat += int((_slope_share(kind, rows) < FLAT).sum())
        units.values += rows.numel()


def _handed_to(layer: LayerView) -> Callable[..., None]:
    def hook(_: nn.Module, arguments: tuple, named: dict[str, Any]) -> None:
        inputs = arguments[0] if arguments else named.get("input")
        state = arguments[1] if len(arguments) > 1 else named.get("hx")
        layer.handed.append(Call(_copied(inputs), _copied(state)))

    return hook


def _copied(value: Any) -> Any:
    """Detached copies: what is worked on in place afterwards does not change what was handed over."""
    if isinstance(value, PackedSequence):
        return value._replace(data=value.data.detach().clone())
    if isinstance(value, Tensor):
        return value.detach().clone()
    return tuple(_copied(each) for each in value) if isinstance(value, (tuple, list)) else value


def _slope_share(kind: str, values: Tensor) -> Tensor:
    """The slope at each value, as a share of the largest."""
    if kind == _SIGMOID:
        return 4 * values * (1 - values)
    if kind == _TANH:
        return 1 - values * values
    if kind == _HARD:
        stops = (values == values.max()) | (values == values.min())
        return (~stops).to(values.dtype)
    return torch.ones_like(values)


def _note_not_finite(layer: LayerView, given: tuple, outputs: list[Tensor]) -> None:
    layer.not_finite = next(filter(None, (place(f"the output of {layer.name}", each) for each in outputs)), None)
    if layer.not_finite is not None:
        inputs: list[Tensor] = []
        with torch.no_grad():
            _track_all(given, inputs)
        layer.clean_inputs = all(place("", each) is None for each in inputs)


def _tracked(tensor: Tensor) -> Tensor:
    """A tensor that autograd can be asked about: a new leaf where nothing before it has a gradient."""
    if tensor.requires_grad or not tensor.is_floating_point():
        return tensor
    return tensor.detach().requires_grad_()


def _track_all(output: Any, found: list[Tensor]) -> Any:
    """`output` with every tensor noted in `found` and passed on as a copy, which may be worked on in place."""
    if isinstance(output, Tensor) and output.is_floating_point():
        tracked = _tracked(output)
        found.append(tracked)
        return tracked.clone()
    if isinstance(output, PackedSequence):
        return output._replace(data=_track_all(output.data, found))
    if isinstance(output, tuple) and hasattr(output, "_fields"):
        return type(output)(*(_track_all(each, found) for each in output))
    if type(output) in (tuple, list):
        return type(output)(_track_all(each, found) for each in output)
    return output


def _gradients(loss: Tensor, layers: list[LayerView]) -> None:
    """Fill in what the backward pass says."""
    wanted = [each for layer in layers for each in (*layer.weights, *layer.outputs) if each.requires_grad]
    found = dict(zip(map(id, wanted), gradients(loss, wanted), strict=True))
    for layer in layers:
        grads = [found[id(each)] for each in layer.weights if found.get(id(each)) is not None]
        layer.connected = bool(grads)
        layer.log_gradient = by_norm(grads)
        layer.log_adjoint = by_norm([found.get(id(each)) for each in layer.outputs])
        if _is_chain(layer):
            logs = [by_norm([found.get(id(each)) for each in call]) for call in layer.calls]
            layer.log_by_call = [-math.inf if math.isnan(each) else each for each in logs]
        elif layer.handed and layer.outputs:
            layer.lost_early = _lost_early(layer.module, found.get(id(layer.outputs[0])))


def _is_chain(layer: LayerView) -> bool:
    """Whether the layer was called upon its own output again and again: the last call's output depends on the first's."""
    if len(layer.calls) < CHAIN or not layer.calls[0] or not layer.calls[-1]:
        return False
    first, last = layer.calls[0][0], layer.calls[-1][-1]
    if not first.requires_grad or not last.requires_grad:
        return False
    return torch.autograd.grad(last.sum(), first, retain_graph=True, allow_unused=True)[0] is not None


def _lost_early(module: nn.Module, grad: Grad | None) -> bool:
    """Whether the first steps' own outputs get next to nothing of the loss: what reaches them has to come through time."""
    if grad is None or grad[0].ndim != 3:
        return True
    by_step = grad[0].movedim(1 if getattr(module, "batch_first", False) else 0, 0).flatten(1)
    logs = [by_norm([(each, grad[1])]) for each in by_step]
    early = log_root_sum(logs[: max(1, int(EARLY * len(logs)))])
    return early < max(logs) - _DIRECT


_DIRECT = math.log(1000)
