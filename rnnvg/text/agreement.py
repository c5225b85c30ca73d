"""A generated language in which a verb is decided by the noun planted k words before it, and its exact entropy rate.

A sentence of distance k is k + 2 words long: a noun, k - 2 words in between, a comma, the noun's verb, a stop:

    dog near the forest once , barks .        (k = 6: `barks` stands six words after `dog`)

Nouns are uniform and drawn afresh for every sentence. The first word in between is uniform; each of the next is one of
four that may follow the last, equally likely. These words know nothing of the noun, so that only it decides the verb,
and the comma tells when the verb is due, so that remembering is all that is asked for.

Entropy rate. Sentences are independent, their ends are seen (each ends with the only stop), and a sentence is a
one-to-one function of its distance, noun and words in between. With k drawn from p, S nouns, F words, b successors,

    H(sentence) = H(p) + ln S + E[(ln F + (k - 3) ln b) 1(k > 2)]      nats,
    rate        = H(sentence) / E[k + 2]                               nats a word,

the mean over a long text of the least possible cross-entropy given all the words before (renewal-reward theorem).
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from rnnvg.errors import InputError, check_float, check_int
from rnnvg.files import write_ours
from rnnvg.text.corpus import Corpus
from rnnvg.text.lexicon import BETWEEN, NOUNS, VERBS
from rnnvg.text.tokens import UNKNOWN
from rnnvg.text.vocabulary import Vocabulary

WORDS = (UNKNOWN, ",", ".", *NOUNS, *VERBS, *BETWEEN)
SUCCESSORS = 4
DISTANCE = 10
N_WORDS = 200_000
_COMMA, _STOP = WORDS.index(","), WORDS.index(".")
_FIRST_NOUN = WORDS.index(NOUNS[0])
_FIRST_VERB = WORDS.index(VERBS[0])
_FIRST_BETWEEN = WORDS.index(BETWEEN[0])


class Agreement:
    """The language, for one distance or for several.

    Args:
        distance: how many words after its noun a verb stands, at least 2: a number, or a list to draw from.
        tail: distance k is drawn with a probability that goes as k ** -tail; 0: all are equally likely.

    Raises:
        InputError: no distance, one twice, or one below 2; a `tail` that is negative.

    >>> Agreement(2).entropy_rate == math.log(40) / 4
    True
    """

    def __init__(self, distance: int | Sequence[int] = DISTANCE, tail: float = 0.0) -> None:
        several = list(distance) if isinstance(distance, list | tuple) else [distance]
        self.distances = np.array([check_int("distance", each, least=2) for each in several])
        if not several or len(set(several)) < len(several):
            raise InputError(
                f"`distance` must be a whole number of at least 2, or a list of different ones; got {distance!r}."
            )
        falling = self.distances.astype(float) ** -check_tail(tail)
        self.probabilities = falling / falling.sum()
        self.vocabulary = Vocabulary(WORDS, tokens="words")
        # Word i may be followed by words order[i .. i + 3]: every word has four different successors and four
        # predecessors, so that all are equally common. The order is a part of the language, never drawn again.
        order = torch.randperm(len(BETWEEN), generator=torch.Generator().manual_seed(0)).numpy()
        reach = np.arange(len(BETWEEN))[:, None] + np.arange(SUCCESSORS)
        self.successors = order[reach % len(BETWEEN)]

    @property
    def entropy_rate(self) -> float:
        """Nats a word that no model can do better than, in the mean over a long text."""
        p, k = self.probabilities, self.distances
        drawn = -(p * np.log(p)).sum() + math.log(len(NOUNS))
        between = np.where(k > 2, math.log(len(BETWEEN)) + (k - 3) * math.log(SUCCESSORS), 0.0)
        return float((drawn + (p * between).sum()) / (p * (k + 2)).sum())

    @property
    def decided(self) -> np.ndarray:
        """The ids of the words that a planted word decides, the verbs."""
        return np.arange(_FIRST_VERB, _FIRST_VERB + len(VERBS))

    def sample(self, n_words: int, generator: torch.Generator) -> np.ndarray:
        """The first `n_words` words of a text of fresh sentences, int32 [N]."""
        n_words = check_int("n_words", n_words, least=1)
        most = n_words // int(self.distances.min() + 2) + 1
        draws = torch.rand(most, generator=generator, dtype=torch.float64).numpy()
        # The last entry is left out: rounded down from 1, it could send a draw past the end.
        k = self.distances[np.searchsorted(self.probabilities.cumsum()[:-1], draws, side="right")]
        k = k[: int(np.searchsorted((k + 2).cumsum(), n_words)) + 1]
        nouns = torch.randint(len(NOUNS), (len(k),), generator=generator).tolist()
        starts = torch.randint(len(BETWEEN), (len(k),), generator=generator).tolist()
        turns = iter(torch.randint(SUCCESSORS, (int(k.sum()),), generator=generator).tolist())
        successors = self.successors.tolist()
        text: list[int] = []
        for distance, noun, word in zip(k.tolist(), nouns, starts, strict=True):
            text.append(_FIRST_NOUN + noun)
            for _ in range(distance - 2):
                text.append(_FIRST_BETWEEN + word)
                word = successors[word][next(turns)]
            text += [_COMMA, _FIRST_VERB + noun, _STOP]
        return np.array(text[:n_words], dtype=np.int32)

    def write(self, path: str | Path, n_words: int, seed: int = 0) -> None:
        """Writes `n_words` words as a text file, a sentence a line.

        Raises:
            InputError: another file than such a text is there, or it cannot be written.
        """
        ids = self.sample(n_words, torch.Generator().manual_seed(seed))
        text = " ".join(self.vocabulary.decode(ids)).replace(". ", ".\n")
        # A text has no room for a mark: of ours is what is written word for word as this is.
        write_ours(path, text + "\n", mark=re.compile(rb"\A" + re.escape((text + "\n").encode()[:4096]) + rb"(?s:.*)"))


def check_tail(tail: object) -> float:
    """An exponent of at least 0, as a float."""
    return 0.0 if tail == 0 else check_float("tail", tail, above=0)


def heavy_tailed(longest: int, n: int = 12) -> list[int]:
    """Up to `n` different distances from 2 to `longest`, evenly spread in the logarithm.

    Drawn as `Agreement` draws them they have a power law's tail, as natural text has (Lin and Tegmark 2017): a density of
    1/k where `tail` is 0, of k ** -(1 + tail) else.

    >>> heavy_tailed(200, 8)
    [2, 4, 7, 14, 28, 54, 104, 200]
    """
    longest = check_int("longest", longest, least=2)
    n = check_int("n", n, least=1)
    return sorted({round(distance) for distance in np.geomspace(2, longest, n).tolist()})


def check_vocabulary(vocabulary: object, minimum_count: int) -> None:
    """Refuses what would leave out words of the language: its entropy rate is that of all of them.

    Raises:
        InputError: `vocabulary` is neither None nor a number that has room, or `minimum_count` is not 1.
    """
    if vocabulary is not None and not isinstance(vocabulary, int):
        raise InputError(f"`vocabulary` is fixed for the text 'agreement': its own {len(WORDS)} words; leave it out.")
    if isinstance(vocabulary, int) and vocabulary < len(WORDS):
        raise InputError(
            f"`vocabulary` of {vocabulary!r} has no room for the {len(WORDS)} words of the text 'agreement'; "
            f"pass at least {len(WORDS)}."
        )
    if minimum_count != 1:
        raise InputError(
            f"`minimum_count` of {minimum_count!r} would leave out words of the text 'agreement'; leave it at 1."
        )


def load_agreement(*, distance: int | Sequence[int] = DISTANCE, n_words: int = N_WORDS, tail: float = 0.0) -> Corpus:
    """A text of `n_words` words for training and a tenth as many for validation and for testing, always the same.

    Raises:
        InputError: a distance below 2, or a held-out text shorter than the longest sentence.
    """
    language = Agreement(distance, tail)
    held_out = check_int("n_words", n_words, least=1) // 10
    longest = int(language.distances.max()) + 2
    if held_out < longest:
        raise InputError(
            f"`n_words` of {n_words} leaves {held_out} words to test on, fewer than the longest sentence of {longest}; "
            f"pass at least {10 * longest}."
        )
    # A generator a split: a longer training text leaves the held-out ones as they are.
    splits = [
        language.sample(size, torch.Generator().manual_seed(seed))
        for seed, size in enumerate((n_words, held_out, held_out))
    ]
    return Corpus(
        "agreement",
        language.vocabulary,
        *splits,
        provenance={
            "source": "generated",
            "distance": language.distances.tolist(),
            "tail": float(tail),
            "n_words": n_words,
        },
        entropy_rate=language.entropy_rate,
        planted=tuple(language.distances.tolist()),
        decided=language.decided,
    )
