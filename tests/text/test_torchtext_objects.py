"""torchtext's objects, taken by what they offer: real ones where torchtext is installed, and likenesses of 0.18.0's."""

import importlib
import sys
from types import SimpleNamespace

import pytest

from rnnvg import tasks, text
from rnnvg.errors import InputError
from rnnvg.text import torch_text
from rnnvg.text.corpus import Corpus
from rnnvg.text.torch_text import from_torchtext

pytestmark = [
    # torchtext is archived: what it does of its own accord is not ours to mend.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::SyntaxWarning"),
]
LINES = {
    "train": [" the cat <unk> sat \n", " \n", " = on the mat =\n", "the Cat n't 's"],
    "valid": ["a cat sat\n", "the mat\n"],
    "test": ["the dog on the cat \n", " the end\n"],
}


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "root" / "wikitext-2" / "wikitext-2"
    folder.mkdir(parents=True)
    for split, lines in LINES.items():
        (folder / f"wiki.{split}.tokens").write_text("".join(lines * 5 if split == "train" else lines * 2))
    return tmp_path / "root"


@pytest.fixture
def torchtext():
    return pytest.importorskip("torchtext", reason="torchtext is not installed", exc_type=ImportError)


@pytest.fixture
def old(torchtext):
    if not hasattr(importlib.import_module("torchtext.datasets"), "LanguageModelingDataset"):
        pytest.skip("Field and BPTTIterator are of torchtext 0.6.0")
    return torchtext


def ids(corpus):
    return [corpus.split(split).tolist() for split in ("train", "valid", "test")]


@pytest.mark.parametrize("settings", [{}, {"vocabulary": 5}, {"vocabulary": None, "minimum_count": 6}])
def test_a_named_dataset_has_the_ids_of_the_own_reader(torchtext, root, settings):
    theirs = text.load(f"torchtext:WikiText2@{root}", **settings)
    ours = text.load(root / "wikitext-2" / "wikitext-2", **settings)
    assert theirs.vocabulary.words == ours.vocabulary.words
    assert theirs.vocabulary.tokens == ours.vocabulary.tokens == "spaces"
    assert ids(theirs) == ids(ours)


def test_splits_of_the_old_version_have_the_ids_of_their_field(old, root):
    field = old.data.Field()
    folder = root / "wikitext-2" / "wikitext-2"
    splits = old.datasets.WikiText2.splits(field, path=str(folder))
    field.build_vocab(splits[0])
    corpus = from_torchtext(splits, name="mine")
    assert isinstance(corpus, Corpus)
    assert corpus.name == "mine"
    assert corpus.vocabulary.words == tuple(field.vocab.itos)
    for split, dataset in zip(("train", "valid", "test"), splits, strict=True):
        assert corpus.split(split).tolist() == [field.vocab.stoi[word] for word in dataset[0].text]
    # The own reader with their vocabulary gives the same ids.
    assert ids(text.load(folder, vocabulary=field.vocab)) == ids(corpus)
    assert from_torchtext(field).words == tuple(field.vocab.itos)


def test_an_iterator_reads_on_as_the_task_does(old, root):
    field = old.data.Field()
    splits = old.datasets.WikiText2.splits(field, path=str(root / "wikitext-2" / "wikitext-2"))
    field.build_vocab(splits[0])
    iterators = old.data.BPTTIterator.splits(splits, batch_size=2, bptt_len=3, device="cpu")
    task = tasks.make("next-word", text=from_torchtext(iterators), bptt=3)
    theirs, ours = next(iter(iterators[0])), next(iter(task.stream(2)))
    assert ours.inputs[:, 0].tolist() == theirs.text[:, 0].tolist()
    assert ours.targets[:, 0].tolist() == theirs.target[:, 0].tolist()
    one = from_torchtext(iterators[0])
    assert len(one.train) + len(one.valid) + len(one.test) == len(splits[0][0].text)


def test_a_field_without_a_vocabulary_and_a_tokenizer_cut_text(torchtext, old):
    assert from_torchtext(old.data.Field(lower=True))("A b\n") == ["a", "b"]
    tokenizer = importlib.import_module("torchtext.data.utils").get_tokenizer("basic_english")
    assert from_torchtext(tokenizer)("It's here.") == tokenizer("It's here.")


class NewVocabulary:
    """What torchtext 0.18.0's Vocab offers; it is callable, as a module is."""

    def get_itos(self):
        return ["<unk>", "the", "cat"]

    def __call__(self, tokens):
        return [0 for _ in tokens]


def test_the_new_versions_vocabularies_lines_and_splits():
    assert from_torchtext(NewVocabulary()).words == ("<unk>", "the", "cat")
    corpus = from_torchtext(tuple(iter(lines) for lines in LINES.values()), vocabulary=NewVocabulary())
    assert isinstance(corpus, Corpus)
    assert corpus.vocabulary.decode(corpus.valid) == ["<unk>", "cat", "<unk>", "<unk>", "the", "<unk>", "<unk>"]


def refused(call):
    with pytest.raises(InputError) as caught:
        call()
    return str(caught.value)


def test_misuse_is_one_clear_sentence(tmp_path):
    assert refused(lambda: from_torchtext(3)) == (
        "`source` is int; pass torchtext's vocabulary, Field, tokenizer, dataset or BPTTIterator, "
        "or train, valid and test of the last two."
    )
    assert refused(lambda: from_torchtext((["a"], ["b"]))).startswith("`source` is 2 splits; pass torchtext's")
    assert refused(lambda: from_torchtext((["a b"], [], ["c"]))) == (
        "The valid text of 'torchtext' is empty: it holds no words; pass a dataset with text in it."
    )
    assert refused(lambda: text.load("torchtext:PennTreeBank")) == (
        "`text` has no 'PennTreeBank'. Did you mean 'PennTreebank'? Pass one of: WikiText2, WikiText103, PennTreebank."
    )
    assert refused(lambda: text.load(f"torchtext:PennTreebank@{tmp_path}")) == (
        f"The dataset 'PennTreebank' is not under '{tmp_path}'; put ptb.train.txt, ptb.valid.txt and ptb.test.txt into "
        f"'{tmp_path / 'penn-treebank'}', or pass its root."
    )


@pytest.mark.parametrize(
    ("error", "python", "message"),
    [
        (
            ModuleNotFoundError("No module named 'torchtext'"),
            (3, 11),
            "torchtext is not installed (No module named 'torchtext'); get it with: pip install 'rnnvg[torchtext]'.",
        ),
        (
            OSError("undefined symbol"),
            (3, 12),
            "torchtext 0.18.0 does not load beside torch 2.13.0 (OSError); get one that does with: "
            "pip install 'rnnvg[torchtext]' or, beside torch 2.3, 'rnnvg[torchtext-legacy]'.",
        ),
        (
            OSError("undefined symbol"),
            (3, 13),
            "torchtext 0.18.0 does not load beside torch 2.13.0 (OSError); get one that does with: "
            "pip install 'rnnvg[torchtext]' ('rnnvg[torchtext-legacy]' has nothing for Python 3.13).",
        ),
    ],
)
def test_a_torchtext_that_does_not_load_names_the_extra_that_fits(root, monkeypatch, error, python, message):
    def fail(name, package=None):
        raise error

    monkeypatch.setattr(torch_text, "importlib", SimpleNamespace(import_module=fail))
    monkeypatch.setattr(torch_text, "_version", {"torchtext": "0.18.0", "torch": "2.13.0"}.__getitem__)
    monkeypatch.setattr(sys, "version_info", (*python, 0))
    assert refused(lambda: text.load(f"torchtext:WikiText2@{root}")) == message
