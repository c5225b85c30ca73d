"""Next-word prediction: windows, the unigram price, scores with the state carried over, and misuse."""

import itertools
import math
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from rnnvg import models, tasks, training
from rnnvg.errors import InputError
from rnnvg.tasks import next_word, windows
from rnnvg.text.agreement import Agreement
from rnnvg.text.corpus import Corpus
from rnnvg.text.lexicon import NOUNS, VERBS
from rnnvg.text.manifest import data_file
from rnnvg.text.vocabulary import Vocabulary


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def task():
    return tasks.make("next-word", text="agreement", distance=4, n_words=6000, bptt=10)


class Unigram(nn.Module):
    """Word frequencies whatever it sees."""

    def __init__(self, logits):
        super().__init__()
        self.logits = nn.Parameter(torch.as_tensor(logits, dtype=torch.float32))

    def forward(self, inputs, state=None):
        return self.logits.expand(*inputs.shape, len(self.logits)), state


class Reader(nn.Module):
    """Knows the language and remembers the noun in its state: verbs for certain, stops after them, nothing else."""

    def __init__(self, vocabulary, forgetful=False):
        super().__init__()
        self.words, self.forgetful = vocabulary.words, forgetful

    def forward(self, inputs, state=None):
        state = [None] * inputs.shape[1] if state is None else list(state)
        logits = torch.zeros(*inputs.shape, len(self.words))
        for step, row in enumerate(inputs.tolist()):
            for text, token in enumerate(row):
                word = self.words[token]
                noun = state[text]
                if word in NOUNS:
                    state[text] = word
                elif word == "," and noun is not None and not self.forgetful:
                    logits[step, text, self.words.index(VERBS[NOUNS.index(noun)])] = 50.0
        return logits, state


# Windows


@given(n=st.integers(2, 60), batch=st.integers(1, 9), steps=st.integers(1, 12))
def test_consecutive_windows_read_every_part_in_order(n, batch, steps):
    ids = np.arange(n, dtype=np.int32)
    read = list(windows.consecutive(ids, batch, steps))
    length = (n - 1) // batch
    assert [len(each.inputs) for each in read[:-1]] == [steps] * max(0, len(read) - 1)
    if not length:
        assert not read
        return
    inputs = torch.cat([each.inputs for each in read])
    assert inputs.dtype == torch.int64
    # Part b starts where part b - 1 ended: numbers in a row, and the target is the next number.
    assert inputs.tolist() == [[part * length + step for part in range(batch)] for step in range(length)]
    assert (torch.cat([each.targets for each in read]) == inputs + 1).all()
    assert all(each.weight is None for each in read)


@given(n=st.integers(2, 60), batch=st.integers(1, 9), steps=st.integers(1, 12))
def test_whole_windows_score_every_word_but_the_first_once(n, batch, steps):
    ids = np.arange(n, dtype=np.int32) + 5
    pairs = []
    for window in windows.whole(ids, batch, steps):
        weight = torch.ones(window.targets.shape) if window.weight is None else window.weight
        assert weight.sum() > 0
        kept = weight > 0
        pairs += zip(window.inputs[kept].tolist(), window.targets[kept].tolist(), strict=True)
    assert sorted(pairs) == [(word, word + 1) for word in range(5, n + 4)]


@given(n=st.integers(3, 40), data=st.data())
def test_drawn_windows_lie_within_the_text(n, data):
    steps = data.draw(st.integers(1, n - 1))
    ids = np.arange(n, dtype=np.int32)
    batch = windows.drawn(ids, steps, 50, seeded(n))
    assert batch.inputs.shape == batch.targets.shape == (steps, 50)
    assert (batch.inputs.diff(dim=0) == 1).all()
    assert (batch.targets == batch.inputs + 1).all()
    assert int(batch.targets.max()) <= n - 1


def test_drawn_windows_begin_everywhere():
    starts = windows.drawn(np.arange(8, dtype=np.int32), 3, 10_000, seeded()).inputs[0]
    counts = torch.bincount(starts)
    assert len(counts) == 5
    assert ((counts - 2000).abs() < 5 * 1600**0.5).all()


# The task


