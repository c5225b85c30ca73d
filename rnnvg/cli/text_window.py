"""rnnvg text influence and truncation: what a trained language model makes of a window of a text."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rnnvg.cli import network, options, output
from rnnvg.errors import InputError

if TYPE_CHECKING:
    from rnnvg.bench.trained import LanguageModel

MOST_WORDS = 500  # as many as `rnnvg.report.influence_page` shows
DEFAULT_BPTT = 35
_window = options.together(
    click.option(
        "--weights",
        "--model",
        "model",
        metavar="RUN",
        type=click.Path(path_type=Path),
        required=True,
        help="The directory of a run of next-word, or its weights file; --model is the same.",
    ),
    click.option(
        "--text",
        metavar="FILE|NAME",
        type=options.TEXT,
        required=True,
        callback=options.with_root,
        help="The UTF-8 text to read, or shakespeare, agreement, torchtext:WikiText2: of those the test part.",
    ),
    options.root,
    click.option("--words", type=options.whole(2), default=120, help="Words to read, at most 500."),
    click.option("--start", type=options.whole(0), default=0, help="The first of them; words before it are read too."),
    click.option(
        "--tokens",
        type=options.name(options.TOKENS),
        help="How a file is cut: words or spaces.  [default: as the run's was]",
    ),
)


@dataclass(frozen=True)
class Window:
    """What a model is to read.

    Attributes:
        language_model: the model with its vocabulary.
        words: as they stand in the text.
        ids: the same as the model knows them.
        before: ids of the words before, which set the state.
        source: where the text is from, for the reader.
    """

    language_model: LanguageModel
    words: list[str]
    ids: list[int]
    before: list[int]
    source: str


def _read(model: Path, text: str, tokens: str | None, start: int, words: int, device: str) -> Window:
    """The window that the options name; the model is brought to the device.

    Raises:
        InputError: no such run or text, or none of its words is known to the model.
    """
    from rnnvg.bench import trained
    from rnnvg.text.window import encode_window, has_name, named_window, read_window

    if words > MOST_WORDS:
        raise InputError(f"`--words` must be a whole number from 2 to {MOST_WORDS}; got {words}.")
    language_model = trained.language_model(model)
    language_model.model.to(device)
    if has_name(text):
        # A generated text in the form that the run was trained on; another form is another language.
        own = language_model.task if text == language_model.task.get("text") else {}
        settings = {name: own[name] for name in ("distance", "tail") if text == "agreement" and name in own}
        before, shown = named_window(text, start, words, **settings)
    else:
        before, shown = read_window(text, tokens or language_model.vocabulary.tokens or "words", start, words)
    ids = encode_window(language_model.vocabulary, shown, repr(text))
    output.tell(f"Reading {len(shown)} words of {text} ...")
    source = text if has_name(text) else Path(text).name
    return Window(language_model, shown, ids, language_model.vocabulary.encode(before).tolist(), source)


@click.command()
@_window
@options.device
@options.seed
@options.out("runs/influence")
@options.quiet
@options.as_json
def influence(seed: int, out: Path, **options_of_window: Any) -> None:
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

    window = _read(**options_of_window)
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
    if output.as_json():
        facts = {"files": files, "words": read.words, "loss": by_word.loss}
        tables = {"curve": output.rows(by_word.curve()), "context": output.rows(context.to_frame())}
        output.result({**computed, **facts, **tables})
        return
    output.result("\n".join([_influence_as_text(files, by_word, context), *output.gpu_line(computed)]))


def _influence_as_text(files: Any, by_word: Any, context: Any) -> str:
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


@click.command()
@_window
@click.option("--bptt", type=options.whole(1), help="Words of a window of training.  [default: the run's own]")
@options.device
@options.out("runs/truncation")
@options.quiet
@options.as_json
def truncation(bptt: int | None, out: Path, **options_of_window: Any) -> None:
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

    window = _read(**options_of_window)
    language_model = window.language_model
    with network.computing(language_model.model) as computed:
        cut = truncation_of(
            language_model.model, window.ids, bptt or int(language_model.task.get("bptt") or DEFAULT_BPTT)
        )
    frame = cut.to_frame()
    with style.applied():
        figure = text_figures.draw_truncation(cut, language_model.model.spec["cell"])
        files = text_figures.write(out, "truncation", figure, {"truncation": frame})
    if output.as_json():
        facts = {"files": files, "bptt": cut.bptt}
        output.result({**computed, **facts, "curve": output.rows(frame)})
        return
    output.result("\n".join([_truncation_as_text(frame, cut.bptt, files), *output.gpu_line(computed)]))


def _truncation_as_text(frame: Any, bptt: int, files: dict[str, Path]) -> str:
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
