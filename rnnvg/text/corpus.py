"""A corpus: three splits of word ids, the vocabulary they are written in, and where they come from."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np

from rnnvg.errors import InputError, check_name
from rnnvg.text.vocabulary import Vocabulary

SPLITS = ("train", "valid", "test")


@dataclass(frozen=True)
class Corpus:
    """Text as word ids.

    Attributes:
        name: what it is called in tables.
        vocabulary: the words behind the ids.
        train, valid, test: int32 [N], not to be written to.
        provenance: where the text is from, JSON-able: source, sha256, how it was split and cut into tokens.
        entropy_rate: nats a word that no model can do better than, where the language is generated; else None.
        planted: how many words before the word that it decides a word is planted, where known; else None.
        decided: ids of the words that a planted word decides, where known; else None.
    """

    name: str
    vocabulary: Vocabulary
    train: np.ndarray
    valid: np.ndarray
    test: np.ndarray
    provenance: Mapping[str, Any] = field(default_factory=dict)
    entropy_rate: float | None = None
    planted: tuple[int, ...] | None = None
    decided: np.ndarray | None = None

    def __post_init__(self) -> None:
        for split in SPLITS:
            # Corpora are shared between tasks: a write through one would change the others.
            getattr(self, split).setflags(write=False)

    def split(self, name: str) -> np.ndarray:
        """The ids of one split, [N]."""
        return getattr(self, check_name("split", name, SPLITS))


class OpenIds(dict[str, int]):
    """Ids for every word that turns up, in order of appearance: a text is cut into tokens once, its words chosen later.

    >>> ids = OpenIds()
    >>> ids.encode([["to", "be"], ["or", "to"]]).tolist()
    [0, 1, 2, 0]
    """

    def __missing__(self, word: str) -> int:
        self[word] = index = len(self)
        return index

    def encode(self, pieces: Iterable[list[str]]) -> np.ndarray:
        """The ids of all pieces one after another, int32 [N]."""
        look = self.__getitem__
        ids = array("i")  # numbers alone: of millions of short pieces, an array each would be mostly its own head
        for piece in pieces:
            ids.extend(map(look, piece))
        return np.frombuffer(ids, dtype=np.int32) if ids else np.zeros(0, dtype=np.int32)


def listed_vocabulary(vocabulary: object, minimum_count: int) -> Vocabulary | None:
    """The vocabulary that lists its words; None where words are yet to be chosen, by number and count.

    Raises:
        InputError: `vocabulary` is neither, or `minimum_count` would choose among words that are listed.
    """
    if vocabulary is None or isinstance(vocabulary, int):
        return None
    listed = Vocabulary.of(vocabulary)
    if minimum_count != 1:
        raise InputError("`minimum_count` chooses words and `vocabulary` already lists them; pass one of the two.")
    return listed


def build_corpus(
    name: str,
    splits: Mapping[str, np.ndarray],
    seen: OpenIds,
    *,
    vocabulary: object,
    minimum_count: int,
    provenance: Mapping[str, Any],
) -> Corpus:
    """A corpus from splits in open ids: the vocabulary is taken from train alone, all other words become `<unk>`.

    Args:
        splits: open ids of "train", "valid" and "test".
        seen: the open ids.
        vocabulary: how many words to keep, None for all of them, or a vocabulary to use as it is.
        minimum_count: words seen less often in train are left out.
        provenance: kept with the corpus.
    """
    words = list(seen)
    if not len(splits["train"]):
        total = sum(len(splits[split]) for split in SPLITS)
        counted = "1 word" if total == 1 else f"{total} words"
        raise InputError(f"The text {name!r} holds {counted} and none to train on; pass a longer text.")
    chosen = listed_vocabulary(vocabulary, minimum_count)
    if chosen is None:
        counts = np.bincount(splits["train"], minlength=len(words))
        chosen = Vocabulary.build(
            {word: int(count) for word, count in zip(words, counts, strict=True) if count},
            size=cast("int | None", vocabulary),
            minimum_count=minimum_count,
        )
    table = chosen.encode(words)
    if chosen.tokens is None:
        chosen = Vocabulary(chosen.words, provenance.get("tokens"))
    return Corpus(name, chosen, *(table[splits[split]] for split in SPLITS), provenance=provenance)
