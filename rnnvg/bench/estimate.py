"""Where the time of runs went, and how long others will take. No torch."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from rnnvg import tasks
from rnnvg.bench.spec import RunSpec
from rnnvg.bench.store import RESULT
from rnnvg.bench.stored import Timed
from rnnvg.stored import Damaged, fit, read_json


class Timings:
    """Seconds of earlier runs.

    Args:
        directories: results directories; what cannot be read in them is passed over.

    >>> import tempfile
    >>> from rnnvg import bench
    >>> training = {"steps": 2, "batch": 4, "eval_size": 10}
    >>> spec = bench.run_spec({"name": "adding", "length": 5}, "rnn", hidden=4, training=training)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = bench.execute(spec, folder)
    ...     type(bench.Timings([folder])).__name__
    'Timings'
    """

    def __init__(self, directories: Iterable[str | Path]) -> None:
        self.same: dict[str, list[float]] = {}
        # Of runs of one kind: seconds of training a step and step of a sequence, and all other seconds a step of a sequence.
        self.training: dict[tuple[Any, ...], list[float]] = {}
        self.rest: dict[tuple[Any, ...], list[float]] = {}
        paths = [
            path
            for folder in dict.fromkeys(Path(each).resolve() for each in directories)
            for path in folder.glob(f"runs/*/{RESULT}")
        ]
        self.count = sum(self._take(path) for path in sorted(paths))

    @classmethod
    def near(cls, directory: str | Path) -> Timings:
        """From a directory and those beside it."""
        beside = Path(directory).resolve().parent
        return cls(
            [directory, *(sorted(path for path in beside.glob("*") if path.is_dir()) if beside.is_dir() else ())]
        )

    def seconds(self, spec: RunSpec) -> float | None:
        """About how long a run takes; None where nothing like it is known, for a wrong number is worse than none.

        The median over runs that differ in the seed alone. Where there are none, the training of runs of its kind (`_kind`) in
        proportion to training steps and sequence length, and what else they took in proportion to the length alone: an
        upper bound, for runs that solve their task end early.
        """
        if self.same.get(_seedless(spec)):
            return median(self.same[_seedless(spec)])
        if not self.training.get(_kind(spec)):
            return None
        length = _length(json.dumps(spec.task, sort_keys=True))
        each = median(self.training[_kind(spec)]) * spec.training.steps + median(self.rest[_kind(spec)])
        return each * length

    def _take(self, path: Path) -> bool:
        try:
            stored = fit(Timed, read_json(path), path.name)
            spec = RunSpec.model_validate(stored.spec)
            seconds, steps = stored.seconds, stored.steps
        except (Damaged, ValueError, KeyError, TypeError, RecursionError):
            return False
        if stored.status != "ok" or not seconds or not steps:
            return False
        self.same.setdefault(_seedless(spec), []).append(float(seconds))
        training, length = stored.training_seconds, stored.training_steps
        if not training or not length:
            return True
        self.training.setdefault(_kind(spec), []).append(training / steps / length)
        self.rest.setdefault(_kind(spec), []).append((seconds - training) / length)
        return True


def in_words(seconds: float | None) -> str:
    """A time as a reader takes it in.

    >>> in_words(None), in_words(0.3), in_words(75), in_words(5000), in_words(200_000)
    ('unknown', '1 s', '75 s', '83 min', '55.6 h')
    """
    if seconds is None:
        return "unknown"
    if seconds < 100:
        return f"{max(1, seconds):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def _kind(spec: RunSpec) -> tuple[Any, ...]:
    """What runs must share for one to say how long the other takes: the task but for its length, and the network's size."""
    task = {name: value for name, value in spec.task.items() if name not in ("length", "delay", "bptt")}
    training = spec.training
    network = (spec.cell, spec.hidden, spec.layers, spec.embed, spec.constraint)
    extras = (training.omega is None, training.flossing is None, spec.measure.why)
    return (json.dumps(task, sort_keys=True), *network, training.batch, training.device, *extras)


def _seedless(spec: RunSpec) -> str:
    return RunSpec.model_validate({**spec.to_dict(), "seed": 0}).canonical


@functools.lru_cache(maxsize=64)
def _length(task: str) -> int:
    """Steps of a training sequence; of a text its window, without reading it."""
    settings: Mapping[str, Any] = json.loads(task)
    return int(settings.get("bptt") or tasks.make(**settings).steps)


@dataclass(frozen=True)
class Spent:
    """Where the time of runs went, seconds added over their processes.

    Attributes:
        training: forward, backward, clipping, held-out scores.
        floor: of the same work.
        measuring: gradients, causes, files: all that is not training.
        n: runs that have recorded all of this.
    """

    training: float
    floor: float
    measuring: float
    n: int

    @property
    def ratio(self) -> float:
        """Training against its floor."""
        return self.training / self.floor

    @property
    def share(self) -> float:
        """Of the whole, what is not training."""
        return self.measuring / (self.training + self.measuring)

    def __str__(self) -> str:
        return (
            f"Training took {self.training:.0f} s, {self.ratio:.2f} times the {self.floor:.0f} s of PyTorch's own steps; "
            f"measuring took {self.measuring:.0f} s, {100 * self.share:.0f} % of the whole"
        )


def spent(results: Iterable[Mapping[str, Any]]) -> Spent | None:
    """The time of all runs that have recorded a floor; None where none has.

    Args:
        results: contents of result.json files.
    """
    known = [each for each in results if each.get("floor_seconds")]
    if not known:
        return None
    training = sum(each["training_seconds"] for each in known)
    whole = sum(each["seconds"] for each in known)
    return Spent(training, sum(each["floor_seconds"] for each in known), whole - training, len(known))
