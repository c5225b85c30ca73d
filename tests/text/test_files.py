"""Anyone's files: read in pieces, split by position or by name, and refused in one sentence that says where."""

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnnvg import text
from rnnvg.errors import InputError
from rnnvg.text import pieces as pieces_module
from rnnvg.text.manifest import data_file
from rnnvg.text.pieces import read_pieces
from rnnvg.text.tokens import spaces, words

WIKITEXT = Path(__file__).parents[3] / "shared" / "corpora" / "wikitext-2"


@pytest.fixture
def small_pieces(monkeypatch):
    monkeypatch.setattr("rnnvg.text.pieces.PIECE", 7)


def refused(path, **settings):
    with pytest.raises(InputError) as caught:
        text.load(path, **settings)
    return str(caught.value)


@given(content=st.text(alphabet="ab é\n\t,漢𝒳", max_size=60), piece=st.integers(1, 12))
def test_pieces_are_the_file_and_cut_no_word(tmp_path_factory, content, piece):
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_bytes(content.encode())
    before = pieces_module.PIECE
    pieces_module.PIECE = piece
    try:
        digest = hashlib.sha256()
        pieces = list(read_pieces(path, digest))
    finally:
        pieces_module.PIECE = before
    whole = content if not content or content.endswith("\n") else content + "\n"
    assert "".join(pieces) == whole
    assert digest.digest() == hashlib.sha256(content.encode()).digest()
    for cut in (words, spaces):
        assert [token for each in pieces for token in cut(each)] == cut(whole)


@pytest.mark.usefixtures("small_pieces")
def test_errors_name_the_byte_wherever_it_stands(tmp_path):
    path = tmp_path / "bad.txt"
    path.write_bytes("one two é three ".encode() + b"caf\xe9 four five six")
    assert refused(path) == f"The text '{path}' is not UTF-8 at byte 20 (0xe9); save it as UTF-8."
    path.write_bytes(b"word " * 9 + b"\xff")
    assert refused(path) == f"The text '{path}' is not UTF-8 at byte 45 (0xff); save it as UTF-8."
    path.write_bytes(b"ends in the middle of \xe6\xbc")
    assert refused(path) == f"The text '{path}' is not UTF-8 at byte 22 (0xe6); save it as UTF-8."
    path.write_bytes(b"some words and \x00 then more")
    assert refused(path) == f"'{path}' is not a text: byte 15 is NUL; pass a UTF-8 text file."


def test_texts_that_are_not_there_or_hold_nothing(tmp_path):
    path = tmp_path / "empty.txt"
    path.write_bytes(b"")
    assert refused(path) == f"The text '{path}' is empty: it holds no words; pass a file with text in it."
    path.write_text(" -- \n\n ")
    assert refused(path) == f"The text '{path}' is empty: it holds no words; pass a file with text in it."
    missing = tmp_path / "missing.txt"
    assert refused(missing).startswith(f"`text` has no '{missing}'. ")
    assert refused("x" * 5000) == f"The text '{'x' * 5000}' cannot be read: File name too long."
    assert refused("shakespear") == (
        "`text` has no 'shakespear'. Did you mean 'shakespeare'? Pass one of agreement, shakespeare, or a file or directory."
    )


def test_unreadable_files_say_why(tmp_path, monkeypatch):
    path = tmp_path / "closed.txt"
    path.write_text("words")

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    assert refused(path) == f"The text '{path}' cannot be read: Permission denied."


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="no such device here")
def test_a_source_without_end_is_refused_at_once():
    assert refused("/dev/zero") == "`text` '/dev/zero' is not a regular file. Pass the path of a file."


def test_a_byte_order_mark_is_not_a_part_of_the_text(tmp_path):
    path = tmp_path / "marked.txt"
    path.write_bytes(b"\xef\xbb\xbfone \xef\xbb\xbftwo\n")
    assert "".join(read_pieces(path)) == "one \ufefftwo\n"


def test_one_file_is_split_by_position(tmp_path):
    path = tmp_path / "numbers.txt"
    path.write_text("\ufeff" + " ".join(f"w{i}" for i in range(200)) + " w1 w1")
    corpus = text.load(path, vocabulary=None)
    assert corpus.name == "numbers.txt"
    assert (len(corpus.train), len(corpus.valid), len(corpus.test)) == (181, 10, 11)
    # Only words of train are known, the commonest first.
    assert len(corpus.vocabulary) == 182
    assert corpus.vocabulary.decode(corpus.train) == [f"w{i}" for i in range(181)]
    assert corpus.vocabulary.decode(corpus.valid) == ["<unk>"] * 10
    assert corpus.vocabulary.decode(corpus.test) == ["<unk>"] * 9 + ["w1", "w1"]
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert corpus.provenance["files"] == {"all": {"name": "numbers.txt", "sha256": digest}}


