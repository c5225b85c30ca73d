"""diagnose(): what keeps a network from learning, for anyone's model.

Everything happens on a copy, under torch's own random state put back afterwards: the model, its gradients, buffers, mode and
hooks are as they were, bit for bit.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter

from rnnvg.depth import symptoms
from rnnvg.depth.gradients import NATS_PER_DECADE
from rnnvg.depth.probe import LayerView, Observation, observe
from rnnvg.depth.symptoms import Case, Finding, LayerHealth
from rnnvg.errors import InputError, check_float, check_int

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

LR, UPDATES = 0.01, 5


@dataclass(frozen=True)
class Diagnosis:
    """What `diagnose` found; as str() one sentence.

    Attributes:
        verdict: "healthy", or the name of the first finding: "exploding-gradients", "frozen-layer", "tiny-initialisation",
            "dead-relus", "saturated-units", "collapsed-weights", "vanishing-through-time" or "vanishing-gradients".
        findings: all that is wrong, causes before effects.
        layers: every layer with a weight matrix, in the order in which they gave their first output.
        ratio: gradient at the first layer's output over that at the last one's, log10.
        loss: before and after the trial updates, on the same batch.
        updates, lr: number of trial updates, and the learning rate of the assumed optimiser (nan where one was given).
        notes: what was looked at and could not be judged.
    """

    verdict: str
    findings: tuple[Finding, ...]
    layers: tuple[LayerHealth, ...]
    ratio: float
    loss: tuple[float, float]
    updates: int
    lr: float
    notes: tuple[str, ...] = ()

    @property
    def healthy(self) -> bool:
        """Whether nothing was found."""
        return not self.findings

    def __str__(self) -> str:
        if self.findings:
            first = self.findings[0]
            return f"{self.verdict}: {first.evidence} {first.remedy}"
        ratio = "" if math.isnan(self.ratio) else f", the first gets {10**self.ratio:.2g} times the last one's gradient"
        return f"healthy: {len(self.layers)} layers{ratio}; none is frozen, dead or saturated."

    def to_frame(self) -> pd.DataFrame:
        """A row per layer, columns as LayerHealth's attributes."""
        import pandas as pd

        return pd.DataFrame([asdict(each) for each in self.layers])

    def plot(self, ax: Axes | None = None) -> Axes:
        """Adjoint and gradient by layer on a log axis, layers that were found at fault marked. Returns the Axes."""
        from rnnvg.depth import figures

        return figures.draw_diagnosis(self, ax)


def diagnose(
    model: nn.Module,
    batch: Any,
    loss: Callable[[Any, Any], Tensor],
    *,
    optimizer: torch.optim.Optimizer | None = None,
    lr: float = LR,
    updates: int = UPDATES,
) -> Diagnosis:
    """Look for what keeps a model from learning, on one batch.

    A copy of the model is run in the mode it is in (call .train() on it first to judge it as it trains), watched, given a
    few updates on the same batch, and watched again: whether early layers move is seen, not inferred.

    Args:
        model: any nn.Module. Layers are its modules that own a weight matrix; ReLU, sigmoid, tanh and hardtanh are seen as
            modules and as function calls alike.
        batch: whatever `loss` takes; at least 8 items, or dead ReLUs cannot be told from silent ones. Used several times.
        loss: loss(model, batch) -> scalar tensor. It must call the model that it is handed, which is a copy.
        optimizer: the model's own; its copy takes the trial updates, with its state, learning rates and weight decay.
            None: plain gradient descent with `lr`.
        lr: learning rate that is assumed where no optimiser is given.
        updates: number of trial updates, at least 1.

    Returns:
        A Diagnosis. Thresholds are in rnnvg.depth.symptoms.THRESHOLDS.

    Raises:
        InputError: a model without parameters or with a weight that is not finite, an empty batch, a loss that is not a
            scalar or does not depend on the model, a model that cannot be copied.

    >>> model = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 1))
    >>> _ = nn.init.constant_(model[0].bias, -100)
    >>> diagnose(model, torch.rand(16, 4), lambda model, x: model(x).square().mean()).verdict
    'dead-relus'
    """
    lr, updates = check_float("lr", lr, above=0), check_int("updates", updates, least=1)
    _check(model, batch, loss)
    devices = sorted({each.device.index or 0 for each in model.parameters() if each.device.type == "cuda"})
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(0)  # dropout: the same diagnosis every time
        model, given, batch = _copied(model, optimizer, batch)
        optimise = given or torch.optim.SGD(model.parameters(), lr=lr)

        def compute() -> Tensor:
            return _scalar(loss(model, batch))

        _check_depends(model, compute)
        before = observe(model, compute)
        gains = {layer.name: symptoms.weight_gain(layer) for layer in before.layers}
        moves = _trial(before.layers, optimise, compute, updates)
        after = observe(model, compute)
    zero = [name for name, gain in gains.items() if gain == 0]
    layers = tuple(_health(layer, gains[layer.name], moves[layer.name]) for layer in before.layers)
    case = Case(
        before=before,
        layers=layers,
        ratio=_lasting(symptoms.log10_ratio(before, zero), symptoms.log10_ratio(after, zero)),
        loss=(before.loss, after.loss),
        frozen=_frozen(before.layers, given),
        updates=updates,
    )
    found = symptoms.findings(case)
    return Diagnosis(
        verdict=found[0].name if found else "healthy",
        findings=found,
        layers=layers,
        ratio=case.ratio,
        loss=case.loss,
        updates=updates,
        lr=lr if given is None else math.nan,
        notes=tuple(_notes(before)),
    )