def test_batches_are_windows_of_train_and_probes_of_validation_text(task):
    batch = task.batch(5, seeded())
    assert batch.inputs.shape == (10, 5)
    train = task.corpus.train.tolist()
    runs = {tuple(train[at : at + 11]) for at in range(len(train) - 10)}
    for text in range(5):
        assert (*batch.inputs[:, text].tolist(), int(batch.targets[-1, text])) in runs
    probe = task.probe(3, seeded())
    assert probe.inputs.shape == (200, 3)
    valid = task.corpus.valid.tolist()
    assert probe.inputs[:, 0].tolist() in [valid[at : at + 200] for at in range(len(valid))]
    assert task.probe_sources == 8
    longer = tasks.make("next-word", distance=4, n_words=6000, bptt=60)
    assert longer.probe(1, seeded()).inputs.shape == (240, 1)


def test_same_seed_same_batch_and_the_same_on_every_machine():
    batch = tasks.make("next-word", distance=4, n_words=6000, bptt=5).batch(3, seeded(7))
    assert batch.inputs.T.tolist() == [[10, 154, 213, 1, 50], [1, 81, 2, 11, 108], [59, 2, 10, 89, 110]]


def test_stream_carries_on_through_a_split(task):
    read = list(task.stream(3, 7, "test"))
    length = (len(task.corpus.test) - 1) // 3
    assert [len(each.inputs) for each in read] == [7] * (length // 7) + [length % 7] * (length % 7 > 0)
    first = torch.cat([each.inputs[:, 0] for each in read])
    assert first.tolist() == task.corpus.test[:length].tolist()
    assert len(next(iter(task.stream(2))).inputs) == 10


def test_unigram_price_by_counting(task):
    vocabulary = len(task.vocabulary)
    for split in ("valid", "test"):
        counts = Counter(task.corpus.train.tolist())
        due = task.corpus.split(split).tolist()[1:]
        slowly = -sum(math.log((counts[word] + 1) / (6000 + vocabulary)) for word in due) / len(due)
        assert task.unigram_loss(split) == pytest.approx(slowly, rel=1e-12)
    assert task.baseline_loss == task.unigram_loss("test")
    assert task.baseline == math.exp(task.baseline_loss)
    assert task.best_loss < task.baseline_loss


def test_a_unigram_model_scores_the_baseline(task):
    counts = np.bincount(task.corpus.train, minlength=task.n_inputs) + 1
    model = Unigram(np.log(counts))
    score = task.score(model, seeded(), 1000, split="test", max_words=None)
    assert score["loss"] == pytest.approx(task.baseline_loss, rel=1e-6)
    assert score["perplexity"] == pytest.approx(task.baseline, rel=1e-5)
    assert score["agreement_accuracy"] <= 0.1
    assert not task.solved(score)
    assert task.score(model)["loss"] == pytest.approx(task.unigram_loss("valid"), rel=1e-6)


def test_scores_carry_the_state_over_windows(task, monkeypatch):
    # Windows of a single step: whoever answers a verb then has carried its noun.
    monkeypatch.setattr(next_word, "SCORED_LOGITS", 1)
    monkeypatch.setattr(next_word, "SCORED_STREAMS", 1)
    score = task.score(Reader(task.vocabulary), split="test", max_words=None)
    assert score["agreement_accuracy"] == 1.0
    assert task.solved(score)
    forgetful = task.score(Reader(task.vocabulary, forgetful=True), split="test", max_words=None)
    assert forgetful["agreement_accuracy"] == 0.0
    verbs = sum(word in VERBS for word in task.vocabulary.decode(task.corpus.test))
    saved = (forgetful["loss"] - score["loss"]) * (len(task.corpus.test) - 1)
    assert saved == pytest.approx(verbs * math.log(task.n_outputs), rel=1e-5)


@pytest.mark.parametrize("streams", [1, 3, 8, 599])
def test_scores_do_not_depend_on_how_much_is_read_at_once(task, monkeypatch, streams):
    model = Unigram(torch.randn(task.n_outputs, generator=seeded(5)))
    ids = torch.tensor(task.corpus.test[1:].astype(np.int64))
    slowly = float(nn.functional.cross_entropy(model.logits.detach().expand(len(ids), -1), ids))
    monkeypatch.setattr(next_word, "SCORED_STREAMS", streams)
    for logits in (1, 50_000, 4_000_000):
        monkeypatch.setattr(next_word, "SCORED_LOGITS", logits)
        assert task.score(model, split="test", max_words=None)["loss"] == pytest.approx(slowly, rel=1e-5)


def test_scores_read_at_most_so_many_words(task, monkeypatch):
    monkeypatch.setattr(next_word, "SCORED_STREAMS", 1)
    seen = []

    class Counting(Unigram):
        def forward(self, inputs, state=None):
            seen.append(inputs.shape)
            return super().forward(inputs, state)

    task.score(Counting(torch.zeros(task.n_outputs)), max_words=40)
    assert sum(steps * texts for steps, texts in seen) == 40
    with pytest.raises(InputError, match=r"`max_words` must be a whole number of at least 1; got 0\."):
        task.score(Unigram(torch.zeros(task.n_outputs)), max_words=0)
    with pytest.raises(InputError, match=r"`split` has no 'tset'. Did you mean 'test'\?"):
        task.score(Unigram(torch.zeros(task.n_outputs)), split="tset")


@pytest.mark.parametrize(("logit", "perplexity"), [(math.nan, math.nan), (-1e5, math.inf)])
def test_a_lost_model_has_a_score_all_the_same(task, logit, perplexity):
    logits = torch.zeros(task.n_outputs)
    logits[1:] = logit
    score = task.score(Unigram(logits))
    assert score["perplexity"] == pytest.approx(perplexity, nan_ok=True)
    assert not task.solved(score)


def test_distances_are_steps_from_reading_the_noun_to_predicting_the_verb():
    task = tasks.make("next-word", distance=[3, 6], n_words=6000)
    assert task.distances.tolist() == [2, 5]
    ids = task.corpus.train.astype(np.int64)
    inputs, targets = task.vocabulary.decode(ids[:-1]), task.vocabulary.decode(ids[1:])
    found = set()
    for step, due in enumerate(targets):
        if due in VERBS:
            read = max(at for at in range(step + 1) if inputs[at] == NOUNS[VERBS.index(due)])
            found.add(step - read)
    assert found == {2, 5}
    assert task.best_loss == Agreement([3, 6]).entropy_rate


def test_settings_give_the_same_task_again(task, tmp_path):
    again = tasks.make(task.name, **task.settings)
    assert again.settings == task.settings
    assert task.settings == {
        "text": "agreement",
        "vocabulary": 3000,
        "minimum_count": 1,
        "tokens": None,
        "distance": 4,
        "n_words": 6000,
        "tail": 0.0,
        "bptt": 10,
        "batching": "continuous",
    }
    assert again.corpus is task.corpus
    assert list(tasks.settings("next-word")) == list(task.settings)
    from_file = tasks.make("next-word", text=data_file("agreement.txt"), vocabulary=40)
    assert from_file.n_inputs == 40
    assert tasks.make("next-word", **from_file.settings).vocabulary.words == from_file.vocabulary.words


def test_a_list_of_words_is_a_vocabulary_and_comes_back_in_the_settings():
    words = ["<unk>", ",", ".", "dog", "barks"]
    task = tasks.make("next-word", text=data_file("agreement.txt"), vocabulary=words)
    assert task.settings["vocabulary"] == words
    assert task.n_inputs == task.n_outputs == 5
    assert tasks.make("next-word", **task.settings).corpus.train.tolist() == task.corpus.train.tolist()


def test_a_corpus_made_elsewhere_is_taken_as_it_is():
    ids = np.array(list(itertools.islice(itertools.cycle([1, 2]), 30)), dtype=np.int32)
    corpus = Corpus("mine", Vocabulary(["<unk>", "tick", "tock"]), ids, ids[:12].copy(), ids[:12].copy())
    task = tasks.make("next-word", text=corpus, bptt=4)
    assert task.corpus is corpus
    assert task.settings["text"] == task.text == "mine"
    assert task.distances is None
    assert task.best_loss is None
    assert task.probe(2, seeded()).inputs.shape == (11, 2)
    score = task.score(Unigram(torch.zeros(3)))
    assert set(score) == {"loss", "perplexity"}
    assert not task.solved({"loss": 0.0, "perplexity": 1.0})


def test_padding_is_no_dependency(monkeypatch):
    # Word 0 always follows word 1; a model that expects it after word 0 is right on the padding alone.
    ids = np.array([1, 0] * 10, dtype=np.int32)
    corpus = Corpus("mine", Vocabulary(["a", "b"]), ids, ids, ids, planted=(1,), decided=np.array([0]))

    class AfterZero(Unigram):
        def forward(self, inputs, state=None):
            return nn.functional.one_hot(inputs, 2).float(), state

    monkeypatch.setattr(next_word, "SCORED_STREAMS", 8)
    task = tasks.make("next-word", text=corpus, bptt=4)
    assert task.score(AfterZero(torch.zeros(1)))["agreement_accuracy"] == 0.0


def test_baseline_text_says_how_it_was_counted(task):
    assert task.baseline_text == (
        "Word frequencies alone (unigram, counted in train, one added to each of 251 counts) "
        f"have a perplexity of {task.baseline:.4g} on the test text."
    )


def test_example_names_the_planted_word():
    assert tasks.make("next-word").example() == PLANTED
    task = tasks.make("next-word", text=data_file("agreement.txt"), bptt=4)
    assert task.example() == PLAIN


PLANTED = """\
step          0      1      2 …      7      8     9
input       cat seldom    wet …  cloud forest     ,
target   seldom    wet beside … forest      , purrs

At every step the next word is due; 'purrs' is decided by 'cat', 10 words before it and read 9 steps before it is due."""
PLAIN = """\
step       0        1        2     3
input    red        , explains     .
target     , explains        . mouse

At every step the next word of the text is due."""


@pytest.mark.parametrize("distance", [2, 3, [2, 30]])
def test_examples_hold_for_any_distance_and_place(distance):
    task = tasks.make("next-word", distance=distance, n_words=4000)
    for seed in range(20):
        text = task.example(seeded(seed)).splitlines()[-1].split("'")
        assert VERBS[NOUNS.index(text[3])] == text[1]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"bptt": 0}, "`bptt` must be a whole number of at least 1; got 0."),
        ({"distance": 1}, "`distance` must be a whole number of at least 2; got 1."),
        ({"distance": {"k": 3}}, "`distance` must be a whole number of at least 2; got {'k': 3}."),
        ({"distance": [2, "x"]}, "`distance` must be a whole number of at least 2; got 'x'."),
        ({"n_words": -1}, "`n_words` must be a whole number of at least 1; got -1."),
        ({"tokens": ["words"]}, "`tokens` has no ['words']. Did you mean 'words'? Pass one of: words, spaces."),
        ({"minimum_count": 0}, "`minimum_count` must be a whole number of at least 1; got 0."),
        (
            {"vocabulary": 3000.0},
            "`vocabulary` must be a size, a list of words or a torchtext vocabulary; got float.",
        ),
        (
            {"text": "shakespear"},
            "`text` has no 'shakespear'. Did you mean 'shakespeare'? "
            "Pass one of agreement, shakespeare, or a file or directory.",
        ),
        (
            {"bptt": 2000, "n_words": 10_000, "distance": 4},
            "The text 'agreement' has 1000 words to validate on, fewer than one sequence of 2000 and the word after it; "
            "pass a longer text or a smaller `bptt`.",
        ),
        (
            {"vocab": 3},
            "Task 'next-word' has no setting 'vocab'. Did you mean 'vocabulary'? Its settings are: "
            "text, vocabulary, minimum_count, tokens, distance, n_words, tail, bptt, batching.",
        ),
    ],
)
def test_bad_settings_are_one_clear_sentence(settings, message):
    with pytest.raises(InputError) as caught:
        tasks.make("next-word", **settings)
    assert str(caught.value) == message


