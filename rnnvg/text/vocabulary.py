"""The words that a model knows, their ids, and the one id that stands for all the others."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from rnnvg.errors import InputError, bounded, check_int
from rnnvg.files import check_regular, write_ours
from rnnvg.text.tokens import UNKNOWN

MOST_WORDS = 10_000_000  # of an iterator: an endless one is stopped here
_SCHEMA = 1
_MARK = re.compile(rb'\A\s*\{\s*"schema":\s*\d+,\s*"tokens":')


class Vocabulary:
    """Words by id and ids by word.

    Args:
        words: the words in the order of their ids, all different. `<unk>`, wherever it stands, takes every other word.
        tokens: the name in rnnvg.text.tokens.TOKENS of the rule that cuts text into such words; None where unknown.

    Raises:
        InputError: fewer than two words, or one of them twice.

    >>> vocabulary = Vocabulary(["<unk>", "to", "be"])
    >>> vocabulary.encode(["to", "be", "or"]).tolist()
    [1, 2, 0]
    """

    def __init__(self, words: Iterable[str], tokens: str | None = None) -> None:
        self.words, self.tokens = tuple(bounded("words", words, MOST_WORDS)), tokens
        self._ids = {word: index for index, word in enumerate(self.words)}
        if len(self.words) < 2:
            raise InputError(f"`vocabulary` needs at least two words; got {len(self.words)}.")
        if len(self._ids) < len(self.words):
            twice = next(word for index, word in enumerate(self.words) if self._ids[word] != index)
            raise InputError(f"`vocabulary` holds {twice!r} twice; pass every word once.")
        self.unknown = self._ids.get(UNKNOWN)

    @classmethod
    def build(cls, counts: Mapping[str, int], *, size: int | None = None, minimum_count: int = 1) -> Vocabulary:
        """The commonest words, `<unk>` first, then by falling count; ties in alphabetical order.

        Args:
            counts: how often each word was seen.
            size: how many words to keep, `<unk>` among them; None keeps all.
            minimum_count: words seen less often are left out.

        Raises:
            InputError: `size` is below 2, `minimum_count` below 1, or no word is left.

        >>> Vocabulary.build({"be": 2, "or": 1, "to": 2}, size=3).words
        ('<unk>', 'be', 'to')
        """
        most = None if size is None else check_int("vocabulary", size, least=2)
        least = check_int("minimum_count", minimum_count, least=1)
        kept = [(-count, word) for word, count in counts.items() if count >= least and word != UNKNOWN]
        if not kept:
            raise InputError(f"`minimum_count` of {least} leaves no word in the vocabulary; pass a smaller one.")
        ranked = [word for _, word in sorted(kept)]
        return cls([UNKNOWN, *ranked[: None if most is None else most - 1]])

    @classmethod
    def of(cls, source: object) -> Vocabulary:
        """The vocabulary that `source` stands for, every word with the id it has there.

        Args:
            source: a Vocabulary, a list of words, or a vocabulary of torchtext (anything with `get_itos()` or `itos`).

        Raises:
            InputError: it is none of these.
        """
        if isinstance(source, Vocabulary):
            return source
        listing = getattr(source, "get_itos", None)
        listed = listing() if callable(listing) else getattr(source, "itos", source)
        if isinstance(listed, list | tuple) and all(isinstance(word, str) for word in listed):
            return cls(listed)
        raise InputError(
            f"`vocabulary` must be a size, a list of words or a torchtext vocabulary; got {type(source).__name__}."
        )

    def __len__(self) -> int:
        return len(self.words)

    def __contains__(self, word: object) -> bool:
        return word in self._ids

    def encode(self, tokens: Sequence[str]) -> np.ndarray:
        """The ids of `tokens`, int32.

        Raises:
            InputError: a token is not in a vocabulary that has no `<unk>`.
        """
        if self.unknown is None:
            missing = next((token for token in tokens if token not in self._ids), None)
            if missing is not None:
                raise InputError(
                    f"`vocabulary` has neither {missing!r} nor {UNKNOWN!r} to stand for it; add one of them."
                )
        unknown = self.unknown
        return np.fromiter((self._ids.get(token, unknown) for token in tokens), dtype=np.int32, count=len(tokens))

    def decode(self, ids: Iterable[int]) -> list[str]:
        """The words of `ids`."""
        return [self.words[index] for index in bounded("ids", ids, MOST_WORDS)]

    def save(self, path: str | Path) -> None:
        """Writes the words as JSON; the file appears whole or not at all.

        Raises:
            InputError: a file that `save` did not write is there, or it cannot be written.
        """
        write_ours(path, self.to_json(), mark=_MARK)

    def to_json(self) -> str:
        """What `save` writes."""
        return json.dumps({"schema": _SCHEMA, "tokens": self.tokens, "words": self.words}, ensure_ascii=False) + "\n"

    @classmethod
    def load(cls, path: str | Path) -> Vocabulary:
        """Reads what `save` wrote.

        Raises:
            InputError: the file is missing or is not a vocabulary.
        """
        try:
            if Path(path).exists():
                check_regular(path)  # a pipe may never end
            document = json.loads(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise InputError(f"The vocabulary {str(path)!r} cannot be read: {error.strerror}.") from error
        except RecursionError:
            raise InputError(f"The vocabulary {str(path)!r} is not JSON: it is nested too deeply.") from None
        except ValueError as error:
            raise InputError(f"The vocabulary {str(path)!r} is not JSON: {error}.") from error
        words = document.get("words") if isinstance(document, dict) and document.get("schema") == _SCHEMA else None
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise InputError(
                f"{str(path)!r} is not a vocabulary that rnnvg wrote; pass one that `Vocabulary.save` wrote."
            )
        tokens = document.get("tokens")
        return cls(words, tokens if isinstance(tokens, str) else None)
