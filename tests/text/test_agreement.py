"""The generated language: its grammar read slowly, and its entropy rate against enumeration and against a text's price."""

import hashlib
import itertools
import math
from collections import Counter

import numpy as np
import pytest
import torch

from rnnvg import text
from rnnvg.errors import InputError
from rnnvg.text.agreement import SUCCESSORS, WORDS, Agreement
from rnnvg.text.lexicon import BETWEEN, NOUNS, VERBS
from rnnvg.text.manifest import data_file, manifest
from rnnvg.text.tokens import words
from rnnvg.text.vocabulary import Vocabulary

DISTANCES = (2, 3, 10, [2, 3], [2, 5, 9], [3, 200])


def sample(distance, n_words, seed=0):
    language = Agreement(distance)
    return language, language.sample(n_words, torch.Generator().manual_seed(seed))


def sentences(language, ids):
    """The whole sentences of a text, as lists of words."""
    found, sentence = [], []
    for word in language.vocabulary.decode(ids):
        sentence.append(word)
        if word == ".":
            found.append(sentence)
            sentence = []
    return found


def price_of_each_word(language, ids):
    """-ln p(word | all before it), by a slow reader who keeps every distance that is still possible."""
    prices, sentence = [], []
    for word in language.vocabulary.decode(ids):
        place = len(sentence)
        left = [k for k in language.distances.tolist() if k - 1 >= place]
        if place == 0:
            chance = (word in NOUNS) / len(NOUNS)
        elif sentence[-1] == ",":
            chance = float(word == VERBS[NOUNS.index(sentence[0])])
        elif sentence[-1] in VERBS:
            chance = float(word == ".")
        else:
            over = sum(k - 1 == place for k in left) / len(left)
            if word == ",":
                chance = over
            elif place == 1:
                chance = (1 - over) / len(BETWEEN)
            else:
                following = language.successors[BETWEEN.index(sentence[-1])]
                chance = (1 - over) * (BETWEEN.index(word) in following) / SUCCESSORS
        assert chance > 0, (sentence, word)
        prices.append(-math.log(chance))
        sentence = [] if word == "." else [*sentence, word]
    return np.array(prices)


@pytest.mark.parametrize("distance", DISTANCES, ids=str)
def test_every_sentence_plants_its_verb_k_words_before(distance):
    language, ids = sample(distance, 3000)
    assert len(ids) == 3000
    lengths = Counter()
    for sentence in sentences(language, ids):
        k = len(sentence) - 2
        lengths[k] += 1
        noun, *between, comma, verb, stop = sentence
        assert (comma, stop) == (",", ".")
        assert verb == VERBS[NOUNS.index(noun)]
        assert sentence.index(verb) - sentence.index(noun) == k
        assert set(between) <= set(BETWEEN)
        for word, after in itertools.pairwise(between):
            assert BETWEEN.index(after) in language.successors[BETWEEN.index(word)]
    assert set(lengths) == set(language.distances.tolist())


def test_successors_leave_every_word_equally_common():
    successors = Agreement().successors
    assert successors.shape == (len(BETWEEN), SUCCESSORS)
    assert all(len(set(row)) == SUCCESSORS for row in successors.tolist())
    assert (np.bincount(successors.ravel()) == SUCCESSORS).all()


