"""rnnvg text statistics: how far the words of a text depend on each other, and how far networks can be taught that."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rnnvg.cli import options, output
from rnnvg.errors import InputError

if TYPE_CHECKING:
    from rnnvg.report.text_figures import Reach


@click.command()
@click.argument("text", metavar="NAME|FILE|DIR", type=options.TEXT, callback=options.with_root)
@options.root
@click.option("--longest", type=options.whole(4), default=1000, help="The largest distance, words.")
@click.option("--words", type=options.whole(1000), default=2_000_000, help="Words of the training part to read.")
@click.option(
    "--common", type=options.whole(1), default=200, help="How many of the commonest words are counted one by one."
)
@options.tokens
@click.option(
    "--weights",
    "--model",
    "models",
    metavar="RUN",
    type=click.Path(path_type=Path),
    multiple=True,
    help="A run of next-word whose gradient curve is drawn beside; as often as needed.",
)
@options.seed
@options.out("runs/statistics")
@options.quiet
@options.as_json
def statistics(
    text: str, longest: int, words: int, common: int, tokens: str | None, models: tuple[Path, ...], seed: int, out: Path
) -> None:
    """Measure what there is to remember in NAME|FILE|DIR.

    Mutual information between two words against the distance between them, its power law, and beside it how far the
    gradient of trained networks reaches in the same text. Writes a figure (SVG and PNG) and CSV files.

    \b
    rnnvg text statistics shakespeare
    rnnvg text statistics shakespeare --weights runs/compare/runs/<id>
    """
    from rnnvg import text as texts
    from rnnvg.report import style, text_figures
    from rnnvg.text.statistics import mutual_information, power_law, spread_distances

    own = {} if text == "agreement" else {"tokens": tokens, "vocabulary": None}
    ids = texts.load(text, **own).train[:words]
    if len(ids) < 10 * longest:
        raise InputError(
            f"`--longest` of {longest} is too far for the {len(ids)} words of {text!r}; pass at most {len(ids) // 10}."
        )
    reaches = [_reach(path, text, tokens, seed) for path in models]
    output.tell(f"Counting pairs in {len(ids):,} words ...")
    information = mutual_information(ids, spread_distances(longest), most_words=common)
    law = power_law(information)
    tables = {"information": information}
    if reaches:
        tables["gradients"] = _gradients(reaches)
    with style.applied():
        figure = text_figures.draw_statistics(Path(text).name, information, law, reaches)
        files = text_figures.write(out, "statistics", figure, tables)
    facts = {
        "text": text,
        "words": len(ids),
        "information": output.rows(information),
        "power_law": None if law is None else vars(law),
        "gradients": {reach.name: output.rows(reach.curve) for reach in reaches},
        "files": files,
    }
    output.result(facts if output.as_json() else _as_text(information, law, reaches, files))


def _reach(path: Path, text: str, tokens: str | None, seed: int) -> Reach:
    from rnnvg import tasks
    from rnnvg.bench import trained
    from rnnvg.functional import reach
    from rnnvg.report.style import cell_label
    from rnnvg.report.text_figures import Reach

    language_model = trained.language_model(path)
    output.tell(f"Following the gradients of {language_model.name} ...")
    own, vocabulary = language_model.task, language_model.vocabulary
    settings: dict[str, Any] = {"bptt": own.get("bptt") or 35}
    if text != "agreement":
        settings |= {"tokens": tokens or own.get("tokens"), "vocabulary": vocabulary}
    elif own.get("text") == text:
        settings |= {name: own.get(name) for name in ("distance", "n_words")}
    task = tasks.make("next-word", text=text, **settings)
    cell = language_model.model.spec["cell"]
    return Reach(f"{cell_label(cell)} {language_model.name}", cell, reach(language_model.model, task, seed=seed))


def _gradients(reaches: list[Reach]) -> Any:
    import pandas as pd

    parts = [reach.curve.assign(network=reach.name, cell=reach.cell) for reach in reaches]
    columns = ["network", "cell", "distance", "log10_gain", "low", "high", "n"]
    return pd.concat(parts)[columns]


def _as_text(information: Any, law: Any, reaches: list[Reach], files: dict[str, Path]) -> str:
    from rnnvg.report import terminal, wording

    table = information[["distance", "information", "noise"]].copy()
    for column in ("information", "noise"):
        table[column] = table[column].map(lambda value: f"{value:.5f}")
    for reach in reaches:
        by_distance = dict(zip(reach.curve["distance"], reach.curve["log10_gain"], strict=True))
        table[reach.name] = [wording.power(by_distance[k]) if k in by_distance else "" for k in table["distance"]]
    conclusion = "Too few distances stand out of the noise for a power law." if law is None else str(law)
    return "\n".join(
        [
            "Mutual information (nats) between words at a distance (words)"
            + (", and gradient by the input relative to the word before" if reaches else ""),
            terminal.as_text(table, output.width()),
            "",
            conclusion,
            "",
            f"Figure: {files['statistics.svg']}",
        ]
    )
