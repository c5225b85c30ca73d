"""What must be remembered: tasks with known dependency distances and a known price of remembering nothing.

A task is a file with a description `ABOUT`, a function `make` from its settings to a Task, and a line in the list below.
`make` here builds one by name; torch is imported only then, so that the names can be listed at once.
"""

from __future__ import annotations

import importlib
import inspect
from dataclasses import replace
from typing import Any

from rnnvg.errors import InputError, check_name, nearest
from rnnvg.tasks import imported
from rnnvg.tasks.task import METRICS, Batch, Description, Metric, Task

# Name -> module. The copy task's module is not called `copy`, which would shadow the standard library's.
_MODULES = {
    "copy": "copy_memory",
    "adding": "adding",
    "next-word": "next_word",
    "variable-copy": "variable_copy",
    "selective-copy": "selective_copy",
    "temporal-order": "temporal_order",
    "delayed-recall": "delayed_recall",
    "noisy-recall": "noisy_recall",
    "multiplication": "multiplication",
    "associative-recall": "associative_recall",
    "parity": "parity",
    "dyck": "dyck",
    "embedded-reber": "embedded_reber",
    "long-lag": "long_lag",
    "sequential-digits": "digits",
    "permuted-digits": "permuted_digits",
}
NAMES = tuple(_MODULES)

__all__ = [
    "METRICS",
    "NAMES",
    "Batch",
    "Description",
    "Metric",
    "Task",
    "about",
    "check",
    "describe",
    "imported",
    "make",
    "settings",
]


def make(name: str, **settings: Any) -> Task:
    """The task of that name.

    Args:
        name: one of `NAMES`, or the import path of a function from settings to a Task, "package.module:task".
        settings: the task's own settings; `settings(name)` lists them.

    Raises:
        InputError: no such task or setting, with the nearest right name, or a setting out of its range.

    >>> make("adding", length=20).baseline
    0.16666666666666666
    """
    function = _function(name)
    known = inspect.signature(function).parameters
    for given in settings:
        if given not in known:
            guess = nearest(given, known)
            hint = f"Did you mean {guess!r}? " if guess else ""
            raise InputError(f"Task {name!r} has no setting {given!r}. {hint}Its settings are: {', '.join(known)}.")
    return _named(function(**settings), name) if imported.is_path(name) else function(**settings)


def check(name: Any) -> str:
    """`name` where it is one of `NAMES`, or the import path of a task, which is then made with its default settings.

    Raises:
        InputError: neither of the two; or what stands at the path is no task: what is missing is named.

    >>> check("adding")
    'adding'
    """
    if not imported.is_path(name):
        return check_name("task", name, NAMES)
    task = make(name)
    for what, batch in (("draw", task.batch(2, _seeded())), ("draw_longer", task.probe(2, _seeded()))):
        _check_batch(task, what, batch)
    return name


def about(name: str) -> Description:
    """What all tasks of that name have in common: label, kind, metric, unit of the loss, what counts as solved.

    >>> about("copy").unit
    'nats per step'
    """
    return make(name).about if imported.is_path(name) else _module(name).ABOUT


def settings(name: str) -> dict[str, tuple[Any, str]]:
    """The settings of a task: name -> (default, what it means).

    >>> settings("adding")["length"]
    (50, 'steps of a sequence; the sum is due at the last one')
    """
    described = about(name).settings
    return {
        each: (parameter.default, described.get(each, "a setting of its own"))
        for each, parameter in inspect.signature(_function(name)).parameters.items()
    }


def describe(name: str) -> str:
    """What a task is, where it comes from and what its settings mean, in plain text.

    >>> print(describe("adding").splitlines()[0])
    adding
    """
    lines = [f"  {each:<14} {what} (default: {default})" for each, (default, what) in settings(name).items()]
    home = inspect.getmodule(_function(name))
    return f"{name}\n\n{inspect.getdoc(home) or ''}\n\nSettings:\n" + "\n".join(lines)


def _module(name: str) -> Any:
    return importlib.import_module(f"rnnvg.tasks.{_MODULES[check_name('task', name, NAMES)]}")


def _function(name: str) -> Any:
    return imported.load(name, "task") if imported.is_path(name) else _module(name).make


def _named(task: Any, path: str) -> Task:
    """A task from elsewhere, named by its import path, as far as can be seen without drawing from it."""
    if not isinstance(task, Task):
        raise InputError(
            f"`task` {path!r} must be a function from its settings to a rnnvg.tasks.Task; it gave a {type(task).__name__}."
        )
    if task.about.metric not in METRICS:
        raise InputError(f"`task` {path!r} has the metric {task.about.metric!r}; pass one of: {', '.join(METRICS)}.")
    return replace(task, about=replace(task.about, name=path))


def _seeded() -> Any:
    from rnnvg.tasks import scoring

    return scoring.seeded(0)


def _check_batch(task: Task, what: str, batch: Any) -> None:
    """Nothing where a batch of two sequences has the shape that the task's description says."""
    import torch

    if not isinstance(batch, Batch):
        raise InputError(
            f"`task` {task.name!r}: `{what}` must give a rnnvg.tasks.Batch; it gave a {type(batch).__name__}."
        )
    longest = task.steps if what == "draw" else len(batch.inputs)
    shape = (longest, 2, task.n_inputs) if task.kind == "numbers" else (longest, 2)
    kind = torch.float32 if task.kind == "numbers" else torch.int64
    if tuple(batch.inputs.shape) != shape or batch.inputs.dtype != kind:
        raise InputError(
            f"`task` {task.name!r}: `{what}` must give inputs {list(shape)} of {kind} for 2 sequences; it gave "
            f"{list(batch.inputs.shape)} of {batch.inputs.dtype}."
        )
    if batch.targets.shape != shape[:2] or (batch.weight is not None and batch.weight.shape != shape[:2]):
        raise InputError(
            f"`task` {task.name!r}: `{what}` must give targets and weight {list(shape[:2])}, one for every step and sequence."
        )
