"""A vocabulary of torchtext 0.6.0 drives the next-word task: the same ids, and a model learns on it."""

import importlib

import pytest
import torch

from rnnvg import models, tasks, training
from rnnvg.text.manifest import data_file
from rnnvg.text.tokens import words

pytestmark = [
    # torchtext is archived: what it does of its own accord is not ours to mend.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::SyntaxWarning"),
]


def build_vocabulary(max_size):
    torchtext = pytest.importorskip("torchtext", reason="torchtext is not installed", exc_type=ImportError)
    if not hasattr(importlib.import_module("torchtext.data"), "Field"):
        pytest.skip("Field is of torchtext 0.6.0")
    field = torchtext.data.Field(tokenize=words)
    field.build_vocab([words(data_file("agreement.txt").read_text())], max_size=max_size)
    return field.vocab


@pytest.mark.parametrize("max_size", [60, None])
def test_ids_are_torchtexts_own(max_size):
    vocabulary = build_vocabulary(max_size)
    task = tasks.make("next-word", text=data_file("agreement.txt"), vocabulary=vocabulary)
    assert task.vocabulary.words == tuple(vocabulary.itos)
    assert task.vocabulary.words[:2] == ("<unk>", "<pad>")
    tokens = words(data_file("agreement.txt").read_text())
    theirs = [vocabulary.stoi[token] for token in tokens]
    ours = [*task.corpus.train.tolist(), *task.corpus.valid.tolist(), *task.corpus.test.tolist()]
    assert ours == theirs
    again = tasks.make("next-word", **task.settings)
    assert again.vocabulary.words == task.vocabulary.words


def test_a_network_is_trained_on_it():
    task = tasks.make("next-word", text=data_file("agreement.txt"), vocabulary=build_vocabulary(None))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = models.build(task, "gru", hidden=32, tied=True)
    result = training.fit(
        model, task, steps=120, batch=16, lr=0.02, generator=torch.Generator().manual_seed(0), eval_every=60
    )
    assert result.status == "ok"
    assert result.score["perplexity"] < 0.5 * task.baseline
