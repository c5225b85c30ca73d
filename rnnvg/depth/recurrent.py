"""A recurrent layer's course through time: what its gates do, and how far one loss's gradient gets, in log space.

A fused module is taken apart: every layer and direction is a recurrence of its own, run on what it was handed. The Jacobian
of the whole has these on its diagonal, so the whole grows or decays as the one that does so most.
Axes: T steps, B sequences, I inputs, H hidden units.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from rnnvg.bptt import linearize
from rnnvg.bptt.arguments import without_padding
from rnnvg.bptt.profile import gradient_profiles
from rnnvg.bptt.stack import ModuleLinearization
from rnnvg.bptt.weights import CELLS, FUSED, one_layer, plain_module
from rnnvg.bptt.why.gates import gate_values
from rnnvg.errors import InputError
from rnnvg.horizon import NATS_PER_DECADE

FLAT = 0.05  # a slope below a twentieth of the largest: sigmoid' = s (1 - s) <= 1/4, tanh' = 1 - h^2 <= 1
EARLY = 0.1  # the first tenth of the steps
MOST_CALLS = 4  # of one fused module that are followed


@dataclass(frozen=True)
class Call:
    """What a fused module or cell was handed once: inputs (a tensor or PackedSequence) and the state before, or None."""

    inputs: Any
    state: Any


@dataclass(frozen=True)
class Course:
    """One layer in one direction in one call.

    Attributes:
        where: "" for a module of one layer, else "layer 2", "layer 1, backward".
        steps: of the longest sequence.
        log10_gain: [steps + 1], gradient of one loss against distance, relative to one step back; the mean over sequences.
        first_nonfinite: the first step at which the state is not finite, or -1.
        stuck: gate -> share of its values at which no gradient passes and no memory is held; {} for a vanilla layer.
        saturated, dead: of a vanilla layer's units; nan where they cannot be.
    """

    where: str
    steps: int
    log10_gain: np.ndarray
    first_nonfinite: int
    stuck: dict[str, float] = field(default_factory=dict)
    saturated: float = math.nan
    dead: float = math.nan

    @property
    def growth(self) -> float:
        """Decades from one step back to the largest gradient at any step; nan where none was finite."""
        seen = self.log10_gain[np.isfinite(self.log10_gain)]
        return float(seen.max()) if len(seen) else math.nan

    @property
    def first_step(self) -> float:
        """Decades from the largest gradient to the mean of the first tenth of the steps; -inf for nothing at all."""
        gains = self.log10_gain[1 : self.steps]
        if not len(gains) or not np.isfinite(gains).any():
            return math.nan
        early = gains[-max(1, int(EARLY * len(gains))) :]
        early = early[~np.isnan(early)]
        if not len(early):
            return math.nan
        with np.errstate(divide="ignore"):
            mean = early.max() + np.log10(np.mean(10 ** (early - early.max()))) if np.isfinite(early.max()) else -np.inf
        return float(mean - self.growth)

    @property
    def rate(self) -> float:
        """Nats a step over all steps."""
        return NATS_PER_DECADE * self.first_step / max(1, self.steps - 1)

    @property
    def all_stuck(self) -> float:
        """The mean share over the gates; nan without gates."""
        return sum(self.stuck.values()) / len(self.stuck) if self.stuck else math.nan


def can_follow(module: nn.Module) -> bool:
    """Whether the module computes what its class does, so that its weights say all about it."""
    kind = next((kind for kind in (*FUSED, *CELLS) if isinstance(module, kind)), None)
    return kind is not None and type(module).forward is kind.forward


@torch.no_grad()
def courses(module: nn.Module, calls: Sequence[Call]) -> list[Course]:
    """The courses of every layer, direction and call, the first MOST_CALLS calls of a fused module.

    Of a cell, whose steps are its calls, only gates and units are looked at: a state may be changed between the calls.

    Raises:
        InputError: inputs that the analyzer does not take.
    """
    if isinstance(module, nn.RNNCellBase):
        return [_cell(module, calls)]
    assert isinstance(module, nn.RNNBase)
    return [each for call in calls[:MOST_CALLS] for each in _fused(module, call)]


def _fused(module: nn.RNNBase, call: Call) -> Iterator[Course]:
    x, lengths = _padded(module, call.inputs)
    states, plain = _states(module, call.state), plain_module(module)
    directions = 2 if module.bidirectional else 1
    for layer in range(module.num_layers):
        outputs = []
        for direction in range(directions):
            single = one_layer(plain, layer, direction)
            seen = _flipped(x, lengths) if direction else x
            state = None if states is None else _one_layer(states, directions * layer + direction)
            yield _course(single, seen, state, lengths, _name(module, layer, direction))
            output = single(seen, state)[0]
            outputs.append(_flipped(output, lengths) if direction else output)
        x = torch.cat(outputs, -1)


def _padded(module: nn.RNNBase, inputs: Any) -> tuple[Tensor, Tensor | None]:
    """Time first [T, B, I] in the weights' dtype (halves widened), and lengths [B] of a packed sequence, unsorted."""
    lengths = None
    if isinstance(inputs, PackedSequence):
        inputs, lengths = pad_packed_sequence(inputs)
    elif inputs.ndim == 2:
        inputs = inputs.unsqueeze(1)
    elif module.batch_first:
        inputs = inputs.transpose(0, 1)
    return inputs.detach().to(_dtype(module)), lengths


