"""What hooks on a recurrent module keep: each call as it was made, and the gradients that came back, pass by pass.

Nothing that goes wrong in a hook reaches the program that is watched: it is kept, and whoever asks for an answer is told.
Axes: L layers, B sequences.
"""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence
from torch.utils.hooks import RemovableHandle

from rnnvg.bptt.passes import Pass, pass_under_way
from rnnvg.bptt.tensors import tensors_of
from rnnvg.pytorch import flat_weights, func_transform, leave_uncompiled, tracing


@dataclass(eq=False)
class Gradients:
    """What one backward pass brought to one call.

    passed_on, handed_on: the parts of `finals` that a later call sent, of the same module and of another one.
    """

    finals: list[Tensor | None]
    passed_on: list[Tensor | None]
    handed_on: list[Tensor | None]
    output: list[Tensor | None] = field(default_factory=lambda: [None])

    def add(self, where: str, index: int, grad: Tensor) -> None:
        kept: list[Tensor | None] = getattr(self, where)
        before = kept[index]
        kept[index] = grad if before is None else before + grad


@dataclass(eq=False)
class Call:
    """One forward call of a module: what it was handed, what it used, what it gave, and the gradients that came back.

    recorder: whose call it is; weights: by name, what the forward pass ran with; versions: of these, empty where they are
    copies; last: a copy of the top layer's h_n, to compare with where the output was changed in place since; dropout: between
    layers, active; random: the state of the generator that its masks come from, before the call, None where they come from
    another (cuDNN).
    """

    recorder: Recorder
    inputs: Tensor | PackedSequence
    state: tuple[Tensor, ...] | None
    before: Call | None  # the call, of any watched module, whose final state this one began from, with its graph
    input_version: int
    dropout: float
    random: Tensor | None
    narrowest: torch.dtype  # that the forward pass computed in
    computed_state: bool = False  # the initial state has a graph and is no call's final state as it was handed over
    weights: dict[str, Tensor] = field(default_factory=dict[str, Tensor])
    versions: tuple[int, ...] = ()
    output: Tensor | PackedSequence | None = None
    output_version: int = 0
    last: Tensor | None = None
    finals: tuple[tuple[weakref.ref[Tensor], int], ...] = ()  # the final states and their versions
    gradients: dict[int, Gradients] = field(default_factory=dict[int, Gradients])  # by the engine's number of the pass

    @property
    def masks_lost(self) -> bool:
        """Whether dropout was active with masks that cannot be drawn again for the analysis."""
        return self.dropout > 0 and (self.random is None or self.recorder.module.bidirectional)

    @property
    def reached(self) -> bool:
        """Whether a backward pass has brought a gradient to this call, and has ended."""
        return any(self.recorder.passes[task].finished for task in self.gradients)