def _check(model: Any, batch: Any, loss: Any) -> None:
    if not isinstance(model, nn.Module):
        raise InputError(f"`model` is a {type(model).__name__}; pass an nn.Module.")
    if not any(True for _ in model.parameters()):
        raise InputError(f"`model` is a {type(model).__name__} without parameters; pass one that can learn.")
    for name, each in model.named_parameters():
        if not isinstance(each, UninitializedParameter) and not bool(torch.isfinite(each).all()):
            raise InputError(f"`model` has a value that is not finite in {name}; pass it as it was before it diverged.")
    if not callable(loss):
        raise InputError(f"`loss` is a {type(loss).__name__}; pass a function loss(model, batch) -> scalar tensor.")
    if _is_empty(batch):
        raise InputError("`batch` is empty; pass at least one item.")


def _is_empty(batch: Any) -> bool:
    """Whether there is a tensor or array without numbers in it, or a container without anything."""
    if isinstance(batch, Tensor):
        return batch.numel() == 0
    if isinstance(batch, Mapping):
        return not batch or any(_is_empty(each) for each in batch.values())
    if isinstance(batch, (tuple, list)):
        return not batch or any(_is_empty(each) for each in batch)
    return getattr(batch, "size", None) == 0  # a NumPy array


def _copied(model: nn.Module, optimizer: Any, batch: Any) -> tuple[nn.Module, Any, Any]:
    try:
        return copy.deepcopy((model, optimizer, batch))  # together: the optimiser's copy holds the copied weights
    except Exception as error:  # whatever a user's own classes raise: there is nothing to diagnose without a copy
        raise InputError(
            f"The model, its optimiser or the batch cannot be copied ({type(error).__name__}: {error}); pass ones that "
            "copy.deepcopy takes."
        ) from None


def _scalar(found: Any) -> Tensor:
    if not isinstance(found, Tensor) or found.numel() != 1:
        what = f"has shape {list(found.shape)}" if isinstance(found, Tensor) else f"is a {type(found).__name__}"
        raise InputError(f"What `loss` returns {what}; return a scalar tensor, for example its mean.")
    return found.reshape(())


def _check_depends(model: nn.Module, compute: Callable[[], Tensor]) -> None:
    with torch.enable_grad():
        loss = compute()
        weights = [each for each in model.parameters() if each.requires_grad]
        grads = torch.autograd.grad(loss, weights, allow_unused=True) if loss.requires_grad and weights else []
    if all(grad is None for grad in grads):
        raise InputError(
            "`loss` does not depend on the model's parameters; compute it from the model that it is handed (a copy), "
            "outside no_grad, with at least one parameter that requires a gradient."
        )


@dataclass
class _Move:
    """How a layer's weights moved over the trial: mean length of an update over theirs, and their gain at the end."""

    ratio: float = 0.0
    gain: float = math.nan


