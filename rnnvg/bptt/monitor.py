"""GradientMonitor: a few numbers about the reach of the gradient, every so many training steps.

Weights & Biases:       if (found := monitor.metrics()): wandb.log(found, step=step)
Hugging Face Trainer:   trainer.add_callback(rnnvg.bptt.huggingface.callback(trainer, every=100))
TensorBoard:            monitor.to_tensorboard(writer, step)
Lightning:              Trainer(callbacks=[rnnvg.bptt.lightning.callback(every=100)])
"""

from __future__ import annotations

import threading
import weakref
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from rnnvg.bptt.calls import Hook, Recorder
from rnnvg.bptt.tensors import members
from rnnvg.bptt.verdict import CODES, WORST, Verdict, measure
from rnnvg.bptt.watch import find_recurrent
from rnnvg.errors import check_float, check_int, check_name
from rnnvg.pytorch import graph_task_id


class ScalarWriter(Protocol):
    """What is asked of TensorBoard's SummaryWriter."""

    def add_scalar(self, tag: str, scalar_value: float, global_step: int, /) -> object: ...


class GradientMonitor:
    """Watches one training step in every `every` and turns it into numbers for a log.

        monitor = rnnvg.GradientMonitor(model, every=100)
        for step, batch in enumerate(batches):
            ...                                   # forward, backward, optimiser, as they are
            if (found := monitor.metrics()):
                log(found, step)

    Only the watched steps cost anything: their weights are copied, and `metrics` follows the gradients of up to 4 of the
    steps that have a loss, in up to 8 of the sequences. A step is a forward call of the recurrent module in training mode
    with gradients enabled; calls that carry on from the final state of the one before are the same step. Whatever goes wrong
    while it is attached leaves the training alone and is told by `verdict` and `reason`.

    Args:
        model: an nn.RNN, nn.LSTM or nn.GRU, or a model with some of them inside, each of which is followed on its own.
        every: watch the first step and then one in so many.
        distance: how many steps back a source counts as vanished or exploded; shorter sequences count at their start. No
            gradient is followed further than that (or 100 steps), so a longer horizon reads as censored, "more than".
        vanished, exploded: gains, relative to one step back, below and above which a source counts so at that distance.

    Raises:
        InputError: as `watch`, or a number out of range.

    >>> import torch, rnnvg
    >>> model = torch.nn.GRU(3, 8)
    >>> monitor = rnnvg.GradientMonitor(model, every=1)
    >>> model(torch.randn(20, 4, 3))[0][-1].sum().backward()
    >>> all(isinstance(value, float) for value in monitor.metrics().values())
    True
    """

    def __init__(
        self, model: nn.Module, every: int = 100, *, distance: int = 100, vanished: float = 1e-3, exploded: float = 1e3
    ) -> None:
        self.every = check_int("every", every, least=1)
        self.distance = check_int("distance", distance, least=2)
        self.vanished = check_float("vanished", vanished, above=0, below=1)
        self.exploded = check_float("exploded", exploded, above=1)
        self.modules = find_recurrent(model)
        settings = self.every, self.distance, self.vanished, self.exploded
        self._followers = {name: Follower(module, *settings) for name, module in self.modules.items()}

    def __getstate__(self) -> dict[str, Any]:
        """A copy, deep or pickled, keeps the settings and is not attached to anything."""
        names = ("modules", "every", "distance", "vanished", "exploded")
        return {name: getattr(self, name) for name in names}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._followers = {}

    @property
    def step(self) -> int:
        """The steps counted so far, from 0, -1 before the first: the most of any module."""
        return max((each.step for each in self._followers.values()), default=-1)

    def metrics(self) -> dict[str, float]:
        """The numbers of the latest watched step whose gradients have come back; {} where there is none yet.

        Keys: "horizon" (steps, at 1/e, relative to one step back) and "horizon_censored" (1.0: read "more than");
        "gain_1", "gain_10", "gain_100" (geometric mean, relative to the gradient at the loss's own step; absent beyond the
        sequence); "vanished", "exploded" (shares of sources); "verdict" (-1 vanishing, 0 neither, 1 exploding: the share
        that decides is more than "verdict_threshold"; 2 not finite, with "first_nonfinite" the step where the sequence or
        its gradient leaves the finite numbers; 3 not measured); "step" (the forward call that was watched). Where something
        was not measured its key is absent, and `reason` says why. Of several modules each has its own keys, as
        "encoder/horizon"; each direction of a bidirectional one too, as "forward/horizon" and "backward/horizon", beside the
        worse "verdict" of the two.

        Never raises for what happened in the training.
        """
        found = {name: follower.metrics() for name, follower in self._followers.items()}
        if len(found) == 1:
            return next(iter(found.values()))
        return {f"{name}/{key}": value for name, numbers in found.items() for key, value in numbers.items()}

    def verdict(self, name: str | None = None) -> Verdict:
        """The verdict of `metrics` as a word: of the module `name`, or the worst of all of them."""
        found = {self._verdict(each) for each in self._chosen(name)}
        for word in WORST:
            if word in found:
                return word
        return "not measured"

    @property
    def reason(self) -> str:
        """Why a verdict is "not finite" or "not measured", in a sentence for each such module; empty for the others."""
        found = {name: follower.reason() for name, follower in self._followers.items()}
        if len(found) == 1:
            return next(iter(found.values()))
        return " ".join(f"{name}: {reason}" for name, reason in found.items() if reason)

    def to_tensorboard(self, writer: ScalarWriter, step: int, prefix: str = "gradient/") -> None:
        """Write the numbers of `metrics` as scalars at `step`."""
        for name, value in self.metrics().items():
            writer.add_scalar(prefix + name, value, step)

    def close(self) -> None:
        """Take the hooks off the model."""
        for follower in self._followers.values():
            follower.close()

    def _chosen(self, name: str | None) -> list[Follower]:
        if name is None:
            return list(self._followers.values())
        return [self._followers[check_name("name", name, list(self._followers))]]

    @staticmethod
    def _verdict(follower: Follower) -> Verdict:
        code = follower.metrics().get("verdict", CODES["not measured"])
        return next(word for word, its_code in CODES.items() if its_code == code)


