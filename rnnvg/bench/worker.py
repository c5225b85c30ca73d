"""What a worker process does: one run at a time, saying how far it is, until it is reported to stop."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from distributed import get_worker

from rnnvg.bench.record import process
from rnnvg.bench.spec import RunSpec
from rnnvg.faults import MachineError, StorageError, machine_fault

# Seconds between two messages of one run.
TELL_EVERY = 0.25
Execute = Callable[..., dict[str, Any]]
# Sweeps whose runs are to end at their next sign of progress.
_stopped: set[str] = set()


def do(spec: dict[str, Any], directory: str, topic: str, attempt: int, execute: Execute | None) -> dict[str, Any]:
    """One run, in the worker's thread; what became of it, in a dict that is small enough to send.

    Returns:
        With "notes", what the user is to read of it: {"outcome": "done", "status", "reason", "standing"} (standing: the result
        was there already, from somebody else), {"outcome": "interrupted"}, or {"outcome": "machine", "reason": ...,
        "storage": ...} where memory, open files or a disk are at fault (storage: the directory cannot be written) and the run
        is left to do.
    """
    run, notes = RunSpec.model_validate(spec), list[str]()

    def note(message: Warning | str, *_: Any) -> None:
        notes.append(f"{run.id}: {message}")

    with warnings.catch_warnings():
        # A worker has no terminal of its own: what would be printed there goes to the driver.
        warnings.showwarning = note
        outcome = _do(run, directory, topic, attempt, execute)
    return outcome | {"notes": [*outcome.get("notes", []), *dict.fromkeys(notes)]}


def _do(run: RunSpec, directory: str, topic: str, attempt: int, execute: Execute | None) -> dict[str, Any]:
    worker = get_worker()
    reported = 0.0

    def tell(kind: str, **numbers: Any) -> None:
        worker.log_event(topic, {"kind": kind, "id": run.id, "attempt": attempt, "pid": os.getpid(), **numbers})

    def on_progress(step: int, steps: int, loss: float) -> None:
        nonlocal reported
        if topic in _stopped:
            raise KeyboardInterrupt
        if step == steps or time.monotonic() - reported > TELL_EVERY:
            reported = time.monotonic()
            tell("progress", step=step, steps=steps, loss=float(loss))

    tell("start")
    try:
        if execute is None:
            # torch is loaded here, where the environment says how many threads it may have.
            from rnnvg.bench.run import execute
        result = execute(run, Path(directory), on_progress)
    except KeyboardInterrupt:
        return {"outcome": "interrupted"}
    except MachineError as error:
        return {"outcome": "machine", "reason": str(error), "storage": isinstance(error, StorageError)}
    except (MemoryError, ImportError, OSError, RuntimeError, SystemError) as error:
        if (fault := machine_fault(error)) is None:
            raise
        return {
            "outcome": "machine",
            "reason": f"{run.id} was not done: {fault} What is done is kept.",
            "storage": False,
        }
    standing = result["machine"]["process"] != process()
    return {
        "outcome": "done",
        "standing": standing,
        "status": result["status"],
        "reason": result["reason"],
        "notes": [] if standing else result.get("notes", []),
    }


def stop(topic: str) -> None:
    """Ends the runs of a sweep in this worker at their next sign of progress; each leaves its resume file."""
    _stopped.add(topic)
