"""write(): a directory of results becomes a report that opens anywhere."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rnnvg.report.page import Page
    from rnnvg.report.part import Part
    from rnnvg.report.results import Results

TITLE = "How far back does the learning signal reach?"
LEAD = (
    "A recurrent network learns from the gradient of its loss, which travels back through the time steps and shrinks, "
    "or grows, by a factor at every one; where it has vanished, nothing that happened earlier can be learned from. "
    "Here its magnitude is measured at every distance on held-out sequences, before and after training."
)


def write(directory: str | Path | Results, quiet: bool = True, parts: Sequence[Part] | None = None) -> Path:
    """Renders the report of a results directory; nothing is trained or measured.

    Writes report.html (one file, nothing else needed), figures/<name>.svg and .png, tables/<name>.csv, each in one move:
    a reader sees the old file or the new one. The same results give the same bytes.

    Args:
        directory: what a comparison or a benchmark wrote, or what `rnnvg.report.results.read` gave of it.
        quiet: say nothing; otherwise one line on stderr with the report's path.
        parts: the sections in their order; None: `rnnvg.report.sections.COMPARISON`.

    Returns:
        The path of report.html.

    Raises:
        InputError: there is no such directory, it holds no results, it cannot be written, or a file
            that rnnvg did not write stands where one of these belongs: nothing is then written.

    >>> import tempfile
    >>> from rnnvg import InputError, report
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     try:
    ...         report.write(folder)
    ...     except InputError as error:
    ...         print("holds no results" in str(error))
    True
    """
    from rnnvg.errors import InputError
    from rnnvg.report import tables
    from rnnvg.report.page import save
    from rnnvg.report.sections import horizons

    results = tables.results_of(directory)
    if results.directory is None:
        raise InputError("`directory` holds results that were never in files. Pass the path of a results directory.")
    frames = {
        "tables/horizons.csv": tables.horizon_table(results),
        "tables/scores.csv": tables.score_table(results),
        "tables/settings.csv": tables.settings_table(results),
        "tables/paired.csv": horizons.pairs(horizons.frame(results)).drop(columns="spread"),
    }
    # Behind the first two its columns are the problems, which come and go.
    marks = {"tables/settings.csv": re.compile(rb"\Agroup,setting,[^\n]*\ntask,")}
    path = save(page(results, parts), results.directory, "report.html", frames, marks)
    if not quiet:
        print(f"Report: {path}", file=sys.stderr)
    return path


def page(results: Results, parts: Sequence[Part] | None = None) -> Page:
    """The whole report of a directory of results: every part that the results hold something for."""
    from rnnvg.errors import bounded
    from rnnvg.report import style
    from rnnvg.report.page import Page
    from rnnvg.report.sections import COMPARISON
    from rnnvg.report.wording import count

    grids = () if results.plan is None else results.plan.grids
    chosen = list(bounded("parts", parts or COMPARISON))  # counted before the first is drawn
    first, *rest = [section for part in chosen if (section := part.section(results)) is not None]
    return Page(
        title="; ".join(grid.title for grid in grids if grid.title) or TITLE,
        lead=" ".join([*(grid.about for grid in grids if grid.about), LEAD]),
        first=first,
        sections=rest,
        chips={network: look[0] for network, look in style.looks(results).items()},
        names=results.problems,
        footer=f"Written by rnnvg from {count(len(results.runs), 'run')}. Figures and tables lie beside this page.",
    )