SEQUENCES = 8  # so many are kept until a gradient comes back to one of them


class Follower:
    """Counts the steps of `module` and records one in `every`.

    Args:
        every, distance, vanished, exploded: as GradientMonitor's.
    """

    def __init__(self, module: nn.RNNBase, every: int, distance: int, vanished: float, exploded: float) -> None:
        self.module, self.every = module, every
        self.distance, self.vanished, self.exploded = distance, vanished, exploded
        self.step = -1
        self._failures: list[Exception] = []
        self._recording: Recorder | None = None
        self._recorded_step = -1
        self._complete: tuple[Recorder, int] | None = None
        self._sequences = 0  # of the recording
        self._calling = threading.local()  # the call under way, and the final state of the last one
        self._idle: set[str] = set()
        self._metrics: dict[str, float] = {}
        self._reason = ""
        hooks = Hook(self._before, self._failures), Hook(self._after, self._failures)
        self._handles = [
            module.register_forward_pre_hook(hooks[0], with_kwargs=True),
            module.register_forward_hook(hooks[1], with_kwargs=True, prepend=True),
        ]

    def metrics(self) -> dict[str, float]:
        """The numbers of the latest watched step whose gradients have come back; {} where there is none yet."""
        recording = self._recording
        if recording is not None and any(call.reached for call in recording.calls):
            self._complete, self._recording = (recording, self._recorded_step), None
        if self._complete is not None:
            (recording, step), self._complete = self._complete, None
            found, self._reason = measure(recording, self.distance, self.vanished, self.exploded)
            self._metrics = {"step": float(step), **found}
        return dict(self._metrics)

    def reason(self) -> str:
        """Why the verdict is "not finite" or "not measured", in a sentence; empty for the others."""
        return self._reason if self.metrics() else self._waiting()

    def close(self) -> None:
        """Take the hooks off the module."""
        for handle in self._handles:
            handle.remove()
        self._handles, self._recording = [], None

    def _before(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        here = self._calling
        here.recording = None
        if module is not self.module:  # a shallow copy shares the hooks
            return None
        if not (module.training and torch.is_grad_enabled()):
            self._idle.add("ran in evaluation mode" if torch.is_grad_enabled() else "ran without gradients")
            return None
        recording = self._recording
        if recording is not None and graph_task_id() in recording.passes:
            return None  # a checkpoint computes the call again while its gradient is under way
        if not self._carries_on(args, kwargs):
            self.step += 1
            here.followed = self._opened()
        here.recording = self._recording if here.followed else None
        return None if here.recording is None else here.recording.before(module, args, kwargs)

    def _after(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        here = self._calling
        if module is not self.module or not (module.training and torch.is_grad_enabled()):
            return
        recording, here.recording = getattr(here, "recording", None), None
        finals = result[1]
        here.end = weakref.ref(finals if isinstance(finals, Tensor) else finals[0])
        if recording is not None:
            recording.after(module, args, kwargs, result)

    def _carries_on(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Whether a call begins from the final state of the one before it, with its graph."""
        given = args[1] if len(args) > 1 else kwargs.get("hx")
        first = next(iter(members(given)), None)
        end = getattr(self._calling, "end", None)
        return end is not None and isinstance(first, Tensor) and first.requires_grad and end() is first

    def _opened(self) -> bool:
        """Whether the sequence that begins now is watched."""
        recording, due = self._recording, self.step % self.every == 0
        if recording is not None and any(call.reached for call in recording.calls):
            self._complete, self._recording = (recording, self._recorded_step), None
        elif recording is not None and (self._sequences < SEQUENCES or not due):
            self._sequences += 1
            return self._sequences <= SEQUENCES
        if not due:
            return False
        self._recording = Recorder(self.module, snapshot=True, failures=self._failures)
        self._recorded_step, self._sequences = self.step, 1
        return True

    def _waiting(self) -> str:
        """Why nothing has been measured so far."""
        if self._failures:
            return f"A hook of the monitor failed: {type(self._failures[0]).__name__}: {self._failures[0]}"
        if self.step < 0 and self._idle:
            return f"Every call so far {' or '.join(sorted(self._idle))}; calls in training mode with gradients are watched."
        if self.step < 0:
            return "The recurrent module has not been called yet."
        unseen: set[str] = set() if self._recording is None else self._recording.unseen
        because = f" (left out: {' and '.join(sorted(unseen))})" if unseen else ""
        return f"No gradient has come back to the call watched at step {max(0, self._recorded_step)} yet{because}."
