"""torchtext's objects as corpora, vocabularies and tokenizers, taken by what they offer: 0.6.0's and 0.18.0's alike.

Nothing is downloaded: a named dataset's files are placed by hand under its root. Only a named dataset imports torchtext.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from rnnvg.errors import InputError, bounded, check_name
from rnnvg.text.corpus import SPLITS, Corpus, OpenIds, build_corpus
from rnnvg.text.pieces import by_position
from rnnvg.text.tokens import END_OF_LINE
from rnnvg.text.vocabulary import Vocabulary

PREFIX = "torchtext:"
# Dataset -> its files, and the folders under its root in which torchtext looks for them.
DATASETS = {
    "WikiText2": ("wiki.{}.tokens", ("wikitext-2/wikitext-2", "wikitext-2", "datasets/WikiText2/wikitext-2", "")),
    "WikiText103": (
        "wiki.{}.tokens",
        ("wikitext-103/wikitext-103", "wikitext-103", "datasets/WikiText103/wikitext-103", ""),
    ),
    "PennTreebank": ("ptb.{}.txt", ("penn-treebank", "datasets/PennTreebank", "")),
}
NEWEST_LEGACY = (3, 12)  # torch 2.3 and torchtext 0.18.0 have no wheels for a newer Python
MOST_LINES = 10_000_000  # of an iterator: an endless one is stopped here


def from_torchtext(
    source: Any, *, vocabulary: Any = None, minimum_count: int = 1, name: str = "torchtext"
) -> Corpus | Vocabulary | Callable[[str], list[str]]:
    """What an object of torchtext is here.

    Args:
        source: a vocabulary, or a Field that has one (gives a Vocabulary with its ids); a tokenizer (gives the function
            from text to tokens), or a Field without a vocabulary (its `preprocess`); a dataset of one long text, a
            BPTTIterator, an iterable of lines, or (train, valid, test) of them (gives a Corpus; one alone is split by
            position into 90, 5 and 5 %).
        vocabulary: of a corpus: how many words to keep, None for the Field's own or all, or a vocabulary.
        minimum_count: of a corpus: words seen less often in train are left out.
        name: of a corpus: what to call it.

    Raises:
        InputError: it is none of these, a split is empty, or there are two splits.

    >>> import collections, types
    >>> import rnnvg
    >>> old = types.SimpleNamespace(itos=["<unk>", "a", "b"], stoi={"<unk>": 0, "a": 1, "b": 2})
    >>> len(rnnvg.text.from_torchtext(old))
    3
    """
    if _is_vocabulary(source):
        return Vocabulary.of(source)
    if _is_field(source):
        return Vocabulary.of(source.vocab) if hasattr(source, "vocab") else source.preprocess
    parts = list(source) if isinstance(source, list | tuple) else [source]
    if all(_is_text(part) for part in parts) and len(parts) in (1, 3):
        return _corpus(parts, vocabulary, minimum_count, name)
    if callable(source):
        return cast(Callable[[str], list[str]], source)
    found = f"{len(parts)} splits" if isinstance(source, list | tuple) else type(source).__name__
    raise InputError(
        f"`source` is {found}; pass torchtext's vocabulary, Field, tokenizer, dataset or BPTTIterator, "
        "or train, valid and test of the last two."
    )


def load_torchtext(text: str, *, vocabulary: Any, minimum_count: int) -> Corpus:
    """The corpus of "torchtext:NAME@ROOT", read by torchtext itself from files that lie under ROOT (default `.data`).

    Raises:
        InputError: no such dataset, its files are not there, or torchtext cannot be imported: with the extra that fits.
    """
    name, _, root = text.removeprefix(PREFIX).partition("@")
    check_name("text", name, DATASETS)
    files = _find(name, Path(root or ".data"))
    import_torchtext()
    # 0.18.0 has parts that are there only once they are imported.
    datasets = importlib.import_module("torchtext.datasets")
    if hasattr(datasets, "LanguageModelingDataset"):
        field = importlib.import_module("torchtext.data").Field()
        read: list[Any] = [getattr(datasets, name)(str(file), field) for file in files]
    else:
        cut = importlib.import_module("torchtext.data.utils").get_tokenizer(None)
        read = [_Lines(file, cut) for file in files]
    return _corpus(read, vocabulary, minimum_count, text)


def import_torchtext() -> Any:
    """Imports torchtext, whichever version is installed.

    Raises:
        InputError: it is not installed, or does not load beside this torch; names the extra that fits.
    """
    try:
        return importlib.import_module("torchtext")
    except ModuleNotFoundError as error:
        raise InputError(
            f"torchtext is not installed ({error}); get it with: pip install 'rnnvg[torchtext]'."
        ) from error
    except (OSError, ImportError, AttributeError) as error:
        python = ".".join(map(str, sys.version_info[:2]))
        legacy = (
            "or, beside torch 2.3, 'rnnvg[torchtext-legacy]'"
            if sys.version_info[:2] <= NEWEST_LEGACY
            else f"('rnnvg[torchtext-legacy]' has nothing for Python {python})"
        )
        raise InputError(
            f"torchtext {_version('torchtext')} does not load beside torch {_version('torch')} ({type(error).__name__}); "
            f"get one that does with: pip install 'rnnvg[torchtext]' {legacy}."
        ) from error


class _Lines:
    """The tokens of a file's lines, each line ended by `<eos>`."""

    def __init__(self, path: Path, cut: Callable[[str], list[str]]) -> None:
        self.path, self.cut = path, cut

    def __iter__(self) -> Any:
        with self.path.open(encoding="utf-8") as file:
            for line in file:
                yield [*self.cut(line), END_OF_LINE]


