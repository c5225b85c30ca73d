"""What happens in a sweep, as it is told to whoever looks on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Event:
    """One thing that happened.

    Attributes:
        kind: "plan" (what is to be done), "start", "progress", "done" (the run has a result), "again" (its worker died
            and it will be tried again), "left" (it was given up and is left to do), "note" (`text` is for the user) or
            "beat" (the driver is alive; a few a second).
        run: id; empty for "plan", "note" and "beat".
        step, steps, loss: of a run under way.
        status, text: "ok", "diverged", "given-up" or "failed" with the reason, of a run that is done; otherwise what is to be
            said.
        total, done: for "plan", how many runs there are and how many of them have a result already.
        pid: for "start", the worker process.

    >>> Event("progress", run="adding-T50-gru-h64-s0", step=10, steps=100).step
    10
    """

    kind: Literal["plan", "start", "progress", "done", "again", "left", "note", "beat"]
    run: str = ""
    step: int = 0
    steps: int = 0
    loss: float = 0.0
    status: str = ""
    text: str = ""
    total: int = 0
    done: int = 0
    pid: int = 0


Observer = Callable[[Event], object]
