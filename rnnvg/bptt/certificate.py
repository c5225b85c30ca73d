"""Numerical certificates: entries of a profile against float64 autograd, which knows nothing of closed forms or logs.

A leaf is put where the gradient is asked for, the recurrence itself (PyTorch's own module in float64, or the step function)
is run from there to the source, and autograd differentiates it. Slow, and it underflows where the profile does not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from rnnvg.bptt import arguments
from rnnvg.bptt.cells import cell_of, read_cells
from rnnvg.bptt.cells.diagonal import Diagonal
from rnnvg.bptt.stepping import Step, initial_parts, map_state, module_step, whole_state, widened
from rnnvg.bptt.weights import at_least_single, plain_module
from rnnvg.errors import InputError, check_int
from rnnvg.notebook import Shown

if TYPE_CHECKING:
    import pandas as pd

    from rnnvg.bptt.profile import GradientProfile, Origin

# Below this autograd's float64 norm, which squares, has begun to lose digits.
LOG_SMALLEST = 0.5 * math.log(torch.finfo(torch.float64).tiny) + 10


@dataclass(frozen=True, repr=False)
class Certificate(Shown):
    """How far a sample of a profile is from float64 autograd.

    Attributes:
        source, distance, sequence: [n] the entries compared.
        log_norm, reference: [n] the profile's value and autograd's, nats.
        skipped: entries of the sample that are too small for the comparison (autograd underflows), not compared.
        weights: parameter name -> relative distance between the sum of temporal contributions and autograd's `.grad`;
            empty where the recurrence is not a module.
        dtype: what the profile was computed in; float64 agrees to rounding, float32 to about 1e-5 unless it is chaotic.
        route: what the entries were compared with.
    """

    source: np.ndarray
    distance: np.ndarray
    sequence: np.ndarray
    log_norm: np.ndarray
    reference: np.ndarray
    skipped: int
    weights: dict[str, float]
    dtype: str
    route: str = "float64 autograd"

    @classmethod
    def of(
        cls,
        entries: Sequence[tuple[int, int, int, float, float]],
        skipped: int,
        dtype: torch.dtype,
        weights: dict[str, float] | None = None,
        route: str = "float64 autograd",
    ) -> Certificate:
        """From the entries compared, (source, distance, sequence, log_norm, reference) each; the rest as the attributes."""
        columns = np.array(entries, dtype=np.float64).reshape(-1, 5).T
        source, distance, sequence = columns[:3].astype(np.int64)
        name = str(dtype).removeprefix("torch.")
        return cls(source, distance, sequence, columns[3], columns[4], skipped, weights or {}, name, route)

    @property
    def residual(self) -> float:
        """Largest relative difference of the norms compared; nan where none could be."""
        if not len(self.log_norm):
            return math.nan
        same = self.log_norm == self.reference  # two exact zeros agree
        with np.errstate(invalid="ignore"):
            apart = np.where(same, 0.0, np.abs(np.expm1(self.log_norm - self.reference)))
        return float(apart.max())

    def to_frame(self) -> pd.DataFrame:
        """A row per entry compared: source, distance, sequence, log_norm, reference."""
        import pandas as pd

        names = ("source", "distance", "sequence", "log_norm", "reference")
        return pd.DataFrame({name: getattr(self, name) for name in names})

    def __str__(self) -> str:
        compared = f"{len(self.log_norm)} entries of the {self.dtype} profile agree with {self.route} to "
        skipped = f" ({self.skipped} more are too small for that comparison)" if self.skipped else ""
        weights = ""
        if self.weights:
            weights = f"; temporal contributions add up to .grad within {max(self.weights.values()):.1e} of its norm"
        return f"{compared}{self.residual:.1e} relative{skipped}{weights}."


def certify(profile: GradientProfile, origin: Origin, n: int) -> Certificate:
    """Compare up to `n` entries of `profile`, spread over its distances, with float64 autograd."""
    check_int("n", n, least=1)
    if arguments.weight_versions(origin.recurrence) != origin.versions:
        raise InputError(
            "A weight of `recurrence` has changed since the profile was measured; measure it again to verify."
        )
    run = _runner(origin)
    found: list[tuple[int, int, int, float, float]] = []
    skipped = 0
    for row, distance, sequence in entries_to_compare(profile, n):
        reference = run(profile, row, distance, sequence)
        value = float(profile.log_norm[row, distance, sequence])
        if value < LOG_SMALLEST and (value > -math.inf or reference > -math.inf):
            skipped += 1
        else:
            found.append((int(origin.steps[row, sequence]), distance, sequence, value, reference))
    return Certificate.of(found, skipped, _dtype(origin), weights=_weights(origin))


def entries_to_compare(profile: GradientProfile, n: int) -> list[tuple[int, int, int]]:
    """Observed entries spread evenly over the distances, going round sources and sequences."""
    observed = np.argwhere(~np.isnan(profile.log_norm).transpose(1, 0, 2))
    assert profile.origin is not None
    steps = profile.origin.steps
    if steps.ndim == 2:
        # Beyond its own initial state a recurrent module's profile may go on through another module.
        ends = steps[observed[:, 1], observed[:, 2]] + (profile.wrt != "input")
        observed = observed[profile.distance[observed[:, 0]] <= ends]
    chosen = observed[np.unique(np.linspace(0, len(observed) - 1, min(n, len(observed))).round().astype(int))]
    return [(int(row), int(distance), int(sequence)) for distance, row, sequence in chosen]


def _dtype(origin: Origin) -> torch.dtype:
    if origin.inputs.is_floating_point() or origin.inputs.is_complex():
        return at_least_single(origin.inputs[:0]).dtype
    return (origin.state if isinstance(origin.state, Tensor) else origin.state[0]).dtype


def _runner(origin: Origin) -> Callable[[GradientProfile, int, int, int], float]:
    if isinstance(origin.recurrence, Diagonal):
        return _diagonal(origin) if origin.recurrence.drive is None else _driven(origin)
    if cell_of(origin.recurrence) is not None:
        module = plain_module(origin.recurrence).double()
        inputs = arguments.module_inputs(module, origin.inputs.double())
        state = map_state(origin.state, widened)
        parts, step = initial_parts(module, state, inputs), module_step(module)
    else:
        inputs, step = origin.inputs.detach(), _function_step(origin)
        parts = [part.flatten(1) for part in _parts(origin.state)]
    return _autograd(step, inputs, [part.detach() for part in parts])


def _function_step(origin: Origin) -> Step:
    single, shapes = isinstance(origin.state, Tensor), [part.shape[1:] for part in _parts(origin.state)]

    def step(x: Tensor, parts: list[Tensor]) -> list[Tensor]:
        shaped = tuple(part.unflatten(1, shape) for part, shape in zip(parts, shapes, strict=True))
        after = origin.recurrence(x, shaped[0] if single else shaped)  # type: ignore[operator]
        return [part.flatten(1) for part in _parts(after)]

    return step


def _parts(state: Any) -> list[Tensor]:
    return [state] if isinstance(state, Tensor) else list(state)


def _autograd(step: Step, inputs: Tensor, initial: list[Tensor]) -> Callable[[GradientProfile, int, int, int], float]:
    def run(profile: GradientProfile, row: int, distance: int, sequence: int) -> float:
        assert profile.origin is not None
        source = int(profile.origin.steps[row, sequence])
        covector = profile.origin.covectors[row, sequence]
        begin = source - distance + 1  # the first step after the state asked for
        parts = initial
        with torch.no_grad():
            for t in range(begin if profile.wrt != "input" else begin - 1):
                parts = step(inputs[t], parts)
        with torch.enable_grad():
            if profile.wrt == "input":
                leaf = inputs[begin - 1].clone().requires_grad_()
                leaves, parts = [leaf], step(leaf, parts)
            else:
                parts = [part.clone().requires_grad_() for part in parts]
                leaves = _asked(profile, parts)
            for t in range(begin, source + 1):
                parts = step(inputs[t], parts)
            loss = (_in_order(profile, parts)[sequence] * covector.to(parts[0].dtype).conj()).sum().real
            found = torch.autograd.grad(loss, leaves, allow_unused=True)
        squares = sum(float(widened(each[sequence]).abs().square().sum()) for each in found if each is not None)
        return 0.5 * math.log(squares) if squares > 0 else -math.inf

    return run


def _asked(profile: GradientProfile, parts: list[Tensor]) -> list[Tensor]:
    """Of [h of every layer, c of every layer] those that `wrt` and `layer` name."""
    origin = profile.origin
    assert origin is not None
    if cell_of(origin.recurrence) is None:
        kinds = ("hidden", "cell") + ("other",) * len(parts)
        named = [(0, kinds[i]) for i in range(len(parts))]
    else:
        layers = list(enumerate(read_cells(origin.recurrence)))  # type: ignore[arg-type]
        named = [(index, cell.parts[i].kind) for i in range(len(layers[0][1].parts)) for index, cell in layers]
    return [
        part
        for part, (layer, kind) in zip(parts, named, strict=True)
        if profile.wrt in ("state", kind) and profile.layer in (None, layer)
    ]


def _in_order(profile: GradientProfile, parts: list[Tensor]) -> Tensor:
    """The state as the covectors have it, [B, N]: layer by layer, h before c."""
    assert profile.origin is not None
    return whole_state(parts, int(getattr(profile.origin.recurrence, "num_layers", 1)))


def _diagonal(origin: Origin) -> Callable[[GradientProfile, int, int, int], float]:
    assert isinstance(origin.recurrence, Diagonal)
    factors = origin.recurrence.factors(origin.inputs)

    def run(profile: GradientProfile, row: int, distance: int, sequence: int) -> float:
        source = int(origin.steps[row, sequence])
        product = factors[source - distance + 1 : source + 1, sequence].to(torch.complex128).prod(0)
        norm = float(torch.linalg.vector_norm(product * origin.covectors[row, sequence]))
        return math.log(norm) if norm > 0 else -math.inf

    return run


def _driven(origin: Origin) -> Callable[[GradientProfile, int, int, int], float]:
    recurrence = origin.recurrence
    assert isinstance(recurrence, Diagonal)
    factors = recurrence.factors(origin.inputs)
    zeros = torch.zeros_like(factors[0]) if origin.state is None else origin.state
    return _autograd(lambda x, parts: [recurrence.step(x, parts[0])], origin.inputs.detach(), [zeros.detach()])


def _weights(origin: Origin) -> dict[str, float]:
    """Relative distance of the summed temporal contributions from autograd's gradient, in float64."""
    if cell_of(origin.recurrence) is None:
        return {}
    from rnnvg.bptt.linearize import linearize
    from rnnvg.bptt.stack import ModuleLinearization
    from rnnvg.bptt.why.contributions import contributions_of

    module = plain_module(origin.recurrence).double()
    inputs = origin.inputs.detach().double()
    state = map_state(origin.state, widened)
    linear = linearize(module, inputs, state)
    assert isinstance(linear, ModuleLinearization)
    grads: dict[int, Tensor] = {}
    for row, steps in enumerate(origin.steps):
        for sequence in np.flatnonzero(steps >= 0):
            at = grads.setdefault(int(steps[sequence]), torch.zeros_like(origin.covectors[0]))
            at[sequence] += origin.covectors[row, sequence]
    none = inputs.new_zeros(linear.n_steps, linear.batch, linear.output.stop - linear.output.start)
    return contributions_of(module, linear, inputs, state, none, grads).verify()
