"""Checks of what the analyzer is handed, and the shapes it works on: time first, a state per layer, sources as steps.

Every refusal names the argument, what was found and what to pass. Axes: S sources, T steps, B sequences, I input, P output.
"""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rnnvg.bptt.cells import Cell, cell_of, read_cells
from rnnvg.bptt.tensors import check_finite, check_has_values, check_tensor, members, shape_of
from rnnvg.bptt.weights import NARROW, at_least_single
from rnnvg.errors import InputError, bounded, check_int, check_name, shown
from rnnvg.pytorch import from_numpy, vector_norm

WRT = ("state", "hidden", "cell", "input")
WHOLE = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
Sources = str | int | Sequence[int]


def check_module(module: nn.Module, argument: str = "recurrence", both_ways: bool = False) -> None:
    """Refuse what has no exact closed form here, with the reason; a bidirectional module unless `both_ways`."""
    cell = cell_of(module)
    kind = None if cell is None else next(kind for kind in cell.modules if isinstance(module, kind))
    if kind is None or type(module).forward is not kind.forward:
        raise InputError(
            f"`{argument}` is a {type(module).__name__} with a forward of its own, so its weights alone do not say what it "
            "computes; pass a function step(x_t, state) -> state."
        )
    if getattr(module, "bidirectional", False) and not both_ways:
        raise InputError(
            f"`{argument}` is bidirectional: its output looks both ways, so 'distance' has no single meaning; "
            "pass a module with bidirectional=False."
        )


def dropout_note(module: nn.Module) -> str:
    """A sentence where a module has active dropout between its layers, of which one pass has no masks; else empty."""
    rate = float(getattr(module, "dropout", 0.0))
    if not (isinstance(module, nn.RNNBase) and module.training and rate > 0 and module.num_layers > 1):
        return ""
    return f"Dropout {rate:g} between the layers is analysed as off: only a watched call has masks."


def narrow_note(dtype: torch.dtype) -> str:
    """What to say of numbers that were computed in float32 from narrower ones; empty for other dtypes."""
    return (
        f"Computed in float32 from {str(dtype).removeprefix('torch.')} weights and inputs." if dtype in NARROW else ""
    )


def weight_versions(recurrence: object) -> tuple[tuple[int, int], ...]:
    """Where each parameter and buffer lies and how often it was written to, to notice a later change; () for a function."""
    if not isinstance(recurrence, nn.Module):
        return ()
    tensors = [*recurrence.parameters(), *recurrence.buffers()]
    return tuple((tensor.data_ptr(), tensor._version) for tensor in tensors)


def module_inputs(module: nn.Module, inputs: Tensor, layers: Sequence[Cell] | None = None) -> Tensor:
    """`inputs` checked against the module and detached, time first: [T, B, I]. `layers` are the module's, where known.

    One sequence without a batch axis, [T, I], is a batch of 1; float16 and bfloat16 become float32, as the layers' weights.
    """
    bottom = (read_cells(module) if layers is None else layers)[0]
    batch_first = bool(getattr(module, "batch_first", False))
    layout = "[B, T, I]" if batch_first else "[T, B, I]"
    inputs = check_tensor("inputs", inputs, layout)
    if inputs.ndim == 2:
        inputs = inputs.unsqueeze(0 if batch_first else 1)
    if inputs.ndim != 3:
        raise InputError(
            f"`inputs` has shape {list(inputs.shape)}; pass {layout} (one sequence alone is a batch of 1)."
        )
    if inputs.shape[2] != bottom.n_inputs:
        raise InputError(
            f"`inputs` has {inputs.shape[2]} features and the module takes {bottom.n_inputs}; pass "
            f"{layout.replace('I', str(bottom.n_inputs))}."
        )
    if 0 in inputs.shape:
        raise InputError(
            f"`inputs` is empty, shape {list(inputs.shape)}; pass {layout} with at least one step and sequence."
        )
    weight = bottom.like
    if inputs.dtype in NARROW and inputs.dtype == next((own.dtype for own in module.parameters()), None):
        inputs = inputs.float()
    if inputs.dtype not in (torch.float32, torch.float64):
        raise InputError(f"`inputs` has dtype {inputs.dtype}; pass float32 or float64.")
    if inputs.dtype != weight.dtype:
        raise InputError(
            f"`inputs` is {inputs.dtype} and the module's weights {weight.dtype}; pass inputs.to({weight.dtype})."
        )
    if inputs.device != weight.device:
        raise InputError(
            f"`inputs` is on {inputs.device} and the module on {weight.device}; pass inputs.to({str(weight.device)!r})."
        )
    check_has_values("inputs", inputs)
    check_finite("inputs", inputs)
    return (inputs.transpose(0, 1) if batch_first else inputs).detach()


