"""What must be remembered: tasks with known dependency distances and a known price of remembering nothing.

A task is a file with a description `ABOUT`, a function `make` from its settings to a Task, and a line in the list below.
`make` here builds one by name; torch is imported only then, so that the names can be listed at once.
"""

from __future__ import annotations

import importlib
import inspect
from typing import Any

from rnnvg.errors import InputError, check_name, nearest
from rnnvg.tasks.metrics import METRICS, Metric
from rnnvg.tasks.task import Batch, Description, Task

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
    "sequential-digits": "digits",
    "permuted-digits": "permuted_digits",
}
NAMES = tuple(_MODULES)

__all__ = ["METRICS", "NAMES", "Batch", "Description", "Metric", "Task", "about", "describe", "make", "settings"]


def make(name: str, **settings: Any) -> Task:
    """The task of that name.

    Args:
        name: one of `NAMES`.
        settings: the task's own settings; `settings(name)` lists them.

    Raises:
        InputError: no such task or setting, with the nearest right name, or a setting out of its range.

    >>> make("adding", length=20).baseline
    0.16666666666666666
    """
    function = _module(name).make
    known = inspect.signature(function).parameters
    for given in settings:
        if given not in known:
            guess = nearest(given, known)
            hint = f"Did you mean {guess!r}? " if guess else ""
            raise InputError(f"Task {name!r} has no setting {given!r}. {hint}Its settings are: {', '.join(known)}.")
    return function(**settings)


def about(name: str) -> Description:
    """What all tasks of that name have in common: label, kind, metric, unit of the loss, what counts as solved.

    >>> about("copy").unit
    'nats per step'
    """
    return _module(name).ABOUT


def settings(name: str) -> dict[str, tuple[Any, str]]:
    """The settings of a task: name -> (default, what it means).

    >>> settings("adding")["length"]
    (50, 'steps of a sequence; the sum is due at the last one')
    """
    parameters = inspect.signature(_module(name).make).parameters
    return {each: (parameters[each].default, what) for each, what in about(name).settings.items()}


def describe(name: str) -> str:
    """What a task is, where it comes from and what its settings mean, in plain text."""
    lines = [f"  {each:<14} {what} (default: {default})" for each, (default, what) in settings(name).items()]
    return f"{name}\n\n{inspect.getdoc(_module(name)) or ''}\n\nSettings:\n" + "\n".join(lines)


def _module(name: str) -> Any:
    return importlib.import_module(f"rnnvg.tasks.{_MODULES[check_name('task', name, NAMES)]}")
