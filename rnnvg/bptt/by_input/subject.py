"""A model run on one batch, with a leaf where the gradient is measured: at its inputs, or at the output of a module in it.

A module runs as a float64 copy in evaluation mode, so that nothing of the user's is touched; a function runs as it is.
Axes: T steps, B sequences, I numbers that the leaf has for each step and sequence.
"""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import random
import types
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from rnnvg.bptt.by_input.copies import hooks_left_out, module_copy, switched_off
from rnnvg.bptt.tensors import check_finite, check_has_values, check_tensor, sequence, tensors_of
from rnnvg.errors import InputError, check_name
from rnnvg.pytorch import gradients, named_modules

Outputs = str | int | Callable[[Any], Tensor] | None
USUAL_NAMES = ("logits", "last_hidden_state")


@dataclass(frozen=True)
class Forward:
    """One pass.

    Attributes:
        leaves: where the gradient is measured: one tensor, or a tensor [B, ...] per step where a module is called at each.
        output: what the source's covector multiplies.
        drew: the pass drew from torch's generator.
        into_convolution: the first nn.Conv1d takes the leaf's second axis for channels, so its last one is time.
    """

    leaves: list[Tensor]
    output: Tensor
    drew: bool
    into_convolution: bool

    def gradient(self, output: Tensor, covector: Tensor) -> Tensor | None:
        """The leaf's gradient of <covector, output>, steps called one by one stacked in front; None where there is none."""
        found = gradients(output, self.leaves, covector, retain=True)
        if all(each is None for each in found):
            return None
        zeros = (
            torch.zeros_like(leaf) if each is None else each for each, leaf in zip(found, self.leaves, strict=True)
        )
        return next(zeros) if len(self.leaves) == 1 else torch.stack(list(zeros))


