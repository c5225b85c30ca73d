"""Who is doing which run, where several processes write one directory.

A claim is a file, created only where none is (O_EXCL: one winner, on network file systems too). Its owner touches it
while it works. It is dead, and taken over, at once where its process was on this machine and is gone; otherwise when
its file has not changed for `patience` seconds by the watcher's own clock: no two machines' clocks are ever compared,
and none has to go forwards. Claims only save work. Results are published whole and are the same whoever computes them,
so that a claim that is wrongly taken over costs time and nothing else.
"""

from __future__ import annotations

import json
import os
import socket
import time
import uuid
from contextlib import suppress
from pathlib import Path

import psutil

from rnnvg.bench.stored import Claim
from rnnvg.stored import Damaged, fit, read_json

BEAT = 5.0
# Network file systems may show a file's times up to a minute late.
PATIENCE = 120.0


class Claims:
    """The claims that one process makes; drop them all at the end.

    Args:
        token: who claims, unique.
        patience: seconds without a sign of life after which another process's claim is taken over.
    """

    def __init__(self, token: str, patience: float = PATIENCE) -> None:
        self.token = token
        self.patience = patience
        self._own: set[Path] = set()
        self._beaten = time.monotonic()
        self._watched: dict[Path, tuple[object, float]] = {}

    def take(self, folder: Path) -> bool:
        """Whether the run in `folder` is now this process's to do.

        Raises:
            OSError: the folder cannot be written.
        """
        path = folder / "claim.json"
        for _ in range(2):
            try:
                handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
            except FileExistsError:
                if self._alive(path):
                    return False
                self._clear(path)
            else:
                with open(handle, "w") as file:
                    json.dump({"token": self.token, "pid": os.getpid(), "place": _place()}, file)
                self._own.add(path)
                return True
        return False

    def beat(self) -> None:
        """Shows that this process is alive; to be called often, acts every `BEAT` seconds."""
        if time.monotonic() - self._beaten < BEAT:
            return
        self._beaten = time.monotonic()
        for path in self._own:
            with suppress(OSError):
                # Whatever the clock says: watchers look for a change, not for a time.
                os.utime(path)

    def drop(self, folder: Path) -> None:
        """Gives a run back, unless another process has taken it over meanwhile."""
        path = folder / "claim.json"
        self._own.discard(path)
        if _read(path).get("token") == self.token:
            with suppress(OSError):
                path.unlink(missing_ok=True)

    def drop_all(self) -> None:
        """Gives every run back."""
        for path in list(self._own):
            self.drop(path.parent)

    def _alive(self, path: Path) -> bool:
        claim = _read(path)
        if claim.get("place") == _place() and not _runs(claim.get("pid")):
            return False
        try:
            status = path.stat()
        except OSError:
            return False
        now, sign = time.monotonic(), (status.st_mtime_ns, status.st_size, claim.get("token"))
        seen, since = self._watched.get(path, (None, now))
        self._watched[path] = (sign, since if seen == sign else now)
        return now - self._watched[path][1] < self.patience

    def _clear(self, path: Path) -> None:
        # Renamed before it is removed: of two that find it dead, one succeeds.
        aside = path.with_name(f".claim.{uuid.uuid4().hex[:8]}")
        with suppress(OSError):
            os.rename(path, aside)
            aside.unlink()
        self._watched.pop(path, None)


def claimed(folder: Path) -> str:
    """Who says to be doing the run in `folder`: process and machine; empty where nobody does, or where they are gone."""
    path = folder / "claim.json"
    claim = _read(path)
    if not claim or (claim.get("place") == _place() and not _runs(claim.get("pid"))):
        return ""
    return f"process {claim.get('pid')} on {str(claim.get('place', '')).partition(' ')[0]}"


def _read(path: Path) -> dict:
    # A claim may be empty for the moment between its creation and its first line, or for ever if its owner died there.
    try:
        return fit(Claim, read_json(path), path.name).model_dump()
    except Damaged:
        return {}


def _runs(pid: object) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE if isinstance(pid, int) else False
    except psutil.NoSuchProcess:
        return False
    except psutil.Error:
        return True


def _place() -> str:
    """This machine since it was started, and this container on it: where process numbers mean the same."""
    signs = [socket.gethostname()]
    with suppress(OSError):
        signs.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
    with suppress(OSError):
        signs.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(signs)
