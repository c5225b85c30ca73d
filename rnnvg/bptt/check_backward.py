"""check_backward(): a fused or custom kernel's gradient against a float64 step, distance by distance.

A backward pass that is wrong is seldom wrong everywhere: Jacobians multiplied in the wrong order agree at distances 0 and 1, a
dropped chunk boundary as far as the chunk reaches, coarse accumulation for a while. What rounding alone may do is measured
too: the same step with the result of every operation, forwards and backwards, rounded to the kernel's dtype.
Axes: S sources, T steps, B sequences.
"""

from __future__ import annotations

import contextlib
import copy
import inspect
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from rnnvg.bptt import arguments, logscale
from rnnvg.bptt.covectors import unit_covectors
from rnnvg.bptt.rounding import Rounding
from rnnvg.errors import InputError, check_float

if TYPE_CHECKING:
    import pandas as pd

MARGIN = 30.0  # a kernel may round so many times worse than a step whose operations are rounded one by one
LEAST = 16  # units of rounding that are nobody's fault

Kernel = Callable[..., Any]


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
        margin: how many times worse than `rounding` an error must be to be called wrong.
        generator: for the random covectors; None is a fresh one seeded 0.

    Returns:
        A row per distance between a source and an input (the initial state's is source + 1). Columns: distance; error, the
        largest over sources and sequences of |g - g64| / |g64|; median_error; rounding, the largest that rounding to the
        kernel's dtype does; log10_gradient, the mean size; n; wrong. `attrs` has `begins` (the first wrong distance, or
        None), `forward_error` (the outputs', relative) and `sentence`.

    Raises:
        InputError: the two do not fit each other or the inputs.

    >>> cell = nn.GRUCell(2, 3)
    >>> whole = nn.GRU(2, 3)
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
        kernel = _Run(_fused_outputs(fused), given, state)
        unrolled = _unrolled(_in_float64(step), isinstance(inputs, Tensor))
        wide = [each.double() for each in given], _wide_state(state)
        exact = _Run(unrolled, *wide)
        rounded = _Run(unrolled, *wide, Rounding(dtype))
        if kernel.outputs.shape != exact.outputs.shape:
            raise InputError(
                f"`fused` gives outputs {list(kernel.outputs.shape)} and `step`'s first tensor over time is "
                f"{list(exact.outputs.shape)}; pass a step whose state begins with the same output."
            )
        covectors = unit_covectors(len(shared), batch, exact.outputs[0, 0].numel(), generator, given[0].device)
        handed = state is not None and _takes(fused, len(given) + 1)
        rows = [
            _errors(kernel, exact, rounded, int(source), covector, handed)
            for source, covector in zip(shared, covectors, strict=True)
        ]
    return _table(rows, kernel, exact, rounded, margin, dtype)


class _Run:
    """Outputs [T, B, ...] of one forward pass, with leaves at every step's input and at the initial state."""

    def __init__(
        self,
        call: Callable[[list[Tensor], Any], Tensor],
        inputs: list[Tensor],
        state: Any,
        arithmetic: contextlib.AbstractContextManager[Any] | None = None,
    ) -> None:
        self.arithmetic = arithmetic or contextlib.nullcontext()
        self.inputs = [each.detach().clone().requires_grad_() for each in inputs]
        parts = [] if state is None else [state] if isinstance(state, Tensor) else list(state)
        self.state = [part.detach().clone().requires_grad_(part.is_floating_point()) for part in parts]
        again = None if state is None else self.state[0] if isinstance(state, Tensor) else tuple(self.state)
        with self.arithmetic:
            self.outputs = call(self.inputs, again)

    def gradient(self, source: int, covector: Tensor) -> tuple[Tensor, Tensor]:
        """By every step's input [T, B, numbers] and by the initial state [B, numbers], in float64."""
        initial = [part for part in self.state if part.requires_grad]
        leaves = [*self.inputs, *initial]
        loss = (self.outputs[source].flatten(1) * covector.to(self.outputs.dtype)).sum()
        try:
            with self.arithmetic:
                found = torch.autograd.grad(loss, leaves, retain_graph=True, allow_unused=True)
        except RuntimeError as error:
            raise InputError(f"The backward pass failed: {str(error).splitlines()[0]}") from error
        wide = [
            torch.zeros_like(leaf, dtype=torch.float64) if grad is None else grad.double()
            for leaf, grad in zip(leaves, found, strict=True)
        ]
        n = len(self.inputs)
        by_input = torch.cat([each.flatten(2) if each.ndim > 2 else each.unsqueeze(2) for each in wide[:n]], 2)
        by_state = [each.flatten(1) for each in wide[n:]]
        return by_input, torch.cat(by_state, 1) if by_state else by_input.new_zeros(by_input.shape[1], 0)


def _checked(inputs: Any) -> list[Tensor]:
    given = [inputs] if isinstance(inputs, Tensor) else list(inputs) if isinstance(inputs, (tuple, list)) else []
    if not given or not all(isinstance(each, Tensor) and each.ndim >= 2 and each.numel() for each in given):
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
        if not arguments.all_finite(each):
            raise InputError("`inputs` holds a value that is not finite; pass finite numbers.")
    return given


def _wide_state(state: Any) -> Any:
    if state is None or isinstance(state, Tensor):
        return state if state is None else state.double()
    return tuple(part.double() if part.is_floating_point() else part for part in state)


def _in_float64(step: Kernel) -> Kernel:
    if not isinstance(step, nn.Module):
        return step
    try:
        return copy.deepcopy(step).double().requires_grad_(False)
    except Exception as error:  # a module of TorchScript, for one
        raise InputError(
            f"`step` cannot be copied to float64 ({_first_line(error)}); pass a function that takes float64."
        ) from error


def _fused_outputs(fused: Kernel) -> Callable[[list[Tensor], Any], Tensor]:
    batch_first = bool(getattr(fused, "batch_first", False))

    def call(inputs: list[Tensor], state: Any) -> Tensor:
        handed: list[Any] = [each.transpose(0, 1) for each in inputs] if batch_first else list(inputs)
        if state is not None and _takes(fused, len(handed) + 1):
            handed.append(_layered(state) if isinstance(fused, nn.RNNBase) else state)
        try:
            found = fused(*handed)
        except Exception as error:
            raise InputError(f"`fused` failed: {type(error).__name__}: {_first_line(error)}") from error
        outputs = found[0] if isinstance(found, (tuple, list)) else found
        if not isinstance(outputs, Tensor) or outputs.ndim < 2 or not outputs.requires_grad:
            what = "a tensor without a graph" if isinstance(outputs, Tensor) else f"a {type(outputs).__name__}"
            raise InputError(f"`fused` returned {what}; return outputs [T, B, H] that autograd can follow to `inputs`.")
        return outputs.transpose(0, 1) if batch_first else outputs

    return call


def _layered(state: Any) -> Any:
    return state.unsqueeze(0) if isinstance(state, Tensor) else tuple(part.unsqueeze(0) for part in state)


def _takes(fused: Kernel, count: int) -> bool:
    """Whether a callable takes `count` positional arguments; one that does not say is handed them."""
    try:
        parameters = inspect.signature(fused).parameters.values()
    except (TypeError, ValueError):
        return True
    kinds = [each.kind for each in parameters]
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return inspect.Parameter.VAR_POSITIONAL in kinds or sum(kind in positional for kind in kinds) >= count


def _unrolled(step: Kernel, single: bool) -> Callable[[list[Tensor], Any], Tensor]:
    """The step over all inputs in float64."""

    def call(inputs: list[Tensor], state: Any) -> Tensor:
        rows: list[Tensor] = []
        shapes = None if state is None else [list(part.shape) for part in _parts(state, 0)]
        for t in range(inputs[0].shape[0]):
            x = tuple(each[t] for each in inputs)
            try:
                state = step(x[0] if single else x, state)
            except Exception as error:
                raise InputError(
                    f"`step` failed at step {t} in float64: {type(error).__name__}: {_first_line(error)}; pass a module, or a "
                    "function of (x_t, state) that takes float64, with its initial state."
                ) from error
            after = _parts(state, t)
            shapes, before = [list(part.shape) for part in after], shapes
            if before not in (None, shapes):
                raise InputError(
                    f"`step` changes the state's shape at step {t}: it was given {_words(before)} and returned "
                    f"{_words(shapes)}; return the same."
                )
            rows.append(after[0])
        outputs = torch.stack(rows)
        if outputs.dtype != torch.float64:
            raise InputError(f"`step` returned {outputs.dtype} for float64 inputs; compute it in float64.")
        return outputs

    return call


def _parts(state: Any, t: int) -> list[Tensor]:
    """The tensors of what the step returned at step `t`."""
    parts = [state] if isinstance(state, Tensor) else list(state) if isinstance(state, (tuple, list)) else []
    if not parts or not all(isinstance(part, Tensor) for part in parts):
        raise InputError(
            f"`step` returned a {type(state).__name__} at step {t}; return the state, a tensor or a tuple of tensors with the "
            "output first."
        )
    return parts


def _words(shapes: list[list[int]]) -> str:
    return " and ".join(map(str, shapes))


def _errors(
    kernel: _Run, exact: _Run, rounded: _Run, source: int, covector: Tensor, initial: bool
) -> tuple[np.ndarray, ...]:
    """Relative errors of the kernel and of rounding, and log10 of the gradient's size: [source + 2, B] by distance.

    Where the kernel has no `initial` state, its place is nan.
    """
    known = exact.gradient(source, covector)
    columns = []
    for run in (kernel, rounded):
        by_input, by_state = run.gradient(source, covector)
        apart = torch.cat([_norm(by_input - known[0])[: source + 1], _norm(by_state - known[1])[None]])
        columns.append(apart.flip(0).roll(-1, 0))
    size = torch.cat([_norm(known[0])[: source + 1], _norm(known[1])[None]]).flip(0).roll(-1, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        size = size.cpu().numpy()
        error, floor = (
            np.where(size > 0, each.cpu().numpy() / size, np.where(each.cpu() > 0, np.inf, 0)) for each in columns
        )
        if not initial:
            error[-1] = floor[-1] = np.nan
        return error, floor, np.log10(size)


def _norm(vectors: Tensor) -> Tensor:
    """Lengths along the last axis; squares stay in the range."""
    if not vectors.shape[-1]:
        return vectors.new_zeros(vectors.shape[:-1])
    scaled, log = logscale.scaled_vectors(vectors)
    return torch.linalg.vector_norm(scaled, dim=-1) * log.exp()


def _table(
    rows: list[tuple[np.ndarray, ...]], kernel: _Run, exact: _Run, rounded: _Run, margin: float, dtype: torch.dtype
) -> pd.DataFrame:
    import pandas as pd

    found = []
    for k in range(max(len(error) for error, _, _ in rows)):
        error, floor, size = (np.concatenate([row[i][k] for row in rows if k < len(row[i])]) for i in range(3))
        seen = ~np.isnan(floor) if k else np.ones(len(error), dtype=bool)
        if not seen.any():
            continue
        error, floor, size = error[seen], floor[seen], size[seen]
        error = np.where(np.isnan(error), np.inf, error)
        found.append((k, error.max(), np.median(error), floor.max(), size.mean(), len(error)))
    names = ["distance", "error", "median_error", "rounding", "log10_gradient", "n"]
    frame = pd.DataFrame(found, columns=names)
    allowed = margin * np.maximum(np.maximum.accumulate(frame["rounding"]), LEAST * torch.finfo(dtype).eps / margin)
    frame["wrong"] = frame["error"] > allowed
    wrong = frame["wrong"].to_numpy(dtype=bool)
    begins = int(frame["distance"].to_numpy()[wrong][0]) if wrong.any() else None
    forward, beyond = _forward(kernel, exact, rounded, margin, dtype)
    frame.attrs |= {"begins": begins, "forward_error": forward}
    frame.attrs["sentence"] = _sentence(frame, begins, beyond, dtype)
    return frame


def _forward(kernel: _Run, exact: _Run, rounded: _Run, margin: float, dtype: torch.dtype) -> tuple[float, int | None]:
    """The largest relative error of the outputs, and the first step where it is more than rounding."""
    size = exact.outputs.detach().flatten(1).norm(dim=1).clamp_min(torch.finfo(torch.float64).tiny)
    error, floor = (
        ((run.outputs.detach().double() - exact.outputs.detach()).flatten(1).norm(dim=1) / size).cpu().numpy()
        for run in (kernel, rounded)
    )
    eps = torch.finfo(dtype).eps
    beyond = np.flatnonzero(~(error <= np.maximum(margin * np.maximum.accumulate(floor), LEAST * eps)))
    return float(error.max()), int(beyond[0]) if beyond.size else None


def _sentence(frame: pd.DataFrame, begins: int | None, beyond: int | None, dtype: torch.dtype) -> str:
    width = str(dtype).removeprefix("torch.")
    first = (
        f"The forward pass differs from the float64 step from step {beyond} on, by more than rounding to {width} explains. "
        if beyond is not None
        else ""
    )
    if begins is None:
        last = int(frame["distance"].iloc[-1])
        return f"{first}The gradient agrees with the float64 step at distances 0 to {last}, within rounding to {width}."
    row = frame[frame["distance"] == begins].iloc[0]
    return (
        f"{first}The gradient is wrong from distance {begins} on: relative error {row['error']:.1e}, where rounding to "
        f"{width} explains {max(row['rounding'], torch.finfo(dtype).eps):.0e}."
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip() or "no message").splitlines()[0]