class Subject:
    """The model as it is measured.

    Attributes:
        at: the name of the module whose output is the leaf; None for the inputs themselves.
        notes: what was changed for the measurement, in sentences.
    """

    def __init__(self, model: Any, inputs: Tensor, outputs: Outputs, at: str | None, dtype: torch.dtype | None) -> None:
        if not callable(model):
            raise InputError(f"`model` is a {type(model).__name__}; pass an nn.Module or a function of the inputs.")
        if isinstance(model, type):
            raise InputError(f"`model` is the class {model.__name__}; pass an instance of it.")
        takes = outputs is None or isinstance(outputs, (str, int)) or callable(outputs)
        if not takes or isinstance(outputs, (type, nn.Module)):
            raise InputError(
                f"`outputs` is a {type(outputs).__name__}; pass the name or the index of the model's output to follow, or a "
                "function that picks it."
            )
        self.outputs = outputs
        self.notes: list[str] = []
        self._module, self._call = None, model
        owner = model.__self__ if inspect.ismethod(model) else getattr(model, "_orig_mod", model)
        if isinstance(owner, nn.Module):
            self._module = module_copy(owner, dtype)
            self._call = types.MethodType(model.__func__, self._module) if inspect.ismethod(model) else self._module
            self.notes += switched_off(owner) + hooks_left_out(owner)
        elif dtype is not None and inputs.is_floating_point() and inputs.dtype != dtype:
            width = str(inputs.dtype).removeprefix("torch.")
            self.notes.append(f"The model is a function, which runs as it is: in {width}, the dtype of the inputs.")
        self.inputs = _checked_inputs(inputs, dtype if self._module is not None else None)
        self._default = dtype if self._module is not None else None
        self.at = self._leaf_module(at)
        if self.at is not None:
            self.notes.append(f"Measured at the output of `{self.at}`.")

    def forward(self, values: list[Tensor] | None = None, grad: bool = True) -> Forward:
        """Run the model; `values` take the leaves' places."""
        leaves: list[Tensor] = []
        seen: list[Tensor] = []

        def leaf_of(value: Tensor) -> Tensor:
            value = value.detach() if values is None else values[len(leaves)]
            leaves.append(value.clone().requires_grad_(grad))
            return leaves[-1].clone()  # a model may write into what it is given

        def replaced(module: nn.Module, args: Any, output: Tensor | tuple[Any, ...]) -> Any:
            return (leaf_of(output[0]), *output[1:]) if isinstance(output, tuple) else leaf_of(output)

        with self._surroundings(grad) as drew, contextlib.ExitStack() as stack:
            given = self.inputs if self.at is not None else leaf_of(self.inputs)
            if self._module is not None:
                modules = dict(named_modules(self._module))
                if self.at is not None:
                    handle = modules[self.at].register_forward_hook(replaced)
                    stack.callback(handle.remove)
                for module in modules.values():
                    if isinstance(module, nn.Conv1d):
                        handle = module.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
                        stack.callback(handle.remove)
            found = self._run(given)
            output = picked(found, self.outputs)
        if not leaves:
            raise InputError(f"`at` names {self.at!r}, which the model does not call; pass a module that it runs.")
        return Forward(leaves, output, drew(), bool(seen) and _channels_second(seen[0], given))

    def _run(self, given: Tensor) -> Any:
        try:
            return self._call(given)
        except InputError:
            raise
        except Exception as error:  # whatever the user's model raises becomes one sentence, with its cause chained
            reason = (str(error).strip() or "no message").splitlines()[0]
            shape = f"{str(given.dtype).removeprefix('torch.')} {list(given.shape)}"
            advice = "pass inputs that it takes"
            if self._default is not None:
                advice += ", or dtype=None where it cannot run in float64"
            raise InputError(
                f"`model` failed on `inputs` ({shape}): {type(error).__name__}: {reason}; {advice}."
            ) from error

    @contextlib.contextmanager
    def _surroundings(self, grad: bool) -> Generator[Callable[[], bool]]:
        """Gradients on or off, no autocast, seeded draws; the caller's random states and default dtype come back."""
        device, python, numpy = self.inputs.device, random.getstate(), np.random.get_state()
        generators = [torch.default_generator]
        if device.type == "cuda":  # a tensor's device has its index
            generators.append(torch.cuda.default_generators[device.index])
        before = [each.get_state() for each in generators]
        default = torch.get_default_dtype()
        drawn: list[bool] = []
        try:
            for each in generators:
                each.manual_seed(0)
            seeded = [each.get_state() for each in generators]
            if self._default is not None:
                torch.set_default_dtype(self._default)  # masks and states that a forward pass makes are in it
            with torch.inference_mode(False), torch.set_grad_enabled(grad), torch.autocast(device.type, enabled=False):
                yield lambda: drawn[0]
            drawn.append(any(not torch.equal(a, b.get_state()) for a, b in zip(seeded, generators, strict=True)))
        finally:
            torch.set_default_dtype(default)
            for each, state in zip(generators, before, strict=True):
                each.set_state(state)
            random.setstate(python)
            np.random.set_state(numpy)

    def _leaf_module(self, at: object) -> str | None:
        is_token = not self.inputs.is_floating_point()
        if self._module is None:
            if at is not None or is_token:
                named = f"`at` is {at!r}" if at is not None else "`inputs` are token ids"
                raise InputError(
                    f"{named} and `model` is a function, whose modules are not known; pass the nn.Module itself, or the "
                    "numbers that its embedding gives."
                )
            return None
        if at is not None:
            if not isinstance(at, str):
                raise InputError(
                    f"`at` is a {type(at).__name__}; pass the name of a module, as named_modules() gives it."
                )
            return check_name("at", at, [name for name, _ in named_modules(self._module) if name])
        return self._token_embedding() if is_token else None

    def _token_embedding(self) -> str:
        """The embedding that reads the token ids: the only one, or the only one that is handed them."""
        assert self._module is not None
        embeddings = {name: each for name, each in named_modules(self._module) if isinstance(each, nn.Embedding)}
        if not embeddings:
            raise InputError(
                "`inputs` are token ids and `model` has no nn.Embedding; pass at= with the name of the module that reads them."
            )
        if len(embeddings) == 1:
            return next(iter(embeddings))
        handed: dict[str, list[object]] = {name: [] for name in embeddings}
        with self._surroundings(False), contextlib.ExitStack() as stack:
            for name, each in embeddings.items():
                handle = each.register_forward_pre_hook(_recorder(handed[name]))
                stack.callback(handle.remove)
            self._run(self.inputs)
        reading = [name for name, calls in handed.items() if _same_tokens(calls, self.inputs)]
        if len(reading) != 1:
            raise InputError(
                f"`inputs` are token ids and {len(reading) or 'none'} of `model`'s embeddings read them; pass at= with one "
                f"of: {', '.join(embeddings)}."
            )
        return reading[0]


