"""Where a prediction leans: a text whose every word shows how far back its gradient reaches, as one HTML file.

Words of the text are data: they are escaped in the markup, and the page's policy runs no script but its own.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure

from rnnvg.errors import InputError
from rnnvg.horizon import NATS_PER_DECADE
from rnnvg.report import style
from rnnvg.report.page import document, drawn
from rnnvg.report.picture import Picture
from rnnvg.text.tokens import UNKNOWN

if TYPE_CHECKING:
    from rnnvg.functional import ContextLoss, Influence

TITLE = "Where a prediction leans"
CAPTION = (
    "Left: influence of earlier words by their distance, relative to the word right before; every predicted word is a grey "
    "line. Right: what the model loses without, or with a shuffled, earlier context; below zero it predicts better without, "
    "as it may where a text is unlike the one it was trained on."
)
MOST_WORDS = 500  # the page holds a number for every pair of them
_COLUMNS = ("context (k words)", "dropped: loss", "increase", "words", "shuffled: loss", "increase", "words")


@dataclass(frozen=True)
class ReadText:
    """A window of a text as a model read it.

    Attributes:
        words: the T + 1 words as they stand in the text.
        known: which of them are among the model's words.
        guesses: [T] the model's first choice in the place of words 1 to T.
        model: what the model is, for the reader.
        source: where the text is from, for the reader.
    """

    words: Sequence[str]
    known: Sequence[bool]
    guesses: Sequence[str]
    model: str
    source: str


def write_influence(
    directory: str | Path, text: ReadText, influence: Influence, context: ContextLoss
) -> dict[str, Path]:
    """Writes influence.html, influence.csv, context.csv, influence.svg and influence.png, each in one move.

    Args:
        directory: made where missing.
        text, influence, context: the same words.

    Returns:
        The files by name.

    Raises:
        InputError: more than 500 words, or a directory that cannot be written.
    """
    from rnnvg.files import write_set

    if len(text.words) > MOST_WORDS:
        raise InputError(f"A page shows at most {MOST_WORDS} words; got {len(text.words)}. Pass fewer.")
    folder, drawing = Path(directory), picture(influence, context)
    contents = {
        "influence.svg": drawing.svg,
        "influence.png": drawing.png,
        "influence.csv": influence.to_frame(text.words).to_csv(index=False, lineterminator="\n"),
        "context.csv": context.to_frame().to_csv(index=False, lineterminator="\n"),
        "influence.html": render(text, influence, context, drawing),
    }
    write_set(folder, contents)
    return {name: folder / name for name in contents}


def picture(influence: Influence, context: ContextLoss) -> Picture:
    """`draw`'s figure, saved."""
    with style.applied():
        return Picture.of(draw(influence, context), "influence", CAPTION, _alt(influence))


def render(text: ReadText, influence: Influence, context: ContextLoss, drawing: Picture) -> str:
    """The page as one HTML document: no network, nothing outside it, one script of its own.

    Args:
        text, influence, context, drawing: of the same words.
    """
    from markupsafe import Markup

    data = _data(text, influence)
    return document(
        "influence.html",
        "influence.js",
        title=TITLE,
        finding=_finding(influence),
        lead=_lead(text, influence),
        words=[{"text": word, "known": known} for word, known in zip(text.words, text.known, strict=True)],
        first=data["first"],
        unknown=UNKNOWN,
        picture=drawn(drawing),
        caption=drawing.caption,
        columns=_COLUMNS,
        rows=_rows(context),
        footer=f"Model: {text.model}. Text: {text.source}.",
        data=Markup(_json(data)),
    )


def draw(influence: Influence, context: ContextLoss) -> Figure:
    """Draws influence against distance, and beside it the loss increase without the earlier context.

    Call it inside `style.applied()`.
    """
    figure, axes = style.panels(1, 2, height=2.9)
    influence.plot(axes[0, 0]).set_xlabel("distance back (words)")
    own = axes[0, 1]
    table = context.to_frame()
    looks = (("dropped", style.CELL_COLOURS["rnn"], "o"), ("shuffled", style.CELL_COLOURS["gru"], "s"))
    for how, colour, marker in looks:
        part = table[table["how"] == how]
        own.plot(part["context"], part["increase"], color=colour, marker=marker, label=how)
    own.axhline(0, color=style.MUTED, linewidth=0.8)
    own.set_xscale("log")
    own.set_xlabel("context that is kept (words)")
    own.set_ylabel("loss increase (nats a word)")
    own.legend()
    for ax in axes[0]:
        style.plain_numbers(ax.xaxis)
    return figure


def _data(text: ReadText, influence: Influence) -> dict[str, Any]:
    """What the script reads; the word with the widest reach is chosen first."""
    log10 = influence.log_norm / NATS_PER_DECADE
    rows: list[list[int | None]] = [[]]
    reach = [0]
    for s, row in enumerate(log10):
        near_first = row[s::-1] if s else row[:1]
        top = near_first.max()
        relative = near_first - top if np.isfinite(top) else near_first
        rows.append(_hundredths(relative.tolist()))
        reach.append(int((relative > -1).nonzero()[0].max(initial=-1)) + 1)
    mean = influence.curve()["log10_gain"].tolist()
    return {
        "words": list(text.words),
        "loss": ["", *(f"{loss:.2f}" for loss in influence.loss)],
        "guess": ["", *text.guesses],
        "influence": rows,
        "mean": _hundredths(mean),
        "unknown": UNKNOWN,
        "first": int(np.argmax(reach)),
    }


def _hundredths(values: list[float]) -> list[int | None]:
    return [round(100 * value) if math.isfinite(value) else None for value in values]


def _json(data: Any) -> str:
    """JSON that cannot end the element it stands in."""
    written = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    escapes = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
    return written.translate(str.maketrans(escapes))


def _finding(influence: Influence) -> str:
    curve = influence.curve()
    near = int(curve.loc[curve["log10_gain"] >= -1, "distance"].max())
    if near == curve["distance"].max():
        return f"Words up to {near} back have at least a tenth of the influence of the word right before."
    words = "the last word" if near == 1 else f"the last {near} words"
    return f"Beyond {words} the influence of a word is less than a tenth of that of the word right before."


def _lead(text: ReadText, influence: Influence) -> str:
    perplexity = math.exp(min(700.0, float(influence.loss.mean())))
    return (
        f"{text.model} reads {len(text.words)} words of {text.source} and predicts each from those before it, with a "
        f"perplexity of {perplexity:.3g}. Influence is the size of the gradient of a word's loss by the embedding of an "
        "earlier word: exact, one loss at a time."
    )


def _alt(influence: Influence) -> str:
    curve = influence.curve()
    last = curve.iloc[-1]
    return (
        f"Influence against distance: relative to the word right before, the geometric mean is 10 to the "
        f"{last['log10_gain']:.1f} at {int(last['distance'])} words. Beside it the loss increase without earlier context."
    )


def _rows(context: ContextLoss) -> list[list[str]]:
    rows: dict[int, list[str]] = {}
    for row in context.to_frame().to_dict("records"):
        cells = [f"{row['loss']:.3f}", f"{row['increase']:+.3f}", str(row["n"])]
        rows.setdefault(int(row["context"]), [str(row["context"])]).extend(cells)
    return [cells + [""] * (len(_COLUMNS) - len(cells)) for cells in rows.values()]