def test_a_text_shorter_than_one_sequence_says_how_short(tmp_path):
    path = tmp_path / "short.txt"
    path.write_text("just a few words and a few words more")
    with pytest.raises(InputError) as caught:
        tasks.make("next-word", text=path)
    assert str(caught.value) == (
        f"The text '{path}' holds 9 words, fewer than one sequence of 35 and the word after it; "
        "pass a longer text or a smaller `bptt`."
    )


def test_counts_by_parts_are_counts_of_the_whole():
    ids = np.array([1, 0, 1, 4, 1], dtype=np.int32)
    assert windows.counts(ids, 6).tolist() == [1, 3, 0, 0, 1, 0]
    assert [part.tolist() for part in windows.parts(ids, 2)] == [[1, 0], [1, 4], [1]]


def test_a_split_of_unknown_words_is_refused(tmp_path):
    for split, words in (("train", "a b c "), ("valid", "a b b "), ("test", "x y z ")):
        (tmp_path / f"{split}.txt").write_text(words * 10)
    with pytest.raises(InputError) as caught:
        tasks.make("next-word", text=tmp_path, bptt=5)
    assert str(caught.value) == (
        f"The text '{tmp_path}' has no word to test on that is in the vocabulary of 4; "
        "pass a larger `vocabulary`, or splits in the same language."
    )


