"""watch(): gradient profiles of a fused module inside anyone's training loop.

Hooks keep what went into each call and the gradients that arrive at its output, h_n and c_n. From those the adjoints are
followed afterwards, on the recorded trajectory; the training step itself computes nothing more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn
from torch.utils.hooks import RemovableHandle

from rnnvg.bptt import arguments
from rnnvg.bptt.calls import Call, Recorder
from rnnvg.errors import InputError

if TYPE_CHECKING:
    from rnnvg.bptt.profile import GradientProfile
    from rnnvg.bptt.why.contributions import TemporalContributions


class Watcher:
    """What `watch` saw; ask it for profiles after `loss.backward()`."""

    def __init__(self, module: nn.RNNBase, snapshot: bool) -> None:
        self.module = module
        self.recorder = Recorder(module, snapshot)
        self._handles: list[RemovableHandle] = []
        self._entered = 0

    def __getstate__(self) -> dict[str, Any]:
        """A copy, deep or pickled, has seen nothing and is not entered."""
        return {"module": self.module, "snapshot": self.recorder.snapshot}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)

    def __enter__(self) -> Watcher:
        if not self._entered:
            self._handles = self.recorder.attach()
        self._entered += 1
        return self

    def __exit__(self, *exception: object) -> None:
        self._entered -= 1
        if not self._entered:
            for handle in self._handles:
                handle.remove()
            self._handles = []

    @property
    def calls(self) -> list[Call]:
        """The calls that were seen, in order."""
        return self.recorder.calls

    def profile(
        self,
        sources: arguments.Sources = "all",
        wrt: str = "state",
        *,
        layer: int | None = None,
        backward: int | None = None,
        max_bytes: int | None = None,
    ) -> GradientProfile:
        """Gradient magnitude against distance for the losses that were backpropagated, each step's on its own.

        All calls that a gradient reached are analysed together: calls joined through their state are one sequence, others
        stand side by side in the batch, shorter ones with nan beyond their end. A loss scaled by a constant (GradScaler)
        shifts log_norm by its logarithm and leaves log_gain as it is.

        Before anything is answered the calls are run again: where the output is not the one that was seen, what was kept is
        not what was used, and the answer is a refusal that names the likely cause.

        Args:
            sources, wrt, layer, max_bytes: as in gradient_profile. A step without a loss of its own is an exact zero.
            backward: which backward pass, numbered from 0 as they came; None takes all that added to `.grad` together, or
                the only one there was.

        Raises:
            InputError: no call was seen or no gradient came back; a weight or an input was changed since; the calls run
                again give another output; dropout between layers was active; several backward passes, none of which added
                to `.grad`; a pass through the graph of an earlier one (a gradient penalty); a hook failed.
        """
        from rnnvg.bptt.watched import profile_calls

        return profile_calls(self.recorder, sources, wrt, layer, backward, max_bytes)

    def temporal_contributions(self, *, backward: int | None = None) -> TemporalContributions:
        """What each time step added to each parameter's gradient; see rnnvg.temporal_contributions.

        Raises:
            InputError: as `profile`; or the contributions do not add up to `.grad` after the only backward pass.
        """
        from rnnvg.bptt.watched import contributions_of_calls

        return contributions_of_calls(self.recorder, backward)


def watch(module: nn.Module, snapshot: bool = False) -> Watcher:
    """Watch a recurrent module through any forward and backward passes, and profile what came back.

        with rnnvg.watch(model) as watcher:
            loss(model(x)).backward()
        watcher.profile().horizon()

    The module is used as it is: fused, cuDNN, packed sequences, eval or train mode, autocast (the analysis is in float32),
    several calls, gradient accumulation, a loss through h_n alone. Its outputs, gradients and random state are the same
    bits with and without the watcher, and nothing that goes wrong in the watcher stops the program: it is told by
    `profile`. The watcher keeps inputs, initial states, outputs and the gradients at the outputs until it is dropped; the
    module keeps nothing, and copies of it carry no live hook. Calls without gradients are ignored, and so are those inside
    a torch.func transform, whose tensors do not outlive it.

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
