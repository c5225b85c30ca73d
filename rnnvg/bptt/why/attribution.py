"""attribute_decay(): why a gradient grows or dies on its way back, step by step.

For a vanilla RNN the log gain is split exactly into what its slopes take and what its matrix gives; for an LSTM or GRU the
gradient that arrives is split into signed shares of the paths it came by. Beside them: the same trajectory with slopes of 1
or with open gates, and what the gates do. Axes: K distances, c steps of a block, B sequences, N state coordinates.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from rnnvg.bptt import arguments, curves
from rnnvg.bptt.adjoints import Sources, adjoints
from rnnvg.bptt.cells import cell_of
from rnnvg.bptt.linearize import module_layers
from rnnvg.bptt.logscale import log_norm, scaled_vectors
from rnnvg.bptt.stack import Local, ModuleLinearization, ModuleSegment
from rnnvg.bptt.sweep import sweep
from rnnvg.bptt.why.gates import GateStatistics, gate_statistics
from rnnvg.errors import InputError, check_int
from rnnvg.horizon import memory_horizon
from rnnvg.notebook import Shown

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

LEAST_SHARE = 0.005  # paths with less are not worth a word


@dataclass(frozen=True, repr=False)
class DecayAttribution(Shown):
    """Why the gradient of one loss grows or dies with distance.

    Attributes:
        log_norm: [K, B] float64, natural log of ||dL/ds|| k steps before the source, K = source + 2; gradient_profile's.
        parts: vanilla RNN: "saturation" and "matrix" -> [K, B], nats added by the step from distance k-1 to k, nan at k = 0:
            log_norm[k] - log_norm[k-1] is their sum. Saturation is never positive. Empty for gated cells.
        shares: gated cells: path -> [K, B], its signed share <path, sum> / ||sum||^2 of the gradient that arrives at
            distance k, nan at k = 0; they add up to 1, layers added up. Paths: "cell" (LSTM) or "carry" (GRU: the update
            gate), each gate and the candidate, by whose recurrent matrix the gradient arrives. Empty for vanilla RNNs.
        counterfactuals: change -> [K, B], log_norm on the same trajectory with a changed backward pass: "tanh slopes 1" (for
            a vanilla RNN all its slopes), "gates held" (they pass no gradient of their own), "forget gate open" or "reset
            gate open" (held at 1), "all gates open" (every gate's factor is 1: for a GRU both its z and its 1 - z).
        gates: statistics of every gate up to the source, layer by layer.
        source: the loss's step.
        note: what else the reader must know of these numbers; empty where there is nothing.

    Source: Pascanu, Mikolov and Bengio 2013 (matrix and slopes); the share of a path is its projection on the sum.

    >>> import torch, rnnvg
    >>> found = rnnvg.attribute_decay(torch.nn.RNN(3, 8), torch.randn(30, 4, 3))
    >>> sorted(found.parts), found.source
    (['matrix', 'saturation'], 29)
    """

    log_norm: np.ndarray
    parts: dict[str, np.ndarray]
    shares: dict[str, np.ndarray]
    counterfactuals: dict[str, np.ndarray]
    gates: tuple[GateStatistics, ...]
    source: int
    note: str = ""

    @property
    def steps(self) -> int:
        """Steps back to the initial state, source + 1."""
        return self.source + 1

    def log_gain(self, change: str | None = None) -> np.ndarray:
        """Mean log gain over sequences relative to the source's own state, [K] nats; of a counterfactual where named.

        Distance 0 is the reference here (gradient_profile's is 1), so that the parts of all steps add up to it.
        """
        log_norm = self.log_norm if change is None else self.counterfactuals[change]
        return curves.mean_log_gain(curves.log_gain(log_norm[None], np.arange(len(log_norm)), 0))

    def nats(self) -> dict[str, float]:
        """Vanilla RNN: part -> nats it adds over all steps, mean over sequences; they add up to log_gain()[-1]."""
        return {name: float(self.nats_so_far(name)[-1].mean()) for name in self.parts}

    def nats_so_far(self, name: str) -> np.ndarray:
        """Nats that a part has added by each distance, [K, B]; behind an exact zero it adds nothing more."""
        part = np.where(np.isneginf(np.roll(self.log_norm, 1, 0)), 0.0, self.parts[name])
        part[0] = 0.0
        return np.cumsum(part, 0)

    def mean_shares(self) -> dict[str, float]:
        """Gated cells: path -> its share, mean over distances and sequences where anything arrives; nan where nothing does."""
        kept = {name: share[np.isfinite(share)] for name, share in self.shares.items()}
        return {name: float(share.mean()) if share.size else float("nan") for name, share in kept.items()}

    @property
    def time_constant(self) -> float | None:
        """The measured e-fold, steps, from distance 1 on; None where an exponential does not fit or nothing is left."""
        log_gain = self.log_gain()
        if len(log_gain) < 3 or not np.isfinite(log_gain[1]):
            return None
        return memory_horizon(log_gain[1:] - log_gain[1]).e_fold

    def gate_frame(self) -> pd.DataFrame:
        """A row per layer and gate; columns layer, name, mean, closed, open, time_constant, longest_time_constant."""
        import pandas as pd

        return pd.DataFrame([vars(each) for each in self.gates])

    def to_frame(self) -> pd.DataFrame:
        """Tidy: columns distance, sequence, quantity, part, value.

        quantity is "log_norm", "nats" (parts: saturation, matrix), "share" (parts: the paths) or "counterfactual" (parts: the
        changes, their log_norm); nan is left out.
        """
        import pandas as pd

        tables = [("log_norm", "", self.log_norm)]
        tables += [("nats", name, values) for name, values in self.parts.items()]
        tables += [("share", name, values) for name, values in self.shares.items()]
        tables += [("counterfactual", name, values) for name, values in self.counterfactuals.items()]
        frames: list[pd.DataFrame] = []
        for quantity, part, values in tables:
            distance, sequence = np.nonzero(~np.isnan(values))
            frames.append(
                pd.DataFrame(
                    {
                        "distance": distance,
                        "sequence": sequence,
                        "quantity": quantity,
                        "part": part,
                        "value": values[distance, sequence],
                    }
                )
            )
        return pd.concat(frames, ignore_index=True)

    def plot(self, ax: Axes | None = None) -> Axes:
        """Stacked areas over distance, means over sequences: nats added so far (RNN) or shares of what arrives (gated)."""
        from rnnvg.bptt import plots

        if self.parts:
            nats = {name: self.nats_so_far(name)[1:].mean(1) for name in self.parts}
            return plots.draw_nats(nats, self.log_gain()[1:], ax)
        return plots.draw_shares({name: share[1:] for name, share in self.shares.items()}, ax)

    def __str__(self) -> str:
        over = f"over {self.steps} step{'s' if self.steps > 1 else ''}: "
        if self.parts:
            nats = self.nats()
            # Nothing is +0.0, on whichever side of it rounding leaves the sum.
            saturation, matrix = (round(float(nats[part]), 1) + 0.0 for part in ("saturation", "matrix"))
            return f"{over}{saturation:+.1f} nats saturation, {matrix:+.1f} nats recurrent matrix"
        shares = sorted(self.mean_shares().items(), key=lambda item: -abs(item[1]))
        paths = ", ".join(f"{100 * share:.0f} % by the {name}" for name, share in shares if abs(share) >= LEAST_SHARE)
        changed = ", ".join(f"{self.log_gain(name)[-1]:+.1f} with {name}" for name in self.counterfactuals)
        return f"{over}{self.log_gain()[-1]:+.1f} nats, arriving {paths}{'; it would be ' + changed if changed else ''}"


def attribute_decay(
    module: nn.Module,
    inputs: Tensor,
    state: Any = None,
    *,
    output_grad: Tensor | None = None,
    source: str | int = "last",
) -> DecayAttribution:
    """Why the gradient of one step's loss grows or dies on its way back.

    Args:
        module: an nn.RNN, nn.LSTM or nn.GRU of any number of layers, or one of their cells.
        inputs: [T, B, I] (or [B, T, I] where the module says batch_first).
        state: the initial state as the module takes it; None for zeros.
        output_grad: the direct gradient dL_t/d(output_t), shaped like the output; the source's row is used. None draws the
            random unit covector that gradient_profile draws.
        source: the step at which the loss is applied: "last", or an index, negative from the end.

    Raises:
        InputError: an argument that does not fit: which, what was found, what to pass.

    >>> module = nn.RNN(1, 1, nonlinearity="relu", bias=False, dtype=torch.float64)
    >>> _ = nn.init.constant_(module.weight_hh_l0, 0.5), nn.init.ones_(module.weight_ih_l0)
    >>> print(attribute_decay(module, torch.ones(50, 1, 1, dtype=torch.float64)))
    over 50 steps: +0.0 nats saturation, -34.7 nats recurrent matrix
    """
    if cell_of(module) is None:
        raise InputError(
            f"`module` is a {type(module).__name__}; pass an nn.RNN, nn.LSTM, nn.GRU or one of their cells, whose gates are "
            "known."
        )
    arguments.check_module(module, "module")
    layers = module_layers(module)
    sequence = arguments.module_inputs(module, inputs, layers)
    step = _source_step(source, len(sequence))
    states = arguments.module_state(module, state, sequence, layers)
    linear = ModuleLinearization(layers, sequence[: step + 1], states)
    if output_grad is None:
        (outputs,) = arguments.unit_covectors(1, linear.batch, linear.n_outputs, None, linear.device, linear.wide_dtype)
    else:
        shape = (len(sequence), linear.batch, linear.n_outputs)
        outputs = arguments.output_gradients(
            module, output_grad, shape, linear.device, finite=True, unbatched=inputs.ndim == 2
        )[step]
    covector = linear.covectors(outputs)
    chained = all(layer.chain for layer in layers)
    with torch.no_grad():
        log_norms, split = _split(linear, step, covector, chained)
        changed = _counterfactuals(linear, step, covector)
    return DecayAttribution(
        log_norm=log_norms,
        parts=split if chained else {},
        shares={} if chained else split,
        counterfactuals=changed,
        gates=gate_statistics(linear),
        source=step,
        note=arguments.dropout_note(module),
    )


def _source_step(source: str | int, n_steps: int) -> int:
    if isinstance(source, str):
        if source != "last":
            raise InputError(f"`source` is {source!r}; pass 'last' or a step from {-n_steps} to {n_steps - 1}.")
        return n_steps - 1
    return check_int("source", source, least=-n_steps, most=n_steps - 1) % n_steps


def _split(
    linear: ModuleLinearization, source: int, covector: Tensor, chained: bool
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """log_norm [K, B], and each step's parts or shares, part -> [K, B]."""
    norms = np.full((source + 2, linear.batch), np.nan)
    split: dict[str, np.ndarray] = {}
    entering = Sources(linear, np.full((1, linear.batch), source), covector.unsqueeze(0), keep_silent=True)
    for block in adjoints(linear, entering, source, 1, by_segment=True):
        distance = source - np.arange(block.last, block.first - 1, -1)
        norms[distance] = (block.log_scale + log_norm(block.vectors))[:, 0].cpu().numpy()
        if block.segment is None:
            continue
        assert isinstance(block.segment, ModuleSegment)
        after = block.vectors[:, 0].flip(0).contiguous()  # in order of time, as the factors are
        local = block.segment.local(linear.view(after), block.first, block.last + 1)
        for name, values in (chain_parts if chained else path_shares)(linear, after, local).items():
            split.setdefault(name, np.full(norms.shape, np.nan))[distance + 1] = values.flip(0).cpu().numpy()
    return norms, split


def _counterfactuals(linear: ModuleLinearization, source: int, covector: Tensor) -> dict[str, np.ndarray]:
    """Change -> ln ||dL/ds||, [K, B], from the covector dL/ds_source [B, N], by the same sweep with factors changed.

    States, gates and their values stay as they were; only factors of the step Jacobians are others (`Cell.changes`).
    """
    steps, whole = np.full((1, linear.batch), source), [slice(0, linear.size)]
    return {
        change: sweep(linear, steps, covector.unsqueeze(0), whole, source + 2, change=change)[0]
        for change in linear.layers[0].changes
    }


def chain_parts(linear: ModuleLinearization, adjoints: Tensor, local: list[Local]) -> dict[str, Tensor]:
    """Nats that a step adds by the elementwise factors of a chain and by its matrices, [c, B].

    In a stack the upper layer comes first: its slopes, its two matrices (to its own past and to the layer below), then the
    lower layer's; the norm is the whole state's after each.
    """
    blocks = [adjoints[..., place[0]] for place in linear.places]
    before = log_norm(adjoints)
    nothing = torch.where(torch.isneginf(before), torch.nan, 0.0)
    elementwise, matrix = linear.layers[0].chain
    parts = {elementwise: nothing, matrix: nothing}
    for index in range(len(blocks) - 1, -1, -1):
        layer, (factors, states, delta, above) = linear.layers[index], local[index]
        blocks[index] = delta[0]
        before = _add(parts, elementwise, before, blocks)
        ((back,),) = layer.paths(factors, states, delta, above).values()
        assert back is not None
        blocks[index] = back
        if index:
            below = local[index - 1].above  # what this layer sends down
            assert below is not None
            blocks[index - 1] = blocks[index - 1] + below
        before = _add(parts, matrix, before, blocks)
    return parts


def _add(parts: dict[str, Tensor], name: str, before: Tensor, blocks: list[Tensor]) -> Tensor:
    """Book the change of the log norm since `before` on `name`; what is zero already changes by 0, not by -inf minus -inf."""
    after = log_norm(torch.cat(blocks, -1))
    parts[name] = parts[name] + torch.where(torch.isneginf(before), 0.0, after - before)
    return after


def path_shares(linear: ModuleLinearization, adjoints: Tensor, local: list[Local]) -> dict[str, Tensor]:
    """Signed shares <path, sum> / ||sum||^2 of each path of a gated cell, [c, B], layers added up; nan where the sum is 0."""
    paths: dict[str, Tensor] = {}
    for layer, place, (factors, states, delta, above) in zip(linear.layers, linear.places, local, strict=True):
        for name, parts in layer.paths(factors, states, delta, above).items():
            whole = paths.setdefault(name, torch.zeros_like(adjoints))
            for columns, part in zip(place, parts, strict=True):
                if part is not None:
                    whole[..., columns] = part
    total = torch.stack(list(paths.values())).sum(0)
    scaled, log = scaled_vectors(total)
    square = scaled.double().square().sum(-1)
    top = torch.where(torch.isneginf(log), 0.0, log).exp().unsqueeze(-1)
    return {name: (path.double() / top * scaled.double()).sum(-1) / square for name, path in paths.items()}
