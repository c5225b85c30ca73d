"""What all trials of one piece of advice share: the task, the network as it is, the training, and how it is measured."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from rnnvg.advise.remedies import REMEDIES, Remedy
from rnnvg.errors import InputError, check_float, check_int, check_name

if TYPE_CHECKING:
    from rnnvg.tasks import Task

WRT = ("state", "input")


@dataclass(frozen=True)
class Settings:
    """Everything that a trial depends on beside its remedy and seed. Made by `settings`, which checks it.

    Attributes:
        task: {"name": ..., and every setting}.
        cell, hidden, init: the network as it is.
        steps, lr, batch: of training with Adam, without clipping; it ends when the task is solved.
        wrt: what the gradient is taken by, "state" or "input".
        threshold: of the horizon.
        sequences: on which it is measured, four times as long as those of training.
        t_max: the longest dependency, steps.
    """

    task: dict[str, Any]
    cell: str
    hidden: int
    init: str
    steps: int
    lr: float
    batch: int
    wrt: str
    threshold: float
    sequences: int
    t_max: int

    def trial_id(self, remedy: str, seed: int) -> str:
        """A readable name that is a function of everything that the trial depends on, and of what the remedy changes."""
        change = asdict(REMEDIES[remedy]) if remedy in REMEDIES else remedy
        text = json.dumps([asdict(self), change], sort_keys=True)
        return f"{remedy}-s{seed}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"

    def network(self, remedy: Remedy) -> dict[str, Any]:
        """The arguments of `models.build` beside the task."""
        found = {"cell": self.cell, "hidden": self.hidden, "init": self.init, **remedy.network}
        return {**found, "t_max": self.t_max} if remedy.needs_t_max or found["init"] == "chrono" else found

    def make_task(self) -> Task:
        from rnnvg import tasks

        return tasks.make(self.task["name"], **{key: value for key, value in self.task.items() if key != "name"})


def subseed(purpose: str, seed: int) -> int:
    """A seed for one purpose, in [0, 2^63): the same for every remedy, so that trials of one seed are a pair."""
    return int.from_bytes(hashlib.sha256(f"advise/{purpose}/{seed}".encode()).digest()[:8], "big") >> 1


def settings(
    task: str | Mapping[str, Any] = "adding",
    cell: str = "rnn",
    *,
    hidden: int = 32,
    init: str = "default",
    steps: int = 600,
    lr: float = 0.005,
    batch: int = 50,
    wrt: str = "state",
    threshold: float = math.exp(-1),
    sequences: int = 16,
) -> Settings:
    """Checked settings.

    Args:
        task: a task's name, or {"name": ..., and the settings that differ from its default}.
        cell, hidden, init: the network as it is, one of rnnvg.models.CELLS and INITS.
        steps, lr, batch: of training.
        wrt: "state" or "input".
        threshold: fraction of the gradient that counts as surviving, in (0, 1).
        sequences: on which horizons are measured.

    Raises:
        InputError: an argument that is unknown or out of its range, or a text (its stream is read on and on, and has no
            sequences to pair).
    """
    from rnnvg import models, tasks
    from rnnvg.models.initialisers import check_init

    given = {"name": task} if isinstance(task, str) else dict(task)
    made = tasks.make(check_name("task", given.pop("name", None), tasks.NAMES), **given)
    if made.vocabulary is not None:
        raise InputError(
            f"`task` {made.name!r} is a text without a known distance; pass adding, copy or another task of one."
        )
    check_name("cell", cell, models.CELLS)
    check_init(init, cell)
    longest = made.steps if made.distances is None else int(made.distances.max())
    return Settings(
        task={"name": made.name, **json.loads(json.dumps(dict(made.settings)))},
        cell=cell,
        hidden=check_int("hidden", hidden, least=2),
        init=init,
        steps=check_int("steps", steps, least=1),
        lr=check_float("lr", lr, above=0),
        batch=check_int("batch", batch, least=1),
        wrt=check_name("wrt", wrt, WRT),
        threshold=check_float("threshold", threshold, above=0, below=1),
        sequences=check_int("sequences", sequences, least=1),
        t_max=max(2, longest),
    )
