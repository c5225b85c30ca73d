"""watch(): gradient profiles of a fused module inside anyone's training loop.

Hooks keep what went into each call and the gradients that arrive at its output, h_n and c_n. From those the adjoints are
followed afterwards, on the recorded trajectory; the training step itself computes nothing more.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import nn
from torch.utils.hooks import RemovableHandle

from rnnvg.bptt import arguments
from rnnvg.bptt.calls import Call, Recorder
from rnnvg.bptt.passes import Pass
from rnnvg.errors import InputError, check_name
from rnnvg.pytorch import named_modules

if TYPE_CHECKING:
    from rnnvg.bptt.profile import GradientProfile
    from rnnvg.bptt.why.contributions import TemporalContributions


class Watcher:
    """What `watch` saw; ask it for profiles after `loss.backward()`.

    Attributes:
        recorders: name -> what was seen of each recurrent module.

    >>> import torch, rnnvg
    >>> gru = torch.nn.GRU(3, 8)
    >>> with rnnvg.watch(gru) as watcher:
    ...     gru(torch.randn(20, 4, 3))[0].sum().backward()
    >>> watcher.profile(sources=2).sources.tolist()
    [9, 19]
    """

    def __init__(self, modules: Mapping[str, nn.RNNBase], snapshot: bool) -> None:
        self.snapshot = snapshot
        passes: dict[int, Pass] = {}
        failures: list[Exception] = []
        ends: dict[int, Call] = {}
        self.recorders = {name: Recorder(module, snapshot, passes, failures, ends) for name, module in modules.items()}
        self._handles: list[RemovableHandle] = []
        self._entered = 0

    def __getstate__(self) -> dict[str, Any]:
        """A copy, deep or pickled, has seen nothing and is not entered."""
        modules = {name: recorder.module for name, recorder in self.recorders.items()}
        return {"modules": modules, "snapshot": self.snapshot}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)

    def __enter__(self) -> Watcher:
        if not self._entered:
            self._handles = [handle for recorder in self.recorders.values() for handle in recorder.attach()]
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
        """The calls that were seen, in order for each module."""
        return [call for recorder in self.recorders.values() for call in recorder.calls]

    def profile(
        self,
        *which: Any,
        sources: arguments.Sources | None = None,
        wrt: str | None = None,
        layer: int | None = None,
        direction: str | None = None,
        backward: int | None = None,
        max_bytes: int | None = None,
    ) -> GradientProfile:
        """Gradient magnitude against distance for the losses that were backpropagated, each step's on its own.

            profile()    profile("last", "hidden")    profile("encoder")    profile("decoder", "last")

        All calls that a gradient reached are analysed together: calls joined through their state are one sequence, others
        stand side by side in the batch, shorter ones with nan beyond their end. A loss scaled by a constant (GradScaler)
        shifts log_norm by its logarithm and leaves log_gain as it is.

        Before anything is answered the calls are run again: where the output is not the one that was seen, what was kept is
        not what was used, and the answer is a refusal that names the likely cause.

        A module that began from the final state of another one, as it was handed over, is followed into that one: an encoder's
        steps lie beyond the decoder's own (`note` says so), and distance source + 1 is the border. Where the decoder also
        looks at the encoder's outputs, those direct paths are the encoder's own profile.

        Args:
            which: the name of one recurrent module where several are watched, then sources and wrt.
            sources, wrt, layer, max_bytes: as in gradient_profile; all sources and the whole state by default. A step without
                a loss of its own is an exact zero. With `layer` no other module is followed.
            direction: of a bidirectional module, "forward" or "backward", as in gradient_profile; its distances are signed.
            backward: which backward pass, numbered from 0 as they came; None takes all that added to `.grad` together, or
                the only one there was.

        Raises:
            InputError: no call was seen or no gradient came back; a weight or an input was changed since; the calls run
                again give another output; several backward passes, none of which added to `.grad`; a pass through the graph of
                an earlier one (a gradient penalty); a hook failed.
        """
        from rnnvg.bptt.handed_on import profile_calls

        positional = list(which)
        named = bool(positional) and isinstance(positional[0], str) and positional[0] not in ("last", "all")
        recorder = self._recorder(positional.pop(0) if named else None)
        keywords = ("sources", sources), ("wrt", wrt)
        chosen: list[Any] = ["all", "state"]
        for place, (name, keyword) in enumerate(keywords):
            if (place < len(positional) and keyword is not None) or len(positional) > len(keywords):
                raise InputError(f"`{name}` is given twice; pass profile(name, sources, wrt), each once.")
            chosen[place] = (
                positional[place] if place < len(positional) else chosen[place] if keyword is None else keyword
            )
        return profile_calls(recorder, chosen[0], chosen[1], layer, direction, backward, max_bytes)

    def temporal_contributions(self, name: str | None = None, *, backward: int | None = None) -> TemporalContributions:
        """What each time step added to each parameter's gradient; see rnnvg.temporal_contributions.

        Args:
            name: of one recurrent module where several are watched.
            backward: as in `profile`.

        Raises:
            InputError: as `profile`; or the contributions do not add up to `.grad` after the only backward pass.
        """
        from rnnvg.bptt.handed_on import contributions_of_calls

        return contributions_of_calls(self._recorder(name), backward)

    def _recorder(self, name: str | None) -> Recorder:
        """The recorder of a module by name; of the only one, or the only one that a gradient reached, for None."""
        if name is not None:
            return self.recorders[check_name("name", name, list(self.recorders))]
        if len(self.recorders) == 1:
            return next(iter(self.recorders.values()))
        reached = [each for each in self.recorders.values() if any(call.reached for call in each.calls)]
        if len(reached) == 1:
            return reached[0]
        names = ", ".join(f"{each} ({type(recorder.module).__name__})" for each, recorder in self.recorders.items())
        raise InputError(
            f"`module` has {len(self.recorders)} recurrent modules inside: {names}; pass one of the names, as in "
            f"profile({next(iter(self.recorders))!r})."
        )


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
        module: an nn.RNN, nn.LSTM or nn.GRU, or a model with some of them inside: `profile("encoder")` picks one by its name.
        snapshot: keep copies of the weights, so that profiles can be asked for after the optimiser's step.

    Raises:
        InputError: no recurrent module inside, a cell (a hook sees its total gradient, not the direct one), or DataParallel.

    >>> import torch, rnnvg
    >>> gru = torch.nn.GRU(3, 8)
    >>> with rnnvg.watch(gru) as watcher:
    ...     gru(torch.randn(20, 4, 3))[0][-1].sum().backward()
    >>> watcher.profile(sources="last").log_norm.shape  # a source, 21 distances, 4 sequences
    (1, 21, 4)
    """
    return Watcher(find_recurrent(module), snapshot)


def find_recurrent(module: object) -> dict[str, nn.RNNBase]:
    """The recurrent modules in `module` by name, checked; the name of `module` itself is "itself"."""
    if not isinstance(module, nn.Module):
        raise InputError(f"`module` is a {type(module).__name__}; pass a torch.nn.Module.")
    inside = named_modules(module)
    if any(isinstance(each, nn.DataParallel) for _, each in inside):
        raise InputError(
            "`module` is in DataParallel, which runs replicas that exist for one call only, so hooks on it see nothing; "
            "watch module.module on one device, or use DistributedDataParallel."
        )
    cells = [name or "itself" for name, each in inside if isinstance(each, nn.RNNCellBase)]
    found = {name or "itself": each for name, each in inside if isinstance(each, nn.RNNBase)}
    if not found:
        if cells:
            raise InputError(
                f"`module` has cells ({', '.join(cells)}): a hook on a cell sees the total gradient of its state, not the "
                "direct one of each step; pass the step function to gradient_profile instead."
            )
        raise InputError(
            "`module` has 0 recurrent modules inside; pass one nn.RNN, nn.LSTM or nn.GRU, or a model with some of them."
        )
    return found