def _trial(
    layers: list[LayerView], optimise: torch.optim.Optimizer, compute: Callable[[], Tensor], updates: int
) -> dict[str, _Move]:
    def closure() -> Tensor:
        optimise.zero_grad()
        with torch.enable_grad():
            loss = compute()
            loss.backward()
        return loss

    moves = {layer.name: _Move() for layer in layers}
    for _ in range(updates):
        was = {layer.name: [each.detach().clone() for each in layer.weights] for layer in layers}
        optimise.step(closure)  # type: ignore[arg-type]
        for layer in layers:
            steps = [now.detach() - then for now, then in zip(layer.weights, was[layer.name], strict=True)]
            length = _norm(was[layer.name])
            moves[layer.name].ratio += _norm(steps) / length / updates if length else 0.0
    for layer in layers:
        moves[layer.name].gain = symptoms.weight_gain(layer)
    return moves


def _norm(tensors: list[Any]) -> float:
    return math.sqrt(sum(float(each.detach().double().pow(2).sum()) for each in tensors))


def _lasting(before: float, after: float) -> float:
    """The ratio that stays: what a few updates cure is no defect."""
    if math.isnan(before) or math.isnan(after):
        return after if math.isnan(before) else before
    return max(before, after) if before < 0 else before


def _frozen(layers: list[LayerView], optimizer: torch.optim.Optimizer | None) -> dict[str, str]:
    """Layers that ran and whose weights no update can move, with the reason."""
    rates: dict[int, float] = {}
    if optimizer is not None:
        rates = {id(each): float(group["lr"]) for group in optimizer.param_groups for each in group["params"]}
    found = {}
    for layer in layers:
        if not layer.called:
            continue
        if not any(each.requires_grad for each in layer.weights):
            found[layer.name] = "requires_grad is False"
        elif not layer.connected:
            found[layer.name] = (
                "no gradient comes back to them (detach(), no_grad(), or an output that the loss does not use)"
            )
        elif optimizer is not None and not any(id(each) in rates for each in layer.weights):
            found[layer.name] = "the optimiser does not hold them"
        elif optimizer is not None and not any(rates.get(id(each)) for each in layer.weights):
            found[layer.name] = "the optimiser's learning rate for them is 0"
    return found


def _health(layer: LayerView, gain: float, move: _Move) -> LayerHealth:
    judged = [each for each in layer.units if each.items >= symptoms.FEWEST_ITEMS]
    saturated = [each.saturated for each in judged if each.hidden and not math.isnan(each.saturated)]
    dead = [each.dead for each in judged if not math.isnan(each.dead)]
    return LayerHealth(
        name=layer.name,
        kind=type(layer.module).__name__,
        trainable=any(each.requires_grad for each in layer.weights),
        gain=gain,
        log10_gradient=layer.log_gradient / NATS_PER_DECADE,
        log10_adjoint=layer.log_adjoint / NATS_PER_DECADE,
        update_ratio=move.ratio,
        gain_after=move.gain,
        dead=max(dead, default=math.nan),
        saturated=max(saturated, default=math.nan),
        called=layer.called,
        connected=layer.connected,
    )


def _notes(seen: Observation) -> Iterator[str]:
    if not seen.layers:
        yield "No module owns a weight matrix, so no layer could be judged."
    few = [each.items for layer in seen.layers for each in layer.units if each.items < symptoms.FEWEST_ITEMS]
    if few:
        yield f"Dead and saturated units need at least {symptoms.FEWEST_ITEMS} items; the batch has {max(few)}."
    idle = [layer.name for layer in seen.layers if not layer.called and not layer.connected]
    if idle:
        yield f"Never called: {', '.join(idle)}."
    for layer in seen.layers:
        decades = layer.log_through_time / NATS_PER_DECADE
        if (
            isinstance(layer.module, (nn.LSTM, nn.GRU, nn.LSTMCell, nn.GRUCell))
            and decades < symptoms.THRESHOLDS["vanishes"]
        ):
            yield (
                f"The first of {layer.steps} steps of {layer.name} get 10^{decades:.0f} of the gradient that the last get; "
                "gates open as they learn, so look again later (rnnvg.watch)."
            )
