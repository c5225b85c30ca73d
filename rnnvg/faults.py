"""What the system's faults are called: of a disk, a path or the machine, each as a sentence with the way out. No torch."""

from __future__ import annotations

import errno
import importlib.util
import os
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path

from rnnvg.errors import InputError, shown

# Of what the system says: how a results directory is, with the way out; and how a path is.
FAULTS: Mapping[int, tuple[str, str]] = {
    errno.ENOSPC: (
        "has no space left. Free some and run the same command again",
        "no space is left. Free some, or pass another path",
    ),
    errno.EDQUOT: (
        "is over its quota. Free some space and run the same command again",
        "the quota is used up. Free some space, or pass another path",
    ),
    errno.EFBIG: (
        "takes no file as large as is needed. Raise the limit (`ulimit -f`) and run the same command again",
        "the file is larger than may be written. Raise the limit (`ulimit -f`)",
    ),
    errno.EROFS: ("is on a read-only disk. Pass another --out", "the disk is read-only. Pass another path"),
    errno.EACCES: (
        "cannot be written: permission denied. Pass another --out",
        "permission denied. Pass another path",
    ),
    errno.EPERM: ("cannot be written: not permitted. Pass another --out", "not permitted. Pass another path"),
    errno.ENOENT: (
        "has lost a file or folder while it was written. Run the same command again",
        "there is no such file or folder. Pass another path",
    ),
    errno.ENOTDIR: ("is not a folder. Pass another --out", "it lies under a file, not a folder. Pass another path"),
    errno.EEXIST: ("is not a folder. Pass another --out", "it is there already. Pass another path"),
    errno.EISDIR: (
        "has a folder where a file belongs. Pass another --out",
        "it is a folder. Pass the path of a file",
    ),
    errno.ENAMETOOLONG: ("has too long a name. Pass another --out", "the name is too long. Pass a shorter one"),
    errno.ELOOP: ("is a link to itself. Pass another --out", "it is a link to itself. Pass another path"),
    errno.EIO: (
        "cannot be read or written: the disk reports an error. Pass another --out",
        "the disk reports an error. Pass another path",
    ),
    errno.ESTALE: (
        "is no longer there: its network disk went away. Run the same command again",
        "its network disk went away. Run the same command again",
    ),
    errno.EMFILE: (
        "cannot be written: too many files are open. Raise the limit (`ulimit -n`) and run the same command again",
        "too many files are open. Raise the limit (`ulimit -n`)",
    ),
    errno.ENFILE: (
        "cannot be written: too many files are open on this machine. Run the same command again",
        "too many files are open on this machine. Try again",
    ),
    errno.EAGAIN: (
        "cannot be written: the system gives no more threads or processes. Raise the limit (`ulimit -u`)",
        "the system gives no more threads or processes. Raise the limit (`ulimit -u`)",
    ),
    errno.ENOMEM: (
        "cannot be written: no memory is left. Free some and run the same command again",
        "no memory is left. Free some",
    ),
}
# Of these, what is no property of a path: whatever is done, it would come to the same.
_OF_THE_MACHINE = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO),
    *(errno.ESTALE, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN),
)


# What libraries say where no memory is left; and what may have other causes, but hardly where memory has a limit.
_SIGNS = ("allocate memory", "out of memory", "failed to map segment", "bad_alloc", "can't start new thread")
_SIGNS_UNDER_A_LIMIT = ("could not create a primitive", "could not execute a primitive", "without exception set")
# Address space beside torch's libraries, as measured: of a process that trains; of a worker process, whose
# threads and those of Dask reserve some.
ALONE, WITH_WORKERS = 600 << 20, 2 << 30


class MachineError(InputError):
    """The machine is at fault, not what was asked of it: memory, open files, a disk. What is done is kept."""


class StorageError(MachineError):
    """The results cannot be written where they belong; what is already there is whole and stays.

    >>> from rnnvg.bench import StorageError
    >>> print(StorageError("The disk is full."))
    The disk is full.
    """


@contextmanager
def disk_faults_named(directory: Path) -> Generator[None]:
    """Turns an OSError that says that `directory` cannot be written into a StorageError of one sentence."""
    try:
        yield
    except OSError as error:
        elsewhere = error.filename is not None and not Path(error.filename).is_relative_to(directory)
        if elsewhere or (words := FAULTS.get(error.errno or 0)) is None:
            raise
        raise StorageError(f"`out` {shown(directory)} {words[0]}; what is done is kept.") from error


def fault_of(error: OSError) -> str | None:
    """An OSError in one sentence, with the way out; None where it is not of a file or of the machine."""
    if (words := FAULTS.get(error.errno or 0)) is None:
        return None
    what = "The output" if error.filename is None else shown(os.fsdecode(error.filename))
    return f"{what} cannot be used: {words[1]}."


def is_memory(error: BaseException) -> bool:
    """Whether an error, or one that it was raised from, says that no memory is left.

    torch says so in a RuntimeError, an import in an ImportError, and a library that meets either says something of its own.
    """
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        if isinstance(cause, MemoryError) or (isinstance(cause, OSError) and cause.errno == errno.ENOMEM):
            return True
        signs = (*_SIGNS, *(_SIGNS_UNDER_A_LIMIT if memory_limit() is not None else ()))
        if isinstance(cause, (RuntimeError, ImportError, SystemError)) and any(sign in str(cause) for sign in signs):
            return True
        cause = cause.__cause__ or cause.__context__
    return False


def memory_limit() -> int | None:
    """Bytes of address space that this process may have (`ulimit -v`); None where there is no limit."""
    if importlib.util.find_spec("resource") is None:
        return None
    import resource

    soft = resource.getrlimit(resource.RLIMIT_AS)[0]
    return None if soft == resource.RLIM_INFINITY else soft


def few_open_files(needed: int) -> str | None:
    """What to say where this process may have fewer than `needed` files open (`ulimit -n`); None where it may have them."""
    if importlib.util.find_spec("resource") is None:
        return None
    import resource

    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return None
    return (
        f"too many files are open: a process may have {soft} here (`ulimit -n`), and this needs about {needed}. Raise the "
        "limit and run the same command again"
    )


def check_memory_limit(above_torch: int = ALONE) -> None:
    """Nothing where the limit of address space leaves room for torch and so many bytes beside it.

    Where it does not, libraries come to a bad end in the middle of being loaded, some of them without an exception.

    Raises:
        MachineError: it leaves less.
    """
    limit = memory_limit()
    if limit is None:
        return
    found = importlib.util.find_spec("torch")
    folders = [Path(each) / "lib" for each in (found.submodule_search_locations or ())] if found else []
    needed = above_torch + sum(path.stat().st_size for folder in folders for path in folder.glob("*.so*"))
    if limit < needed:
        raise MachineError(
            f"A process may have {limit >> 20} MiB of address space here (`ulimit -v`), and this needs about "
            f"{needed >> 20}. Raise the limit and run the same command again."
        )


def machine_fault(error: BaseException) -> str | None:
    """What the machine lacks, as a sentence with the way out; None where an error says nothing of the machine."""
    if is_memory(error):
        return "There is not enough memory. Free some, or pass a smaller --jobs, and run the same command again."
    if isinstance(error, OSError) and error.errno in _OF_THE_MACHINE:
        return fault_of(error)
    return None