@pytest.mark.parametrize("distance", [2, 3, 4, [2, 4], [2, 3, 5]], ids=str)
def test_entropy_rate_is_the_entropy_of_all_sentences_over_their_mean_length(distance):
    # Every sentence in a small copy of the language, one by one: 3 nouns, 5 words in between, 2 successors.
    nouns, between, following = 3, 5, [[(word + 1) % 5, (word + 2) % 5] for word in range(5)]
    several = distance if isinstance(distance, list) else [distance]
    chances, lengths = [], []
    for k in several:
        for places in itertools.product(range(between), repeat=k - 2):
            if all(after in following[word] for word, after in itertools.pairwise(places)):
                chance = 1 / len(several) / nouns / (between if k > 2 else 1) / 2 ** max(k - 3, 0)
                chances += [chance] * nouns
                lengths += [k + 2] * nouns
    assert sum(chances) == pytest.approx(1)
    entropy = -sum(chance * math.log(chance) for chance in chances)
    mean_length = sum(chance * length for chance, length in zip(chances, lengths, strict=True))
    slowly = entropy / mean_length

    def rate(distances, nouns, between, successors):
        k = np.array(distances)
        price = math.log(len(k)) + math.log(nouns)
        price += np.where(k > 2, math.log(between) + (k - 3) * math.log(successors), 0).mean()
        return price / (k + 2).mean()

    # The formula agrees with the enumeration in the small language, and the code with the formula in the real one.
    assert rate(several, nouns, between, 2) == pytest.approx(slowly, rel=1e-12)
    real = rate(several, len(NOUNS), len(BETWEEN), SUCCESSORS)
    assert Agreement(distance).entropy_rate == pytest.approx(real, rel=1e-12)


@pytest.mark.parametrize("distance", DISTANCES, ids=str)
def test_entropy_rate_is_the_price_of_a_long_text_to_a_perfect_reader(distance):
    language, ids = sample(distance, 60_000, seed=1)
    ids = ids[: int(np.flatnonzero(ids == WORDS.index("."))[-1]) + 1]
    prices = price_of_each_word(language, ids)
    ends = np.flatnonzero(ids == WORDS.index(".")) + 1
    # Sentences are independent: the ratio of mean price to mean length has this standard error.
    price = np.diff(prices.cumsum()[ends - 1], prepend=0.0)
    length = np.diff(ends, prepend=0)
    residual = price - language.entropy_rate * length
    error = residual.std() / math.sqrt(len(residual)) / length.mean()
    measured = price.sum() / length.sum()
    assert abs(measured - language.entropy_rate) <= 4 * error + 1e-12


def test_verbs_and_stops_cost_nothing_and_a_fixed_distance_is_never_in_doubt():
    language, ids = sample(5, 700)
    prices = price_of_each_word(language, ids).reshape(-1, 7)
    expected = [math.log(40), math.log(len(BETWEEN)), math.log(4), math.log(4), 0, 0, 0]
    assert np.allclose(prices, expected)


def test_a_unigram_model_pays_what_the_closed_form_says():
    ids = sample(6, 80_000, seed=2)[1]
    counts = np.bincount(ids, minlength=len(WORDS))
    # In sentences of eight words: one comma, one stop, one of 40 nouns, one of 40 verbs, four of the words in between.
    expected = (2 * math.log(8) + 2 * math.log(8 * 40) + 4 * math.log(8 * len(BETWEEN) / 4)) / 8
    share = counts[counts > 0] / len(ids)
    assert -(share * np.log(share)).sum() == pytest.approx(expected, abs=0.005)


def test_several_distances_are_equally_common():
    language, ids = sample([2, 3, 4], 50_000)
    counts = Counter(len(sentence) - 2 for sentence in sentences(language, ids))
    n = sum(counts.values())
    assert all(abs(counts[k] - n / 3) < 5 * (n * 2 / 9) ** 0.5 for k in (2, 3, 4))


def test_same_seed_same_text_on_every_machine():
    ids = sample([2, 7], 5000, seed=3)[1]
    assert hashlib.sha256(ids.astype("<i4").tobytes()).hexdigest() == (
        "eecd625c5557b8e78e9836e6713a87a42114c755d95363b400663f5cfc8d66f7"
    )
    assert (sample([2, 7], 5000, seed=3)[1] == ids).all()
    assert not (sample([2, 7], 5000, seed=4)[1] == ids).all()