def module_state(
    module: nn.Module, state: Any, inputs: Tensor, layers: Sequence[Cell] | None = None
) -> list[tuple[Tensor, ...]]:
    """The initial state layer by layer, the parts [B, width] of each; zeros where `state` is None."""
    layers = read_cells(module) if layers is None else layers
    lead, batch = [len(layers)] if hasattr(module, "num_layers") else [], inputs.shape[1]
    shapes = [[*lead, batch, part.width] for part in layers[0].parts]
    dtype = layers[0].state_dtype
    if state is None:
        parts = [inputs.new_zeros(shape, dtype=dtype) for shape in shapes]
    else:
        parts = [_as_batch(part, batch, len(lead)) for part in members(state)]
        found = [shape_of(part) for part in parts]
        several = len(shapes) > 1
        if found != shapes or several != isinstance(state, (tuple, list)):
            wanted = "h_0 of shape " if not several else "the pair (h_0, c_0) of shapes "
            if len(shapes) > 2:
                wanted = "a tuple of shapes "
            raise InputError(
                f"`state` is {' and '.join(map(str, found))}; pass {wanted}{' and '.join(map(str, shapes))}, "
                "or None for zeros."
            )
        for part in parts:
            check_tensor("state", part, "of real numbers")
            if part.dtype != dtype or part.device != inputs.device:
                raise InputError(
                    f"`state` is {part.dtype} on {part.device} and `inputs` {inputs.dtype} on {inputs.device}; pass the same."
                )
            check_finite("state", part)
    parts = [part.detach().reshape(len(layers), batch, -1) for part in parts]
    return [tuple(part[index] for part in parts) for index in range(len(layers))]


def _as_batch(part: Any, batch: int, axis: int) -> Any:
    """A part of the state at_least_single, and with a batch axis where it has none and there is one sequence."""
    if not isinstance(part, Tensor):
        return part
    return at_least_single(part.unsqueeze(axis) if batch == 1 and part.ndim == axis + 1 else part)


def output_gradients(
    recurrence: object,
    output_grad: Any,
    shape: tuple[int, int, int],
    device: torch.device,
    finite: bool = False,
    unbatched: bool = False,
) -> Tensor:
    """`output_grad` checked to be shaped like the output, [T, B, P] of `shape`, and detached, time first.

    `finite`: refuse a value at any step that is not finite. `unbatched`: the inputs were one sequence without a batch axis.
    """
    batch_first = cell_of(recurrence) is not None and bool(getattr(recurrence, "batch_first", False))
    steps, batch, width = shape
    wanted = [batch, steps, width] if batch_first else [steps, batch, width]
    if isinstance(output_grad, Tensor) and list(output_grad.shape) == [steps, width] and unbatched:
        output_grad = output_grad.unsqueeze(0 if batch_first else 1)
    if isinstance(output_grad, Tensor) and output_grad.ndim > 3 and cell_of(recurrence) is None:
        output_grad = output_grad.flatten(2)  # of a state with more axes
    if not isinstance(output_grad, Tensor) or list(output_grad.shape) != wanted:
        raise InputError(
            f"`output_grad` is {shape_of(output_grad)}; pass dL_t/d(output_t) shaped like the output, {wanted}."
        )
    check_tensor("output_grad", output_grad, "shaped like the output")
    if not output_grad.is_floating_point():
        raise InputError(f"`output_grad` has dtype {output_grad.dtype}; pass float32 or float64.")
    if output_grad.device != device:
        raise InputError(f"`output_grad` is on {output_grad.device} and the inputs on {device}; pass the same device.")
    if finite:
        check_finite("output_grad", output_grad)
    return at_least_single(output_grad.transpose(0, 1) if batch_first else output_grad).detach()


def without_padding(recurrence: object, inputs: Any, lengths: Any) -> Any:
    """`inputs` with zeros behind each sequence's length: what is in the padding is nobody's, nan included."""
    if not isinstance(inputs, Tensor) or not inputs.is_floating_point() or inputs.ndim < 2:
        return inputs
    batch_first = (
        inputs.ndim == 3 and cell_of(recurrence) is not None and bool(getattr(recurrence, "batch_first", False))
    )
    by_time = inputs.transpose(0, 1) if batch_first else inputs
    if inputs.ndim == 2 and cell_of(recurrence) is not None:  # one sequence without a batch axis
        by_time = by_time.unsqueeze(1)
    valid = check_lengths(lengths, by_time.shape[0], by_time.shape[1])
    assert valid is not None
    inside = torch.arange(by_time.shape[0], device="cpu")[:, None] < from_numpy(valid)
    if bool(inside.all()):
        return inputs
    inside = inside.to(inputs.device).view(*inside.shape, *[1] * (by_time.ndim - 2))
    found = torch.where(inside, by_time, 0)
    return found.transpose(0, 1) if batch_first else found


