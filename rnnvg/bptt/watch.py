"""watch(): gradient profiles of a fused module inside anyone's training loop.

Hooks keep what went into each call and the gradients that arrive at its output, h_n and c_n. From those the adjoints are
followed afterwards, on the recorded trajectory; the training step itself computes nothing more.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from rnnvg.bptt import arguments
from rnnvg.errors import InputError

if TYPE_CHECKING:
    from rnnvg.bptt.contributions import TemporalContributions
    from rnnvg.bptt.profile import GradientProfile


@dataclass(eq=False)
class Call:
    """One forward call of the watched module: what it was handed, and the gradients that came back."""

    inputs: Tensor | PackedSequence
    state: tuple[Tensor, ...] | None
    before: Call | None  # the call whose final state this one began from, with its graph
    versions: tuple[tuple[int, int], ...]
    input_version: int
    weights: dict[str, Tensor] | None
    dropout: bool
    output: PackedSequence | None = None  # for a packed call: how its gradient is laid out
    finals: tuple[weakref.ref[Tensor], ...] = ()
    output_grad: Tensor | None = None
    final_grads: list[Tensor | None] = field(default_factory=list)
    passed_on: list[Tensor | None] = field(default_factory=list)  # the part of final_grads that a later call sent

    @property
    def reached(self) -> bool:
        """Whether a gradient has come back to this call at all."""
        return self.output_grad is not None or any(grad is not None for grad in self.final_grads)


class Watcher:
    """What `watch` saw; ask it for profiles after `loss.backward()`."""

    def __init__(self, module: nn.RNNBase, snapshot: bool) -> None:
        self.module = module
        self.calls: list[Call] = []
        self._snapshot = snapshot
        self._handles: list[Any] = []
        self._begun: Call | None = None

    def __enter__(self) -> Watcher:
        self._handles = [
            self.module.register_forward_pre_hook(self.before, with_kwargs=True),
            self.module.register_forward_hook(self._after, with_kwargs=True),
        ]
        return self

    def __exit__(self, *exception: object) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def profile(
        self,
        sources: arguments.Sources = "all",
        wrt: str = "state",
        *,
        layer: int | None = None,
        max_bytes: int | None = None,
    ) -> GradientProfile:
        """Gradient magnitude against distance for the losses that were backpropagated, each step's on its own.

        All calls that a gradient reached are analysed together: calls joined through their state are one sequence, others
        stand side by side in the batch, shorter ones with nan beyond their end. A loss scaled by a constant (GradScaler)
        shifts log_norm by its logarithm and leaves log_gain as it is.

        Args:
            sources, wrt, layer, max_bytes: as in gradient_profile. A step without a loss of its own is an exact zero.

        Raises:
            InputError: no call was seen or no gradient came back; a weight or an input was changed since; dropout between
                layers was active.
        """
        from rnnvg.bptt.watched import profile_calls

        return profile_calls(self, sources, wrt, layer, max_bytes)

    def temporal_contributions(self) -> TemporalContributions:
        """What each time step added to each parameter's gradient; see rnnvg.temporal_contributions."""
        from rnnvg.bptt.watched import contributions_of_calls

        return contributions_of_calls(self)

    def before(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The forward pre-hook: notes what a call is handed."""
        if not self._handles:
            return None
        inputs = args[0] if args else kwargs["input"]
        given = args[1] if len(args) > 1 else kwargs.get("hx")
        state = None if given is None else (given,) if isinstance(given, Tensor) else tuple(given)
        before = self._joined(state)
        data = inputs.data if isinstance(inputs, PackedSequence) else inputs
        self._begun = Call(
            inputs=inputs,
            state=None if state is None else tuple(part.detach() for part in state),
            before=before,
            versions=arguments.weight_versions(module),
            input_version=data._version,
            weights=self._weights(),
            dropout=module.training and self.module.dropout > 0 and self.module.num_layers > 1,
        )
        if before is None or state is None:
            return None
        # A view between the two calls has a gradient of its own: what the later call sends back, apart from the losses
        # that read the state directly. Its values and the gradients' are the same bits.
        views = tuple(part.view_as(part) for part in state)
        for index, view in enumerate(views):
            view.register_hook(_adder(before.passed_on, index))
        replaced = views[0] if isinstance(given, Tensor) else views
        if len(args) > 1:
            return (args[0], replaced, *args[2:]), kwargs
        return args, {**kwargs, "hx": replaced}

    def _after(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        call, self._begun = self._begun, None
        if call is None:
            return
        output, finals = result
        finals = (finals,) if isinstance(finals, Tensor) else tuple(finals)
        if isinstance(output, PackedSequence):
            call.output = PackedSequence(
                torch.empty(0), output.batch_sizes, output.sorted_indices, output.unsorted_indices
            )
            output = output.data
        if not output.requires_grad:  # nothing will come back: evaluation, or everything frozen
            return
        call.finals = tuple(weakref.ref(final) for final in finals)
        call.final_grads, call.passed_on = [None] * len(finals), [None] * len(finals)
        output.register_hook(_setter(call))
        for index, final in enumerate(finals):
            final.register_hook(_adder(call.final_grads, index))
        self.calls.append(call)

    def _joined(self, state: tuple[Tensor, ...] | None) -> Call | None:
        if state is None or not torch.is_grad_enabled() or not state[0].requires_grad:
            return None
        for call in reversed(self.calls):
            if len(call.finals) == len(state) and all(
                final() is part for final, part in zip(call.finals, state, strict=True)
            ):
                return call
        return None

    def _weights(self) -> dict[str, Tensor] | None:
        """Copies of the weights, shared by all calls between two changes of them; None without `snapshot`."""
        if not self._snapshot:
            return None
        last = self.calls[-1] if self.calls else None
        if last is not None and last.versions == arguments.weight_versions(self.module):
            return last.weights
        return {name: weight.detach().clone() for name, weight in weights_of(self.module).items()}


def watch(module: nn.Module, snapshot: bool = False) -> Watcher:
    """Watch a recurrent module through any forward and backward passes, and profile what came back.

        with rnnvg.watch(model) as watcher:
            loss(model(x)).backward()
        watcher.profile().horizon()

    The module is used as it is: fused, cuDNN, packed sequences, eval or train mode, autocast (the analysis is in float32),
    several calls, gradient accumulation, a loss through h_n alone. Its outputs, gradients and random state are the same
    bits with and without the watcher. The watcher keeps inputs, initial states and the gradients at the outputs until it is
    dropped; the module keeps nothing.

    The gradient that arrives at the output of a step is that step's direct gradient exactly when the loss is local in time:
    each step's loss reads that step's output. Where it is not (attention over outputs, a mean over time, convolutions over
    outputs) what arrives at a step is the gradient of everything that reads that output; the profile then follows that sum,
    and a "source" is a point of entry rather than one step's loss. Gradients at h_n and c_n enter at each sequence's last
    valid step. A final state handed to a later call as it is joins the two calls into one sequence; a detached one begins a
    new sequence (truncated backpropagation), and so does one that was changed on the way, whose gradient then counts as
    direct.

    Args:
        module: an nn.RNN, nn.LSTM or nn.GRU, or a model with exactly one of them inside.
        snapshot: keep copies of the weights, so that profiles can be asked for after the optimiser's step.

    Raises:
        InputError: none or several recurrent modules inside, a cell (a hook sees its total gradient, not the direct one),
            a bidirectional module, or DataParallel.
    """
    return Watcher(find_recurrent(module), snapshot)


def find_recurrent(module: nn.Module) -> nn.RNNBase:
    """The one recurrent module in `module`, checked."""
    if not isinstance(module, nn.Module):
        raise InputError(f"`module` is a {type(module).__name__}; pass a torch.nn.Module.")
    inside = list(module.named_modules())
    if any(isinstance(each, nn.DataParallel) for _, each in inside):
        raise InputError(
            "`module` is in DataParallel, which runs replicas that exist for one call only, so hooks on it see nothing; "
            "watch module.module on one device, or use DistributedDataParallel."
        )
    cells = [name or "itself" for name, each in inside if isinstance(each, nn.RNNCellBase)]
    found = [(name, each) for name, each in inside if isinstance(each, nn.RNNBase)]
    if len(found) != 1:
        if not found and cells:
            raise InputError(
                f"`module` has cells ({', '.join(cells)}): a hook on a cell sees the total gradient of its state, not the "
                "direct one of each step; pass the step function to gradient_profile instead."
            )
        names = ", ".join(f"{name or 'itself'} ({type(each).__name__})" for name, each in found)
        raise InputError(
            f"`module` has {len(found)} recurrent modules inside{': ' + names if names else ''}; pass one nn.RNN, nn.LSTM or "
            "nn.GRU, or a model with exactly one."
        )
    recurrent = found[0][1]
    if recurrent.bidirectional:
        raise InputError(
            "`module` is bidirectional: its output looks both ways, so 'distance' has no single meaning; "
            "pass a module with bidirectional=False."
        )
    return recurrent


def weights_of(module: nn.RNNBase) -> dict[str, Tensor]:
    """The module's weights by name, as its forward reads them (a parametrised one is computed)."""
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")
    all_names = [f"{name}_l{layer}" for layer in range(module.num_layers) for name in names]
    return {name: getattr(module, name) for name in all_names if getattr(module, name, None) is not None}


def _setter(call: Call) -> Callable[[Tensor], None]:
    def hook(grad: Tensor) -> None:
        call.output_grad = grad.detach() if call.output_grad is None else call.output_grad + grad.detach()

    return hook


def _adder(grads: list[Tensor | None], index: int) -> Callable[[Tensor], None]:
    def hook(grad: Tensor) -> None:
        held = grads[index]
        grads[index] = grad.detach() if held is None else held + grad.detach()

    return hook
