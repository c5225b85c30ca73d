"""Which folder holds which run: the one that its id names, where the specification that is stored in it is that run's.

Ids had 8 digits before they had 12, and folders of that time are named so. Whether one of them holds a run is seen from
the specification stored in it: 8 digits of two runs agree sooner or later.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from rnnvg.bench.spec import RunSpec, short_id
from rnnvg.errors import InputError
from rnnvg.files import make_folder, write_whole
from rnnvg.stored import Damaged, read_json

RESULT = "result.json"
SPEC = "spec.json"  # what is being done, until there is a result


def find(runs: Path, run: str, is_sound: Callable[[Path], bool]) -> Path:
    """Where a run's files are or are to be.

    Args:
        runs: the folder that holds all of them.
        run: its id.
        is_sound: whether the run in a folder is done, its files as they were written.
    """
    folder, older = runs / run, runs / short_id(run)
    if older == folder or not os.path.isdir(older) or not os.access(older, os.X_OK) or is_sound(folder):
        return folder  # what cannot be looked into may be anybody's
    ended = os.path.exists(older / RESULT)
    if (spec := stored_spec(older)) is not None:
        return older if spec.id == run and (ended or not folder.exists()) else folder
    # Interrupted before specifications were stored at the start. If it is another run's that agrees in 8 digits, its resume
    # file does not fit this one's settings, and is kept beside as unusable.
    return folder if ended or folder.exists() else older


def begin(folder: Path, spec: RunSpec) -> None:
    """Makes the folder of a run that is to be done, and says in it which run that is.

    Raises:
        OSError: it cannot be written.
    """
    make_folder(folder)
    if (stored := stored_spec(folder)) is None or stored.id != spec.id:
        write_whole(folder / SPEC, json.dumps(spec.to_dict(), indent=1) + "\n")


def stored_spec(folder: Path) -> RunSpec | None:
    """The specification of the run whose files are in a folder; None where it is not stored there, or not whole."""
    try:
        if (folder / RESULT).exists():
            return specified(read_json(folder / RESULT)["spec"])
        return specified(read_json(folder / SPEC)) if (folder / SPEC).exists() else None
    except (Damaged, OSError, KeyError, TypeError):
        return None


def specified(content: Any) -> RunSpec | None:
    """A specification as it was read back; None where it is none."""
    try:
        return RunSpec.model_validate(content)
    except (ValidationError, InputError, RecursionError, KeyError, TypeError, ValueError):
        return None
