"""Weight files: whole or not at all, the same numbers back, and one sentence for every file that is something else."""

import json
import pickle

import pytest
import safetensors.torch
import torch

from rnnvg import files, models, tasks
from rnnvg.errors import InputError
from rnnvg.models import tensorfile, weights

TASK = tasks.make("adding", length=10)


class Text:
    name, kind, n_inputs, n_outputs, distances = "next-word", "tokens", 30, 30, None


@pytest.fixture
def path(tmp_path):
    return tmp_path / "weights.safetensors"


@pytest.mark.parametrize("cell", models.CELLS)
def test_the_same_model_comes_back(cell, path):
    model = models.build(TASK, cell, hidden=5, layers=2, embed=3)
    models.save(model, path, task={"name": "adding"}, seed=4)
    state = torch.get_rng_state()
    again = models.load(path, TASK)
    assert torch.equal(torch.get_rng_state(), state)
    assert again.spec == model.spec
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
    assert models.read_header(path) == {"task": {"name": "adding"}, "seed": 4, "spec": model.spec}


def test_tied_weights_are_written_once_and_tied_again(path):
    model = models.build(Text, "gru", hidden=5, tied=True, dropout=0.5)
    models.save(model, path)
    again = models.load(path)
    assert again.readout.weight is again.encoder.weight
    assert torch.equal(again.encoder.weight, model.encoder.weight)
    assert "readout.weight" not in safetensors.torch.load_file(path)


def test_equal_models_are_equal_bytes(path, tmp_path):
    model = models.build(TASK, "lstm", hidden=5)
    models.save(model, path, seed=1, note="b")
    models.save(model, tmp_path / "again", seed=1, note="b")
    assert path.read_bytes() == (tmp_path / "again").read_bytes()


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(path, monkeypatch):
    model = models.build(TASK, "rnn", hidden=2)
    models.save(model, path)
    before = path.read_bytes()

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        models.save(models.build(TASK, "rnn", hidden=3), path)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_another_tasks_weights_are_refused(path):
    models.save(models.build(TASK, "rnn", hidden=2), path)
    with pytest.raises(InputError) as raised:
        models.load(path, tasks.make("copy", n_symbols=8))
    assert str(raised.value) == (
        f"{path} takes numbers, 2 in and 1 out; task 'copy' has tokens, 10 in and 9 out. "
        "Pass the task that it was made for, or build another model."
    )


def test_another_shape_than_the_header_says_is_refused(path):
    model = models.build(TASK, "rnn", hidden=2)
    spec = {**model.spec, "hidden": 3}
    tensorfile.write_tensors(path, weights.own_tensors(model), {"format": weights.FORMAT, "spec": spec, "header": {}})
    with pytest.raises(InputError) as raised:
        models.load(path)
    assert str(raised.value) == (
        f"{path} holds weights of another shape than its own header says (core.bias_hh_l0 is (2,) and should be (3,))."
    )


def test_a_missing_tensor_is_refused(path):
    model = models.build(TASK, "rnn", hidden=2)
    tensors = weights.own_tensors(model)
    del tensors["readout.bias"]
    tensorfile.write_tensors(path, tensors, {"format": weights.FORMAT, "spec": model.spec, "header": {}})
    with pytest.raises(InputError, match=r"readout.bias is missing and should be \(1,\)"):
        models.load(path)


def test_a_missing_file_is_one_sentence(path):
    with pytest.raises(InputError) as raised:
        models.load(path)
    assert str(raised.value) == f"There is no file {path}. Pass a .safetensors file that rnnvg wrote."


def test_a_pickle_is_never_loaded(path):
    class Bomb:
        def __reduce__(self):
            return (pytest.fail, ("a pickle was run",))

    path.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(InputError, match=r"is not a \.safetensors file that rnnvg wrote, or is damaged"):
        models.load(path)


@pytest.mark.parametrize("contents", [b"", b"hello", b"\x10" + bytes(7) + b"not json at all!"])
def test_something_else_is_refused(path, contents):
    path.write_bytes(contents)
    with pytest.raises(InputError, match=r"is not a \.safetensors file that rnnvg wrote, or is damaged"):
        models.load(path)


def test_other_tools_files_and_other_files_of_ours_are_refused(path):
    safetensors.torch.save_file({"a": torch.ones(1)}, path)
    with pytest.raises(InputError, match=r"is not a \.safetensors file that rnnvg wrote"):
        models.load(path)
    safetensors.torch.save_file({"a": torch.ones(1)}, path, {"rnnvg": json.dumps([1])})
    with pytest.raises(InputError, match=r"is not a \.safetensors file that rnnvg wrote"):
        models.load(path)
    path.unlink()
    tensorfile.write_tensors(path, {}, {"format": "rnnvg training 1"})
    with pytest.raises(InputError) as raised:
        models.load(path)
    assert str(raised.value) == (
        f"{path} is 'rnnvg training 1' and not a weight file. Pass a file that rnnvg.models.save wrote."
    )


@pytest.mark.parametrize(("old", "new"), [(b"seed", b"sead"), (None, None)], ids=["header", "number"])
def test_one_changed_byte_is_noticed(path, old, new):
    models.save(models.build(TASK, "rnn", hidden=4), path, seed=1)
    contents = path.read_bytes()
    contents = contents.replace(old, new) if old else contents[:-1] + bytes([contents[-1] ^ 1])
    path.write_bytes(contents)
    with pytest.raises(InputError) as raised:
        models.load(path)
    assert str(raised.value) == f"{path} is damaged: its contents do not have the checksum that was written with them."


def test_a_truncated_file_is_noticed(path):
    models.save(models.build(TASK, "rnn", hidden=4), path)
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(InputError, match="damaged"):
        models.load(path)
