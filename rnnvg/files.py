"""Files that are whole or not there at all; what rnnvg may write over, move or delete.

A path that a user names is never overwritten, moved or deleted unless the mark of rnnvg's own format is found in the
file. `write_ours` and `write_set` look for it; `write_whole` is for names that nobody else makes (in a run's folder).
No torch.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
import stat
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from rnnvg.errors import InputError, shown
from rnnvg.faults import FAULTS, StorageError, disk_faults_named

# The most that is read of a file to find its mark: at its start, and at its end for formats that keep facts there.
_HEAD, _TAIL = 8192, 65536
# Columns of a CSV file that are its mark; those behind them may differ from one set of runs to the next.
_MARK_COLUMNS = 6

Mark = re.Pattern[bytes]
Content = str | bytes
ANY: Mark = re.compile(b"")
# Each format's own mark, by the ending of its files. CSV has its columns, JSON its first key: see `mark_of`.
MARKS: Mapping[str, Mark] = {
    ".svg": re.compile(rb"<svg\b.*<dc:title>rnnvg</dc:title>", re.DOTALL),
    ".png": re.compile(rb"\A\x89PNG\r\n\x1a\n.*Software\0rnnvg", re.DOTALL),
    ".pdf": re.compile(rb"\A%PDF-.*/Creator \(rnnvg\)", re.DOTALL),
    ".html": re.compile(rb'<meta name="generator" content="rnnvg">'),
    ".parquet": re.compile(rb"\APAR1.*rnnvg", re.DOTALL),
}


def write_whole(path: Path, content: Content | Iterable[str]) -> None:
    """Writes a file in one move: a reader sees the old one or the new one, never a part, even if the power goes.

    Nothing is asked of what stands at `path`: for names that nobody but rnnvg makes. Others are for `write_ours`.

    Raises:
        OSError: it cannot be written; an older file is then untouched.
    """
    # Unpredictable, for a folder that others may write; made here and by nobody else (x: O_EXCL).
    temporary = path.with_name(f".{path.name[:64]}.{secrets.token_hex(8)}.tmp")
    pieces = (content,) if isinstance(content, (str, bytes)) else content
    try:
        with open(temporary, "xb", opener=_not_for_everybody) as file:
            for piece in pieces:
                file.write(piece if isinstance(piece, bytes) else piece.encode())
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename == str(temporary):
            error.filename = str(path)  # the name that a reader knows
        raise
    _sync_folder(path.parent)


def write_ours(path: str | Path, content: Content, argument: str = "path", mark: Mark | None = None) -> None:
    """`write_whole` for a path that a user names: a file that rnnvg did not write is refused, and left as it is.

    Args:
        argument: the option or argument that the path comes from.
        mark: what is found in a file of this format; None: what `content` itself has, by the path's ending.

    Raises:
        InputError: a folder, a file without the mark, or anything that is not a regular file is there, or the disk cannot
            be written; what is there is then untouched.
    """
    with named_faults(path, argument):
        check_ours(path, mark or mark_of(Path(path).suffix, content), argument)
        # A link of the user's stays a link: the file that it leads to was checked, and is what is written.
        write_whole(Path(os.path.realpath(path)), content)


@contextmanager
def named_faults(path: str | Path, argument: str = "path") -> Generator[None]:
    """Turns what the system says of one path that a user names into an InputError of one sentence."""
    try:
        yield
    except OSError as error:
        if (words := FAULTS.get(error.errno or 0)) is None:
            raise
        raise InputError(f"`{argument}` {shown(path)} cannot be written: {words[1]}.") from error


def write_set(
    folder: str | Path,
    contents: Mapping[str, Content | Iterable[str]],
    argument: str = "out",
    marks: Mapping[str, Mark] | None = None,
) -> None:
    """Several files in a folder, made where it is missing; where one of them would be refused, none is written.

    Args:
        contents: name, with / between folders -> content, or its pieces, which are written one after the other.
        marks: of files whose mark is not the one that `mark_of` sees in their content, and of those in pieces.

    Raises:
        InputError: as `write_ours`.
        StorageError: the folder cannot be written.
    """
    folder = Path(folder)
    with disk_faults_named(folder):
        for name, content in contents.items():
            mark = (marks or {}).get(name)
            if mark is None:
                assert isinstance(content, (str, bytes))
                mark = mark_of(Path(name).suffix, content)
            check_ours(folder / name, mark, argument)
        for name, content in contents.items():
            make_folder((folder / name).parent)
            write_whole(Path(os.path.realpath(folder / name)), content)


def mark_of(suffix: str, content: Content) -> Mark:
    """What tells a file of this format from others: the format's own mark, a table's columns, a JSON object's first key."""
    if (mark := MARKS.get(suffix.lower())) is not None:
        return mark
    if suffix == ".json":
        key = re.match(rb'\s*\{\s*("[^"]*")', _bytes(content[:_HEAD]))
        return re.compile(rb"\A\s*\{\s*" + re.escape(key[1] if key else b"}"))
    columns = _bytes(content[:_HEAD]).partition(b"\n")[0].split(b",")
    first, end = columns[:_MARK_COLUMNS], rb"\r?\n" if len(columns) <= _MARK_COLUMNS else b","
    return re.compile(rb"\A(?:\xef\xbb\xbf)?" + re.escape(b",".join(first)) + end)


def table_mark(columns: Iterable[str]) -> Mark:
    """The mark of a CSV file with these columns."""
    return mark_of(".csv", ",".join(columns) + "\n")


