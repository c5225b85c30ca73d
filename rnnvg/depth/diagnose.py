"""diagnose(): what keeps a network from learning, for anyone's model.

Everything happens on a copy, under torch's own random state put back afterwards: the model, its gradients, buffers, mode and
hooks are as they were, bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from rnnvg.depth import symptoms, symptoms_in_time
from rnnvg.depth.isolated import Move, copied, isolated, scripted_part, trial
from rnnvg.depth.not_finite import places_in_batch, places_in_weights
from rnnvg.depth.probe import LayerView, Observation, observe
from rnnvg.depth.recurrent import Course, courses, shortened
from rnnvg.depth.verdict import FEWEST_ITEMS, Case, Finding, LayerHealth
from rnnvg.errors import InputError, check_float, check_int
from rnnvg.horizon import NATS_PER_DECADE
from rnnvg.notebook import Shown

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

LR, UPDATES = 0.01, 5
NOT_JUDGED = "not-judged"


@dataclass(frozen=True, repr=False)
class Diagnosis(Shown):
    """What `diagnose` found; as str() one sentence.

    Attributes:
        verdict: "healthy", "not-judged" (a note says why), or the name of the first finding: "non-finite-weights",
            "non-finite-batch", "exploding-through-time", "non-finite-loss", "exploding-gradients", "frozen-layer",
            "tiny-initialisation", "dead-relus", "saturated-gates", "saturated-units", "collapsed-weights",
            "vanishing-through-time" or "vanishing-gradients".
        findings: all that is wrong, causes before effects.
        layers: every layer with a weight matrix, in the order in which they gave their first output.
        ratio: gradient at the first layer's output over that at the last one's, log10.
        loss: before and after the trial updates, on the same batch.
        updates, lr: number of trial updates, and the learning rate of the assumed optimiser (nan where one was given).
        notes: what was looked at and could not be judged.

    >>> import torch, rnnvg
    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))
    >>> batch = torch.randn(16, 4), torch.randn(16, 1)
    >>> found = rnnvg.diagnose(model, batch, lambda model, batch: (model(batch[0]) - batch[1]).square().mean())
    >>> found.verdict
    'healthy'
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
        """Whether the model could be judged and nothing was found."""
        return self.verdict == "healthy"

    def __str__(self) -> str:
        if self.findings:
            first = self.findings[0]
            return f"{self.verdict}: {first.evidence} {first.remedy}"
        if self.verdict == NOT_JUDGED:
            return f"{NOT_JUDGED}: {self.notes[0]}"
        ratio = "" if math.isnan(self.ratio) else f", the first gets {10**self.ratio:.2g} times the last one's gradient"
        return f"healthy: {len(self.layers)} layers{ratio}; none is frozen, dead or saturated."

    def to_frame(self) -> pd.DataFrame:
        """A row per layer, columns as LayerHealth's attributes."""
        import pandas as pd

        return pd.DataFrame([asdict(each) for each in self.layers])

    def plot(self, ax: Axes | None = None) -> Axes:
        """Adjoint and gradient by layer on a log axis, layers that were found at fault marked. Returns the Axes."""
        from rnnvg.bptt.plots import BLUE, ORANGE, lettered, new_axes

        ax = new_axes() if ax is None else ax
        frame = self.to_frame()
        for column, colour, marker, label in (
            ("log10_adjoint", BLUE, "o", "by its output"),
            ("log10_gradient", "0.5", "s", "by its weights"),
        ):
            shown = frame[column].where(np.isfinite(frame[column]))
            ax.plot(frame.index, shown, color=colour, marker=marker, markersize=4, label=label)
        at_fault = {name for each in self.findings for name in each.layers}
        for index, layer in enumerate(self.layers):
            if layer.name in at_fault:
                ax.axvline(index, color=ORANGE, linewidth=6, alpha=0.15, label="_at fault")
        ax.set_xticks(frame.index, frame["name"], rotation=90 if len(frame) > 6 else 0, fontsize="small")
        return lettered(ax, "", "log10 of the loss's gradient", self.verdict)


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
        A Diagnosis. Thresholds are in rnnvg.depth.symptoms.THRESHOLDS. A scripted model is not judged: its inside cannot be
        watched.

    Raises:
        InputError: a model without parameters, an empty batch, a loss that is not a scalar or does not depend on the model, a
            model that cannot be copied.

    >>> model = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 1))
    >>> _ = nn.init.constant_(model[0].bias, -100)
    >>> diagnose(model, torch.rand(16, 4), lambda model, x: model(x).square().mean()).verdict
    'dead-relus'
    """
    lr, updates = check_float("lr", lr, above=0), check_int("updates", updates, least=1, ceiling=1000)
    _check(model, batch, loss)
    part = scripted_part(model)
    if part is not None:
        return _not_judged(
            f"{part} is scripted by torch.jit, so no layer, gate or step inside can be watched; pass the nn.Module that it "
            "was made from.",
            updates,
        )
    weights, bad_batch = places_in_weights(model), places_in_batch(batch)
    with isolated(model):
        model, given, batch = copied(model, optimizer, batch)
        optimise = given or torch.optim.SGD(model.parameters(), lr=lr)

        def compute() -> Tensor:
            return _scalar(loss(model, batch))

        _check_depends(model, compute)
        before = observe(model, compute)
        through_time, notes = _through_time(before)
        gains = {layer.name: layer.gain for layer in before.layers}
        moves = trial(before.layers, optimise, compute, updates)
        after = observe(model, compute)
    zero = [name for name, gain in gains.items() if gain == 0]
    layers = tuple(
        _health(layer, through_time.get(layer.name, []), gains[layer.name], moves[layer.name])
        for layer in before.layers
    )
    case = Case(
        before=before,
        layers=layers,
        courses=through_time,
        weights=weights,
        batch=bad_batch,
        ratio=_lasting(symptoms.log10_ratio(before, zero), symptoms.log10_ratio(after, zero)),
        loss=(before.loss, after.loss),
        frozen=_frozen(before.layers, given),
        updates=updates,
        optimiser=given is not None,
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
        notes=tuple(dict.fromkeys([*_notes(case), *notes])),
    )


def _not_judged(note: str, updates: int) -> Diagnosis:
    nothing = (math.nan, math.nan)
    return Diagnosis(NOT_JUDGED, (), (), math.nan, nothing, updates, math.nan, (note,))


def _through_time(seen: Observation) -> tuple[dict[str, list[Course]], list[str]]:
    """The course of every recurrent layer that was called, and why one could not be followed."""
    found, notes = {}, []
    for layer in seen.layers:
        if not layer.handed:
            continue
        try:
            found[layer.name] = courses(layer.module, layer.handed)
        except Exception as error:  # a user's module may hand over what no closed form is for: said, never raised
            notes.append(f"{layer.name} was not followed through time: {shortened(error)}")
    return found, notes


def _check(model: Any, batch: Any, loss: Any) -> None:
    if not isinstance(model, nn.Module):
        raise InputError(f"`model` is a {type(model).__name__}; pass an nn.Module.")
    if not any(True for _ in model.parameters()):
        raise InputError(f"`model` is a {type(model).__name__} without parameters; pass one that can learn.")
    if not callable(loss) or isinstance(loss, type):
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


def _health(layer: LayerView, through_time: list[Course], gain: float, move: Move) -> LayerHealth:
    judged = [each for each in layer.units if each.items >= FEWEST_ITEMS]
    saturated = [each.saturated for each in judged if each.hidden] + [each.saturated for each in through_time]
    dead = [each.dead for each in (*judged, *through_time)]
    first = [each.first_step for each in through_time]
    growth = [each.growth for each in through_time]
    if layer.log_by_call:
        first.append(symptoms_in_time.first_call(layer))
        growth.append(symptoms_in_time.growth_by_call(layer))
    return LayerHealth(
        name=layer.name,
        kind=type(layer.module).__name__,
        trainable=any(each.requires_grad for each in layer.weights),
        gain=gain,
        log10_gradient=layer.log_gradient / NATS_PER_DECADE,
        log10_adjoint=layer.log_adjoint / NATS_PER_DECADE,
        update_ratio=move.ratio,
        gain_after=move.gain,
        dead=_largest(dead),
        saturated=_largest(saturated),
        stuck_gates=_largest([each.all_stuck for each in through_time]),
        log10_first_step=-_largest([-each for each in first]),
        log10_growth=_largest(growth),
        called=layer.called,
        connected=layer.connected,
    )


def _largest(values: list[float]) -> float:
    return max((each for each in values if not math.isnan(each)), default=math.nan)


def _notes(case: Case) -> Iterator[str]:
    seen = case.before
    if not seen.layers:
        yield "No module owns a weight matrix, so no layer could be judged."
    few = [each.items for layer in seen.layers for each in layer.units if each.items < FEWEST_ITEMS]
    if few:
        yield f"Dead and saturated units need at least {FEWEST_ITEMS} items; the batch has {max(few)}."
    idle = [layer.name for layer in seen.layers if not layer.called and not layer.connected]
    if idle:
        yield f"Never called: {', '.join(idle)}."
    for _, where, steps, decades in symptoms_in_time.vanished(case, gated=True):
        yield (
            f"The first of {steps} steps of {where} get 10^{decades:.0f} of the gradient that the last get; "
            "gates open as they learn, so look again later (rnnvg.watch)."
        )
    if case.batch and math.isfinite(case.loss[0]):
        yield f"{case.batch[0]}; the loss does not see it."
    if not case.optimiser and math.isfinite(case.loss[0]) and not math.isfinite(case.loss[1]):
        yield f"The loss is {case.loss[1]:g} after {case.updates} updates by gradient descent with the assumed learning rate."
