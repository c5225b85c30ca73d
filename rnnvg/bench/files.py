"""Files that are whole or not there at all, and what a full or read-only disk is called."""

from __future__ import annotations

import errno
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rnnvg.errors import InputError

_DISK = {
    errno.ENOSPC: "has no space left. Free some and run the same command again",
    errno.EDQUOT: "is over its quota. Free some space and run the same command again",
    errno.EROFS: "is on a read-only disk. Pass another --out",
    errno.EACCES: "cannot be written: permission denied. Pass another --out",
    errno.EPERM: "cannot be written: not permitted. Pass another --out",
    errno.ENOTDIR: "is not a folder. Pass another --out",
    errno.EEXIST: "is not a folder. Pass another --out",
    errno.EISDIR: "has a folder where a file belongs. Pass another --out",
    errno.ENAMETOOLONG: "has too long a name. Pass another --out",
}


class StorageError(InputError):
    """The results cannot be written where they belong; what is already there is whole and stays."""


@contextmanager
def disk_faults_named(directory: Path) -> Iterator[None]:
    """Turns an OSError that says that `directory` cannot be written into a StorageError of one sentence."""
    try:
        yield
    except OSError as error:
        elsewhere = error.filename is not None and not Path(error.filename).is_relative_to(directory)
        if error.errno not in _DISK or elsewhere:
            raise
        raise StorageError(f"`out` {str(directory)!r} {_DISK[error.errno]}; what is done is kept.") from error


def write_whole(path: Path, content: str | bytes | Iterable[str]) -> None:
    """Writes a file in one move: a reader sees the old one or the new one, never a part, even if the power goes.

    Raises:
        OSError: it cannot be written; an older file is then untouched.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    pieces = (content,) if isinstance(content, (str, bytes)) else content
    try:
        with open(temporary, "xb") as file:
            for piece in pieces:
                file.write(piece if isinstance(piece, bytes) else piece.encode())
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def check_room(directory: Path, needed: int) -> None:
    """Nothing where `directory` can be written and has `needed` bytes free; leaves no trace where it was not there.

    Raises:
        StorageError: it cannot be written, or has no room.
    """
    missing = [folder for folder in (directory, *directory.parents) if not folder.exists()]
    with disk_faults_named(directory):
        directory.mkdir(parents=True, exist_ok=True)
        try:
            write_whole(directory / ".writable", b"\0" * 4096)
            (directory / ".writable").unlink()
            free = shutil.disk_usage(directory).free
        finally:
            for folder in missing:
                with suppress(OSError):
                    folder.rmdir()
    if free < needed:
        raise StorageError(
            f"`out` {str(directory)!r} has {free / 2**20:.0f} MiB free and these runs need about {needed / 2**20:.0f}. "
            "Free some space, or pass another --out."
        )


def _sync_folder(folder: Path) -> None:
    # The new name is on the disk only when its folder is. Not every system lets a folder be opened.
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
