"""rnnvg report: a directory of results, rendered again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from rnnvg.cli import options, output


@click.command()
@click.argument("directory", metavar="DIR", type=options.FOLDER)
@click.option(
    "--functional",
    is_flag=True,
    help="First measure how far the trained networks of delayed-recall remember, at many delays; the report then shows that "
    "beside how far their gradient reaches.",
)
@options.quiet
@options.as_json
def command(directory: Path, functional: bool) -> None:
    """Render a directory of results again, without training.

    DIR is what `rnnvg compare` or `rnnvg train` wrote; it gets report.html, figures and tables.

    \b
    rnnvg report runs/compare
    rnnvg compare --tasks delayed-recall --out runs/recall
    rnnvg report runs/recall --functional
    """
    if functional:
        from rnnvg.bench.trained import remember

        remember(directory, tell=output.tell)
    output.tell("Drawing the figures ...")
    output.result(rendered(directory))


def rendered(directory: Path) -> str | dict[str, Any]:
    """Writes the report of a directory; its tables and its path, as text, or for --json.

    Raises:
        InputError: the directory does not exist, holds no results, or cannot be written.
    """
    from rnnvg import report
    from rnnvg.report import results, tables, terminal

    read = results.read(directory)
    path = report.write(read)
    if not output.as_json():
        return f"{terminal.summary(read, output.width())}\n\nReport: {path}"
    return {
        "directory": str(directory),
        "report": str(path),
        "horizons": output.rows(tables.horizon_table(read)),
        "scores": output.rows(tables.score_table(read)),
    }
