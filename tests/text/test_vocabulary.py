"""Vocabularies: which words are kept, what becomes of the others, and files that come back the same."""

import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnnvg.errors import InputError
from rnnvg.text.vocabulary import Vocabulary

COUNTS = Counter({"the": 4, "to": 3, "be": 2, "or": 2, "not": 1})


def test_commonest_words_first_ties_in_alphabetical_order():
    assert Vocabulary.build(COUNTS).words == ("<unk>", "the", "to", "be", "or", "not")
    assert Vocabulary.build(COUNTS, size=4).words == ("<unk>", "the", "to", "be")
    assert Vocabulary.build(COUNTS, minimum_count=3).words == ("<unk>", "the", "to")
    assert Vocabulary.build(COUNTS, size=2, minimum_count=2).words == ("<unk>", "the")
    assert Vocabulary.build({"<unk>": 9, "a": 1}).words == ("<unk>", "a")


@given(st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=60), st.integers(2, 10))
def test_encoding_and_decoding_against_a_list_search(tokens, size):
    vocabulary = Vocabulary.build(Counter(tokens), size=size)
    assert len(vocabulary) <= size
    ids = vocabulary.encode(tokens)
    assert ids.dtype == "int32"
    words = list(vocabulary.words)
    assert ids.tolist() == [words.index(token) if token in words else 0 for token in tokens]
    assert vocabulary.decode(ids) == [token if token in words else "<unk>" for token in tokens]


def test_saved_and_loaded_the_same(tmp_path):
    vocabulary = Vocabulary(["<unk>", "naïve", 'quo"te', "</script>"])
    vocabulary.save(tmp_path / "vocabulary.json")
    assert Vocabulary.load(tmp_path / "vocabulary.json").words == vocabulary.words
    assert [path.name for path in tmp_path.iterdir()] == ["vocabulary.json"]
    assert json.loads((tmp_path / "vocabulary.json").read_text(encoding="utf-8"))["words"][1] == "naïve"


def test_of_takes_lists_and_what_torchtext_offers():
    class Old:
        itos = ("<unk>", "<pad>", "a")

    class New:
        def get_itos(self):
            return ["a", "<unk>"]

    assert Vocabulary.of(Old()).words == Old.itos
    assert Vocabulary.of(New()).words == ("a", "<unk>")
    assert Vocabulary.of(New()).encode(["b", "a"]).tolist() == [1, 0]
    assert Vocabulary.of(["x", "y"]).words == ("x", "y")
    vocabulary = Vocabulary(["x", "y"])
    assert Vocabulary.of(vocabulary) is vocabulary


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Vocabulary(["a"]), "`vocabulary` needs at least two words; got 1."),
        (lambda: Vocabulary(["a", "b", "a"]), "`vocabulary` holds 'a' twice; pass every word once."),
        (lambda: Vocabulary.build(COUNTS, size=1), "`vocabulary` must be a whole number of at least 2; got 1."),
        (lambda: Vocabulary.build(COUNTS, size=True), "`vocabulary` must be a whole number of at least 2; got True."),
        (
            lambda: Vocabulary.build(COUNTS, minimum_count=0),
            "`minimum_count` must be a whole number of at least 1; got 0.",
        ),
        (
            lambda: Vocabulary.build(COUNTS, minimum_count=5),
            "`minimum_count` of 5 leaves no word in the vocabulary; pass a smaller one.",
        ),
        (
            lambda: Vocabulary.of(3.5),
            "`vocabulary` must be a size, a list of words or a torchtext vocabulary; got float.",
        ),
        (
            lambda: Vocabulary.of([1, 2]),
            "`vocabulary` must be a size, a list of words or a torchtext vocabulary; got list.",
        ),
        (
            lambda: Vocabulary(["a", "b"]).encode(["a", "c"]),
            "`vocabulary` has neither 'c' nor '<unk>' to stand for it; add one of them.",
        ),
    ],
)
def test_misuse_is_one_clear_sentence(make, message):
    with pytest.raises(InputError) as caught:
        make()
    assert str(caught.value) == message


def test_bad_files_are_one_clear_sentence(tmp_path):
    missing, broken, other = (tmp_path / name for name in ("missing.json", "broken.json", "other.json"))
    broken.write_text("{")
    other.write_text('{"schema": 1, "words": [1]}')
    for path, message in (
        (missing, f"The vocabulary '{missing}' cannot be read: No such file or directory."),
        (broken, f"The vocabulary '{broken}' is not JSON: "),
        (other, f"'{other}' is not a vocabulary that rnnvg wrote; pass one that `Vocabulary.save` wrote."),
    ):
        with pytest.raises(InputError) as caught:
            Vocabulary.load(path)
        assert str(caught.value).startswith(message)


def test_the_rule_that_cut_the_words_is_kept_with_them(tmp_path):
    Vocabulary(["a", "b"], tokens="spaces").save(tmp_path / "new.json")
    assert Vocabulary.load(tmp_path / "new.json").tokens == "spaces"
    (tmp_path / "old.json").write_text('{"schema": 1, "words": ["a", "b"]}')
    assert Vocabulary.load(tmp_path / "old.json").tokens is None
