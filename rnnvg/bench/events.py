"""What happens in a sweep, as it is told to whoever looks on, and the progress bar that shows it, on a terminal alone."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, TextIO

from tqdm import tqdm

# Seconds without a sign of a run after which the bar says so.
SILENT = 30.0
# At 80 columns there is room for the names of two runs.
_FORMAT = "{percentage:3.0f}%|{bar}| {desc}[{elapsed}<{remaining}]{postfix}"


@dataclass(frozen=True)
class Event:
    """One thing that happened.

    Attributes:
        kind: "plan" (what is to be done), "start", "progress", "done" (the run has a result), "again" (its worker died
            and it will be tried again), "left" (it was given up and is left to do), "note" (`text` is for the user) or
            "beat" (the driver is alive; a few a second).
        run: id; empty for "plan", "note" and "beat".
        step, steps, loss: of a run under way.
        status, text: "ok", "diverged", "given-up" or "failed" with the reason, of a run that is done; otherwise what is to be
            said.
        total, done: for "plan", how many runs there are and how many of them have a result already.
        pid: for "start", the worker process.

    >>> Event("progress", run="adding-T50-gru-h64-s0", step=10, steps=100).step
    10
    """

    kind: Literal["plan", "start", "progress", "done", "again", "left", "note", "beat"]
    run: str = ""
    step: int = 0
    steps: int = 0
    loss: float = 0.0
    status: str = ""
    text: str = ""
    total: int = 0
    done: int = 0
    pid: int = 0


Observer = Callable[[Event], object]


class ProgressBar:
    """An observer for `run_all`: a bar, and a line for whatever the user should know. Use it as a context.

    Args:
        quiet: nothing at all, but for notes and runs that came to nothing.
        file: where to write, stderr by default.
        names: id -> what to call a run in the bar, where its id would be long.
        auto: a widget where this runs in a notebook.

    >>> from rnnvg import bench
    >>> with bench.ProgressBar(quiet=True) as bar:
    ...     bar(bench.Event("plan", total=2))
    """

    def __init__(
        self,
        quiet: bool = False,
        file: TextIO | None = None,
        names: Mapping[str, str] | None = None,
        auto: bool = False,
    ) -> None:
        self.quiet, self.file, self.names, self.auto = quiet, file or sys.stderr, names or {}, auto
        self.bar: tqdm | None = None
        self.done = 0
        # Run -> fraction done, what to show of it, and when it last showed that it is alive.
        self.running: dict[str, tuple[float, str, float]] = {}

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bar is not None:
            self.bar.close()

    def __call__(self, event: Event) -> None:
        if event.kind == "plan":
            self.done = event.done
            if self.bar is not None:  # runs that follow others
                self.bar.total = event.total
                self._show()
                return
            # tqdm shows nothing where `disable` is None and the file is not a terminal.
            kind, shown = _kind(self.auto)
            self.bar = kind(
                total=event.total,
                initial=event.done,
                bar_format=_FORMAT,
                file=self.file,
                disable=True if self.quiet else False if shown else None,
                dynamic_ncols=True,
            )
        elif event.kind in ("note", "left"):
            self.running.pop(event.run, None)
            self._say(event.text)
        elif event.kind == "done":
            self.running.pop(event.run, None)
            self.done += 1
            if event.status != "ok":
                self._say(f"{event.run}: {event.status}. {event.text}")
        elif event.kind == "again":
            self.running.pop(event.run, None)
            self._say(f"{event.run}: its worker process died; the run is tried again.")
        elif event.kind != "beat":
            # The hash at the end of an id says nothing to a reader.
            name = self.names.get(event.run) or event.run.rpartition("-")[0]
            share = event.step / max(1, event.steps)
            self.running[event.run] = (share, f"{name} {share:.0%}", time.monotonic())
        self._show()

    def _say(self, text: str) -> None:
        tqdm.write(text, file=self.file)

    def _show(self) -> None:
        if self.bar is None or self.bar.disable:
            return
        self.bar.n = self.done + sum(fraction for fraction, *_ in self.running.values())
        self.bar.set_description_str(f"{self.done}/{self.bar.total} runs ", refresh=False)
        self.bar.set_postfix_str(", ".join(map(self._label, self.running.values())), refresh=False)
        self.bar.refresh()

    @staticmethod
    def _label(running: tuple[float, str, float]) -> str:
        silent = time.monotonic() - running[2]
        return running[1] + (f" (silent for {silent:.0f} s)" if silent > SILENT else "")


def _kind(auto: bool) -> tuple[type[tqdm], bool]:
    """The class of the bar, and whether it is a notebook's widget, which needs no terminal."""
    if not auto:
        return tqdm, False
    from tqdm.auto import tqdm as found
    from tqdm.notebook import tqdm_notebook

    return found, issubclass(found, tqdm_notebook)
