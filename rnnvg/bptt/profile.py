"""gradient_profile(): gradient magnitude against time-step distance, and what can be asked of it.

Axes: S sources, K distances, B sequences, T steps.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from rnnvg.bptt import arguments, curves, saved_profile
from rnnvg.bptt.linearize import Recurrence, linearize
from rnnvg.bptt.segments import Linearization
from rnnvg.bptt.sweep import sweep
from rnnvg.bptt.weights import NARROW
from rnnvg.errors import InputError, check_int, check_name
from rnnvg.horizon import MemoryHorizon, memory_horizon
from rnnvg.notebook import Shown

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from rnnvg.bptt.certificate import Certificate

MAX_BYTES = 2**31


@dataclass(frozen=True)
class Origin:
    """What a profile was made from, kept so that it can be checked (`verify`); not saved with it."""

    recurrence: Recurrence
    inputs: Tensor
    state: Any
    steps: np.ndarray  # [S, B]
    covectors: Tensor  # [S, B, N]
    layer: int | None
    versions: tuple[tuple[int, int], ...]  # of the weights

    def certify(self, profile: GradientProfile, n: int) -> Certificate:
        from rnnvg.bptt.certificate import certify

        return certify(profile, self, n)


@dataclass(frozen=True, repr=False)
class GradientProfile(Shown):
    """Gradient magnitude against distance, source by source and sequence by sequence.

    Attributes:
        log_norm: [S, K, B] float64, natural log of ||dL_source / d(wrt at distance k)||. -inf is an exact zero; nan lies
            before the start of the sequence, behind a state that is not finite, or below what the pass can hold (`note`).
            Distance 0 is the source's own state, source + 1 the initial state (for "input" that one is nan).
        sources: [S] steps at which the loss is applied, for a sequence of full length.
        distance: [K] whole numbers that ascend by 1: steps back from the source, negative where the source sees the future.
        wrt: "state", "hidden", "cell" or "input".
        layer: the layer it was restricted to, or None.
        first_nonfinite: [B] the first step whose state is inf or nan; -1 where there is none.
        note: what else the reader must know of these numbers, in sentences; empty where there is nothing.

    A part of the state or of the input (wrt, layer) that falls below the dtype's range relative to the whole adjoint (1e-45
    in float32, 1e-324 in float64) reads as -inf too: both live in one vector.

    Source: the adjoint of one loss at a time (Hochreiter 1991; Pascanu, Mikolov and Bengio 2013), in log space.
    """

    log_norm: np.ndarray
    sources: np.ndarray
    distance: np.ndarray
    wrt: str
    layer: int | None = None
    first_nonfinite: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    note: str = ""
    origin: Any = field(default=None, repr=False, compare=False)

    def log_gain(self, reference: int = 1) -> np.ndarray:
        """log_norm relative to distance `reference`, [S, K, B] nats; nan for |k| < |reference| or an exactly zero reference.

        One step back by default: at distance 0 the gradient sits on the output alone, which would count an LSTM's
        hand-over from h to c as decay. A negative reference lies in the future.
        """
        first, last = int(self.distance[0]), int(self.distance[-1])
        reference = check_int("reference", reference, least=min(first, 0), most=last)
        return curves.log_gain(self.log_norm, self.distance, reference)

    def curve(self, reference: int = 1) -> pd.DataFrame:
        """The gain over sources and sequences, a row per distance.

        Columns: distance; log10_gain (mean of the logs = geometric mean; the median where n_zero > 0); log10_gain_rms (root
        mean square, nan where fewer than 10 effective samples (sum g^2)^2 / sum g^4 carry it); low, high (10 and 90 %
        quantiles, log10: spread, not an interval over models); n (gains observed), n_zero (of them exactly zero).
        A source whose own gradient is zero is left out.
        """
        return curves.table(self.log_gain(reference), self.distance)

    def horizon(self, threshold: float = math.exp(-1), reference: int = 1) -> MemoryHorizon:
        """The memory horizon of the mean log gain: the last distance at which `threshold` of the gradient is left.

        It looks into the past; with a negative `reference` into the future, its distances as positive numbers.

        Raises:
            InputError: `threshold` outside (0, 1), or no gain was observed at all.
        """
        gain = curves.mean_log_gain(self.log_gain(reference))
        past = gain[self.distance >= 0] if reference >= 0 else gain[self.distance <= 0][::-1]
        return memory_horizon(past, threshold)

    def to_frame(self) -> pd.DataFrame:
        """Tidy: a row per source, distance and sequence that was observed; columns source, distance, sequence, log_norm."""
        import pandas as pd

        source, distance, sequence = np.nonzero(~np.isnan(self.log_norm))
        return pd.DataFrame(
            {
                "source": self.sources[source],
                "distance": self.distance[distance],
                "sequence": sequence,
                "log_norm": self.log_norm[source, distance, sequence],
            }
        )

    def __str__(self) -> str:
        sources, distances, sequences = self.log_norm.shape
        counts = ((sources, "source"), (distances, "distance"), (sequences, "sequence"))
        shape = " x ".join(f"{n} {name}{'s' * (n != 1)}" for n, name in counts) + f", by the {self.wrt}"
        try:
            return f"{shape}: horizon {self.horizon()} steps at 1/e"
        except InputError:
            return f"{shape}: no gradient was observed"

    def _table(self) -> pd.DataFrame:
        return self.curve()

    def plot(self, ax: Axes | None = None) -> Axes:
        """The curve with its spread on a log axis; for many sources the source x time map. Returns the Axes."""
        from rnnvg.bptt import plots

        if len(self.sources) >= plots.MAP_FROM:
            return plots.draw_map(self.log_gain(), self.sources, self.distance, self.wrt, ax)
        return plots.draw_curve(self.curve(), self.wrt, str(self.horizon()), ax)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the profile to one .npz file (no pickle), in one move; what it was made from is not saved.

        Raises:
            InputError: a folder, or a file that `save` did not write, is there, or it cannot be written; an older file is
                then untouched.
        """
        saved_profile.write(self, path)

    @staticmethod
    def load(path: str | os.PathLike[str]) -> GradientProfile:
        """Read what `save` wrote.

        Raises:
            InputError: the file is missing, damaged or not a saved profile.
        """
        return GradientProfile(**saved_profile.read(path))

    def verify(self, n: int = 8) -> Certificate:
        """Compare `n` entries with float64 autograd, and the weights' temporal contributions with `.grad`.

        A profile of `input_profile` is compared with finite differences.

        Raises:
            InputError: the profile was loaded from a file, or the recurrence's weights are gone.
        """
        if self.origin is None:
            raise InputError(
                "This profile was loaded from a file, without the recurrence it was made from; measure it again."
            )
        return self.origin.certify(self, n)


