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
from torch.overrides import TorchFunctionMode

from rnnvg.depth.blocks import log_norm

RESCALE = 2.0**100  # a second look at gradients that read 0: float32 ends at 1e-38 (1e-45 with denormals)
_RELU, _SIGMOID, _TANH, _HARD = "relu", "sigmoid", "tanh", "hardtanh"
_KINDS: dict[Any, str] = {
    **dict.fromkeys((F.relu, F.relu_, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_), _RELU),
    **dict.fromkeys((F.sigmoid, torch.sigmoid, torch.sigmoid_, Tensor.sigmoid, Tensor.sigmoid_), _SIGMOID),
    **dict.fromkeys((F.tanh, torch.tanh, torch.tanh_, Tensor.tanh, Tensor.tanh_), _TANH),
    **dict.fromkeys((F.hardtanh, F.hardtanh_), _HARD),
}
# A slope below a twentieth of the largest: sigmoid' = s (1 - s) <= 1/4, tanh' = 1 - h^2 <= 1, hardtanh's is 0 at the stops.
_FLAT = 0.05


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
    outputs: list[Tensor] = field(default_factory=list)
    inputs: list[Tensor] = field(default_factory=list)  # of a recurrent layer
    units: list[Units] = field(default_factory=list)
    log_adjoint: float = math.nan
    log_gradient: float = math.nan
    connected: bool = False  # some weight has a gradient, be it 0
    log_through_time: float = math.nan  # first steps' gradient over the largest step's, of a recurrent layer
    steps: int = 0

    @property
    def called(self) -> bool:
        return bool(self.outputs)


@dataclass(frozen=True)
class Observation:
    """One watched pass: the loss, and the layers in the order in which they gave their first output."""

    loss: float
    layers: list[LayerView]


def weight_layers(model: nn.Module) -> list[LayerView]:
    """The modules that own a weight matrix, in order of registration."""
    found = []
    for name, module in model.named_modules():
        weights = [each for each in module.parameters(recurse=False) if each.ndim >= 2]
        if weights:
            found.append(LayerView(name or type(module).__name__, module, weights))
    return found


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
            if isinstance(layer.module, nn.RNNBase):
                self.hooks.append(layer.module.register_forward_pre_hook(self._before(layer)))
            self.hooks.append(layer.module.register_forward_hook(self._after(index)))

    def detach(self) -> None:
        for hook in self.hooks:
            hook.remove()

    def _before(self, layer: LayerView) -> Callable[..., Any]:
        def hook(_: nn.Module, arguments: tuple) -> tuple | None:
            if not arguments or not isinstance(arguments[0], Tensor):
                return None  # a packed sequence has no axis of time to look along
            tracked = _tracked(arguments[0])
            layer.inputs.append(tracked)
            with torch.enable_grad():
                return (tracked.clone(), *arguments[1:])

        return hook

    def _after(self, index: int) -> Callable[..., Any]:
        layer = self.layers[index]

        def hook(module: nn.Module, _: tuple, output: Any) -> Any:
            for earlier in self.layers:
                for units in earlier.units:
                    units.hidden = True
            if not layer.called:
                self.order.append(index)
            self.current, self.since = layer, 0
            kind = _recurrent_activation(module)
            if kind and isinstance(output, (tuple, Tensor)):
                self.record(kind, output if isinstance(output, Tensor) else output[0])
            with torch.enable_grad():
                return _track_all(output, layer.outputs)

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
        units.flat += int((_slope_share(kind, rows) < _FLAT).sum())
        units.values += rows.numel()


def _recurrent_activation(module: nn.Module) -> str | None:
    if isinstance(module, (nn.RNN, nn.RNNCell)):
        return _RELU if module.nonlinearity == "relu" else _TANH
    return None


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
    if type(output) in (tuple, list):
        return type(output)(_track_all(each, found) for each in output)
    return output


def _gradients(loss: Tensor, layers: list[LayerView]) -> None:
    """Fill in what the backward pass says."""
    wanted: list[Tensor] = []
    for layer in layers:
        wanted += [each for each in (*layer.weights, *layer.outputs, *layer.inputs) if each.requires_grad]
    found = dict(zip(map(id, wanted), _grad(loss, wanted), strict=True))
    for layer in layers:
        grads = [found[id(each)] for each in layer.weights if found.get(id(each)) is not None]
        layer.connected = bool(grads)
        layer.log_gradient = _log_norm(grads)
        layer.log_adjoint = _log_norm([found.get(id(each)) for each in layer.outputs])
        _through_time(layer, found)


def _grad(loss: Tensor, wanted: list[Tensor]) -> list[tuple[Tensor, float] | None]:
    """(gradient, the log of what it was multiplied by) for each tensor; None where the loss does not depend on it."""
    if not wanted:
        return []
    grads = torch.autograd.grad(loss, wanted, allow_unused=True, retain_graph=True)
    found = [None if each is None else (_dense(each), 0.0) for each in grads]
    gone = [index for index, each in enumerate(found) if each is not None and not bool(each[0].any())]
    if gone and loss.dtype in (torch.float32, torch.float64):
        again = torch.autograd.grad(
            loss * RESCALE, [wanted[index] for index in gone], allow_unused=True, retain_graph=True
        )
        for index, grad in zip(gone, again, strict=True):
            if grad is not None and bool(torch.isfinite(_dense(grad)).all()):
                found[index] = (_dense(grad), math.log(RESCALE))
    return found


def _dense(grad: Tensor) -> Tensor:
    return grad.coalesce().values() if grad.is_sparse else grad


def _log_norm(grads: list[tuple[Tensor, float] | None]) -> float:
    """ln of the norm of all together; nan where there is none."""
    logs = [log_norm([grad]) - scale for grad, scale in filter(None, grads) if grad.numel()]
    return _log_root_sum(logs) if logs else math.nan


def _log_root_sum(logs: list[float]) -> float:
    largest = max(logs)
    if not math.isfinite(largest) or any(math.isnan(each) for each in logs):
        return math.nan if any(math.isnan(each) for each in logs) else largest
    return largest + 0.5 * math.log(sum(math.exp(2 * (each - largest)) for each in logs))


def _through_time(layer: LayerView, found: dict[int, tuple[Tensor, float] | None]) -> None:
    """The first tenth of the steps against the step with the most gradient, by input (fused) or by call (a cell)."""
    if isinstance(layer.module, nn.RNNBase) and len(layer.inputs) == 1:
        whole = found.get(id(layer.inputs[0]))
        if whole is None or whole[0].ndim != 3:
            return
        by_step = whole[0].movedim(1 if layer.module.batch_first else 0, 0).flatten(1)
        logs = [_log_norm([(each, whole[1])]) for each in by_step]
    elif isinstance(layer.module, nn.RNNCellBase):
        parts = 2 if isinstance(layer.module, nn.LSTMCell) else 1
        calls = [layer.outputs[at : at + parts] for at in range(0, len(layer.outputs), parts)]
        logs = [_log_norm([found.get(id(each)) for each in call]) for call in calls]
        logs = [-math.inf if math.isnan(each) else each for each in logs]
    else:
        return
    layer.steps = len(logs)
    early = logs[: max(1, len(logs) // 10)]
    top = max(logs)
    if math.isfinite(top):
        layer.log_through_time = _log_root_sum(early) - 0.5 * math.log(len(early)) - top
