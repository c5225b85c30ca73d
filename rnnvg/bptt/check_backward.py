"""check_backward(): a fused or custom kernel's gradient against a float64 step, distance by distance.

A backward pass that is wrong is seldom wrong everywhere: Jacobians multiplied in the wrong order agree at distances 0 and 1, a
dropped chunk boundary as far as the chunk reaches, coarse accumulation for a while. What rounding alone may do is measured
too: the same step with the result of every operation, forwards and backwards, rounded to the kernel's dtype, three times over
with other errors. A chaotic recurrence makes any of them large, some by chance much less than others: where a kernel that
rounds `margin` times worse may be off by the gradient's own size, none is called wrong.
Axes: S sources, T steps, B sequences.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from rnnvg.bptt import arguments, logscale
from rnnvg.bptt.kernel_runs import Kernel, Rounding, Run, fused_outputs, in_double, in_float64, takes, unrolled
from rnnvg.bptt.stepping import map_state
from rnnvg.bptt.tensors import check_finite, tensors_of
from rnnvg.errors import InputError, check_float
from rnnvg.pytorch import vector_norm

if TYPE_CHECKING:
    import pandas as pd

MARGIN = 30.0  # a kernel may round so many times worse than a step whose operations are rounded one by one
LEAST = 16  # units of rounding that are nobody's fault
ROUNDED = 3  # runs, each with errors of its own


def check_backward(
    fused: Kernel,
    step: Kernel,
    inputs: Tensor | Sequence[Tensor],
    state: Any = None,
    *,
    sources: arguments.Sources = "last",
    margin: float = MARGIN,
    generator: torch.Generator | None = None,
) -> pd.DataFrame:
    """The relative error of a fused kernel's gradient by distance, against a float64 step differentiated by autograd.

    Args:
        fused: what is checked: fused(inputs) or fused(inputs, state) -> outputs [T, B, H] (or a tuple that begins with
            them), in whatever dtype `inputs` have; an nn.Module's `batch_first` is honoured.
        step: the same recurrence written plainly: step(x_t, state) -> state, the output first. A module is copied to
            float64; a function must take float64.
        inputs: [T, B, I]; or a tuple of such tensors, handed on as fused(*inputs, state) and step((a_t, b_t), state).
        state: the initial state [B, H], or a tuple of them; None where the fused kernel and the step start from zeros of
            their own.
        sources: steps whose outputs are differentiated: "last", "all", an int n, or a list.
        margin: how many times worse than `rounding` an error must be to be called wrong, where that is less than 1.
        generator: for the random covectors; None is a fresh one seeded 0.

    Returns:
        A row per distance between a source and an input (the initial state's is source + 1). Columns: distance; error, the
        largest over sources and sequences of |g - g64| / |g64|; median_error; rounding, the largest that rounding to the
        kernel's dtype does; log10_gradient, the mean size; n; wrong; decidable, False from the distance on where `margin`
        times `rounding` is the gradient's own size, as in a chaotic recurrence (but not because the dtype has no number so
        small). `attrs` has `begins` (the first wrong distance, or None), `forward_error` (the outputs', relative) and
        `sentence`.

    Raises:
        InputError: the two do not fit each other or the inputs.

    >>> cell = torch.nn.GRUCell(2, 3)
    >>> whole = torch.nn.GRU(2, 3)
    >>> whole.load_state_dict({name + "_l0": value for name, value in cell.state_dict().items()})
    <All keys matched successfully>
    >>> print(check_backward(whole, cell, torch.randn(20, 4, 2)).attrs["sentence"])
    The gradient agrees with the float64 step at distances 0 to 19, within rounding to float32.
    """
    margin = check_float("margin", margin, above=1.0)
    for name, given_as in (("fused", fused), ("step", step)):
        if isinstance(given_as, type):
            raise InputError(f"`{name}` is the class {given_as.__name__}; pass an instance of it.")
    given = _checked(inputs)
    n_steps, batch, dtype = *given[0].shape[:2], given[0].dtype
    if bool(getattr(fused, "batch_first", False)):
        n_steps, batch = batch, n_steps
        given = [each.transpose(0, 1) for each in given]
    shared, _ = arguments.source_steps(sources, n_steps, None, batch)
    with torch.inference_mode(False), torch.enable_grad(), torch.autocast(given[0].device.type, enabled=False):
        kernel = Run(fused_outputs(fused), given, state)
        steps = unrolled(in_float64(step), isinstance(inputs, Tensor))
        wide = [each.double() for each in given], map_state(state, in_double)
        exact = Run(steps, *wide)
        rounded = [Run(steps, *wide, Rounding(dtype, seed)) for seed in range(ROUNDED)]
        if kernel.outputs.shape != exact.outputs.shape:
            raise InputError(
                f"`fused` gives outputs {list(kernel.outputs.shape)} and `step`'s first tensor over time is "
                f"{list(exact.outputs.shape)}; pass a step whose state begins with the same output."
            )
        covectors = arguments.unit_covectors(
            len(shared), batch, exact.outputs[0, 0].numel(), generator, given[0].device
        )
        handed = state is not None and takes(fused, len(given) + 1)
        rows = [
            _errors(kernel, exact, rounded, int(source), covector, handed)
            for source, covector in zip(shared, covectors, strict=True)
        ]
    return _table(rows, kernel, exact, rounded, margin, dtype)


def _checked(inputs: object) -> list[Tensor]:
    given = tensors_of(inputs)
    if not given or not all(each.ndim >= 2 and each.numel() for each in given):
        raise InputError(
            f"`inputs` is a {type(inputs).__name__}; pass a tensor [T, B, I] or a tuple of them, none of them empty."
        )
    first = given[0]
    for each in given:
        if each.shape[:2] != first.shape[:2] or each.dtype != first.dtype or not each.is_floating_point():
            raise InputError(
                f"`inputs` holds {list(each.shape)} {each.dtype} beside {list(first.shape)} {first.dtype}; pass floating "
                "tensors of one dtype with the same steps and sequences."
            )
        check_finite("inputs", each)
    return given


def _errors(
    kernel: Run, exact: Run, rounded: list[Run], source: int, covector: Tensor, initial: bool
) -> tuple[np.ndarray, ...]:
    """Relative errors of the kernel and of rounding, and log10 of the gradient's size: [source + 2, B] by distance.

    That of rounding is the largest of all runs, inf where one leaves the finite numbers. Where the kernel has no `initial`
    state, its place is nan.
    """
    known = exact.gradient(source, covector)
    columns: list[np.ndarray] = []
    for run in (kernel, *rounded):
        by_input, by_state = run.gradient(source, covector)
        apart = torch.cat([_norm(by_input - known[0])[: source + 1], _norm(by_state - known[1])[None]])
        columns.append(apart.flip(0).roll(-1, 0).cpu().numpy())
    size = torch.cat([_norm(known[0])[: source + 1], _norm(known[1])[None]]).flip(0).roll(-1, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        size = size.cpu().numpy()
        error, *floors = (np.where(size > 0, each / size, np.where(each > 0, np.inf, 0)) for each in columns)
        floor = np.nan_to_num(np.max(floors, 0), nan=np.inf, posinf=np.inf)
        if not initial:
            error[-1] = floor[-1] = np.nan
        return error, floor, np.log10(size)


def _norm(vectors: Tensor) -> Tensor:
    """Lengths along the last axis; squares stay in the range."""
    if not vectors.shape[-1]:
        return vectors.new_zeros(vectors.shape[:-1])
    scaled, log = logscale.scaled_vectors(vectors)
    return vector_norm(scaled, dim=-1) * log.exp()


def _table(
    rows: list[tuple[np.ndarray, ...]], kernel: Run, exact: Run, rounded: list[Run], margin: float, dtype: torch.dtype
) -> pd.DataFrame:
    import pandas as pd

    found: list[tuple[float, ...]] = []
    undecided: list[float] = []
    smallest = math.log10(torch.finfo(dtype).tiny)
    for k in range(max(len(error) for error, _, _ in rows)):
        error, floor, size = (np.concatenate([row[i][k] for row in rows if k < len(row[i])]) for i in range(3))
        seen = ~np.isnan(floor) if k else np.ones(len(error), dtype=bool)
        if not seen.any():
            continue
        error, floor, size = error[seen], floor[seen], size[seen]
        error = np.where(np.isnan(error), np.inf, error)
        undecided.append(floor[size > smallest].max(initial=0.0))  # what rounds to 0 is small, and is to be small
        found.append((k, error.max(), np.median(error), floor.max(), size.mean(), len(error)))
    names = ["distance", "error", "median_error", "rounding", "log10_gradient", "n"]
    frame = pd.DataFrame(found, columns=names)
    allowed, _ = _allowed(frame["rounding"].to_numpy(), margin, dtype)
    _, decidable = _allowed(np.array(undecided), margin, dtype)
    frame["wrong"] = decidable & (frame["error"] > allowed)
    frame["decidable"] = decidable
    wrong = frame["wrong"].to_numpy(dtype=bool)
    begins = int(frame["distance"].to_numpy()[wrong][0]) if wrong.any() else None
    forward, beyond = _forward(kernel, exact, rounded, margin, dtype)
    frame.attrs |= {"begins": begins, "forward_error": forward}
    frame.attrs["sentence"] = _sentence(frame, begins, beyond, dtype)
    return frame


def _allowed(rounding: np.ndarray, margin: float, dtype: torch.dtype) -> tuple[np.ndarray, np.ndarray]:
    """The largest error that rounding explains, and whether that is less than all there is: errors do not heal on the way."""
    explained = margin * np.maximum.accumulate(rounding)
    return np.maximum(explained, LEAST * torch.finfo(dtype).eps), explained < 1


def _forward(
    kernel: Run, exact: Run, rounded: list[Run], margin: float, dtype: torch.dtype
) -> tuple[float, int | None]:
    """The largest relative error of the outputs, and the first step where it is more than rounding."""
    wanted = exact.outputs.detach().flatten(1)
    size = vector_norm(wanted, dim=1).clamp_min(torch.finfo(torch.float64).tiny)
    error, *floors = (
        (vector_norm(run.outputs.detach().double().flatten(1) - wanted, dim=1) / size).cpu().numpy()
        for run in (kernel, *rounded)
    )
    allowed, decidable = _allowed(np.nan_to_num(np.max(floors, 0), nan=np.inf, posinf=np.inf), margin, dtype)
    beyond = np.flatnonzero(decidable & ~(error <= allowed))
    return float(error.max()), int(beyond[0]) if beyond.size else None


def _sentence(frame: pd.DataFrame, begins: int | None, beyond: int | None, dtype: torch.dtype) -> str:
    width = str(dtype).removeprefix("torch.")
    first = (
        f"The forward pass differs from the float64 step from step {beyond} on, by more than rounding to {width} explains. "
        if beyond is not None
        else ""
    )
    if begins is None:
        count = int(frame["decidable"].sum())
        agrees = f"The gradient agrees with the float64 step at distances 0 to {count - 1}, within rounding to {width}"
        if count == len(frame):
            return f"{first}{agrees}."
        unknown = frame.iloc[count]  # those that cannot be decided are the last
        why = (
            f"from distance {unknown['distance']:.0f} on nothing can be said, because rounding alone changes it by "
            f"{unknown['rounding']:.0e} of its size there, as in a chaotic recurrence."
        )
        return f"{first}{agrees}; {why}" if count else f"{first}Of the gradient {why}"
    row = frame[frame["distance"] == begins].iloc[0]
    return (
        f"{first}The gradient is wrong from distance {begins} on: relative error {row['error']:.1e}, where rounding to "
        f"{width} explains {max(row['rounding'], torch.finfo(dtype).eps):.0e}."
    )