def gradient_profile(
    recurrence: Recurrence,
    inputs: Tensor,
    state: Any = None,
    *,
    output_grad: Tensor | None = None,
    sources: arguments.Sources = "last",
    lengths: Any = None,
    wrt: str = "state",
    generator: torch.Generator | None = None,
    layer: int | None = None,
    max_bytes: int = MAX_BYTES,
) -> GradientProfile:
    """Gradient magnitude against time-step distance, exactly and in log space, for each source on its own.

    Args:
        recurrence: an nn.RNN, nn.LSTM, nn.GRU (any number of layers), one of their cells, a `Diagonal`, or a function
            step(x_t, state) -> state with `state` a tensor [B, H] (or with more axes) or a tuple of them, the output first.
        inputs: [T, B, I] (or [B, T, I] where the module says batch_first), or [T, I] for one sequence. The sweep runs in
            this dtype, in float32 where it is narrower; norms and logs are float64.
        state: initial state as the recurrence takes it; None for zeros (a step function needs one).
        output_grad: the direct gradient dL_t/d(output_t) of each step's own loss, shaped like the output. None draws one
            random unit covector per source and sequence.
        sources: steps of the loss: "last"; "all"; an int n (steps round((i+1) T/n) - 1); or step indices, also negative.
        lengths: valid steps per sequence, [B]. "last", negatives and n count on each sequence's own length; "all" and
            non-negative indices are absolute, nan at or beyond a sequence's length.
        wrt: "state" (all coordinates that a step passes on), "hidden", "cell" or "input".
        generator: for the random covectors; None is a fresh one seeded 0.
        layer: restrict "state", "hidden" or "cell" to one layer, 0 the lowest.
        max_bytes: the result takes S K B 8 bytes; refused above this.

    Raises:
        InputError: an argument that does not fit: which, what was found, what to pass.

    >>> module = torch.nn.RNN(1, 1, nonlinearity="relu", bias=False, dtype=torch.float64)
    >>> _ = torch.nn.init.constant_(module.weight_hh_l0, 0.5), torch.nn.init.ones_(module.weight_ih_l0)
    >>> profile = gradient_profile(module, torch.ones(2000, 1, 1, dtype=torch.float64))
    >>> bool(np.isclose(profile.log_norm[0, 2000, 0], 2000 * np.log(0.5), rtol=1e-12))
    True
    """
    check_name("wrt", wrt, arguments.WRT)
    if lengths is not None:
        inputs = arguments.without_padding(recurrence, inputs, lengths)
    linear = linearize(recurrence, inputs, state)
    lengths = arguments.check_lengths(lengths, linear.n_steps, linear.batch)
    if lengths is not None:  # what happens in the padding is nobody's
        linear.first_nonfinite[linear.first_nonfinite >= torch.from_numpy(lengths)] = -1
    shared, steps = arguments.source_steps(sources, linear.n_steps, lengths, linear.batch)
    check_size(steps.shape[0], int(shared.max()) + 2, linear.batch, max_bytes)
    if generator is not None and not isinstance(generator, torch.Generator):
        raise InputError(
            f"`generator` is a {type(generator).__name__}; pass a torch.Generator, or None for one seeded 0."
        )
    if output_grad is None:
        outputs = unit_covectors(
            len(steps), linear.batch, linear.n_outputs, generator, linear.device, linear.wide_dtype
        )
    else:
        outputs = _given_covectors(recurrence, linear, output_grad, steps)
    covectors = linear.covectors(outputs)
    origin = Origin(recurrence, inputs, state, steps, covectors, layer, arguments.weight_versions(recurrence))
    return profile_of(linear, shared, origin, wrt, narrow_note(inputs.dtype) if linear.dtype != inputs.dtype else "")


