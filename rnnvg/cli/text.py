"""rnnvg text: corpora as the models read them, and what language models make of them."""

from __future__ import annotations

from typing import Any

import click

from rnnvg.cli import options, output, text_planted, text_statistics, text_window
from rnnvg.cli.groups import HelpfulGroup


@click.group(cls=HelpfulGroup)
def command() -> None:
    """Read a corpus, or show which earlier words a prediction leans on.

    \b
    rnnvg text corpora data/ptb                      what a text holds, in words
    rnnvg text statistics data/ptb                   how far its words depend
    rnnvg text influence --weights RUN --text FILE   a page to point at
    rnnvg text truncation --weights RUN --text FILE  vanished, or cut off?
    rnnvg text planted                               how far back cells remember
    """


command.add_command(text_window.influence)
command.add_command(text_window.truncation)
command.add_command(text_statistics.statistics)
command.add_command(text_planted.planted)


@command.command()
@click.argument("text", metavar="NAME|FILE|DIR", type=options.TEXT, callback=options.with_root)
@options.root
@click.option("--vocabulary", type=options.whole(2), default=3000, help="How many words to keep, the commonest.")
@options.tokens
@options.as_json
def corpora(text: str, vocabulary: int, tokens: str | None) -> None:
    """Show what NAME|FILE|DIR holds: words, how many are known, and the perplexity of word frequencies alone.

    A large file is encoded once, to $RNNVG_CACHE or ~/.cache/rnnvg, and mapped from there.

    \b
    rnnvg text corpora shakespeare
    rnnvg text corpora torchtext:WikiText2 --root data
    """
    from rnnvg.tasks import make
    from rnnvg.tasks.windows import counts

    # As `rnnvg train` reads it; agreement's vocabulary is its own.
    task: Any = make("next-word", text=text, vocabulary=vocabulary, tokens=tokens, bptt=1)
    corpus, known = task.corpus, len(task.vocabulary)
    splits = {}
    for split in ("train", "valid", "test"):
        word_counts = counts(corpus.split(split), known)
        unknown = 0 if task.vocabulary.unknown is None else int(word_counts[task.vocabulary.unknown])
        splits[split] = {"words": int(word_counts.sum()), "unknown": unknown}
    facts = {
        "text": text,
        "vocabulary": known,
        "splits": splits,
        "unigram_perplexity": task.baseline,
        "provenance": dict(corpus.provenance),
    }
    if output.as_json():
        output.result(facts)
        return
    lines = [f"{corpus.name}: {known:,} different words are known.", ""]
    for split, each in splits.items():
        lines.append(f"{split:<6} {each['words']:>12,} words, {each['unknown'] / each['words']:.1%} of them unknown")
    lines += ["", task.baseline_text]
    digests = {split: each["sha256"] for split, each in corpus.provenance.get("files", {}).items()}
    lines += [f"sha256 of {split}: {digest}" for split, digest in digests.items()]
    output.result("\n".join(lines))
