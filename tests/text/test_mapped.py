"""Texts encoded to the disk: the same words as in memory, found again by content, and nothing half done left behind."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnnvg import tasks, text
from rnnvg.errors import InputError
from rnnvg.text import files, mapped
from rnnvg.text.manifest import data_file
from rnnvg.text.vocabulary import Vocabulary


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("RNNVG_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(files, "MAPPED_FROM", 0)
    return tmp_path / "cache"


def in_memory(path, **settings):
    before, files.MAPPED_FROM = files.MAPPED_FROM, 1 << 40
    try:
        return text.load(path, **settings)
    finally:
        files.MAPPED_FROM = before


def assert_same(one, two):
    assert one.vocabulary.words == two.vocabulary.words
    assert one.vocabulary.tokens == two.vocabulary.tokens
    for split in ("train", "valid", "test"):
        assert one.split(split).tolist() == two.split(split).tolist()
        assert one.split(split).dtype == np.int32


@pytest.mark.parametrize("settings", [{}, {"vocabulary": 40}, {"vocabulary": None, "minimum_count": 30}])
def test_mapped_and_held_texts_are_the_same(cache, settings):
    corpus = text.load(data_file("agreement.txt"), **settings)
    assert isinstance(corpus.train, np.memmap)
    assert not corpus.train.flags.writeable
    assert_same(corpus, in_memory(data_file("agreement.txt"), **settings))


@given(
    content=st.lists(st.sampled_from(["a", "b", "c", "d", "\n", "é"]), min_size=30, max_size=90),
    piece=st.integers(1, 9),
)
def test_any_text_in_any_pieces(tmp_path_factory, content, piece):
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text(" ".join([*"abcd", *content]), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RNNVG_CACHE", str(path.parent / "cache"))
        patch.setattr(files, "MAPPED_FROM", 0)
        patch.setattr("rnnvg.text.pieces.PIECE", piece)
        patch.setattr(mapped, "_CHUNK", 7)
        assert_same(text.load(path, vocabulary=4, tokens="spaces"), in_memory(path, vocabulary=4, tokens="spaces"))


def test_a_directory_and_a_list_of_words(cache, tmp_path):
    for name, content in (("train", "b b b a a c"), ("valid", "c d a"), ("test", "e e e b")):
        (tmp_path / f"{name}.txt").write_text(content)
    for vocabulary in (3, ["d", "<unk>", "a"], Vocabulary(["<unk>", "b"])):
        assert_same(text.load(tmp_path, vocabulary=vocabulary), in_memory(tmp_path, vocabulary=vocabulary))
    with pytest.raises(InputError, match="`minimum_count` chooses words and `vocabulary` already lists them"):
        text.load(tmp_path, vocabulary=["d", "<unk>"], minimum_count=2)


def test_a_text_is_encoded_once_and_known_by_its_content(cache, tmp_path, monkeypatch):
    path = tmp_path / "text.txt"
    path.write_text("one two three " * 50)
    first = text.load(path)
    assert first.provenance["files"]["all"]["sha256"] == mapped._sha256(path)

    def never(*_):
        raise AssertionError("encoded again")

    with monkeypatch.context() as patch:
        patch.setattr(mapped, "_encode", never)
        moved = path.rename(tmp_path / "moved.txt")
        assert_same(text.load(moved), first)
        with pytest.raises(AssertionError):
            text.load(moved, vocabulary=2)
    moved.write_text("four five six " * 50)
    assert "four" in text.load(moved).vocabulary
    assert not list(cache.glob("texts/.part-*"))


def test_an_encoded_text_that_was_cut_off_is_made_again(cache, tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("one two three " * 50)
    first = text.load(path).train.tolist()
    (ids,) = cache.glob(f"texts/*/{mapped.IDS}")
    ids.write_bytes(ids.read_bytes()[:40])
    assert text.load(path).train.tolist() == first


def test_words_beyond_the_bound_are_unknown(cache, tmp_path, monkeypatch):
    monkeypatch.setattr(mapped, "MOST_WORDS", 3)
    path = tmp_path / "text.txt"
    path.write_text("a b c d e a d " * 20)
    corpus = text.load(path, vocabulary=None)
    assert set(corpus.vocabulary.words) == {"<unk>", "a", "b", "c"}
    assert corpus.vocabulary.decode(corpus.train[:7]) == ["a", "b", "c", "<unk>", "<unk>", "a", "<unk>"]


def test_bad_texts_leave_nothing_behind(cache, tmp_path):
    path = tmp_path / "text.txt"
    path.write_bytes(b"good words " * 20 + b"caf\xe9")
    for content, message in (
        (path.read_bytes(), f"The text '{path}' is not UTF-8 at byte 223 (0xe9); save it as UTF-8."),
        (b" -- ", f"The text '{path}' is empty: it holds no words; pass a file with text in it."),
    ):
        path.write_bytes(content)
        with pytest.raises(InputError) as caught:
            text.load(path)
        assert str(caught.value) == message
        assert not list((cache / "texts").iterdir())


def test_a_cache_that_cannot_be_written(cache, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("RNNVG_CACHE", str(tmp_path / "file"))
    with pytest.raises(InputError) as caught:
        text.load(data_file("agreement.txt"))
    assert str(caught.value) == (
        f"The text '{data_file('agreement.txt')}' cannot be encoded to '{tmp_path / 'file'}': Not a directory. "
        "Set RNNVG_CACHE to a folder with room."
    )


def test_a_file_without_white_space_is_not_read_into_memory(tmp_path, monkeypatch):
    monkeypatch.setattr("rnnvg.text.pieces.PIECE", 100)
    monkeypatch.setattr("rnnvg.text.pieces.LONGEST", 1 << 20)
    path = tmp_path / "text.txt"
    path.write_bytes(b"two words " + b"x" * (3 << 20))
    with pytest.raises(InputError) as caught:
        text.load(path)
    assert str(caught.value) == (
        f"'{path}' is not a text of words: from byte 10 on there is no white space for 1 MiB; "
        "pass a text with words between spaces."
    )


def test_a_network_reads_a_mapped_text(cache):
    task = tasks.make("next-word", text=data_file("agreement.txt"), bptt=5)
    held = in_memory(data_file("agreement.txt"))
    first = next(iter(task.stream(2)))
    assert first.inputs[:, 0].tolist() == held.train[:5].tolist()


def test_memory_is_bounded_by_pieces_and_not_by_the_text(cache, tmp_path):
    # 40 MB of text whose ids alone would take 40 MB.
    path = tmp_path / "text.txt"
    with path.open("w") as file:
        for _ in range(40):
            file.write("a bc def g " * 95_325)
    code = (
        "import resource, sys; from rnnvg.text.mapped import load_mapped; from pathlib import Path;"
        "base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss;"
        "load_mapped(Path(sys.argv[1]), {'all': Path(sys.argv[1])}, vocabulary=10, minimum_count=1, tokens='spaces');"
        "print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - base) // 1024)"
    )
    found = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
    assert int(found.stdout) < 40