def check_ours(path: str | Path, mark: Mark, argument: str = "path") -> None:
    """Nothing where `path` may be written: nothing is there, an empty file, or one that has the mark.

    Raises:
        InputError: anything else is there.
        OSError: it cannot be looked at.
    """
    path = Path(path)
    try:
        status = os.stat(path)
    except FileNotFoundError:
        if path.is_symlink():
            raise InputError(f"`{argument}` {shown(path)} is a link that leads nowhere. Pass another path.") from None
        return
    if stat.S_ISDIR(status.st_mode):
        raise InputError(f"`{argument}` {shown(path)} is a folder. Pass the path of a file.")
    if not stat.S_ISREG(status.st_mode):
        raise InputError(f"`{argument}` {shown(path)} is not a regular file. Pass the path of a file.")
    if status.st_size and not has_mark(path, mark):
        raise refusal(path, argument)


def refusal(path: str | Path, argument: str = "path") -> InputError:
    """What is said of a file that would be lost."""
    return InputError(
        f"`{argument}` {shown(path)} is there already and is no file of this kind that rnnvg wrote. "
        "Move it away, or pass another path."
    )


def has_mark(path: str | Path, mark: Mark) -> bool:
    """Whether a regular file has the mark at its beginning (or end, for formats that keep it there); damaged or not."""
    if not os.path.isfile(path):
        return False
    with open(path, "rb") as file:
        head = file.read(_HEAD)
        if mark.search(head):
            return True
        if mark not in (MARKS[".pdf"], MARKS[".parquet"]):
            return False
        file.seek(max(0, os.path.getsize(path) - _TAIL))
        return bool(mark.search(head + file.read(_TAIL)))


def remove_ours(path: str | Path, mark: Mark) -> None:
    """Deletes a file that has the mark; leaves everything else."""
    if not os.path.islink(path) and has_mark(path, mark):
        with suppress(FileNotFoundError):
            os.unlink(path)


def move_aside(path: Path, folder: Path | None = None, ending: str = "") -> Path:
    """Moves a file or folder of ours to a name that is not taken, which is returned.

    Args:
        folder: where to; None: where it is.
        ending: put behind its name, before the number that is added where the name is taken.
    """
    folder, number = folder or path.parent, 1
    while True:
        target = folder / f"{path.name}{ending}{f'-{number}' if number > 1 or not ending else ''}"
        number += 1
        if os.path.lexists(target):
            continue
        if not path.is_dir():
            # Taken by making it: of two that look for a free name at the same moment, one finds it.
            try:
                os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            except FileExistsError:
                continue
        os.replace(path, target)  # a folder with something in it is never replaced by another: the system refuses
        return target


def read_regular(path: str | Path, argument: str = "path", most: int | None = None) -> bytes:
    """The content of a regular file: a pipe, which may never end, and a device are refused.

    Raises:
        InputError: there is no such file, it is not a regular one, it has more than `most` bytes, or it cannot be read.
    """
    check_regular(path, argument)
    try:
        if most is not None and (size := os.path.getsize(path)) > most:
            raise InputError(f"`{argument}` {shown(path)} has {size} bytes, and at most {most} are read.")
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise InputError(f"`{argument}` {shown(path)} cannot be read: {error.strerror}.") from error


def check_regular(path: str | Path, argument: str = "path") -> None:
    """Nothing where `path` is a regular file or a link to one.

    Raises:
        InputError: there is no such file, or it is something else.
    """
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError) as error:
        raise InputError(
            f"`{argument}` {shown(path)} cannot be read: {getattr(error, 'strerror', None) or error}."
        ) from error
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "not a regular file"
        raise InputError(f"`{argument}` {shown(path)} is {kind}. Pass the path of a file.")


def named_folder(directory: Any, argument: str = "out") -> Path:
    """The folder that a user names; an empty name, which would be the current folder, is refused.

    Raises:
        InputError: it is empty, or no path.
    """
    path: object = directory
    if not isinstance(path, (str, os.PathLike)) or not os.fspath(directory) or "\0" in os.fsdecode(directory):
        raise InputError(
            f"`{argument}` must be the path of a folder; got {shown(directory)}. Pass . for the current folder."
        )
    return Path(os.fsdecode(directory))


def make_folder(folder: Path) -> None:
    """Makes a folder and those above it where they are missing; never one that everybody may write.

    Raises:
        OSError: it cannot be made.
    """
    for each in [*reversed(folder.parents), folder]:
        if not each.is_dir():
            with suppress(FileExistsError):
                os.mkdir(each, 0o775)
    if not folder.is_dir():
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(folder))


def check_room(directory: Path, needed: int) -> None:
    """Nothing where `directory` can be written and has `needed` bytes free; leaves no trace where it was not there.

    Raises:
        StorageError: it cannot be written, or has no room.
    """
    missing = [folder for folder in (directory, *directory.parents) if not folder.exists()]
    with disk_faults_named(directory):
        make_folder(directory)
        probe = directory / f".writable-{secrets.token_hex(8)}"
        try:
            write_whole(probe, b"\0" * 4096)
            probe.unlink()
            free = shutil.disk_usage(directory).free
        finally:
            for folder in missing:
                with suppress(OSError):
                    folder.rmdir()
    if free < needed:
        raise StorageError(
            f"`out` {shown(directory)} has {free / 2**20:.0f} MiB free and these runs need about {needed / 2**20:.0f}. "
            "Free some space, or pass another --out."
        )


def _not_for_everybody(path: str, flags: int) -> int:
    # As the umask says, and never writable by everybody whatever it says.
    return os.open(path, flags, 0o664)


def _bytes(content: Content) -> bytes:
    return content if isinstance(content, bytes) else content.encode()


def _sync_folder(folder: Path) -> None:
    # The new name is on the disk only when its folder is. Not every system lets a folder be opened.
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
