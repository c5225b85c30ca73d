"""What commands write: results to stdout, everything else to stderr, colours only where they are wanted."""

from __future__ import annotations

import json
import os
import shutil
import sys
from types import TracebackType
from typing import TYPE_CHECKING, Any

import click

from rnnvg.missing import finite

if TYPE_CHECKING:
    from tqdm import tqdm

WIDTH_IN_A_PIPE = 100


def keep(context: click.Context, option: click.Parameter, value: Any) -> None:
    """Keeps an option for `kept`: the callback of those that are no argument of their command."""
    context.meta[f"{__name__}.{option.name}"] = value


def kept(option: str) -> Any:
    """What such an option of the command that runs was given; None outside a command."""
    context = click.get_current_context(silent=True)
    return None if context is None else context.meta.get(f"{__name__}.{option}")


def quiet() -> bool:
    """Whether the command that runs was called with --quiet."""
    return bool(kept("quiet"))


def as_json() -> bool:
    """Whether the command that runs was called with --json."""
    return bool(kept("as_json"))


def colour() -> bool | None:
    """False where NO_COLOR says so (no-color.org: set, and not empty); None: click decides, colours on a terminal."""
    return False if os.environ.get("NO_COLOR") else None


def note(text: str) -> None:
    """A line for the user, on stderr."""
    click.echo(text, err=True, color=colour())


def tell(text: str) -> None:
    """A line for the user, on stderr, unless the command was called with --quiet."""
    if not quiet():
        note(text)


def width() -> int:
    """How wide tables may be: COLUMNS where the environment has it, else the terminal's width, and 100 in a pipe."""
    wished = os.environ.get("COLUMNS", "")
    if sys.stdout.isatty() or (wished.isdecimal() and int(wished) > 0):
        return shutil.get_terminal_size().columns
    return WIDTH_IN_A_PIPE


def result(value: Any) -> None:
    """A result on stdout: text as it is, everything else as JSON."""
    click.echo(value if isinstance(value, str) else json.dumps(finite(value), indent=2, allow_nan=False, default=str))


def gpu_line(computed: dict[str, Any]) -> list[str]:
    """A line that says which GPU computed what stands above it; none of the CPU."""
    return [] if computed["device"] == "cpu" else [f"Computed on {computed['gpu']}."]


def rows(frame: Any) -> list[dict[str, Any]]:
    """A DataFrame as a list of JSON objects, one a row."""
    return [finite(row) for row in frame.to_dict("records")]


class StepBar:
    """A progress bar, called as on_progress(done, of, what); use it as a context. On a terminal alone, and not with --quiet.

    `what` is shown behind the bar: a number as the loss, a name as it is, None not at all.
    """

    def __init__(self, unit: str = "step") -> None:
        self.unit = unit
        self.bar: tqdm | None = None

    def __enter__(self) -> StepBar:
        return self

    def __call__(self, done: int, of: int, what: float | str | None = None) -> None:
        if self.bar is None:
            from tqdm import tqdm

            # tqdm shows nothing where `disable` is None and stderr is not a terminal.
            self.bar = tqdm(total=of, unit=self.unit, disable=quiet() or None, dynamic_ncols=True)
        if self.bar.disable:
            return
        if what is not None:
            self.bar.set_postfix_str(what if isinstance(what, str) else f"loss {what:.3g}", refresh=False)
        self.bar.update(done - self.bar.n)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bar is not None:
            self.bar.close()
