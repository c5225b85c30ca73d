"""What all runs of one piece of advice share: the task, the network as it is, the training, and how it is measured.

A remedy is a change to a run's specification: `Settings.spec` makes it. Runs of one seed are paired: they draw the same
weights, batches and probe sequences.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from rnnvg import models, tasks
from rnnvg.advise.remedies import REMEDIES
from rnnvg.errors import InputError, check_float, check_int, check_name
from rnnvg.seeds import short_digest
from rnnvg.training.remedy import Base, changed

if TYPE_CHECKING:
    from rnnvg.bench import RunSpec
    from rnnvg.tasks import Task

WRT = ("state", "input")


@dataclass(frozen=True)
class Settings:
    """Everything that a run depends on beside its remedy and seed. Made by `settings`, which checks it.

    Attributes:
        task: {"name": ..., and every setting}.
        cell, hidden, init: the network as it is.
        steps, lr, batch: of training with Adam, without clipping; it ends when the task is solved.
        wrt: what the gradient is taken by, "state" or "input".
        threshold: of the horizon.
        sequences: on which it is measured, four times as long as those of training.
        t_max: the longest dependency, steps.
        device: where its networks are trained, "cpu" or "cuda".

    >>> from rnnvg.advise.settings import settings
    >>> settings({"name": "adding", "length": 20}, hidden=8).cell
    'rnn'
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
    device: str = "cpu"

    @property
    def name(self) -> str:
        """A readable name that is a function of everything that the runs depend on: of a directory of their own."""
        own = {key: value for key, value in asdict(self).items() if key != "threshold"}
        if self.device == "cpu":  # as it was called before there was another
            del own["device"]
        digest = short_digest(json.dumps(own, sort_keys=True))[:8]
        sizes = [f"{letter}{self.task[key]}" for key, letter in (("length", "T"), ("delay", "D")) if key in self.task]
        init = [self.init] if self.init != "default" else []
        return "-".join([self.task["name"], *sizes, self.cell, f"h{self.hidden}", *init, digest])

    def spec(self, remedy: str, seed: int, **changes: Any) -> RunSpec:
        """The specification of a run: the network as it is, with what the remedy changes.

        Args:
            changes: settings by dotted name that differ beside, such as {"training.steps": 100}.
        """
        from rnnvg.bench import run_spec

        fields: dict[str, Any] = {
            "cell": self.cell,
            "hidden": self.hidden,
            "init": self.init,
            "t_max": self.t_max if self.init == "chrono" else None,
            "training": {
                "steps": self.steps,
                "batch": self.batch,
                "lr": self.lr,
                "clip": None,
                "eval_every": max(1, min(50, self.steps // 4)),
                "checkpoints": (0,),
                **({} if self.device == "cpu" else {"device": self.device}),
            },
            "measure": {"sequences": self.sequences, "wrt": (self.wrt,), "why": False},
            "seed": seed,
            "paired": True,
        }
        base = Base(t_max=self.t_max, lr=self.lr, steps=self.steps)
        return run_spec(self.task, **changed(fields, {**REMEDIES[remedy].changes(base), **changes}))

    def make_task(self) -> Task:
        return tasks.make(self.task["name"], **{key: value for key, value in self.task.items() if key != "name"})


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
    device: str = "cpu",
) -> Settings:
    """Checked settings.

    Args:
        task: a task's name, or {"name": ..., and the settings that differ from its default}.
        cell, hidden, init: the network as it is, one of rnnvg.models.EVERY_CELL with a recurrence, or the import path of a
            cell, and one of INITS.
        steps, lr, batch: of training.
        wrt: "state" or "input".
        threshold: fraction of the gradient that counts as surviving, in (0, 1).
        sequences: on which horizons are measured.
        device: where networks are trained and measured, "cpu" or "cuda".

    Raises:
        InputError: an argument that is unknown or out of its range, or a text (its stream is read on and on, and has no
            sequences to pair).
    """
    from rnnvg.models.initialisers import check_init

    given = {"name": task} if isinstance(task, str) else dict(task)
    made = tasks.make(tasks.check(given.pop("name", None)), **given)
    if made.vocabulary is not None:
        raise InputError(
            f"`task` {made.name!r} is a text without a known distance; pass adding, copy or another task of one."
        )
    if models.check_cell(cell) in models.CELLS:
        check_init(init, cell)
    else:
        check_name("init", init, ("default",))
        if not models.has_recurrence(models.build(made, cell, hidden=4).core):
            raise InputError(
                f"`cell` {cell!r} has no recurrence whose gradient could vanish from step to step. Pass another."
            )
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
        device=_device(device),
    )


def _device(device: str) -> str:
    if device == "cpu":
        return device
    from rnnvg.training.device import check_device

    return check_device(device)
