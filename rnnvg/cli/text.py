"""rnnvg text: corpora as the models read them, and which earlier words a prediction leans on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from rnnvg.cli import options, output
from rnnvg.cli.lazy import HelpfulGroup
from rnnvg.errors import InputError

TOKENS = ("words", "spaces")


@click.group(cls=HelpfulGroup)
def command() -> None:
    """Read a corpus, or show which earlier words a prediction leans on.

    \b
    rnnvg text corpora data/ptb                     what a text holds, in words
    rnnvg text influence --model RUN --text FILE    a page to point at
    """


@command.command()
@click.argument("text", metavar="NAME|FILE|DIR")
@click.option("--vocabulary", type=options.Whole(2), default=3000, help="How many words to keep, the commonest.")
@click.option(
    "--tokens", type=options.Name(TOKENS), help="How files are cut: words or spaces.  [default: as they come]"
)
@options.as_json
def corpora(text: str, vocabulary: int, tokens: str | None, as_json: bool) -> None:
    """Say what NAME|FILE|DIR holds: words, how many are known, and the price of word frequencies alone.

    A large file is encoded once, to $RNNVG_CACHE or ~/.cache/rnnvg, and mapped from there.
    """
    from rnnvg.tasks import make
    from rnnvg.tasks.windows import counts

    # As `rnnvg train` reads it; agreement's vocabulary is its own.
    task: Any = make("next-word", text=text, vocabulary=vocabulary, tokens=tokens, bptt=1)
    corpus, known = task.corpus, len(task.vocabulary)
    splits = {}
    for split in ("train", "valid", "test"):
        found = counts(corpus.split(split), known)
        unknown = 0 if task.vocabulary.unknown is None else int(found[task.vocabulary.unknown])
        splits[split] = {"words": int(found.sum()), "unknown": unknown}
    facts = {
        "text": text,
        "vocabulary": known,
        "splits": splits,
        "unigram_perplexity": task.baseline,
        "provenance": dict(corpus.provenance),
    }
    if as_json:
        output.result(facts)
        return
    lines = [f"{corpus.name}: {known:,} different words are known.", ""]
    for split, each in splits.items():
        lines.append(f"{split:<6} {each['words']:>12,} words, {each['unknown'] / each['words']:.1%} of them unknown")
    lines += ["", task.baseline_text]
    digests = {split: each["sha256"] for split, each in corpus.provenance.get("files", {}).items()}
    lines += [f"sha256 of {split}: {digest}" for split, digest in digests.items()]
    output.result("\n".join(lines))


@command.command()
@click.option(
    "--model",
    metavar="RUN",
    type=click.Path(path_type=Path),
    required=True,
    help="A run of next-word, or its weights file.",
)
@click.option("--text", metavar="FILE", type=click.Path(path_type=Path), required=True, help="The UTF-8 text to read.")
@click.option("--words", type=options.Whole(2), default=120, help="Words to show, at most 500.")
@click.option("--start", type=options.Whole(0), default=0, help="The first of them; words before it are read too.")
@click.option(
    "--tokens", type=options.Name(TOKENS), help="How text is cut: words or spaces.  [default: as the run's was]"
)
@options.seed
@options.out("runs/influence")
@options.quiet
@options.as_json
def influence(
    model: Path,
    text: Path,
    words: int,
    start: int,
    tokens: str | None,
    seed: int,
    out: str,
    quiet: bool,
    as_json: bool,
) -> None:
    """Show which earlier words each prediction leans on.

    Writes a page of the text to point at (influence.html, one file, no network), the same as a figure and as CSV, and
    what the model loses when context beyond k words is dropped or shuffled.

    \b
    rnnvg train --task next-word --cell lstm
    rnnvg text influence --model runs/train --text essay.txt --start 200
    """
    import torch

    from rnnvg.bench import trained
    from rnnvg.functional import context_loss
    from rnnvg.functional import influence as influence_of
    from rnnvg.report.influence_page import MOST_WORDS, ReadText, write_influence
    from rnnvg.report.style import CELL_LABELS
    from rnnvg.text.window import encode_window, read_window

    if words > MOST_WORDS:
        raise InputError(f"`--words` must be a whole number from 2 to {MOST_WORDS}; got {words}.")
    held = trained.language_model(model)
    before, shown = read_window(text, tokens or held.vocabulary.tokens or "words", start, words)
    ids = encode_window(held.vocabulary, shown, repr(str(text)))
    earlier = held.vocabulary.encode(before).tolist()
    if not quiet:
        output.note(f"Reading {len(shown)} words of {text} ...")
    found = influence_of(held.model, ids, before=earlier)
    context = context_loss(held.model, ids, before=earlier, generator=torch.Generator().manual_seed(seed))
    read = ReadText(
        words=shown,
        known=[word in held.vocabulary for word in shown],
        guesses=held.vocabulary.decode(found.first_choice.tolist()),
        model=f"{CELL_LABELS[held.model.spec['cell']]} {held.name}",
        source=text.name,
    )
    files = write_influence(out, read, found, context)
    output.result(_as_json(files, read, found, context) if as_json else _as_text(files, found, context))


def _as_json(files: Any, read: Any, found: Any, context: Any) -> dict[str, Any]:
    return {
        "files": {name: str(path) for name, path in files.items()},
        "words": read.words,
        "loss": found.loss,
        "curve": output.rows(found.curve()),
        "context": output.rows(context.to_frame()),
    }


def _as_text(files: Any, found: Any, context: Any) -> str:
    from rnnvg.report import terminal, wording

    curve = found.curve()
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
