"""write(): a directory of results becomes a report that opens anywhere."""

from __future__ import annotations

import sys
from pathlib import Path


def write(directory: str | Path, quiet: bool = True) -> Path:
    """Renders the report of a results directory; nothing is trained or measured.

    Writes report.html (one file, nothing else needed), figures/<name>.svg and .png, tables/<name>.csv, each in one move:
    a reader sees the old file or the new one. The same results give the same bytes.

    Args:
        directory: what a comparison or a benchmark wrote.
        quiet: say nothing; otherwise one line on stderr with the report's path.

    Returns:
        The path of report.html.

    Raises:
        InputError: there is no such directory, it holds no results, or it cannot be written.
    """
    from rnnvg.bench.files import disk_faults_named, write_whole
    from rnnvg.report import comparison, pairs, tables
    from rnnvg.report.benchmark import with_benchmarks
    from rnnvg.report.functional import with_memory
    from rnnvg.report.page import render
    from rnnvg.report.results import read

    results = read(directory)
    page = with_benchmarks(with_memory(comparison.page(results), results, directory), results, directory)
    frames = {
        "horizons": tables.horizon_table(results),
        "scores": tables.score_table(results),
        "settings": tables.settings_table(results),
        "paired": pairs.table(results).drop(columns="spread"),
    }
    folder = Path(directory)
    with disk_faults_named(folder):
        for name in ("figures", "tables"):
            (folder / name).mkdir(exist_ok=True)
        for section in page.sections:
            if section.picture is not None:
                write_whole(folder / "figures" / f"{section.picture.name}.svg", section.picture.svg)
                write_whole(folder / "figures" / f"{section.picture.name}.png", section.picture.png)
        for name, frame in frames.items():
            write_whole(folder / "tables" / f"{name}.csv", frame.to_csv(index=False, lineterminator="\n"))
        write_whole(folder / "report.html", render(page))
    if not quiet:
        print(f"Report: {folder / 'report.html'}", file=sys.stderr)
    return folder / "report.html"