def test_corpus_is_whole_and_held_out_texts_do_not_change_with_its_size():
    corpus = text.load("agreement", distance=[3, 5], n_words=5000)
    longer = text.load("agreement", distance=[3, 5], n_words=5009)
    assert (len(corpus.train), len(corpus.valid), len(corpus.test)) == (5000, 500, 500)
    assert (corpus.valid == longer.valid).all()
    assert (corpus.test == longer.test).all()
    assert not (corpus.valid == corpus.test).all()
    assert corpus.planted == (3, 5)
    assert corpus.entropy_rate == Agreement([3, 5]).entropy_rate
    assert corpus.decided is not None
    assert corpus.vocabulary.decode(corpus.decided) == list(VERBS)
    assert len(corpus.vocabulary) == len(WORDS) == 251
    with pytest.raises(ValueError, match="read-only"):
        corpus.train[0] = 1


def test_words_are_tokens_of_the_plain_tokenizer():
    assert words(" ".join(WORDS)) == list(WORDS)
    assert len(set(WORDS)) == len(WORDS)


def test_the_sample_is_the_one_listed_and_is_written_again_the_same(tmp_path):
    listed = manifest("agreement-sample")
    held = data_file(listed["file"]).read_bytes()
    assert hashlib.sha256(held).hexdigest() == listed["sha256"]
    Agreement(10).write(tmp_path / "again.txt", 10_000)
    assert (tmp_path / "again.txt").read_bytes() == held
    assert "Agreement(10)" in listed["get"]
    language = Agreement(10)
    ids = Vocabulary(WORDS).encode(words(held.decode()))
    assert (ids == language.sample(10_000, torch.Generator().manual_seed(0))).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"distance": 1}, "`distance` must be a whole number of at least 2; got 1."),
        ({"distance": [2, 0]}, "`distance` must be a whole number of at least 2; got 0."),
        (
            {"distance": []},
            "`distance` must be a whole number of at least 2, or a list of different ones; got [].",
        ),
        (
            {"distance": [4, 4]},
            "`distance` must be a whole number of at least 2, or a list of different ones; got [4, 4].",
        ),
        ({"n_words": 0}, "`n_words` must be a whole number of at least 1; got 0."),
        (
            {"n_words": 100},
            "`n_words` of 100 leaves 10 words to test on, fewer than the longest sentence of 12; pass at least 120.",
        ),
        ({"tokens": "words"}, "`tokens` is a setting of files; the text 'agreement' has its own."),
        (
            {"vocabulary": 250},
            "`vocabulary` of 250 has no room for the 251 words of the text 'agreement'; pass at least 251.",
        ),
        (
            {"vocabulary": ["a", "b"]},
            "`vocabulary` is fixed for the text 'agreement': its own 251 words; leave it out.",
        ),
        (
            {"minimum_count": 2},
            "`minimum_count` of 2 would leave out words of the text 'agreement'; leave it at 1.",
        ),
    ],
)
def test_bad_settings_are_one_clear_sentence(settings, message):
    with pytest.raises(InputError) as caught:
        text.load("agreement", **settings)
    assert str(caught.value) == message


def test_a_tail_draws_long_distances_rarely_and_the_entropy_rate_knows():
    language = Agreement([2, 4, 8], tail=1.0)
    np.testing.assert_allclose(language.probabilities, np.array([4, 2, 1]) / 7)
    words = language.vocabulary.decode(language.sample(60_000, torch.Generator().manual_seed(0)))
    lengths = np.diff([at for at, word in enumerate(words) if word == "."])
    counted = [(lengths == k + 2).mean() for k in (2, 4, 8)]
    np.testing.assert_allclose(counted, language.probabilities, atol=0.02)
    p, k = language.probabilities, np.array([2, 4, 8])
    between = np.array([0, math.log(168) + math.log(4), math.log(168) + 5 * math.log(4)])
    nats = -(p * np.log(p)).sum() + math.log(40) + (p * between).sum()
    assert language.entropy_rate == pytest.approx(nats / (p * (k + 2)).sum())
    assert Agreement([2, 4, 8]).probabilities.tolist() == [1 / 3] * 3
    with pytest.raises(InputError) as caught:
        Agreement([2, 4], tail=-1)
    assert str(caught.value) == "`tail` must be a finite number above 0; got -1."
