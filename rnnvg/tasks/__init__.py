"""What must be remembered: tasks with known dependency distances and a known price of remembering nothing.

`make` builds a task by name; torch is imported only then, so that the names can be listed at once.
"""

from __future__ import annotations

import importlib
import inspect
from typing import Any

from rnnvg.errors import InputError, check_name, nearest
from rnnvg.tasks.task import Batch, Task

# Name -> module and class. The copy task's module is not called `copy`, which would shadow the standard library's.
_HOME = {
    "copy": ("rnnvg.tasks.copy_memory", "CopyMemory"),
    "adding": ("rnnvg.tasks.adding", "Adding"),
    "next-word": ("rnnvg.tasks.next_word", "NextWord"),
    "variable-copy": ("rnnvg.tasks.variable_copy", "VariableCopy"),
    "selective-copy": ("rnnvg.tasks.selective_copy", "SelectiveCopy"),
    "temporal-order": ("rnnvg.tasks.temporal_order", "TemporalOrder"),
    "delayed-recall": ("rnnvg.tasks.delayed_recall", "DelayedRecall"),
    "noisy-recall": ("rnnvg.tasks.noisy_recall", "NoisyRecall"),
    "multiplication": ("rnnvg.tasks.multiplication", "Multiplication"),
    "associative-recall": ("rnnvg.tasks.associative_recall", "AssociativeRecall"),
    "parity": ("rnnvg.tasks.parity", "Parity"),
    "dyck": ("rnnvg.tasks.dyck", "Dyck"),
    "sequential-digits": ("rnnvg.tasks.digits", "SequentialDigits"),
    "permuted-digits": ("rnnvg.tasks.permuted_digits", "PermutedDigits"),
}
NAMES = tuple(_HOME)

__all__ = ["NAMES", "Batch", "Task", "describe", "make", "settings"]


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
    kind = _class(name)
    known = _settings(kind)
    for given in settings:
        if given not in known:
            guess = nearest(given, known)
            hint = f"Did you mean {guess!r}? " if guess else ""
            raise InputError(f"Task {name!r} has no setting {given!r}. {hint}Its settings are: {', '.join(known)}.")
    return kind(**settings)


def settings(name: str) -> dict[str, tuple[Any, str]]:
    """The settings of a task: name -> (default, what it means).

    >>> settings("adding")["length"]
    (50, 'steps of a sequence; the sum is due at the last one')
    """
    return _settings(_class(name))


def describe(name: str) -> str:
    """What a task is, where it comes from and what its settings mean, in plain text."""
    kind = _class(name)
    module = inspect.getdoc(inspect.getmodule(kind)) or ""
    lines = [f"  {each:<14} {about} (default: {default})" for each, (default, about) in _settings(kind).items()]
    return f"{name}\n\n{module}\n\nSettings:\n" + "\n".join(lines)


def _class(name: str) -> Any:
    module, kind = _HOME[check_name("task", name, NAMES)]
    return getattr(importlib.import_module(module), kind)


def _settings(kind: Any) -> dict[str, tuple[Any, str]]:
    parameters = inspect.signature(kind).parameters
    return {each: (parameters[each].default, about) for each, about in kind.ABOUT.items()}
