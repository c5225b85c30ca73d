"""The report's first screen in plain text, for a terminal or a pipe: no colours, no letters that an encoding may lack."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pandas as pd

from rnnvg.report import tables
from rnnvg.report.results import Results
from rnnvg.report.sections import finding

_PLAIN = str.maketrans({"∞": "inf", "–": "-", "\u00a0": "", "“": '"', "”": '"', "·": "*", "′": "'"})


def summary(source: str | Path | Results, width: int = 100) -> str:
    """The finding in a sentence, then its table, and what went wrong, for a terminal: at most `width` characters wide.

    Raises:
        InputError: `source` is a directory without results.
    """
    results = tables.results_of(source)
    rows = finding.frame(results)
    parts = [textwrap.fill(plain(" ".join(finding.sentences(rows))), width)]
    for table in finding.tables(rows):
        parts += ["", as_text(table.frame, width), "", textwrap.fill(plain(table.caption), width)]
    broken = results.runs[results.runs["status"] != "ok"]
    if len(broken):
        parts += ["", *(_sentence(f"{run.id} {run.status}: {run.reason}", width) for run in broken.itertuples())]
    return "\n".join(parts)


def _sentence(text: str, width: int) -> str:
    """Wrapped, what goes on below indented; an id stays whole."""
    return textwrap.fill(plain(text), width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


def plain(text: str) -> str:
    """Text without letters that a terminal's encoding may lack."""
    return text.translate(_PLAIN)


def as_text(frame: pd.DataFrame, width: int = 100) -> str:
    """A table in ASCII, left-aligned, at most `width` characters wide; cells that do not fit go on below."""
    if frame.empty:
        return "(no rows)"
    columns = [[str(cell).translate(_PLAIN) for cell in (name, *frame[name])] for name in frame]
    widths = _widths(columns, width)
    lines = []
    for number, cells in enumerate(zip(*columns, strict=True)):
        wrapped = [_wrap(cell, room) or [""] for cell, room in zip(cells, widths, strict=True)]
        for line in range(max(map(len, wrapped))):
            parts = [cell[line] if line < len(cell) else "" for cell in wrapped]
            lines.append("  ".join(part.ljust(room) for part, room in zip(parts, widths, strict=True)).rstrip())
        if number == 0:
            lines.append("  ".join("-" * room for room in widths))
    return "\n".join(lines)


def _widths(columns: list[list[str]], width: int) -> list[int]:
    """Column widths that add to at most `width` with their gaps: that column gives way first which costs fewest lines."""
    widths = [max(map(len, column)) for column in columns]
    least = [max(len(word) for cell in column for word in (cell.split(" ") or [""])) for column in columns]
    while sum(widths) > width - 2 * (len(widths) - 1):
        can = [place for place, each in enumerate(widths) if each > least[place]]
        if not can:  # not even word by word: words are cut
            widest = max(widths)
            if widest == 1:
                break
            widths[widths.index(widest)] -= 1
            continue
        costs = {place: (_lines(columns[place], widths[place] - 1), -widths[place]) for place in can}
        widths[min(costs, key=lambda place: costs[place])] -= 1
    return widths


def _lines(cells: list[str], width: int) -> int:
    return sum(len(_wrap(cell, width)) for cell in cells)


def _wrap(cell: str, width: int) -> list[str]:
    return textwrap.wrap(cell, width, break_on_hyphens=False)
