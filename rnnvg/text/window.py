"""A few consecutive words of a file of any size, for a model that already has its vocabulary."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn

from rnnvg import text as texts
from rnnvg.errors import InputError, check_int, check_name
from rnnvg.text.pieces import read_pieces
from rnnvg.text.tokens import TOKENS
from rnnvg.text.vocabulary import Vocabulary

# Words read before a window, so that the model arrives with a state.
BEFORE = 1000


def read_window(path: str | Path, tokens: str, start: int, n_words: int) -> tuple[list[str], list[str]]:
    """The words `start` to `start + n_words` of a UTF-8 file (fewer where it ends), and up to 1000 words before them.

    The file is read no further than that.

    Args:
        path: the file.
        tokens: "words" or "spaces".
        start: the first word of the window, counted from 0.
        n_words: words of the window, at least 2.

    Raises:
        InputError: the file cannot be read, is binary or not UTF-8, or has fewer than two words from `start` on.
    """
    cut = TOKENS[check_name("tokens", tokens, TOKENS)]
    start = check_int("start", start, least=0)
    n_words = check_int("words", n_words, least=2)
    if not Path(path).is_file():
        what = "is a directory" if Path(path).is_dir() else "is not there"
        raise InputError(f"The text {str(path)!r} {what}; pass a UTF-8 text file.")
    each = (word for piece in read_pieces(Path(path)) for word in cut(piece))
    skipped = max(0, start - BEFORE)
    words = list(islice(each, skipped, start + n_words))
    before, window = words[: start - skipped], words[start - skipped :]
    if len(window) < 2:
        _refuse(path, cut, start)
    return before, window


def named_window(name: str, start: int, n_words: int, **settings: Any) -> tuple[list[str], list[str]]:
    """As `read_window`, from the test part of a text that has a name: "shakespeare", "torchtext:WikiText2" and the like.

    Args:
        settings: of a text that is generated.

    Raises:
        InputError: no such text, or fewer than two words from `start` on.
    """
    start = check_int("start", start, least=0)
    n_words = check_int("words", n_words, least=2)
    corpus = texts.load(name, vocabulary=None, **settings)
    ids = corpus.test[max(0, start - BEFORE) : start + n_words]
    words = corpus.vocabulary.decode(ids.tolist())
    kept = min(start, BEFORE)
    if len(words) < kept + 2:
        _refuse_start(f"The test part of {name!r}", len(corpus.test), start)
    return words[:kept], words[kept:]


def has_name(text: str) -> bool:
    """Whether a text is one of those that `texts.load` knows by name, and not a path."""
    return text in texts.NAMES or text.startswith("torchtext:")


def encode_window(vocabulary: Vocabulary, words: list[str], source: str) -> list[int]:
    """The ids of a window's words.

    Raises:
        InputError: none of them is among the vocabulary's, or one is not and there is no `<unk>`.
    """
    if not any(word in vocabulary for word in words):
        raise InputError(
            f"None of the {len(words)} words of {source} is among the {len(vocabulary)} that the model knows; "
            "pass a text in the language that it was trained on."
        )
    return vocabulary.encode(words).tolist()


def _refuse(path: str | Path, cut: Callable[[str], list[str]], start: int) -> NoReturn:
    total = sum(1 for piece in read_pieces(Path(path)) for _ in cut(piece))
    if not total:
        raise InputError(f"The text {str(path)!r} is empty: it holds no words; pass a file with text in it.")
    if total == 1:
        raise InputError(
            f"The text {str(path)!r} holds 1 word; pass one with at least 2, one to read and one to predict."
        )
    _refuse_start(f"The text {str(path)!r}", total, start)


def _refuse_start(what: str, total: int, start: int) -> NoReturn:
    raise InputError(
        f"{what} holds {total} words, and the window begins at word {start}; pass a start of at most {total - 2}."
    )
