"""One recurrent module followed for a monitor: which of its calls are watched, and what the latest of them said."""

from __future__ import annotations

import threading
import weakref
from typing import Any

import torch
from torch import Tensor, nn

from rnnvg.bptt.calls import Recorder
from rnnvg.bptt.hooks import Hook
from rnnvg.bptt.verdict import measure

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
        if recording is not None and torch._C._current_graph_task_id() in recording.passes:
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
        first = given[0] if isinstance(given, (tuple, list)) and given else given
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
        unseen = set() if self._recording is None else self._recording.unseen
        because = f" (left out: {' and '.join(sorted(unseen))})" if unseen else ""
        return f"No gradient has come back to the call watched at step {max(0, self._recorded_step)} yet{because}."
