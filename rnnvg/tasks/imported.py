"""Cells and tasks from elsewhere, named by import path: "package.module:Name".

Modules from elsewhere are code that runs: their import executes whatever they hold. They are looked for where Python looks,
and in the working directory.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import os
import sys
from pathlib import Path
from typing import Any

from rnnvg.errors import InputError, nearest


def is_path(name: object) -> bool:
    """Whether a name is an import path and not one of the house's own names."""
    return isinstance(name, str) and ":" in name


def load(path: str, what: str) -> Any:
    """What stands at an import path.

    Args:
        path: "package.module:Name".
        what: the argument that it was passed as, for the message.

    Raises:
        InputError: no such module or name, or a module that cannot be imported.
    """
    module, _, name = path.partition(":")
    if not module or not name.isidentifier():
        raise InputError(f"`{what}` {path!r} is no import path; pass it as package.module:Name.")
    here = os.getcwd()
    added = here not in sys.path
    if added:
        sys.path.insert(0, here)
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise InputError(f"`{what}` {path!r} cannot be imported: {error}.") from error
        raise InputError(
            f"`{what}` {path!r}: there is no module {error.name!r} in {here} or where Python looks (PYTHONPATH)."
        ) from None
    except Exception as error:  # whatever its code raises
        raise InputError(f"`{what}` {path!r} cannot be imported: {type(error).__name__}: {error}.") from error
    finally:
        if added:
            sys.path.remove(here)
    if not hasattr(found, name):
        guess = nearest(name, [each for each in vars(found) if not each.startswith("_")])
        hint = f" Did you mean {guess!r}?" if guess else ""
        raise InputError(f"`{what}` {path!r}: module {module!r} has no {name!r}.{hint}")
    return getattr(found, name)


def source_hash(path: str, what: str) -> str:
    """12 hexadecimal digits of the SHA-256 of the file that holds what stands at an import path.

    Raises:
        InputError: as `load`, or there is no such file.
    """
    found = load(path, what)
    try:
        file = inspect.getsourcefile(found)
        return hashlib.sha256(Path(str(file)).read_bytes()).hexdigest()[:12]
    except (TypeError, OSError):
        raise InputError(f"`{what}` {path!r} has no source file; write it in a module of its own.") from None


def sources(task: str, cell: str) -> dict[str, str] | None:
    """The hashes of what a run takes from elsewhere, by "task" and "cell"; None where it takes nothing."""
    named = {"task": task, "cell": cell}
    return {what: source_hash(path, what) for what, path in named.items() if is_path(path)} or None
