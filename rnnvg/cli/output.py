"""What commands write: results to stdout, everything else to stderr, colours only where they are wanted."""

from __future__ import annotations

import json
import os
import shutil
import sys
from typing import Any

import click

from rnnvg.missing import finite

WIDTH_IN_A_PIPE = 100


def colour() -> bool | None:
    """False where NO_COLOR says so (no-color.org: set, and not empty); None: click decides, colours on a terminal."""
    return False if os.environ.get("NO_COLOR") else None


def note(text: str) -> None:
    """A line for the user, on stderr."""
    click.echo(text, err=True, color=colour())


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


def silent(text: str) -> None:
    """Says nothing, in the place of `note`."""
