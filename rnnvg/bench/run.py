"""execute(): one run from its specification to its files. The same specification gives the same tables, digit for digit.

Everything random is drawn from seeds that are functions of the run's id. torch's own random state, its denormal flag
and its number of threads are put back as they were.
"""

from __future__ import annotations

import functools
import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from rnnvg import models, tasks, training
from rnnvg.bench import causes, folders, measure, parts, tables
from rnnvg.bench.record import failure, record, stamp
from rnnvg.bench.spec import RunSpec, check_spec, short_id
from rnnvg.bench.store import CAUSES, RESULT, VOCABULARY, WEIGHTS, Store
from rnnvg.errors import InputError, check_function
from rnnvg.faults import MachineError, disk_faults_named, machine_fault
from rnnvg.files import move_aside
from rnnvg.stored import Damaged
from rnnvg.training import device
from rnnvg.training.resume import measured_until

OnProgress = Callable[[int, int, float], object]
RESUME = "resume.safetensors"
# Seconds of training that a killed process may cost.
RESUME_EVERY = 10.0
# What a run needs only until it is done, and what a killed one may leave half written.
_LEFTOVERS = ("part-*.csv", "cause-*.csv", RESUME, folders.SPEC, ".*.tmp", "*.partial")


def execute(spec: RunSpec, directory: str | Path, on_progress: OnProgress | None = None) -> dict[str, Any]:
    """Trains a network as specified, measures it at its checkpoints, and writes the run's files.

    A run that is done is not done again. One that was interrupted goes on from the resume file in its folder.

    Args:
        spec: what to do.
        directory: OUT; the files go to OUT/runs/<id>.
        on_progress: called now and then as on_progress(step, steps, loss). KeyboardInterrupt raised in it ends the run
            and leaves a resume file.

    Returns:
        The content of result.json. Status "diverged" is a training that stopped being finite, "given-up" one that the
        stopping rule ended (where the specification has it), "failed" anything that was raised inside it, with the reason.

    Raises:
        InputError: another run in the directory has the same id.
        MachineError: no memory, no more open files, or (a StorageError) the directory cannot be written. The run is then
            left to do: it is not the run that failed.
        KeyboardInterrupt: passed on.

    >>> import tempfile
    >>> from rnnvg import bench
    >>> training = {"steps": 2, "batch": 4, "eval_size": 10}
    >>> spec = bench.run_spec({"name": "adding", "length": 5}, "rnn", hidden=4, training=training)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     bench.execute(spec, folder)["status"]
    'ok'
    """
    check_spec("spec", spec)
    if on_progress is not None:
        check_function("on_progress", on_progress, "of step, steps and loss")
    store, began, clock = Store(directory), datetime.now(UTC), time.perf_counter()
    store.check_tables()
    while (store.folder(spec.id) / RESULT).exists():  # a run may have a folder under 12 digits and one under 8
        if spec.is_done_by(standing := store.result(spec.id)) and standing is not None:
            return standing
        store.set_aside(spec.id)
    store.check_run(spec)
    folder = store.folder(spec.id)
    try:
        with disk_faults_named(store.directory):
            folders.begin(folder, spec)
            outcome, files = _Run(spec, folder, on_progress).outcome()
    except MachineError:
        # Another process may have done the run meanwhile, and what this one needed was in its way.
        if (standing := store.result(spec.id)) is not None:
            return standing
        raise
    except Exception as error:
        if (fault := machine_fault(error)) is not None:
            raise MachineError(f"{spec.id} was not done: {fault} What is done is kept.") from error
        outcome, files = failure(spec, f"{type(error).__name__}: {error}", traceback.format_exc())
    outcome |= {"seconds": round(time.perf_counter() - clock, 3), "started": stamp(began), "finished": stamp()}
    outcome["machine"] = {"peak_bytes": _peak_bytes(), **outcome.get("machine", {})}
    try:
        published = store.publish(record(spec, outcome), files)
    except (MemoryError, OSError) as error:
        raise MachineError(f"{spec.id} was not done: {machine_fault(error) or error} What is done is kept.") from error
    for left in [path for pattern in _LEFTOVERS for path in folder.glob(pattern)]:
        with suppress(OSError):
            left.unlink(missing_ok=True)
    return published