# Sentences


@given(
    ids=st.lists(st.integers(0, 4), min_size=2, max_size=80),
    longest=st.integers(1, 9),
    words=st.integers(1, 30),
)
def test_sentences_in_order_have_every_word_but_the_first_due_once(ids, longest, words):
    ids = np.array(ids, dtype=np.int32)
    bounds = windows.sentence_bounds(ids, np.array([0]), longest)
    inputs, targets = [], []
    for batch in windows.sentences_in_order(ids, bounds, words):
        weight = torch.ones(batch.targets.shape) if batch.weight is None else batch.weight
        assert batch.targets.shape[1] == 1 or batch.targets.numel() <= words
        for column in range(batch.targets.shape[1]):
            length = int(weight[:, column].sum())
            assert 1 <= length <= longest
            assert (weight[:length, column] == 1).all()
            # Only the last word of a sentence ends it.
            assert (batch.targets[: length - 1, column] != 0).all()
            inputs += batch.inputs[:length, column].tolist()
            targets += batch.targets[:length, column].tolist()
    assert inputs == ids[:-1].tolist()
    assert targets == ids[1:].tolist()


def test_a_batch_of_sentences_holds_whole_sentences_of_train():
    task = tasks.make("next-word", distance=[3, 6], n_words=3000, batching="sentences")
    batch = task.batch(50, seeded())
    assert batch.weight is not None
    for column in range(50):
        length = int(batch.weight[:, column].sum())
        words = task.vocabulary.decode(batch.targets[:length, column].tolist())
        assert words[0] in NOUNS
        assert words[-1] == "."
        assert words[-2] == VERBS[NOUNS.index(words[0])]
        assert length in (5, 8)
    assert torch.equal(task.batch(7, seeded(3)).inputs, task.batch(7, seeded(3)).inputs)