def narrow_note(dtype: torch.dtype) -> str:
    """What to say of numbers that were computed in float32 from narrower ones; empty for other dtypes."""
    return (
        f"Computed in float32 from {str(dtype).removeprefix('torch.')} weights and inputs." if dtype in NARROW else ""
    )


def profile_of(linear: Linearization, shared: np.ndarray, origin: Origin, wrt: str, note: str = "") -> GradientProfile:
    """The profile of a linearised recurrence for whole-state covectors, [S, B, N] in `origin`; `shared` as `.sources`."""
    columns = state_columns(linear, wrt, origin.layer)
    n_distances = int(shared.max()) + 2
    log_norm = sweep(linear, origin.steps, origin.covectors, columns, n_distances)
    first = linear.first_nonfinite.numpy()
    behind = (first >= 0) & (origin.steps >= first)  # sources whose gradient passes through a state that is not finite
    log_norm[:, 0 if columns is None else 1 :].swapaxes(1, 2)[behind] = np.nan
    return GradientProfile(
        log_norm=log_norm,
        sources=shared,
        distance=np.arange(n_distances),
        wrt=wrt,
        layer=origin.layer,
        first_nonfinite=first,
        note=note,
        origin=origin,
    )


def state_columns(linear: Linearization, wrt: str, layer: int | None) -> list[slice] | None:
    """The columns of the state that `wrt` and `layer` name, or None for the input."""
    layers = 1 + max(each.layer for each in linear.coordinates)
    if layer is not None:
        check_int("layer", layer, least=0, most=layers - 1)
    if wrt == "input":
        if linear.n_inputs is None:
            raise InputError("`wrt` is 'input', but this recurrence has no input to differentiate by; pass 'state'.")
        if layer is not None:
            raise InputError("`layer` picks a layer's state, and `wrt` is 'input'; pass layer=None.")
        return None
    chosen = [each for each in linear.coordinates if wrt in ("state", each.kind) and layer in (None, each.layer)]
    if not chosen:
        raise InputError(f"`wrt` is {wrt!r}, but this recurrence has no {wrt} state; pass 'state' or 'hidden'.")
    if len(chosen) == len(linear.coordinates):
        return [slice(0, linear.size)]
    return [each.columns for each in chosen]


def check_size(n_sources: int, n_distances: int, batch: int, max_bytes: int) -> None:
    check_int("max_bytes", max_bytes, least=1)
    needed = n_sources * n_distances * batch * 8
    if needed > max_bytes:
        raise InputError(
            f"`sources` asks for {n_sources} sources x {n_distances} distances x {batch} sequences, {needed / 2**30:.1f} GiB; "
            f"pass fewer sources (an int), or max_bytes={needed} if there is room."
        )


def unit_covectors(
    n_sources: int,
    batch: int,
    width: int,
    generator: torch.Generator | None,
    device: torch.device,
    dtype: torch.dtype = torch.float64,
) -> Tensor:
    """A random unit covector for each source and sequence, [S, B, width] in double precision; None is seeded 0."""
    if generator is None:
        generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(n_sources, batch, width, generator=generator, dtype=dtype, device=generator.device)
    return (drawn / torch.linalg.vector_norm(drawn, dim=-1, keepdim=True)).to(device)


def _given_covectors(recurrence: Recurrence, linear: Linearization, output_grad: Tensor, steps: np.ndarray) -> Tensor:
    """Rows of `output_grad` at the sources, [S, B, P] float64; zero where a sequence has no such source."""
    shape = (linear.n_steps, linear.batch, linear.n_outputs)
    by_time = arguments.output_gradients(recurrence, output_grad, shape, linear.device)
    present = torch.from_numpy(steps >= 0).to(linear.device)
    index = torch.from_numpy(np.maximum(steps, 0)).to(linear.device)
    chosen = by_time[index, torch.arange(linear.batch, device=linear.device)]
    if not bool(torch.isfinite(chosen).all()):
        raise InputError("`output_grad` holds a value that is not finite at a source; pass finite numbers.")
    return chosen.to(linear.wide_dtype) * present.unsqueeze(-1)
