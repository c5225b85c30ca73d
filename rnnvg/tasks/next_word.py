"""Next-word prediction: at every step of a text, which word comes next (Mikolov et al. 2010).

The baseline is the unigram model: word frequencies of the training split with one added to every count, so that a word
never seen there still has a finite price. Perplexity is e to the mean cross-entropy in nats over the predicted words.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from rnnvg import text as texts
from rnnvg.errors import InputError, check_int, check_name
from rnnvg.tasks import scoring, windows
from rnnvg.tasks.task import Batch, Description, Task
from rnnvg.tasks.worked import shown_steps, table
from rnnvg.text.agreement import DISTANCE, N_WORDS, check_tail
from rnnvg.text.corpus import SPLITS, Corpus
from rnnvg.text.tokens import END_OF_LINE, TOKENS
from rnnvg.text.vocabulary import Vocabulary

# Share of planted dependencies predicted that counts as solved; a text without them has no end.
SOLVED = 0.99
# Words of a window for gradient profiles, where four training sequences are shorter.
PROBE = 200
# Texts read side by side when scoring: few, because each starts without a past.
SCORED_STREAMS = 8
# Logits held at once when scoring: they stay in a processor's cache.
SCORED_LOGITS = 1_000_000
# What ends a sentence: the end of a line where the text marks it, else a stop.
STOPS = (".", "!", "?")
BATCHING = ("continuous", "sentences")

ABOUT = Description(
    name="next-word",
    label="Next word",
    kind="tokens",
    metric="perplexity",
    unit="nats per word",
    solved=None,
    settings={
        "text": "'agreement' (generated), 'shakespeare', a UTF-8 file, or a directory with train, valid and test files",
        "vocabulary": "how many words to keep, the commonest ('agreement' has its own), or a list of words",
        "minimum_count": "words seen less often in train become <unk>",
        "tokens": "of files: 'words' (lower case, and . , ; : ! ?) or 'spaces' (text that comes already split)",
        "distance": "of 'agreement': how many words after its noun a verb stands, a number or a list (10)",
        "n_words": "of 'agreement': words to train on (200000)",
        "tail": "of 'agreement': distance k is drawn as often as k ** -tail; 0: all equally often (0)",
        "bptt": "words of a training sequence; with 'sentences' the most words of one",
        "batching": "'continuous' (the whole text in order, the state carried over) or 'sentences' (each by itself)",
    },
    probe_sources=8,
)


@dataclass(frozen=True, kw_only=True, eq=False)
class NextWord(Task):
    """Inputs [T, B] word ids, targets [T, B] the ids of the words after them; every step is scored.

    Attributes:
        corpus: the text's splits.
        sentences: how a split is cut into sentences, each read from a zero state, in training and in scores; None: it is
            read on and on, the state carried over.
    """

    corpus: Corpus = field(repr=False)
    sentences: Sentences | None = None

    @property
    def text(self) -> str:
        """Name or path of the text."""
        return self.settings["text"]

    def unigram_loss(self, split: str) -> float:
        """Cross-entropy in nats a word of train's smoothed word frequencies on the predicted words of a split."""
        return unigram_loss(self.corpus, split)

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
        nats = n_words = right = due = 0.0
        state = None
        with scoring.evaluating(model) as device:
            decided = None if self.corpus.decided is None else torch.tensor(self.corpus.decided, device=device)
            for window in self._scored(ids):
                batch = window.to(device)
                outputs, after = model(batch.inputs, state)
                state = after if self.streamed else None
                scored = scoring.n_scored(batch)
                nats += float(self.loss(outputs, batch)) * scored
                n_words += scored
                if decided is not None:
                    planted = torch.isin(batch.targets, decided)
                    planted = planted if batch.weight is None else planted & (batch.weight > 0)
                    right += int((outputs.argmax(-1) == batch.targets)[planted].sum())
                    due += int(planted.sum())
        loss = nats / n_words
        score = {"loss": loss, "perplexity": math.inf if loss > 700 else math.exp(loss)}
        if decided is not None:
            score["agreement_accuracy"] = right / due if due else math.nan
        return score

    def _scored(self, ids: np.ndarray) -> Iterator[Batch]:
        if self.sentences is not None:
            return windows.sentences_in_order(ids, self.sentences.bounds(ids), SCORED_LOGITS // self.n_outputs)
        steps = max(1, SCORED_LOGITS // (SCORED_STREAMS * self.n_outputs))
        return windows.whole(ids, SCORED_STREAMS, steps)

    def final_score(
        self, model: nn.Module, generator: torch.Generator | None = None, n: int | None = None
    ) -> dict[str, float]:
        """The score of the whole test split."""
        return self.score(model, generator, n, split="test", max_words=None)

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
        shown = self.corpus.vocabulary.decode(ids[start : start + length + 1].tolist())
        rows = {"step": str, "input": shown.__getitem__, "target": lambda step: shown[step + 1]}
        if decision is None:
            return f"{table(rows, list(range(length)))}\n\nAt every step the next word of the text is due."
        return (
            f"{table(rows, shown_steps(length, [0, length - 1], around=2))}\n\n"
            f"At every step the next word is due; {shown[-1]!r} is decided by {shown[0]!r}, {length} words before it "
            f"and read {length - 1} steps before it is due."
        )

    def _decision(self, start: int) -> tuple[int, int] | None:
        # Where a sentence after `start` plants its word and where it asks for it: its first word and its last.
        ends = np.flatnonzero(self.corpus.train == self.corpus.vocabulary.encode(["."])[0])
        following = int(np.searchsorted(ends, start))
        at = following if following + 1 < len(ends) else 0
        return None if len(ends) < 2 else (int(ends[at]) + 1, int(ends[at + 1]) - 1)


@dataclass(frozen=True, eq=False)
class Sentences:
    """How a text is cut into sentences.

    Attributes:
        ends: ids of the words that end one.
        longest: words of a sentence at most; what is longer is cut.
    """

    ends: np.ndarray
    longest: int

    def bounds(self, ids: np.ndarray) -> np.ndarray:
        """As `windows.sentence_bounds`."""
        return windows.sentence_bounds(ids, self.ends, self.longest)


def make(
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
) -> NextWord:
    """Makes the task: inputs [T, B] word ids, targets [T, B] the ids of the words after them; every step is scored.

    Batches are drawn anywhere in train; `stream` reads a split on and on, for a state that is carried over. With batching
    "sentences" a batch holds whole sentences, each read from a zero state, in training and in scores.

    A word k words after the planted one that decides it is predicted one word earlier: at a distance of k - 1 steps.

    Args:
        text: name or path of the text; a Corpus made elsewhere is taken too, and used as it is.

    Raises:
        InputError: a text that cannot be read or is shorter than one sequence, or a setting out of its range.
    """
    steps = check_int("bptt", bptt, least=1)
    check_name("batching", batching, BATCHING)
    name = text.name if isinstance(text, Corpus) else str(text)
    if tokens is not None:
        check_name("tokens", tokens, TOKENS)
    if not isinstance(vocabulary, int | None):
        vocabulary = Vocabulary.of(vocabulary)
    if name == "agreement":
        distance = DISTANCE if distance is None else distance
        n_words = N_WORDS if n_words is None else n_words
        tail = 0.0 if tail is None else check_tail(tail)
    if isinstance(text, Corpus):
        corpus = text
    else:
        several = distance if isinstance(distance, list | tuple) or distance is None else [distance]
        load = _load_named if name in texts.NAMES else texts.load
        corpus = load(
            name,
            vocabulary=vocabulary,
            minimum_count=check_int("minimum_count", minimum_count, least=1),
            tokens=tokens,
            distance=None if several is None else tuple(check_int("distance", each, least=2) for each in several),
            n_words=None if n_words is None else check_int("n_words", n_words, least=1),
            tail=tail,
        )
    _check_length(corpus, name, steps)
    _check_known(corpus, name)
    sentences = None if batching == "continuous" else Sentences(_sentence_ends(corpus, name), steps)
    price, size = unigram_loss(corpus, "test"), len(corpus.vocabulary)
    return NextWord(
        about=ABOUT,
        settings={
            "text": name,
            "vocabulary": list(vocabulary.words) if isinstance(vocabulary, Vocabulary) else vocabulary,
            "minimum_count": minimum_count,
            "tokens": tokens,
            "distance": list(distance) if isinstance(distance, tuple) else distance,
            "n_words": n_words,
            "tail": tail,
            "bptt": steps,
            "batching": batching,
        },
        n_inputs=size,
        n_outputs=size,
        steps=steps,
        distances=None if corpus.planted is None else np.array(corpus.planted) - 1,
        baseline=math.exp(price),
        baseline_loss=price,
        baseline_text=(
            f"Word frequencies alone (unigram, counted in train, one added to each of {size} counts) "
            f"have a perplexity of {math.exp(price):.4g} on the test text."
        ),
        best_loss=corpus.entropy_rate,
        draw=partial(windows.drawn, corpus.train, steps) if sentences is None else _drawn_sentences(corpus, sentences),
        # 200 words or four sequences of validation text, the longer, as far as it goes.
        draw_longer=partial(windows.drawn, corpus.valid, min(max(PROBE, 4 * steps), len(corpus.valid) - 1)),
        windows=None if sentences is not None else partial(_consecutive, corpus),
        vocabulary=corpus.vocabulary,
        corpus=corpus,
        sentences=sentences,
    )


def unigram_loss(corpus: Corpus, split: str) -> float:
    """Cross-entropy in nats a word of train's word frequencies, one added to each, on the predicted words of a split."""
    counts = windows.counts(corpus.train, len(corpus.vocabulary)) + 1
    due = windows.counts(corpus.split(split)[1:], len(corpus.vocabulary))
    return float((due * np.log(counts.sum() / counts)).sum() / due.sum())


def _drawn_sentences(corpus: Corpus, sentences: Sentences) -> Any:
    bounds = sentences.bounds(corpus.train)

    def draw(size: int, generator: torch.Generator) -> Batch:
        chosen = torch.randint(len(bounds) - 1, (size,), generator=generator).numpy()
        return windows.sentences(corpus.train, bounds, chosen)

    return draw


def _consecutive(corpus: Corpus, batch: int, steps: int, split: str) -> Iterator[Batch]:
    return windows.consecutive(corpus.split(split), batch, steps)


def _check_length(corpus: Corpus, text: str, steps: int) -> None:
    sizes = {split: len(corpus.split(split)) for split in SPLITS}
    if sum(sizes.values()) <= steps:
        raise InputError(
            f"The text {text!r} holds {sum(sizes.values())} words, fewer than one sequence of {steps} and "
            "the word after it; pass a longer text or a smaller `bptt`."
        )
    for split, size in sizes.items():
        if size <= steps:
            raise InputError(
                f"The text {text!r} has {size} words to {_USE[split]}, fewer than one sequence of {steps} "
                "and the word after it; pass a longer text or a smaller `bptt`."
            )


def _check_known(corpus: Corpus, text: str) -> None:
    unknown = corpus.vocabulary.unknown
    for split in SPLITS:
        ids = corpus.split(split)
        if unknown is not None and all((part == unknown).all() for part in windows.parts(ids)):
            raise InputError(
                f"The text {text!r} has no word to {_USE[split]} that is in the vocabulary of "
                f"{len(corpus.vocabulary)}; pass a larger `vocabulary`, or splits in the same language."
            )


def _sentence_ends(corpus: Corpus, text: str) -> np.ndarray:
    marks = (END_OF_LINE,) if END_OF_LINE in corpus.vocabulary else STOPS
    known = [mark for mark in marks if mark in corpus.vocabulary]
    if not known:
        raise InputError(
            f"`batching` 'sentences' needs the ends of sentences, and neither {END_OF_LINE!r} nor a full stop is among the "
            f"words of the text {text!r}; pass 'continuous'."
        )
    return corpus.vocabulary.encode(known)


_USE = {"train": "train on", "valid": "validate on", "test": "test on"}


@lru_cache(maxsize=4)
def _load_named(text: str, **settings: Any) -> Corpus:
    # Named texts never change, and a worker makes the same task for many runs.
    return texts.load(text, **settings)