def picked(found: Any, outputs: Outputs) -> Tensor:
    """The tensor that is followed, of all that the model returned."""
    if outputs is None:
        chosen = _usual(found)
    elif isinstance(outputs, str):
        named = _named(found)
        names = dir(found) if named is None else map(str, named)
        check_name("outputs", outputs, [name for name in names if named is not None or not name.startswith("_")])
        chosen = getattr(found, outputs) if named is None else named[outputs]
    elif isinstance(outputs, int):
        several = sequence(found) or []
        if not -len(several) <= outputs < len(several):
            raise InputError(f"`outputs` is {outputs} and `model` returns {_words(found)}; pass None or a function.")
        chosen = several[outputs]
    else:
        chosen = outputs(found)
    if not isinstance(chosen, Tensor):
        raise InputError(f"`outputs` picks {_words(chosen)} of what `model` returns; pick a tensor.")
    if not chosen.is_floating_point():
        raise InputError(
            f"`model`'s output has dtype {chosen.dtype}, which has no gradient; pass outputs= with what comes before it."
        )
    return chosen


def _usual(found: object) -> Any:
    """The tensor itself, the first of a tuple, or of what has names (a mapping, a dataclass) the usual or only one."""
    if isinstance(found, Tensor):
        return found
    several = sequence(found)
    if several is not None:
        tensors: dict[object, Tensor] = dict(enumerate(each for each in several if isinstance(each, Tensor)))
        names: list[object] = list(tensors)[:1]
    else:
        named = _named(found)
        fields = _attributes(found) if named is None else named
        tensors = {name: each for name, each in fields.items() if isinstance(each, Tensor)}
        names = [name for name in USUAL_NAMES if name in tensors]
        names = names[:1] or list(tensors)
    if not names:
        raise InputError(
            f"`model` returns {_words(found)}, which holds no tensor itself; pass outputs= with a function that picks one."
        )
    if len(names) > 1:
        raise InputError(f"`model` returns {', '.join(map(str, names))}; pass outputs= with one of these names.")
    return tensors[names[0]]


def _named(found: object) -> Mapping[object, object] | None:
    """`found` where it is a mapping."""
    return cast("Mapping[object, object]", found) if isinstance(found, Mapping) else None


def _attributes(found: Any) -> dict[str, Any]:
    """What an object that a model returns has by name: a dataclass's fields, or its public attributes."""
    if dataclasses.is_dataclass(found):
        return {each.name: getattr(found, each.name) for each in dataclasses.fields(found) if hasattr(found, each.name)}
    return {name: each for name, each in getattr(found, "__dict__", {}).items() if not name.startswith("_")}


def _words(found: object) -> str:
    several = sequence(found)
    return f"a {type(found).__name__}" + ("" if several is None else f" of {len(several)}")


def _recorder(calls: list[object]) -> Callable[[nn.Module, Any], None]:
    return lambda _, args: calls.append(args[0])


def _same_tokens(handed: list[object], tokens: Tensor) -> bool:
    calls = tensors_of(handed)
    if not calls:
        return False
    if len(calls) > 1 and any(each.shape != calls[0].shape for each in calls):
        return False
    seen = calls[0] if len(calls) == 1 else torch.stack(calls)
    return any(seen.shape == each.shape and torch.equal(seen, each) for each in (tokens, tokens.transpose(0, 1)))


def _channels_second(convolved: Tensor, given: Tensor) -> bool:
    """Whether what is convolved has the channels where `given` has its second axis: by size, or because it holds `given`."""
    if given.ndim != 3 or convolved.ndim != 3 or convolved.shape[:2] != given.shape[:2]:
        return False
    steps = given.shape[2]
    windows = (convolved[..., at : at + steps] for at in range(convolved.shape[2] - steps + 1))
    return given.shape[1] != steps or any(torch.equal(window, given) for window in windows)


def _checked_inputs(inputs: Any, dtype: torch.dtype | None) -> Tensor:
    """`inputs` of their own, in the dtype that the copy runs in; token ids stay whole numbers."""
    if not isinstance(inputs, Tensor):
        raise InputError(f"`inputs` is a {type(inputs).__name__}; pass a tensor [T, B, I], or token ids [T, B].")
    if not inputs.is_nested and (0 in inputs.shape or inputs.ndim < 2):
        raise InputError(
            f"`inputs` has shape {list(inputs.shape)}; pass [T, B, I] or token ids [T, B], or both with the batch first."
        )
    check_tensor("inputs", inputs, "[T, B, I], or token ids [T, B]")
    check_has_values("inputs", inputs)
    if inputs.dtype == torch.bool or inputs.is_complex():
        raise InputError(f"`inputs` has dtype {inputs.dtype}; pass floating numbers or whole token ids.")
    with torch.inference_mode(False):
        own = inputs.detach().clone()
        if not own.is_floating_point():
            return own
        check_finite("inputs", own)
        return own if dtype is None else own.to(dtype)
