"""Text from a file, or from a directory with train, valid and test files as Penn Treebank and WikiText come.

A file is read in pieces cut at white space, so that a large one never stands in memory as a whole.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from rnnvg.errors import InputError, check_name
from rnnvg.text.corpus import Corpus, OpenIds, build_corpus
from rnnvg.text.mapped import load_mapped
from rnnvg.text.pieces import by_position, read_pieces
from rnnvg.text.tokens import TOKENS

# Files of so many bytes and more are encoded to the disk, and mapped from there.
MAPPED_FROM = 1 << 25
# How published corpora name their files, the first whose train file is there; with the tokens that they come in.
CONVENTIONS = (
    ("ptb.{}.txt", "spaces"),
    ("wiki.{}.tokens", "spaces"),
    ("wiki.{}.raw", "words"),
    ("{}.txt", "words"),
    ("{}.tokens", "spaces"),
    ("{}", "words"),
)
_SPLIT_NAMES = {"train": ("train",), "valid": ("valid", "validation", "dev", "val"), "test": ("test",)}


def encode_file(path: Path, cut: Callable[[str], list[str]], seen: OpenIds) -> tuple[np.ndarray, str]:
    """The open ids of a file's tokens, and the sha256 of its bytes.

    Raises:
        InputError: as `read_pieces`, or there is no token in the file.
    """
    digest = hashlib.sha256()
    ids = seen.encode(cut(piece) for piece in read_pieces(path, digest))
    if not len(ids):
        raise InputError(f"The text {str(path)!r} is empty: it holds no words; pass a file with text in it.")
    return ids, digest.hexdigest()


def find_splits(directory: Path) -> tuple[dict[str, Path], str]:
    """The train, valid and test files of a directory, and the name of the tokens that they come in.

    Raises:
        InputError: one of the three is missing.
    """
    for pattern, tokens in CONVENTIONS:
        found = {}
        for split, names in _SPLIT_NAMES.items():
            paths = [directory / pattern.format(name) for name in names]
            found[split] = next((path for path in paths if path.is_file()), None)
        if found["train"] is None:
            continue
        for split, path in found.items():
            if path is None:
                raise InputError(
                    f"The directory {str(directory)!r} has {found['train'].name!r} but no {pattern.format(split)!r}; "
                    "put the three splits side by side."
                )
        return found, tokens
    known = ", ".join(pattern.format("train") for pattern, _ in CONVENTIONS[:4])
    raise InputError(f"The directory {str(directory)!r} has no train file; name it as one of: {known}.")


def load_files(path: Path, *, vocabulary: object, minimum_count: int, tokens: str | None) -> Corpus:
    """A corpus from a file, split by position into 90, 5 and 5 %, or from a directory with a file for each split.

    Args:
        path: the file or directory.
        vocabulary: how many words to keep, None for all, or a vocabulary.
        minimum_count: words seen less often in train are left out.
        tokens: "words", "spaces", or None: as the directory's file names tell, else "words".

    Raises:
        InputError: a file is missing, unreadable, empty, binary or not UTF-8.
    """
    if tokens is not None:
        check_name("tokens", tokens, TOKENS)
    if path.is_dir():
        files, published = find_splits(path)
    else:
        files, published = {"all": path}, "words"
    tokens = tokens or published
    if sum(file.stat().st_size for file in files.values()) >= MAPPED_FROM:
        return load_mapped(path, files, vocabulary=vocabulary, minimum_count=minimum_count, tokens=tokens)
    seen = OpenIds()
    encoded = {split: encode_file(file, TOKENS[tokens], seen) for split, file in files.items()}
    splits = {split: ids for split, (ids, _) in encoded.items()}
    if "all" in splits:
        splits |= by_position(splits["all"])
    provenance = {
        "source": str(path),
        "tokens": tokens,
        "files": {split: {"name": file.name, "sha256": encoded[split][1]} for split, file in files.items()},
    }
    return build_corpus(
        path.resolve().name, splits, seen, vocabulary=vocabulary, minimum_count=minimum_count, provenance=provenance
    )