def test_the_sample_reads_as_the_language_it_is():
    corpus = text.load(data_file("agreement.txt"))
    assert (len(corpus.train), len(corpus.valid), len(corpus.test)) == (9000, 500, 500)
    assert len(corpus.vocabulary) == 251
    assert (corpus.train > 0).all()


def test_vocabulary_is_capped_counted_and_taken_from_train(tmp_path):
    for name, content in (("train", "b b b a a c"), ("valid", "c d a"), ("test", "e e e b")):
        (tmp_path / f"{name}.txt").write_text(content)
    corpus = text.load(tmp_path, vocabulary=3)
    assert corpus.vocabulary.words == ("<unk>", "b", "a")
    assert corpus.train.tolist() == [1, 1, 1, 2, 2, 0]
    assert corpus.valid.tolist() == [0, 0, 2]
    assert corpus.test.tolist() == [0, 0, 0, 1]
    assert text.load(tmp_path, minimum_count=2).vocabulary.words == ("<unk>", "b", "a")
    given_list = text.load(tmp_path, vocabulary=["d", "<unk>", "a"])
    assert given_list.valid.tolist() == [1, 0, 2]
    assert refused(tmp_path, vocabulary=["d", "<unk>"], minimum_count=2) == (
        "`minimum_count` chooses words and `vocabulary` already lists them; pass one of the two."
    )
    assert refused(tmp_path, vocabulary=1) == "`vocabulary` must be a whole number of at least 2; got 1."
    assert refused(tmp_path, distance=3) == (
        f"`distance` is a setting of the text 'agreement'; the text '{tmp_path}' does not have it."
    )
    assert (
        refused(tmp_path, tokens="word") == "`tokens` has no 'word'. Did you mean 'words'? Pass one of: words, spaces."
    )


@pytest.mark.parametrize(
    ("pattern", "tokens"),
    [("ptb.{}.txt", "spaces"), ("wiki.{}.tokens", "spaces"), ("wiki.{}.raw", "words"), ("{}.txt", "words")],
)
def test_published_directories_are_known_by_their_file_names(tmp_path, pattern, tokens):
    for split in ("train", "valid", "test"):
        (tmp_path / pattern.format(split)).write_text(f" the {split} <unk> N't \n the\n")
    (tmp_path / "ptb.char.train.txt").write_text("t h e")
    corpus = text.load(tmp_path)
    assert corpus.name == tmp_path.name
    assert corpus.provenance["tokens"] == tokens
    assert set(corpus.provenance["files"]) == {"train", "valid", "test"}
    read = corpus.vocabulary.decode(corpus.train)
    if tokens == "spaces":
        assert read == ["the", "train", "<unk>", "N't", "<eos>", "the", "<eos>"]
        assert corpus.vocabulary.words == ("<unk>", "<eos>", "the", "N't", "train")
    else:
        assert read == ["the", "train", "<unk>", "n't", "the"]
    assert text.load(tmp_path, tokens="words").vocabulary.decode(corpus.train[:1]) is not None


def test_directories_that_lack_a_split(tmp_path):
    assert refused(tmp_path) == (
        f"The directory '{tmp_path}' has no train file; name it as one of: "
        "ptb.train.txt, wiki.train.tokens, wiki.train.raw, train.txt."
    )
    (tmp_path / "train.txt").write_text("a b c")
    (tmp_path / "validation.txt").write_text("a b c")
    assert refused(tmp_path) == (
        f"The directory '{tmp_path}' has 'train.txt' but no 'test.txt'; put the three splits side by side."
    )
    (tmp_path / "test.txt").write_text("a b c")
    assert len(text.load(tmp_path).valid) == 3


def test_a_line_of_a_million_words(tmp_path):
    path = tmp_path / "long.txt"
    path.write_text("word stop. " * 350_000)
    corpus = text.load(path)
    assert len(corpus.train) + len(corpus.valid) + len(corpus.test) == 1_050_000
    assert set(corpus.vocabulary.words) == {"<unk>", "word", "stop", "."}


@pytest.mark.skipif(not WIKITEXT.is_dir(), reason="real articles are not on this machine")
def test_real_articles_are_read_as_published(tmp_path):
    for split, source in (("train", "valid"), ("valid", "valid"), ("test", "test")):
        (tmp_path / f"wiki.{split}.tokens").symlink_to(WIKITEXT / f"{source}.txt")
    corpus = text.load(tmp_path, vocabulary=None)
    # Merity et al. 2016, table 1, counts words without the ends of lines.
    ends = (corpus.train == corpus.vocabulary.encode(["<eos>"])[0]).sum()
    assert len(corpus.train) - ends == 213_886
    by_hand = spaces((WIKITEXT / "test.txt").read_text(encoding="utf-8"))
    assert len(corpus.test) == len(by_hand)
    known = set(corpus.vocabulary.words)
    assert corpus.vocabulary.decode(corpus.test[:500]) == [w if w in known else "<unk>" for w in by_hand[:500]]
