"""What commands write: results to stdout, everything else to stderr, colours only where they are wanted."""

from __future__ import annotations

import json
import math
import os
import shutil
import sys
from collections.abc import Mapping
from typing import Any

import click

WIDTH_IN_A_PIPE = 100


def colour() -> bool | None:
    """False where NO_COLOR says so (no-color.org: set, and not empty); None: click decides, colours on a terminal."""
    return False if os.environ.get("NO_COLOR") else None


def note(text: str) -> None:
    """A line for the user, on stderr."""
    click.echo(text, err=True, color=colour())


def width() -> int:
    """How wide tables may be: the terminal's width; 100 characters in a pipe."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else WIDTH_IN_A_PIPE


def result(value: Any) -> None:
    """A result on stdout: text as it is, everything else as JSON."""
    click.echo(value if isinstance(value, str) else json.dumps(plain(value), indent=2, allow_nan=False))


def plain(value: Any) -> Any:
    """`value` as JSON knows it: numpy's numbers as Python's, and None for nan and the infinities."""
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, (str, int, float, bool)) else str(value)


def rows(frame: Any) -> list[dict[str, Any]]:
    """A DataFrame as a list of JSON objects, one a row."""
    return [plain(row) for row in frame.to_dict("records")]


def silent(text: str) -> None:
    """Says nothing, in the place of `note`."""
