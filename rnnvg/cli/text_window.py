"""The window of a text that a trained language model is to read: the options that name it, and the reading."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rnnvg.bench import defaults
from rnnvg.cli import options, output
from rnnvg.errors import InputError

if TYPE_CHECKING:
    from rnnvg.bench.trained import LanguageModel

MOST_WORDS = 500  # as many as `rnnvg.report.influence_page` shows
model = click.option(
    "--weights",
    "--model",
    "model",
    metavar="RUN",
    type=click.Path(path_type=Path),
    required=True,
    help="The directory of a run of next-word, or its weights file; --model is the same.",
)
window = options.together(
    model,
    click.option(
        "--text",
        metavar="FILE|NAME",
        type=options.TEXT,
        required=True,
        callback=options.with_root,
        help="The UTF-8 text to read, or shakespeare, agreement, torchtext:WikiText2: of those the test part.",
    ),
    options.root,
    click.option("--words", type=options.Whole(2), default=120, help="Words to read, at most 500."),
    click.option("--start", type=options.Whole(0), default=0, help="The first of them; words before it are read too."),
    click.option(
        "--tokens",
        type=options.Name(options.TOKENS),
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


def read(run: Path, text: str, tokens: str | None, start: int, words: int, device: str, quiet: bool) -> Window:
    """The window that the options name; the model is brought to the device.

    Raises:
        InputError: no such run or text, or none of its words is known to the model.
    """
    from rnnvg.bench import trained
    from rnnvg.text.window import encode_window, has_name, named_window, read_window

    if words > MOST_WORDS:
        raise InputError(f"`--words` must be a whole number from 2 to {MOST_WORDS}; got {words}.")
    on = defaults.training_device(device, output.silent if quiet else output.note)
    language_model = trained.language_model(run)
    language_model.model.to(on)
    if has_name(text):
        # A generated text in the form that the run was trained on; another form is another language.
        own = language_model.task if text == language_model.task.get("text") else {}
        settings = {name: own[name] for name in ("distance", "tail") if text == "agreement" and name in own}
        before, shown = named_window(text, start, words, **settings)
    else:
        before, shown = read_window(text, tokens or language_model.vocabulary.tokens or "words", start, words)
    ids = encode_window(language_model.vocabulary, shown, repr(text))
    if not quiet:
        output.note(f"Reading {len(shown)} words of {text} ...")
    source = text if has_name(text) else Path(text).name
    return Window(language_model, shown, ids, language_model.vocabulary.encode(before).tolist(), source)
