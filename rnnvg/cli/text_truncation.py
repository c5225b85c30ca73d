"""rnnvg text truncation: gradient that vanished, and gradient that was cut off."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from rnnvg.cli import network, options, output, text_window

DEFAULT_BPTT = 35


@click.command()
@text_window.window
@click.option("--bptt", type=options.Whole(1), help="Words of a window of training.  [default: the run's own]")
@options.device
@options.out("runs/truncation")
@options.quiet
@options.as_json
def truncation(
    model: Path,
    text: str,
    words: int,
    start: int,
    tokens: str | None,
    bptt: int | None,
    device: str,
    out: Path,
    quiet: bool,
    as_json: bool,
) -> None:
    """Tell gradient that vanished from gradient that was cut off.

    Truncated backpropagation carries the state from window to window and not the gradient: a word before the window has
    none at all. Measures the gradient through the whole text and within windows; writes a figure (SVG and PNG) and a CSV
    file with both at each distance.

    \b
    rnnvg train --task next-word --cell lstm
    rnnvg text truncation --weights runs/train --text essay.txt
    """
    from rnnvg.functional import truncation as truncation_of
    from rnnvg.report import style, text_figures

    window = text_window.read(model, text, tokens, start, words, device, quiet)
    language_model = window.language_model
    with network.computing(language_model.model) as computed:
        cut = truncation_of(
            language_model.model, window.ids, bptt or int(language_model.task.get("bptt") or DEFAULT_BPTT)
        )
    frame = cut.to_frame()
    with style.applied():
        figure = text_figures.draw_truncation(cut, language_model.model.spec["cell"])
        files = text_figures.write(out, "truncation", figure, {"truncation": frame})
    if as_json:
        facts = {"files": files, "bptt": cut.bptt}
        output.result({**computed, **facts, "curve": output.rows(frame)})
        return
    output.result("\n".join([_as_text(frame, cut.bptt, files), *output.gpu_line(computed)]))


def _as_text(frame: Any, bptt: int, files: dict[str, Path]) -> str:
    from rnnvg.report import terminal, wording

    at = {1, 2, 5, 10, 20, 50, 100, 200, bptt, bptt + 1, len(frame)}
    table = frame[frame["distance"].isin(at)].copy()
    for column in ("log10_whole", "log10_seen"):
        table[column] = table[column].map(lambda value: "" if value != value else wording.power(value))
    table["cut"] = table["cut"].map(lambda share: f"{share:.0%}")
    table.columns = ["distance", "whole text", f"windows of {bptt}", "cut off", "words"]
    return "\n".join(
        [
            "Gradient by earlier words, relative to the word right before the predicted one",
            terminal.as_text(table, output.width()),
            "",
            "Cut off: the share of predictions whose gradient is exactly zero there, because the word stands in an earlier",
            "window. Of the others the geometric mean is given; where there is none, training sees nothing at all.",
            "",
            f"Figure: {files['truncation.svg']}",
        ]
    )
