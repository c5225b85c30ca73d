"""What a run under way has measured so far: at each checkpoint a table of its curve and one of its causes.

    runs/<id>/part-000000100.csv  cause-000000100.csv      deleted when the run is done

Each ends with the SHA-256 of what stands before it, so that a run does not go on from a part that was cut off or edited
and never gets a curve with a gap.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from rnnvg.errors import InputError, shown
from rnnvg.faults import StorageError
from rnnvg.files import move_aside, read_regular, write_whole
from rnnvg.stored import MOST_BYTES, Damaged

CURVE, CAUSE = KINDS = ("part", "cause")


def write(folder: Path, kind: str, step: int, table: str) -> None:
    """Keeps a table with its header line; it is on the disk when this returns.

    Raises:
        OSError: it cannot be written.
    """
    write_whole(_path(folder, kind, step), f"{table}#{_digest(table)}\n")


def read(path: Path) -> str:
    """The table of a part.

    Raises:
        Damaged: it is missing, or not as it was written.
    """
    if not path.is_file():
        raise Damaged(f"{path.name} is missing")
    table, mark, digest = read_regular(path, most=MOST_BYTES).rpartition(b"#")
    if not mark or digest.strip() != _digest(table).encode():
        raise Damaged(f"{path.name} was changed after it was written")
    return table.decode()


def tables(folder: Path, kind: str) -> list[str]:
    """Every part of a kind of a run that has just ended, by step.

    Raises:
        StorageError: one of them is not as it was written, or there is none.
    """
    try:
        return [read(path) for path in sorted(folder.glob(f"{kind}-*.csv")) or [_path(folder, kind, 0)]]
    except InputError as error:
        raise StorageError(
            f"`out` {shown(folder)} was changed while its run was under way ({error}). Run the same command again; what is "
            "done is kept."
        ) from None


def damaged(folder: Path, steps: Iterable[int]) -> tuple[Path, str] | None:
    """The first part of these steps that is not as it was written, and what is wrong with it."""
    for path in [_path(folder, kind, step) for step in sorted(steps) for kind in KINDS]:
        try:
            read(path)
        except (OSError, ValueError) as error:  # Damaged among them
            return path, str(error)
    return None


def clear(folder: Path) -> None:
    """Deletes the parts of a run that starts anew."""
    for path in [path for kind in KINDS for path in folder.glob(f"{kind}-*.csv")]:
        if path.is_file():
            path.unlink()
        else:
            move_aside(path, ending=".unusable")


def _path(folder: Path, kind: str, step: int) -> Path:
    return folder / f"{kind}-{step:09d}.csv"


def _digest(table: str | bytes) -> str:
    return hashlib.sha256(table.encode() if isinstance(table, str) else table).hexdigest()