def _dtype(module: nn.Module) -> torch.dtype:
    return torch.float64 if next(module.parameters()).dtype == torch.float64 else torch.float32


def _states(module: nn.RNNBase, state: Any) -> list[Tensor] | None:
    """h (and c) as [layers x directions, B, H]."""
    if state is None:
        return None
    parts = list(state) if isinstance(state, (tuple, list)) else [state]
    return [(each.unsqueeze(1) if each.ndim == 2 else each).detach().to(_dtype(module)) for each in parts]


def _one_layer(states: list[Tensor], index: int) -> Any:
    parts = [each[index : index + 1] for each in states]
    return parts[0] if len(parts) == 1 else tuple(parts)


def _flipped(x: Tensor, lengths: Tensor | None) -> Tensor:
    """[T, B, ...] in reverse, each sequence within its own length."""
    if lengths is None:
        return x.flip(0)
    steps = torch.arange(x.shape[0])[:, None]
    index = torch.where(steps < lengths, lengths - 1 - steps, steps).to(x.device)
    return x.gather(0, index[..., None].expand_as(x))


def _name(module: nn.RNNBase, layer: int, direction: int) -> str:
    parts = [f"layer {layer + 1}"] if module.num_layers > 1 else []
    if module.bidirectional:
        parts.append("backward" if direction else "forward")
    return ", ".join(parts)


def _course(single: nn.RNNBase, x: Tensor, state: Any, lengths: Tensor | None, where: str) -> Course:
    if lengths is not None:
        x = without_padding(single, x, lengths)
    linear = linearize(single, x, state)
    assert isinstance(linear, ModuleLinearization)
    (profile,) = gradient_profiles(single, x, state, ["state"], lengths=lengths, known=linear)
    bad = profile.first_nonfinite
    gains = profile.curve()["log10_gain"].to_numpy(dtype=float)
    return Course(
        where=where,
        steps=int(profile.sources[-1]) + 1,
        log10_gain=gains,
        first_nonfinite=int(bad[bad >= 0].min()) if (bad >= 0).any() else -1,
        **_units(single, linear, lengths),
    )


def _cell(cell: nn.RNNCellBase, calls: Sequence[Call]) -> Course:
    """Every call as one step of a sequence of its own: the same gates, whatever happened between the calls."""
    rows, parts = [], []
    for call in calls:
        x = call.inputs if call.inputs.ndim == 2 else call.inputs.unsqueeze(0)
        rows.append(x.detach().to(_dtype(cell)))
        given = call.state if isinstance(call.state, (tuple, list)) else [call.state]
        found = [each for each in given if each is not None]
        n = 2 if isinstance(cell, nn.LSTMCell) else 1
        zeros = [x.new_zeros(len(x), cell.hidden_size)] * n
        parts.append([each.detach().reshape(len(x), -1).to(_dtype(cell)) for each in (found or zeros)])
    states = [torch.cat(each) for each in zip(*parts, strict=True)]
    linear = linearize(cell, torch.cat(rows).unsqueeze(0), states[0] if len(states) == 1 else tuple(states))
    assert isinstance(linear, ModuleLinearization)
    return Course("", len(calls), np.empty(0), -1, **_units(cell, linear, None))


def _units(module: nn.Module, linear: ModuleLinearization, lengths: Tensor | None) -> dict[str, Any]:
    """Shares of stuck gates, or of a vanilla layer's saturated and dead units."""
    stuck: dict[str, int] = {}
    values, flat, fired = 0, 0, torch.zeros(0, dtype=torch.bool)
    for _, start, gates in gate_values(linear):
        some = next(iter(gates.values()))
        valid = torch.ones(some.shape[:2], dtype=torch.bool, device=some.device)
        if lengths is not None:
            valid = (torch.arange(start, start + len(some))[:, None] < lengths).to(some.device)
        values += int(valid.sum()) * some.shape[2]
        if "activation" in gates:
            units = gates["activation"][valid]
            flat += int((1 - units * units < FLAT).sum())
            fired = (units != 0).any(0) | (fired if len(fired) else False)
            continue
        for name, each in _stuck(gates).items():
            stuck[name] = stuck.get(name, 0) + int((each & valid[..., None]).sum())
    if not stuck and not len(fired):
        return {}
    if stuck:
        return {"stuck": {name: count / values for name, count in stuck.items()}}
    if getattr(module, "nonlinearity", "tanh") == "relu":
        return {"dead": 1 - float(fired.double().mean())}
    return {"saturated": flat / values}


def _stuck(gates: dict[str, Tensor]) -> dict[str, Tensor]:
    """Where a gate's slope is flat. A gate that holds a memory is no fault: a forget or update gate at 1, and the input gate
    at 0 beside it (Tallec and Ollivier 2018 start most units of a long task so)."""
    found = {}
    for name, value in gates.items():
        slope = 1 - value * value if name == "candidate" else 4 * value * (1 - value)
        found[name] = slope < FLAT
    for name in ("forget gate", "update gate"):
        if name in gates:
            holds = found[name] & (gates[name] > 0.5)
            found[name] = found[name] & ~holds
            if "input gate" in gates:
                found["input gate"] &= ~(holds & (gates["input gate"] < 0.5))
    return found


def shortened(error: Exception) -> str:
    """The first sentence of an error, for a note."""
    text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return text if isinstance(error, InputError) else f"{type(error).__name__}: {text[:120]}"
