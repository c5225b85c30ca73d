"""Stand-ins for rnnvg.bench.run.execute that take no time and do what a test needs: end, die, dawdle."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from rnnvg.bench import tables
from rnnvg.bench.record import record
from rnnvg.bench.spec import RunSpec
from rnnvg.bench.store import Store
from rnnvg.faults import StorageError

THRESHOLDS = (0.1, 0.01)


def spec(seed=0, cell="lstm", hidden=8, length=10, **training):
    task = {"name": "adding", "length": length, "marks": "anywhere"}
    return RunSpec.model_validate(
        {"task": task, "cell": cell, "hidden": hidden, "seed": seed, "training": {"steps": 5, **training}}
    )


def outcome_of(spec):
    """Numbers that are a function of the run's id, in the shape of a real run's."""
    value = spec.subseed("value") / 2**63
    curve = [
        (step, wrt, distance, -value * distance / 7, None, -value, value, 32, 0)
        for step in (0, 5)
        for wrt in ("state", "input")
        for distance in range(4)
    ]
    horizon = [
        (step, wrt, threshold, 3, 4, False, -value / 3, None, "ok")
        for step in (0, 5)
        for wrt in ("state", "input")
        for threshold in THRESHOLDS
    ]
    files = {
        "curve.csv": tables.to_csv(curve, tables.CURVE),
        "training.csv": tables.to_csv([(5, "train", "loss", value), (5, "test", "mse", value)], tables.TRAINING),
        "horizons.csv": tables.to_csv(horizon, tables.HORIZON),
    }
    outcome = {
        "status": "ok",
        "reason": "",
        "score": {"loss": value, "mse": value},
        "solved": value < 0.5,
        "steps": 5,
        "seconds": 0.1,
        "baseline": {"metric": "mse", "value": 1 / 6},
    }
    return outcome, files


def quick(spec, directory, on_progress=None):
    for step in range(1, 6):
        if on_progress:
            on_progress(step, 5, 1 / step)
    outcome, files = outcome_of(spec)
    return Store(directory).publish(record(spec, outcome), files)


def dies_once(spec, directory, on_progress=None):
    """Takes its process with it, once for each run."""
    mark = Store(directory).folder(spec.id) / "died"
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return quick(spec, directory, on_progress)


def seed_one_dies(spec, directory, on_progress=None):
    """Takes its process with it whenever the seed is 1, and counts how often."""
    if spec.seed == 1:
        with open(Store(directory).folder(spec.id) / "deaths", "a") as file:
            file.write("x")
        os.kill(os.getpid(), signal.SIGKILL)
    return quick(spec, directory, on_progress)


def seed_one_raises(spec, directory, on_progress=None):
    """What execute never does: it raises."""
    if spec.seed == 1:
        raise RuntimeError("out of luck")
    return quick(spec, directory, on_progress)


def dawdles(spec, directory, on_progress=None):
    """Works until it is told to stop, and leaves a note where it got to; from there it ends at once."""
    note = Store(directory).folder(spec.id) / "note"
    if not note.exists():
        try:
            for step in range(1, 3000):
                on_progress(step, 3000, 1.0)
                time.sleep(0.02)
        except KeyboardInterrupt:
            note.write_text("stopped")
            raise
    return quick(spec, directory, on_progress)


def seed_one_hangs(spec, directory, on_progress=None):
    """Never comes to an end where the seed is 1, and says nothing."""
    if spec.seed == 1:
        time.sleep(10_000)
    return quick(spec, directory, on_progress)


def steady(spec, directory, on_progress=None):
    """Takes most of a second, in steps; leaves a note where it is told to stop."""
    try:
        for step in range(1, 31):
            on_progress(step, 30, 1.0)
            time.sleep(0.02)
    except KeyboardInterrupt:
        (Store(directory).folder(spec.id) / "note").write_text("stopped")
        raise
    return quick(spec, directory, on_progress)


def quiet(spec, directory, on_progress=None):
    """Says nothing for most of a second."""
    time.sleep(0.8)
    return quick(spec, directory, on_progress)


def done_elsewhere(spec, directory, on_progress=None):
    """Finds, when it is done, that another machine was faster."""
    outcome, files = outcome_of(spec)
    Store(directory).publish(record(spec, outcome | {"machine": {"process": "1@elsewhere"}}), files)
    return quick(spec, directory, on_progress)


def disk_is_full(spec, directory, on_progress=None):
    raise StorageError(f"`out` {str(Path(directory))!r} has no space left.")


def threads(spec, directory, on_progress=None):
    """Leaves a note of the threads and the process that it has."""
    import torch

    note = f"{torch.get_num_threads()} {os.environ['OMP_NUM_THREADS']} {os.getpid()}"
    (Store(directory).folder(spec.id) / "threads").write_text(note)
    return quick(spec, directory, on_progress)
