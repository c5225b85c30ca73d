"""A corpus by its name, or from a path."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rnnvg.errors import InputError, nearest

if TYPE_CHECKING:
    from rnnvg.text.corpus import Corpus

NAMES = ("agreement", "shakespeare")


def load(
    text: str | Path,
    *,
    vocabulary: Any = 3000,
    minimum_count: int = 1,
    tokens: str | None = None,
    distance: int | Sequence[int] | None = None,
    n_words: int | None = None,
    tail: float | None = None,
) -> Corpus:
    """A corpus by name, or from a file or directory.

    Args:
        text: "agreement", "shakespeare", a UTF-8 file (split by position into 90, 5 and 5 %), or a directory with train,
            valid and test files named as Penn Treebank's or WikiText's, or `train.txt` and so on; "torchtext:WikiText2@ROOT"
            is one of torchtext's datasets (WikiText2, WikiText103, PennTreebank) read by torchtext.
        vocabulary: how many words to keep, `<unk>` among them (None: all), or a vocabulary: a list of words, a
            `Vocabulary` or one of torchtext's. "agreement" has its own, and takes a number that leaves room for it.
        minimum_count: words seen less often in train are left out.
        tokens: "words" (lower case, and `. , ; : ! ?`) or "spaces" (as the text comes, `<eos>` at each line's end);
            None: "spaces" for files named as published corpora that come already split, else "words". Files only.
        distance: how many words after its noun a verb stands, a number or a list. "agreement" only; default 10.
        n_words: words to train on. "agreement" only; default 200,000.
        tail: of several distances k is drawn as often as k ** -tail. "agreement" only; default 0.

    Raises:
        InputError: no such text, a file that is empty, binary or not UTF-8, or a setting that the text does not have.

    >>> import rnnvg
    >>> corpus = rnnvg.text.load("agreement", distance=4, n_words=1000)
    >>> len(corpus.vocabulary)
    251
    """
    name = str(text)
    generated = {"distance": distance, "n_words": n_words, "tail": tail}
    given = {setting: value for setting, value in generated.items() if value is not None}
    if name == "agreement":
        from rnnvg.text.agreement import check_vocabulary, load_agreement

        _refuse_tokens(name, tokens)
        check_vocabulary(vocabulary, minimum_count)
        return load_agreement(**given)
    for setting in given:
        raise InputError(f"`{setting}` is a setting of the text 'agreement'; the text {name!r} does not have it.")
    if name.startswith("torchtext:"):
        from rnnvg.text.torch_text import load_torchtext

        _refuse_tokens(name, tokens)
        return load_torchtext(name, vocabulary=vocabulary, minimum_count=minimum_count)
    if name == "shakespeare":
        from rnnvg.text.shakespeare import load_shakespeare

        _refuse_tokens(name, tokens)
        return load_shakespeare(vocabulary=vocabulary, minimum_count=minimum_count)
    from rnnvg.text.files import load_files

    path = Path(text)
    if not name.strip():
        raise InputError(
            f"`text` is empty. Pass one of {', '.join(NAMES)}, or a file or directory; . is the current one."
        )
    if not _exists(path):
        guess = nearest(name, NAMES)
        hint = f"Did you mean {guess!r}? " if guess else ""
        raise InputError(f"`text` has no {name!r}. {hint}Pass one of {', '.join(NAMES)}, or a file or directory.")
    return load_files(path, vocabulary=vocabulary, minimum_count=minimum_count, tokens=tokens)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError as error:
        raise InputError(f"The text {str(path)!r} cannot be read: {error.strerror}.") from error


def _refuse_tokens(name: str, tokens: str | None) -> None:
    if tokens is not None:
        raise InputError(f"`tokens` is a setting of files; the text {name!r} has its own.")