def check_lengths(lengths: Any, n_steps: int, batch: int) -> np.ndarray | None:
    """Valid steps per sequence, [B] int64, or None where every sequence has all T."""
    if lengths is None:
        return None
    if isinstance(lengths, Tensor):
        check_has_values("lengths", check_tensor("lengths", lengths, "[B] of whole numbers"))
        lengths = lengths.detach().cpu()
    try:
        found = np.asarray(lengths)
    except (TypeError, ValueError):
        found = np.empty(0, dtype=object)
    if found.shape != (batch,) or not np.issubdtype(found.dtype, np.integer):
        raise InputError(
            f"`lengths` must be {batch} whole numbers, one per sequence; got shape {list(found.shape)}, {found.dtype}."
        )
    if found.min() < 1 or found.max() > n_steps:
        wrong = int(found.min()) if found.min() < 1 else int(found.max())
        raise InputError(f"`lengths` holds {wrong}; pass values from 1 to {n_steps}, the steps in `inputs`.")
    return found.astype(np.int64)


def source_steps(
    sources: Sources, n_steps: int, lengths: np.ndarray | None, batch: int
) -> tuple[np.ndarray, np.ndarray]:
    """The source steps for full length [S], and per sequence [S, B] with -1 where a sequence has no such step."""
    own = np.full(batch, n_steps, dtype=np.int64) if lengths is None else lengths
    if isinstance(sources, str):
        check_name("sources", sources, ("last", "all"))
        if sources == "last":
            return np.array([n_steps - 1]), own[None, :] - 1
        steps = np.arange(n_steps)
        return steps, _absolute(steps, own)
    if not isinstance(sources, bool) and isinstance(sources, numbers.Integral):
        count = int(sources)
        if not 1 <= count <= n_steps:
            raise InputError(f"`sources` is {count}; pass from 1 to {n_steps} sources for {n_steps} steps.")
        return _evenly(count, np.array(n_steps)), _evenly(count, own)
    try:
        wanted = [_index(each) for each in bounded("sources", sources)]  # type: ignore[arg-type]
    except TypeError:
        raise InputError(
            f"`sources` is {shown(sources)}; pass 'last', 'all', a number of sources, or a list of step indices."
        ) from None
    if not wanted:
        raise InputError("`sources` is an empty list; pass at least one step index.")
    for each in wanted:
        if not -n_steps <= each < n_steps:
            raise InputError(
                f"`sources` holds step {each}; pass indices from {-n_steps} to {n_steps - 1} for {n_steps} steps."
            )
    steps = np.array([each if each >= 0 else n_steps + each for each in wanted])
    per_sequence = [_absolute(np.array([each]), own)[0] if each >= 0 else np.maximum(own + each, -1) for each in wanted]
    return steps, np.stack(per_sequence)


def _index(value: Any) -> int:
    if isinstance(value, Tensor) and value.ndim == 0 and value.dtype in WHOLE and value.device.type != "meta":
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError
    return int(value)


def _evenly(count: int, length: np.ndarray) -> np.ndarray:
    """round((i + 1) T / n) - 1 for i < n, [n, ...]; a sequence shorter than n has steps named twice, or none (-1)."""
    index = np.arange(1, count + 1).reshape(-1, *(1,) * length.ndim)
    return np.rint(index * length / count).astype(np.int64) - 1


def _absolute(steps: np.ndarray, own: np.ndarray) -> np.ndarray:
    return np.where(steps[:, None] < own[None, :], steps[:, None], -1)


def source_covectors(
    recurrence: object,
    output_grad: Any,
    steps: np.ndarray,
    shape: tuple[int, int, int],
    generator: torch.Generator | None,
    device: torch.device,
    dtype: torch.dtype,
    unbatched: bool = False,
) -> Tensor:
    """Covectors of the output [T, B, P] of `shape` at the sources [S, B], as [S, B, P] of a double `dtype`.

    Rows of `output_grad`, zero where a sequence has no such source; random unit covectors where that is None.
    """
    check_generator(generator)
    if output_grad is None:
        return unit_covectors(len(steps), shape[1], shape[2], generator, device, dtype)
    by_time = output_gradients(recurrence, output_grad, shape, device, unbatched=unbatched)
    present = from_numpy(steps >= 0).to(device)
    index = from_numpy(np.maximum(steps, 0)).to(device)
    chosen = by_time[index, torch.arange(shape[1], device=device)]
    if not bool(torch.isfinite(chosen).all()):
        raise InputError("`output_grad` holds a value that is not finite at a source; pass finite numbers.")
    return chosen.to(dtype) * present.unsqueeze(-1)


def check_generator(generator: object) -> None:
    """Nothing for a torch.Generator or None."""
    if not isinstance(generator, (torch.Generator, type(None))):
        raise InputError(
            f"`generator` is a {type(generator).__name__}; pass a torch.Generator, or None for one seeded 0."
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
    return (drawn / vector_norm(drawn, dim=-1, keepdim=True)).to(device)


def check_size(n_sources: int, n_distances: int, batch: int, max_bytes: int) -> None:
    """Refuse a result [S, K, B] float64 that takes more than `max_bytes`."""
    check_int("max_bytes", max_bytes, least=1)
    needed = n_sources * n_distances * batch * 8
    if needed > max_bytes:
        raise InputError(
            f"`sources` needs {n_sources} sources x {n_distances} distances x {batch} sequences, {needed / 2**30:.1f} GiB; "
            f"pass fewer sources (an int), or max_bytes={needed} if there is room."
        )