class Recorder:
    """Keeps the calls of one module.

    Attributes: module; calls; passes, by the engine's number; failures: errors in hooks; unseen: why calls with gradients
    enabled were left out. Recorders that share passes, failures and ends follow a sequence from one module to the next.
    """

    def __init__(
        self,
        module: nn.RNNBase,
        snapshot: bool,
        passes: dict[int, Pass] | None = None,
        failures: list[Exception] | None = None,
        ends: dict[int, Call] | None = None,
    ) -> None:
        self.module, self.snapshot = module, snapshot
        self.calls: list[Call] = []
        self.passes: dict[int, Pass] = {} if passes is None else passes
        self.failures: list[Exception] = [] if failures is None else failures
        self.unseen: set[str] = set()
        self._ends: dict[int, Call] = {} if ends is None else ends  # id of a call's first final state -> the call
        self._begun = threading.local()

    def __getstate__(self) -> dict[str, Any]:
        """A copy is a recorder that has seen nothing: what was seen hangs on one program's graph."""
        return {"module": self.module, "snapshot": self.snapshot}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)

    def attach(self) -> list[RemovableHandle]:
        """Put the hooks on the module."""
        return [
            self.module.register_forward_pre_hook(Hook(self.before, self.failures), with_kwargs=True),
            self.module.register_forward_hook(Hook(self.after, self.failures), with_kwargs=True, prepend=True),
        ]

    def before(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The forward pre-hook: notes what a call is handed."""
        self._begun.call = None
        if module is not self.module or not torch.is_grad_enabled():  # a shallow copy shares the hooks
            return None
        reason = _unreadable()
        if reason is not None:
            self.unseen.add(reason)
            return None
        if not args and "input" not in kwargs:  # the module itself says what is wrong with that
            return None
        inputs = args[0] if args else kwargs["input"]
        given = args[1] if len(args) > 1 else kwargs.get("hx")
        state = None if given is None else tuple(tensors_of(given))
        if not isinstance(inputs, (Tensor, PackedSequence)) or state == ():
            return None
        data = inputs.data if isinstance(inputs, PackedSequence) else inputs
        reason = _without_values(data)
        if reason is not None:
            self.unseen.add(reason)
            return None
        before = self._joined(state)
        active = self.module.training and self.module.num_layers > 1
        self._begun.call = Call(
            recorder=self,
            inputs=inputs,
            state=None if state is None else tuple(part.detach() for part in state),
            before=before,
            input_version=version(data),
            dropout=self.module.dropout if active else 0.0,
            random=torch.get_rng_state() if active and self.module.dropout and data.device.type == "cpu" else None,
            narrowest=_narrowest(data),
            computed_state=before is None and state is not None and state[0].grad_fn is not None,
        )
        if before is None or state is None:
            return None
        # A view between the two calls has a gradient of its own: what the later call sends back, apart from the losses
        # that read the state directly. Its values and the gradients' are the same bits.
        views = tuple(part.view_as(part) for part in state)
        for index, (part, view) in enumerate(zip(state, views, strict=True)):
            view.rnnvg_final = _itself(part)  # type: ignore[attr-defined]  # so that a second watcher knows it
            self._note(view, before, "passed_on" if before.recorder is self else "handed_on", index)
        replaced: Any = views[0] if isinstance(given, Tensor) else views
        if len(args) > 1:
            return (args[0], replaced, *args[2:]), kwargs
        return args, {**kwargs, "hx": replaced}

    def after(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        """The forward hook: notes what a call used and gave, and waits for its gradients."""
        call, self._begun.call = getattr(self._begun, "call", None), None
        if call is None:
            return
        output, finals = result
        finals = (finals,) if isinstance(finals, Tensor) else tuple(finals)
        data = output.data if isinstance(output, PackedSequence) else output
        if not data.requires_grad:  # nothing will come back: evaluation, or everything frozen
            self.unseen.add("nothing in it takes a gradient")
            return
        call.weights, call.versions = self._weights(call.before)
        call.output = _detached(output)
        call.output_version = version(data)
        top = finals[0].detach()
        call.last = (top[-1:] if top.ndim == 2 else top[-1]).clone()
        call.finals = tuple((weakref.ref(final), version(final)) for final in finals)
        self._note(data, call, "output")
        for index, final in enumerate(finals):
            self._note(final, call, "finals", index)
        self._ends[id(finals[0])] = call
        self.calls.append(call)

    def _note(self, tensor: Tensor, call: Call, where: str, index: int = 0) -> None:
        """Add the gradients that come back to `tensor` to what their passes have brought to `call`.

        On the node that made it, not on the tensor: there they are as every hook on the tensor has left them, one that the
        program registers later and that clips them included. It keeps no input or output alive.
        """
        gradients, n_finals, passes, failures = call.gradients, len(call.finals), self.passes, self.failures
        its_module = weakref.ref(self.module)
        edge = torch.autograd.graph.get_gradient_edge(tensor)
        number = edge.output_nr

        def hook(grads: tuple[Tensor | None, ...]) -> None:
            try:
                grad = grads[number]
                if grad is None:  # an output of a node that nobody used
                    return
                task = pass_under_way(passes, its_module())
                if task not in gradients:
                    gradients[task] = Gradients([None] * n_finals, [None] * n_finals, [None] * n_finals)
                gradients[task].add(where, index, grad.detach())
            except Exception as error:
                keep_first(error, failures)

        edge.node.register_prehook(hook)

    def _joined(self, state: tuple[Tensor, ...] | None) -> Call | None:
        if state is None or not state[0].requires_grad:
            return None
        call = self._ends.get(id(_itself(state[0])))
        if call is None or len(call.finals) != len(state):
            return None
        for (final, unchanged), part in zip(call.finals, state, strict=True):
            if final() is not _itself(part) or version(part) != unchanged:
                return None
        return call

    def _weights(self, before: Call | None) -> tuple[dict[str, Tensor], tuple[int, ...]]:
        """The weights that the forward pass just ran with, never read again, and their versions (none for copies)."""
        used = {name: weight.detach() for name, weight in flat_weights(self.module) if weight is not None}
        if not self.snapshot:
            return used, tuple(version(weight) for weight in used.values())
        last = before if before is not None and before.recorder is self else self.calls[-1] if self.calls else None
        if last is not None and all(torch.equal(last.weights[name], weight) for name, weight in used.items()):
            return last.weights, ()
        return {name: weight.clone() for name, weight in used.items()}, ()


def version(tensor: Tensor) -> int:
    """How often the tensor was written to, as far as PyTorch counts it."""
    return -1 if tensor.is_inference() else tensor._version


def _unreadable() -> str | None:
    """Why the tensors of the call under way cannot be kept, or None."""
    if func_transform() is not None:
        return "it ran inside a torch.func transform"
    if tracing() is not None:
        return "it was traced, not run"
    return None


def _without_values(data: Tensor) -> str | None:
    """Why there is nothing to analyse in the inputs of a call, or None."""
    if data.device.type == "meta":
        return "its tensors are on the meta device, which holds no values"
    if 0 in data.shape[:-1]:
        return "its inputs had no sequence or no step"
    return None


def _narrowest(data: Tensor) -> torch.dtype:
    kind = data.device.type
    if hasattr(torch, "get_autocast_dtype"):
        return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else data.dtype
    # PyTorch 2.3 has a pair of functions a device
    if kind == "cpu":
        return torch.get_autocast_cpu_dtype() if torch.is_autocast_cpu_enabled() else data.dtype
    return torch.get_autocast_gpu_dtype() if torch.is_autocast_enabled() else data.dtype


def _itself(part: Tensor) -> Tensor:
    """The final state that a view made by another watcher's hook stands for, or the tensor itself."""
    return getattr(part, "rnnvg_final", part)


def _detached(output: Tensor | PackedSequence) -> Tensor | PackedSequence:
    if isinstance(output, Tensor):
        return output.detach()
    return PackedSequence(output.data.detach(), output.batch_sizes, output.sorted_indices, output.unsorted_indices)


class Hook:
    """A hook whose errors go to `failures` and no further.

    A copy of the module that it sits on, deep or pickled, carries a callable of the standard library that does nothing.
    """

    def __init__(self, run: Callable[..., Any], failures: list[Exception]) -> None:
        self.run, self.failures = run, failures

    def __call__(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any] | None = None, *result: Any
    ) -> Any:
        if torch.compiler.is_compiling():  # being traced into a graph, where nothing can be kept
            return None
        if not isinstance(kwargs, dict):  # taken off while the call was under way: PyTorch then leaves kwargs out
            return None
        try:
            return self.run(module, args, kwargs, *result)
        except Exception as error:
            keep_first(error, self.failures)
            return None

    def __reduce__(self) -> tuple[Any, ...]:
        return getattr, (contextlib.nullcontext(), "__exit__")


leave_uncompiled(Hook.__call__.__code__)


def keep_first(error: Exception, failures: list[Exception]) -> None:
    if not failures:  # the first one says what went wrong; its traceback would keep the frames' tensors alive
        failures.append(error.with_traceback(None))