def test_sentences_are_scored_from_a_zero_state(monkeypatch):
    settings = {"distance": 4, "n_words": 6000}
    one, other = (tasks.make("next-word", **settings, batching=each) for each in next_word.BATCHING)
    states = []

    class Watching(Reader):
        def forward(self, inputs, state=None):
            states.append(state)
            return super().forward(inputs, state)

    monkeypatch.setattr(next_word, "SCORED_LOGITS", 20_000)
    # Each sentence plants its own word: nothing is lost with the state.
    assert other.score(Watching(other.vocabulary))["agreement_accuracy"] == 1
    assert len(states) > 2
    assert set(states) == {None}
    model = Unigram(np.arange(251) / 100)
    assert other.score(model)["loss"] == pytest.approx(one.score(model)["loss"])
    assert other.baseline == one.baseline


def test_a_network_is_trained_on_sentences():
    task = tasks.make("next-word", distance=2, n_words=4000, batching="sentences")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = models.build(task, "gru", hidden=24)
    settings = {"steps": 60, "batch": 32, "lr": 0.02, "eval_every": 60}
    result = training.fit(model, task, **settings, generator=seeded())
    assert result.score["perplexity"] < 0.5 * task.baseline  # 0.19 to 0.24 of it, whatever the seed
    with pytest.raises(InputError) as caught:
        training.fit(model, task, **settings, generator=seeded(), bptt=5)
    assert str(caught.value) == (
        "`bptt` cuts a text that is read as one sequence; got it with batching 'sentences'. Pass bptt=None."
    )


def test_a_text_whose_sentences_do_not_end_is_refused(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("a b c " * 400)
    with pytest.raises(InputError) as caught:
        tasks.make("next-word", text=path, batching="sentences")
    assert str(caught.value) == (
        "`batching` 'sentences' needs the ends of sentences, and neither '<eos>' nor a full stop is among the words of the "
        f"text '{path}'; pass 'continuous'."
    )
    path.write_text("a b c\n" * 400)
    task = tasks.make("next-word", text=path, tokens="spaces", batching="sentences")
    assert task.vocabulary.decode(task.batch(1, seeded()).targets[:, 0].tolist()) == ["a", "b", "c", "<eos>"]
