"""rnnvg text influence: which earlier words a prediction leans on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from rnnvg.cli import network, options, output, text_window


@click.command()
@text_window.window
@options.device
@options.seed
@options.out("runs/influence")
@options.quiet
@options.as_json
def influence(
    model: Path,
    text: str,
    words: int,
    start: int,
    tokens: str | None,
    device: str,
    seed: int,
    out: Path,
    quiet: bool,
    as_json: bool,
) -> None:
    """Show which earlier words each prediction leans on.

    Writes a page of the text to point at (influence.html, one file, no network), the same as a figure and as CSV, and
    what the model loses when context beyond k words is dropped or shuffled.

    \b
    rnnvg train --task next-word --cell lstm
    rnnvg text influence --weights runs/train --text essay.txt --start 200
    rnnvg text influence --weights runs/train --text shakespeare
    """
    import torch

    from rnnvg.functional import context_loss
    from rnnvg.functional import influence as influence_of
    from rnnvg.report.influence_page import ReadText, write_influence
    from rnnvg.report.style import cell_label

    window = text_window.read(model, text, tokens, start, words, device, quiet)
    language_model = window.language_model
    with network.computing(language_model.model) as computed:
        by_word = influence_of(language_model.model, window.ids, before=window.before)
        generator = torch.Generator().manual_seed(seed)
        context = context_loss(language_model.model, window.ids, before=window.before, generator=generator)
    read = ReadText(
        words=window.words,
        known=[word in language_model.vocabulary for word in window.words],
        guesses=language_model.vocabulary.decode(by_word.first_choice.tolist()),
        model=f"{cell_label(language_model.model.spec['cell'])} {language_model.name}",
        source=window.source,
    )
    files = write_influence(out, read, by_word, context)
    if as_json:
        output.result(computed | _as_json(files, read, by_word, context))
    else:
        output.result("\n".join([_as_text(files, by_word, context), *output.gpu_line(computed)]))


def _as_json(files: Any, read: Any, by_word: Any, context: Any) -> dict[str, Any]:
    return {
        "files": files,
        "words": read.words,
        "loss": by_word.loss,
        "curve": output.rows(by_word.curve()),
        "context": output.rows(context.to_frame()),
    }


def _as_text(files: Any, by_word: Any, context: Any) -> str:
    from rnnvg.report import terminal, wording

    curve = by_word.curve()
    last = {2, 5, 10, 20, 50, 100, 200, len(curve)}
    at = curve[curve["distance"].isin(last)]
    reach = [f"{wording.power(gain)} at {k}" for k, gain in zip(at["distance"], at["log10_gain"], strict=True)]
    table = context.to_frame()
    for column in ("loss", "increase"):
        table[column] = table[column].map(lambda value: f"{value:.3f}")
    return "\n".join(
        [
            f"Influence of earlier words, relative to the word right before: {wording.listed(reach) if reach else 'none'}.",
            "",
            "Loss with the context beyond k words dropped or shuffled, nats a word",
            terminal.as_text(table, output.width()),
            "",
            f"Page: {files['influence.html']}",
        ]
    )