class _Run:
    """One run: its task and probe sequences, its network, and what was measured on the way."""

    def __init__(self, spec: RunSpec, folder: Path, on_progress: OnProgress | None) -> None:
        if spec.sources != tasks.imported.sources(spec.task["name"], spec.cell):
            raise InputError("The source code of its cell or task has changed since the run was specified.")
        self.spec, self.folder, self.on_progress = spec, folder, on_progress
        self.task = _task(json.dumps(spec.task, sort_keys=True))
        generator = torch.Generator().manual_seed(spec.subseed("probe"))
        self.probe = self.task.probe(spec.measure.sequences, generator)
        self.measuring, self.notes = 0.0, list[str]()
        named = spec.training.checkpoints
        self.checkpoints = training.checkpoint_steps(spec.training.steps) if named is None else named

    def outcome(self) -> tuple[dict[str, Any], dict[str, str]]:
        """Trains and measures; how it ended, and the text of its tables by file name."""
        task = self.task
        with _own_arithmetic(), device.deterministic(self.spec.training.device):
            model, result = self._train()
            models.unconstrain(model.core)  # a weight file holds the weights that the network has
            # Named by 8 digits, as runs were before they had 12: equal weights are then equal bytes.
            models.save(model, self.folder / WEIGHTS, id=short_id(self.spec.id), task=self.spec.task, step=result.steps)
            certificate, last = None, []
            if result.status == "ok" and self.spec.measure.why:
                last = causes.after_training(model, task, self.probe, result.steps, self.spec.subseed("covectors"))
                certificate = measure.residuals(model, task, self.probe, self.spec.subseed("covectors"))
            step_floor = self._floor(model)
        measured = [tables.to_frame(table.splitlines(True)) for table in parts.tables(self.folder, parts.CURVE)]
        curves = pd.concat(measured, ignore_index=True)
        files = {
            "curve.csv": tables.to_csv(curves, tables.CURVE),
            "training.csv": tables.to_csv(result.history, tables.TRAINING),
            "horizons.csv": tables.to_csv(measure.horizons(curves, result.status), tables.HORIZON),
            CAUSES: tables.to_csv(last, causes.COLUMNS)
            + "".join(
                table.partition("\n")[2]  # without the header
                for table in parts.tables(self.folder, parts.CAUSE)
            ),
        }
        if task.vocabulary is not None:
            # Without its words a language model's ids say nothing.
            files[VOCABULARY] = task.vocabulary.to_json()
        return {
            "status": result.status,
            "reason": result.reason,
            "score": dict(result.score),
            "solved": result.status == "ok" and bool(task.solved(result.score)),
            "solved_at": result.solved_at,
            "steps": result.steps,
            "training_seconds": round(result.seconds, 3),
            "measuring_seconds": round(self.measuring, 3),
            "floor_seconds": round(result.steps * step_floor, 3),
            "parameters": models.count_parameters(model),
            "recurrence": models.has_recurrence(model.core),
            "training_steps": task.steps,
            "n_probe_steps": int(self.probe.inputs.shape[0]),
            "task": {"label": task.about.label, "unit": task.about.unit},
            "baseline": {
                "metric": task.metric,
                "better": task.better,
                "value": task.baseline,
                "text": task.baseline_text,
                "loss": task.baseline_loss,
                "best_loss": task.best_loss,
            },
            "verify": certificate,
            "give_up": result.verdict,
            "machine": device.facts(self.spec.training.device),
            **({"notes": self.notes} if self.notes else {}),
        }, files

    def _floor(self, model: models.SequenceModel) -> float:
        """Seconds of a step that does nothing but train, on sequences as they were trained on."""
        settings, generator = self.spec.training, torch.Generator().manual_seed(0)
        if self.task.streamed:
            batch = next(iter(self.task.stream(settings.batch, settings.bptt)))
        else:
            batch = self.task.batch(settings.batch, generator)
        return measure.seconds_a_step(model, self.task, batch, training.OPTIMIZERS[settings.optimizer])

    def _train(self) -> tuple[models.SequenceModel, training.TrainingResult]:
        resume = self.folder / RESUME
        try:
            if resume.exists():
                self._check_measured(measured_until(resume))
            return self._train_from(resume)
        except InputError as error:
            # A resume file that was damaged, or that another version wrote: it is kept, and the run starts again.
            if not resume.exists():
                raise
            aside = move_aside(resume, ending=".unusable")
            self.notes.append(f"{self.spec.id} was started again. {error} The file is kept as {aside.name}.")
            return self._train_from(resume)

    def _check_measured(self, until: int) -> None:
        """Nothing where everything that was measured up to a step is there, as it was written."""
        if found := parts.damaged(self.folder, [step for step in self.checkpoints if step <= until]):
            path, what = found
            if os.path.lexists(path):
                move_aside(path, ending=".unusable")
            raise Damaged(f"It had no way to go on: {what}.")

    def _train_from(self, resume: Path) -> tuple[models.SequenceModel, training.TrainingResult]:
        if not resume.exists():
            parts.clear(self.folder)
        spec = self.spec
        torch.manual_seed(spec.subseed("weights"))
        model = models.build(self.task, spec.cell, **spec.network)
        settings = spec.training.model_dump()
        settings["checkpoints"] = self.checkpoints
        generator = torch.Generator().manual_seed(spec.subseed("batches"))
        result = training.fit(
            model,
            self.task,
            **settings,
            generator=generator,
            on_checkpoint=self._on_checkpoint,
            on_progress=self.on_progress,
            resume=resume,
            resume_every=RESUME_EVERY,
        )
        return model, result

    def _drawn_by_init(self) -> str:
        """The initialiser, or "" where the weights at the start are not those that it draws."""
        spec = self.spec
        changed = spec.gain is not None or spec.constraint is not None or spec.training.flossing is not None
        return "" if changed else spec.init

    def _on_checkpoint(self, step: int, model: models.SequenceModel) -> None:
        start = time.perf_counter()
        seed = self.spec.subseed("covectors")
        wrt = measure.measurable(model, self.spec.measure.wrt)
        profiles = measure.profiles(model, self.task, self.probe, wrt, seed)
        curves = pd.concat([measure.curve(each, step) for each in profiles])
        # On the disk at once: a run that is taken up again does not come by its earlier checkpoints.
        parts.write(self.folder, parts.CURVE, step, tables.to_csv(curves, tables.CURVE))
        rows = causes.at_checkpoint(model, self.task, self.probe, step) if self.spec.measure.why else []
        if step == 0 and self.spec.measure.why:
            rows += causes.before_training(model, self.probe, self._drawn_by_init())
        parts.write(self.folder, parts.CAUSE, step, tables.to_csv(rows, causes.COLUMNS))
        self.measuring += time.perf_counter() - start


@functools.lru_cache(maxsize=8)
def _task(settings: str) -> tasks.Task:
    # A worker process does many runs of a task; a text is read and counted once.
    return tasks.make(**json.loads(settings))


@contextmanager
def _own_arithmetic() -> Iterator[None]:
    """One thread, denormals flushed, a random state of its own; all as before at the end.

    Denormals cost a CPU 3 to 15 times the time once a gradient has vanished into them. The flag belongs to the thread.
    """
    # NumPy 1.26 tries out at first use how small a number gets, keeps the answer, and warns where it is zero.
    for dtype in (np.float16, np.float32, np.float64):
        np.finfo(dtype)
    threads, flushing = torch.get_num_threads(), _flushes_denormals()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        torch.set_flush_denormal(flushing)
        torch.set_num_threads(threads)


def _flushes_denormals() -> bool:
    # torch has no way to ask.
    return bool((torch.tensor([1e-310], dtype=torch.float64) * 0.5 == 0).item())


def _peak_bytes() -> int | None:
    """Largest resident memory of this process so far."""
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
