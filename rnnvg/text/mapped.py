"""Texts too large for memory: encoded once to a file of word ids, which is then mapped, beside the sha256 of the text.

A text is read three times: for its sha256, which says whether it has been encoded before; to number its words in order of
appearance; and, as numbers only, to give each its id in the vocabulary. What is held meanwhile is a piece and the words.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rnnvg.errors import InputError
from rnnvg.files import make_folder
from rnnvg.text.corpus import SPLITS, Corpus, OpenIds, listed_vocabulary
from rnnvg.text.pieces import CUTS, by_position, read_pieces
from rnnvg.text.tokens import TOKENS, UNKNOWN
from rnnvg.text.vocabulary import Vocabulary

_SCHEMA = 1
# Different words that are numbered, so that memory stays bounded. One that first appears when so many are known, in tens of
# millions of words of a language, is read as `<unk>`.
MOST_WORDS = 500_000
IDS, WORDS, MADE = "ids.i32", "vocabulary.json", "made.json"
_CHUNK = 1 << 20


def folder() -> Path:
    """Where encoded texts are kept: $RNNVG_CACHE, else rnnvg in $XDG_CACHE_HOME or ~/.cache."""
    chosen = os.environ.get("RNNVG_CACHE")
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rnnvg"


def load_mapped(
    path: Path, files: Mapping[str, Path], *, vocabulary: object, minimum_count: int, tokens: str
) -> Corpus:
    """A corpus whose splits are mapped from the disk; as `load_files` in everything else.

    Args:
        path: what was asked for.
        files: "train", "valid" and "test", or "all" for one file that is split by position.
        vocabulary, minimum_count: as in `load_files`.
        tokens: "words" or "spaces".

    Raises:
        InputError: as `load_files`, or the encoded text cannot be written.
    """
    listed = listed_vocabulary(vocabulary, minimum_count)
    digests = {split: _sha256(file) for split, file in files.items()}
    wanted = {
        "schema": _SCHEMA,
        "tokens": tokens,
        "files": digests,
        "vocabulary": vocabulary if listed is None else list(listed.words),
        "minimum_count": minimum_count,
    }
    key = hashlib.sha256(json.dumps(wanted, sort_keys=True).encode()).hexdigest()
    place = folder() / "texts" / key[:32]
    try:
        if not _whole(place):
            _encode(place, files, wanted, listed)
        made = json.loads((place / MADE).read_text(encoding="utf-8"))
        ids = np.memmap(place / IDS, dtype=np.int32, mode="r")
    except OSError as error:
        raise InputError(
            f"The text {str(path)!r} cannot be encoded to {str(folder())!r}: {error.strerror}. "
            "Set RNNVG_CACHE to a folder with room."
        ) from error
    splits: dict[str, np.ndarray] = {}
    start = 0
    for split, size in made["sizes"].items():
        splits[split] = ids[start : start + size]
        start += size
    if "all" in splits:
        splits = by_position(splits["all"])
    provenance = {
        "source": str(path),
        "tokens": tokens,
        "files": {split: {"name": file.name, "sha256": digests[split]} for split, file in files.items()},
        "encoded": str(place),
    }
    known = Vocabulary.load(place / WORDS)
    return Corpus(path.resolve().name, known, *(splits[split] for split in SPLITS), provenance=provenance)


def _whole(place: Path) -> bool:
    """Whether an encoded text is there as it was written."""
    if not (place / MADE).is_file() or not (place / WORDS).is_file() or not (place / IDS).is_file():
        return False
    try:
        sizes = json.loads((place / MADE).read_text(encoding="utf-8"))["sizes"]
        if set(sizes) not in ({"all"}, set(SPLITS)) or any(
            type(size) is not int or size < 0 for size in sizes.values()
        ):
            return False
        Vocabulary.load(place / WORDS)
        return (place / IDS).stat().st_size == 4 * sum(sizes.values())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):  # an InputError is a ValueError
        return False


def _encode(place: Path, files: Mapping[str, Path], wanted: Mapping[str, Any], listed: Vocabulary | None) -> None:
    make_folder(place.parent)
    part = Path(tempfile.mkdtemp(prefix=".part-", dir=place.parent))
    try:
        seen = _BoundedIds()
        with (part / IDS).open("wb") as out:
            sizes = {split: _number(file, wanted["tokens"], seen, out) for split, file in files.items()}
        words = list(seen)
        if listed is None:
            # Words of train alone, which stands first.
            n_train = sizes["train"] if "train" in sizes else int(sizes["all"] * CUTS[0])
            counts = _count(part / IDS, n_train, len(words) + 1)
            found = {word: int(count) for word, count in zip(words, counts, strict=False) if count}
            size, least = wanted["vocabulary"], wanted["minimum_count"]
            listed = Vocabulary.build(found, size=size, minimum_count=least)
        vocabulary = Vocabulary(listed.words, wanted["tokens"])
        _translate(part / IDS, vocabulary.encode([*words, UNKNOWN] if len(words) >= MOST_WORDS else words))
        vocabulary.save(part / WORDS)
        (part / MADE).write_text(json.dumps({**wanted, "sizes": sizes}), encoding="utf-8")
        if place.exists() and not _whole(place):
            _clear(place)
        try:
            part.rename(place)
        except OSError:
            # Another process was first with the same text.
            if not _whole(place):
                raise
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _clear(place: Path) -> None:
    """Deletes a damaged encoded text: its own three files, and the folder where nothing else is in it."""
    for name in (MADE, WORDS, IDS):
        (place / name).unlink(missing_ok=True)
    place.rmdir()


class _BoundedIds(OpenIds):
    """Ids in order of appearance for the first words, and one more that all later ones share."""

    def __missing__(self, word: str) -> int:
        return super().__missing__(word) if len(self) < MOST_WORDS else MOST_WORDS


def _number(file: Path, tokens: str, seen: OpenIds, out: Any) -> int:
    """Appends a file's open ids to `out`; how many they are."""
    cut, total = TOKENS[tokens], 0
    for piece in read_pieces(file):
        ids = seen.encode([cut(piece)])
        ids.tofile(out)
        total += len(ids)
    if not total:
        raise InputError(f"The text {str(file)!r} is empty: it holds no words; pass a file with text in it.")
    return total


def _count(path: Path, n: int, n_words: int) -> np.ndarray:
    """How often each open id is among the first `n` of a file."""
    counts = np.zeros(n_words, dtype=np.int64)
    with path.open("rb") as file:
        while n and len(ids := np.fromfile(file, dtype=np.int32, count=min(n, _CHUNK))):
            counts += np.bincount(ids, minlength=n_words)
            n -= len(ids)
    return counts


def _translate(path: Path, table: np.ndarray) -> None:
    """Puts table[id] in the place of every id of a file."""
    with path.open("r+b") as file:
        while len(ids := np.fromfile(file, dtype=np.int32, count=_CHUNK)):
            file.seek(-ids.nbytes, os.SEEK_CUR)
            table[ids].tofile(file)


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"The text {str(path)!r} cannot be read: {error.strerror}.") from error