def _find(name: str, root: Path) -> list[Path]:
    pattern, places = DATASETS[name]
    for place in places:
        files = [root / place / pattern.format(split) for split in SPLITS]
        if all(file.is_file() for file in files):
            return files
    wanted = [pattern.format(split) for split in SPLITS]
    raise InputError(
        f"The dataset {name!r} is not under {str(root)!r}; put {wanted[0]}, {wanted[1]} and {wanted[2]} into "
        f"{str(root / places[0])!r}, or pass its root."
    )


def _is_vocabulary(source: Any) -> bool:
    return callable(getattr(source, "get_itos", None)) or isinstance(getattr(source, "itos", None), list | tuple)


def _is_field(source: Any) -> bool:
    return callable(getattr(source, "preprocess", None)) and callable(getattr(source, "build_vocab", None))


def _is_iterator(source: Any) -> bool:
    # A dataset of 0.6.0 answers None to every name: having the attribute says nothing.
    return isinstance(getattr(source, "bptt_len", None), int)


def _is_dataset(source: Any) -> bool:
    return isinstance(getattr(source, "examples", None), list)


def _is_text(source: Any) -> bool:
    if _is_iterator(source) or _is_dataset(source):
        return True
    return isinstance(source, Iterable) and not isinstance(source, str | bytes | dict) and not callable(source)


def _corpus(parts: Sequence[Any], vocabulary: Any, minimum_count: int, name: str) -> Corpus:
    datasets = [part.dataset if _is_iterator(part) else part for part in parts]
    if vocabulary is None:
        fields = getattr(datasets[0], "fields", None)
        field = fields.get("text") if isinstance(fields, dict) else None
        vocabulary = getattr(field, "vocab", None)
    seen = OpenIds()
    ids = [seen.encode(_pieces(dataset)) for dataset in datasets]
    for split, found in zip(SPLITS, ids, strict=False):
        if not len(found):
            raise InputError(
                f"The {split} text of {name!r} is empty: it holds no words; pass a dataset with text in it."
            )
    splits: dict[str, np.ndarray] = dict(zip(SPLITS, ids, strict=True)) if len(ids) == 3 else by_position(ids[0])
    provenance = {"source": name, "tokens": "spaces", "torchtext": _version("torchtext")}
    return build_corpus(name, splits, seen, vocabulary=vocabulary, minimum_count=minimum_count, provenance=provenance)


def _pieces(dataset: Any) -> Iterable[list[str]]:
    """Lists of tokens: one a text of 0.6.0, one a line of 0.18.0."""
    if _is_dataset(dataset):
        yield from (list(example.text) for example in dataset.examples)
        return
    for line in bounded("source", dataset, MOST_LINES):
        yield [*line.split(), END_OF_LINE] if isinstance(line, str) else list(line)


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package).split("+")[0]
    except importlib.metadata.PackageNotFoundError:
        return "of no known version"
