"""Next-word prediction: at every step of a text, which word comes next (Mikolov et al. 2010).

The baseline is the unigram model: word frequencies of the training split with one added to every count, so that a word
never seen there still has a finite price. Perplexity is e to the mean cross-entropy in nats over the predicted words.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rnnvg import text as texts
from rnnvg.errors import InputError, check_int, check_name
from rnnvg.tasks import scoring, windows
from rnnvg.tasks.task import Batch
from rnnvg.tasks.worked import shown_steps, table
from rnnvg.text.agreement import DISTANCE, N_WORDS, check_tail
from rnnvg.text.corpus import SPLITS, Corpus
from rnnvg.text.tokens import END_OF_LINE, TOKENS
from rnnvg.text.vocabulary import Vocabulary

# Share of planted dependencies predicted that counts as solved.
SOLVED = 0.99
# Words of a window for gradient profiles, where four training sequences are shorter.
PROBE = 200
# Texts read side by side when scoring: few, because each starts without a past.
SCORED_STREAMS = 8
# Logits held at once when scoring.
SCORED_LOGITS = 4_000_000
# What ends a sentence: the end of a line where the text marks it, else a stop.
STOPS = (".", "!", "?")
BATCHING = ("continuous", "sentences")


class NextWord:
    """Inputs [T, B] word ids, targets [T, B] the ids of the words after them; every step is scored.

    Batches are drawn anywhere in train; `stream` reads a split on and on, for a state that is carried over. With batching
    "sentences" a batch holds whole sentences, each read from a zero state, in training and in scores.

    Attributes:
        text: name or path of the text; a Corpus made elsewhere is taken too, and used as it is.
        corpus: its splits.
        vocabulary: its words.

    Raises:
        InputError: a text that cannot be read or is shorter than one sequence, or a setting out of its range.
    """

    ABOUT: Mapping[str, str] = {
        "text": "'agreement' (generated), 'shakespeare', a UTF-8 file, or a directory with train, valid and test files",
        "vocabulary": "how many words to keep, the commonest ('agreement' has its own), or a list of words",
        "minimum_count": "words seen less often in train become <unk>",
        "tokens": "of files: 'words' (lower case, and . , ; : ! ?) or 'spaces' (text that comes already split)",
        "distance": "of 'agreement': how many words after its noun a verb stands, a number or a list (10)",
        "n_words": "of 'agreement': words to train on (200000)",
        "tail": "of 'agreement': distance k is drawn as often as k ** -tail; 0: all equally often (0)",
        "bptt": "words of a training sequence, at most so many of a sentence",
        "batching": "'continuous' (the text read on and on, the state carried) or 'sentences' (each by itself)",
    }

    name = "next-word"
    kind = "tokens"
    metric = "perplexity"
    better = "lower"
    probe_sources = 8

    def __init__(
        self,
        *,
        text: str | Path | Corpus = "agreement",
        vocabulary: Any = 3000,
        minimum_count: int = 1,
        tokens: str | None = None,
        distance: int | Sequence[int] | None = None,
        n_words: int | None = None,
        tail: float | None = None,
        bptt: int = 35,
        batching: str = "continuous",
    ) -> None:
        self.steps = check_int("bptt", bptt, least=1)
        self.batching = check_name("batching", batching, BATCHING)
        self.text = text.name if isinstance(text, Corpus) else str(text)
        if tokens is not None:
            check_name("tokens", tokens, TOKENS)
        if not isinstance(vocabulary, int | None):
            vocabulary = Vocabulary.of(vocabulary)
        if self.text == "agreement":
            distance = DISTANCE if distance is None else distance
            n_words = N_WORDS if n_words is None else n_words
            tail = 0.0 if tail is None else check_tail(tail)
        if isinstance(text, Corpus):
            self.corpus = text
        else:
            several = distance if isinstance(distance, list | tuple) or distance is None else [distance]
            load = _load_named if self.text in texts.NAMES else texts.load
            self.corpus = load(
                self.text,
                vocabulary=vocabulary,
                minimum_count=check_int("minimum_count", minimum_count, least=1),
                tokens=tokens,
                distance=None if several is None else tuple(check_int("distance", each, least=2) for each in several),
                n_words=None if n_words is None else check_int("n_words", n_words, least=1),
                tail=tail,
            )
        self.vocabulary = self.corpus.vocabulary
        self._settings = {
            "text": self.text,
            "vocabulary": list(vocabulary.words) if isinstance(vocabulary, Vocabulary) else vocabulary,
            "minimum_count": minimum_count,
            "tokens": tokens,
            "distance": list(distance) if isinstance(distance, tuple) else distance,
            "n_words": n_words,
            "tail": tail,
            "bptt": self.steps,
            "batching": self.batching,
        }
        self._check_length()
        self._check_known()
        self._ends = self._sentence_ends()
        self._bounds = self._cut(self.corpus.train) if self.batching == "sentences" else None
        self.baseline_loss = self.unigram_loss("test")

    def _check_length(self) -> None:
        sizes = {split: len(self.corpus.split(split)) for split in SPLITS}
        if sum(sizes.values()) <= self.steps:
            raise InputError(
                f"The text {self.text!r} holds {sum(sizes.values())} words, fewer than one sequence of {self.steps} and "
                "the word after it; pass a longer text or a smaller `bptt`."
            )
        for split, size in sizes.items():
            if size <= self.steps:
                raise InputError(
                    f"The text {self.text!r} has {size} words to {_USE[split]}, fewer than one sequence of {self.steps} "
                    "and the word after it; pass a longer text or a smaller `bptt`."
                )

    def _check_known(self) -> None:
        unknown = self.vocabulary.unknown
        for split in SPLITS:
            words = self.corpus.split(split)
            if unknown is not None and all((part == unknown).all() for part in windows.parts(words)):
                raise InputError(
                    f"The text {self.text!r} has no word to {_USE[split]} that is in the vocabulary of "
                    f"{self.n_inputs}; pass a larger `vocabulary`, or splits in the same language."
                )

    def _sentence_ends(self) -> np.ndarray:
        if self.batching == "continuous":
            return np.zeros(0, dtype=np.int32)
        marks = (END_OF_LINE,) if END_OF_LINE in self.vocabulary else STOPS
        known = [mark for mark in marks if mark in self.vocabulary]
        if not known:
            raise InputError(
                f"`batching` 'sentences' needs the ends of sentences, and neither {END_OF_LINE!r} nor a stop is among the "
                f"words of the text {self.text!r}; pass 'continuous'."
            )
        return self.vocabulary.encode(known)

    def _cut(self, ids: np.ndarray) -> np.ndarray:
        return windows.sentence_bounds(ids, self._ends, self.steps)

    @property
    def settings(self) -> dict[str, Any]:
        return dict(self._settings)

    @property
    def n_inputs(self) -> int:
        return len(self.vocabulary)

    @property
    def n_outputs(self) -> int:
        return len(self.vocabulary)

    @property
    def distances(self) -> np.ndarray | None:
        """Steps from reading a planted word to predicting the word that it decides; None where the text has none.

        A word k words after the planted one is predicted one word earlier: k - 1 steps.
        """
        return None if self.corpus.planted is None else np.array(self.corpus.planted) - 1

    @property
    def best_loss(self) -> float | None:
        return self.corpus.entropy_rate

    @property
    def baseline(self) -> float:
        return math.exp(self.baseline_loss)

    @property
    def baseline_text(self) -> str:
        return (
            f"Word frequencies alone (unigram, counted in train, one added to each of {self.n_inputs} counts) "
            f"have a perplexity of {self.baseline:.4g} on the test text."
        )

    def unigram_loss(self, split: str) -> float:
        """Cross-entropy in nats a word of train's smoothed word frequencies on the predicted words of a split."""
        counts = windows.counts(self.corpus.train, self.n_inputs) + 1
        due = windows.counts(self.corpus.split(split)[1:], self.n_inputs)
        return float((due * np.log(counts.sum() / counts)).sum() / due.sum())

    def batch(self, size: int, generator: torch.Generator) -> Batch:
        """`size` sequences from anywhere in train, or sentences, each without its past."""
        if self._bounds is not None:
            size, last = check_int("size", size, least=1), len(self._bounds) - 1
            chosen = torch.randint(last, (size,), generator=scoring.check_generator(generator)).numpy()
            return windows.sentences(self.corpus.train, self._bounds, chosen)
        return windows.drawn(self.corpus.train, self.steps, size, generator)

    def probe(self, n: int, generator: torch.Generator) -> Batch:
        """`n` windows of validation text: 200 words or four sequences, the longer, as far as the text goes."""
        ids = self.corpus.valid
        return windows.drawn(ids, min(max(PROBE, 4 * self.steps), len(ids) - 1), n, generator)

    def stream(self, batch: int, bptt: int | None = None, split: str = "train") -> Iterator[Batch]:
        """A split once through: `batch` equal parts side by side, in consecutive windows of `bptt` words.

        The caller carries the state from window to window. The last window may be shorter; at most `batch` words at
        the end of the split are left out.
        """
        steps = check_int("bptt", self.steps if bptt is None else bptt, least=1)
        return windows.consecutive(self.corpus.split(split), check_int("batch", batch, least=1), steps)

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Cross-entropy of logits [T, B, V], a mean over words, in nats."""
        return scoring.cross_entropy(outputs, batch)

    def score(
        self,
        model: nn.Module,
        generator: torch.Generator | None = None,
        n: int | None = None,
        split: str = "valid",
        max_words: int | None = 20_000,
    ) -> dict[str, float]:
        """Scores over a split read from its start, each word once, the state carried over (not so between sentences).

        Args:
            model: called as model(inputs, state), returns (logits, state).
            generator, n: what other tasks draw sequences with; a text is read as it stands.
            split: "train", "valid" or "test".
            max_words: read at most so many; None reads the whole split.

        Returns:
            "loss" (nats a word), "perplexity", and where the text has planted words "agreement_accuracy", the share of
            the words decided by them that are the model's first choice.
        """
        ids = self.corpus.split(split)
        if max_words is not None:
            ids = ids[: check_int("max_words", max_words, least=1) + 1]
        nats = words = right = due = 0.0
        state = None
        with scoring.evaluating(model) as device:
            decided = None if self.corpus.decided is None else torch.tensor(self.corpus.decided, device=device)
            for window in self._scored(ids):
                batch = window.to(device)
                outputs, after = model(batch.inputs, state)
                state = after if self.batching == "continuous" else None
                scored = scoring.n_scored(batch)
                nats += float(self.loss(outputs, batch)) * scored
                words += scored
                if decided is not None:
                    asked = torch.isin(batch.targets, decided)
                    asked = asked if batch.weight is None else asked & (batch.weight > 0)
                    right += int((outputs.argmax(-1) == batch.targets)[asked].sum())
                    due += int(asked.sum())
        loss = nats / words
        score = {"loss": loss, "perplexity": math.inf if loss > 700 else math.exp(loss)}
        if decided is not None:
            score["agreement_accuracy"] = right / due if due else math.nan
        return score

    def _scored(self, ids: np.ndarray) -> Iterator[Batch]:
        if self.batching == "sentences":
            return windows.sentences_in_order(ids, self._cut(ids), SCORED_LOGITS // self.n_outputs)
        steps = max(1, SCORED_LOGITS // (SCORED_STREAMS * self.n_outputs))
        return windows.whole(ids, SCORED_STREAMS, steps)

    def solved(self, score: Mapping[str, float]) -> bool:
        """Whether 99 % of the words that a planted word decides are predicted; a text without them is never solved."""
        return score.get("agreement_accuracy", 0.0) >= SOLVED

    def example(self, generator: torch.Generator | None = None) -> str:
        """A few words with the words that are due, and where a planted word decides one of them, which."""
        ids, length = self.corpus.train, min(12, self.steps)
        start = int(torch.randint(len(ids) - length, (), generator=generator or scoring.seeded(0)))
        decision = self._decision(start) if self.text == "agreement" else None
        if decision is not None:
            start, length = decision[0], decision[1] - decision[0]
        shown = self.vocabulary.decode(ids[start : start + length + 1].tolist())
        rows = {"step": [str(step) for step in range(length)], "input": shown[:-1], "target": shown[1:]}
        if decision is None:
            return f"{table(rows, list(range(length)))}\n\nAt every step the next word of the text is due."
        return (
            f"{table(rows, shown_steps(length, [0, length - 1], around=2))}\n\n"
            f"At every step the next word is due; {shown[-1]!r} is decided by {shown[0]!r}, {length} words before it "
            f"and read {length - 1} steps before it is due."
        )

    def _decision(self, start: int) -> tuple[int, int] | None:
        # Where a sentence after `start` plants its word and where it asks for it: its first word and its last.
        ends = np.flatnonzero(self.corpus.train == self.vocabulary.encode(["."])[0])
        following = int(np.searchsorted(ends, start))
        at = following if following + 1 < len(ends) else 0
        return None if len(ends) < 2 else (int(ends[at]) + 1, int(ends[at + 1]) - 1)


_USE = {"train": "train on", "valid": "validate on", "test": "test on"}


@lru_cache(maxsize=4)
def _load_named(text: str, **settings: Any) -> Corpus:
    # Named texts never change, and a worker makes the same task for many runs.
    return texts.load(text, **settings)
