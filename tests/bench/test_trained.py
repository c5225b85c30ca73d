"""A run's folder gives the language model back with its words; what is missing is said in one sentence."""

import shutil

import pytest
import torch

from rnnvg import bench, models, tasks
from rnnvg.bench.trained import language_model
from rnnvg.errors import InputError


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    spec = bench.run_spec(
        {"name": "next-word", "text": "agreement", "distance": 4, "n_words": 3000, "bptt": 5},
        "gru",
        hidden=4,
        training={"steps": 1, "batch": 2},
        measure={"sequences": 2},
    )
    assert bench.execute(spec, out)["status"] == "ok"
    return out / "runs" / spec.id


@pytest.fixture
def copied(run, tmp_path):
    return shutil.copytree(run, tmp_path / "copied")


def refused(path):
    with pytest.raises(InputError) as caught:
        language_model(path)
    return str(caught.value)


def test_a_folder_a_weights_file_and_a_directory_with_one_run_are_the_same_run(run):
    task = tasks.make("next-word", distance=4, n_words=3000, bptt=5)
    for path in (run, run / "weights.safetensors", run.parent.parent):
        found = language_model(path)
        assert found.vocabulary.words == task.vocabulary.words
        assert found.vocabulary.tokens == "words"
        assert found.name == run.name
        assert found.task["name"] == "next-word"
        assert not found.model.training
        models.check_fits(found.model.spec, task)
    assert bench.Store(run.parent.parent).result(run.name)["files"].keys() >= {"vocabulary.json"}


def test_a_run_without_its_vocabulary(copied):
    (copied / "vocabulary.json").unlink()
    assert refused(copied) == (
        f"The run '{copied}' has no vocabulary.json, so that the words behind its ids are unknown; "
        "put the file back, or train again."
    )


def test_files_that_do_not_belong_together(copied):
    (copied / "vocabulary.json").write_text('{"schema": 1, "words": ["a", "b"]}')
    assert refused(copied) == (
        f"'{copied / 'vocabulary.json'}' has 2 words and the network knows 251; pass a run whose files belong together."
    )


def test_what_is_no_run_of_next_word(run, tmp_path):
    assert refused(tmp_path / "none") == (
        f"There is no run '{tmp_path / 'none'}'; pass the folder of a run, or its weights.safetensors."
    )
    assert refused(tmp_path) == (
        f"'{tmp_path}' holds no run of next-word; train one with: rnnvg train --task next-word."
    )
    for name in ("next-word-a", "next-word-b"):
        shutil.copytree(run, tmp_path / "runs" / name)
    assert refused(tmp_path) == (
        f"'{tmp_path}' holds 2 runs of next-word; pass one of them, such as '{tmp_path / 'runs' / 'next-word-a'}'."
    )
    numbers = tmp_path / "adding.safetensors"
    with torch.random.fork_rng(devices=[]):
        models.save(models.build(tasks.make("adding"), "rnn", hidden=2), numbers, task={"name": "adding"})
    assert refused(numbers) == (f"'{numbers}' is a network for adding and reads no words; pass a run of next-word.")
