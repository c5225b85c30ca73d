"""Sequential and permuted digits: pixels in order, held-out images for scores, and missing data."""

import builtins
import struct

import numpy as np
import pytest
import torch
from torch import nn

from rnnvg import tasks
from rnnvg.errors import InputError
from rnnvg.tasks import digits, images, permuted_digits


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def folder(tmp_path):
    """Six training images of 3 x 3 and two held-out ones, in MNIST's format; one pixel never varies."""
    rng = np.random.default_rng(0)
    for split, labels in (("train", [0, 1, 2, 2, 2, 1]), ("t10k", [2, 0])):
        pixels = rng.integers(0, 256, (len(labels), 3, 3)).astype(np.uint8)
        pixels[:, 1, 1] = 7
        header = struct.pack(">BBBB3I", 0, 0, 8, 3, *pixels.shape)
        (tmp_path / f"{split}-images-idx3-ubyte").write_bytes(header + pixels.tobytes())
        header = struct.pack(">BBBBI", 0, 0, 8, 1, len(labels))
        (tmp_path / f"{split}-labels-idx1-ubyte").write_bytes(header + bytes(labels))
    return tmp_path


@pytest.mark.parametrize("name", ["sequential-digits", "permuted-digits"])
def test_every_sequence_is_one_image_in_the_tasks_order(name, folder):
    task = tasks.make(name, data=str(folder))
    assert (task.steps, task.n_inputs, task.n_outputs) == (9, 1, 3)
    data = images.from_idx(folder)
    held = {tuple(x.tolist()): int(y) for x, y in zip(data.train_x, data.train_y, strict=True)}
    batch = task.batch(40, seeded())
    order = list(range(9)) if name == "sequential-digits" else permuted_digits.pixel_order(9, 0).tolist()
    assert sorted(order) == list(range(9))
    assert (order == list(range(9))) == (name == "sequential-digits")
    for sequence in range(40):
        pixels = [0.0] * 9
        for step in range(9):
            pixels[order[step]] = float(batch.inputs[step, sequence, 0])
        assert held[tuple(pixels)] == int(batch.targets[-1, sequence])
    assert batch.weight is not None
    assert batch.weight.nonzero()[:, 0].tolist() == [8] * 40
    # The pixel in the middle never varies.
    assert task.distances.tolist() == sorted({8 - step for step in range(9) if order[step] != 4})


def test_the_baseline_is_the_commonest_digit(folder):
    task = tasks.make("sequential-digits", data=str(folder))
    assert task.baseline == 1 / 2
    # Counts 1, 2, 3 and one added to each: shares 2/9, 3/9, 4/9; held out are a 2 and a 0.
    assert task.baseline_loss == pytest.approx(-(np.log(4 / 9) + np.log(2 / 9)) / 2)

    class Frequencies(nn.Module):
        def forward(self, inputs):
            shares = torch.tensor([2.0, 3.0, 4.0]).log()
            return shares.expand(*inputs.shape[:2], 3), None

    score = task.score(Frequencies(), seeded(), 100)
    assert score == {"loss": pytest.approx(task.baseline_loss), "accuracy": task.baseline}
    assert task.baseline_text == (
        "Always saying 2, the commonest digit of the training images, is right for 50 % of the held-out ones; class "
        f"frequencies alone cost {task.baseline_loss:.4g} nats."
    )


def test_scores_are_on_held_out_images_each_once():
    task = tasks.make("sequential-digits")
    seen = []

    class Watched(nn.Module):
        def forward(self, inputs):
            seen.append(inputs[:, :, 0].T)
            return torch.zeros(*inputs.shape[:2], 10), None

    task.score(Watched(), seeded(), 1000)
    assert torch.equal(torch.cat(seen), digits.load("digits").test_x)
    seen.clear()
    task.score(Watched(), seeded(), 50)
    some = {tuple(row) for row in torch.cat(seen).tolist()}
    assert len(torch.cat(seen)) == 50
    assert some < {tuple(row) for row in digits.load("digits").test_x.tolist()}
    assert task.solved({"accuracy": 0.9})
    assert not task.solved({"accuracy": 0.899})


def test_a_probe_is_four_held_out_images_in_a_row():
    task, data = tasks.make("permuted-digits"), digits.load("digits")
    probe = task.probe(3, seeded())
    held = {
        tuple(x.tolist()): int(y)
        for x, y in zip(data.test_x[:, permuted_digits.pixel_order(64, 0)], data.test_y, strict=True)
    }
    for sequence in range(3):
        parts = [held[tuple(part)] for part in probe.inputs[:, sequence, 0].reshape(4, 64).tolist()]
        assert parts[-1] == int(probe.targets[-1, sequence])


def test_the_order_is_a_setting():
    tried = [tasks.make("permuted-digits", order_seed=seed) for seed in (1, 1, 2)]
    one, same, other = (task.batch(1, seeded()).inputs for task in tried)
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_data_that_is_not_there(monkeypatch, tmp_path):
    cases = {
        "": "`data` must be 'digits' or the path of a folder with MNIST's IDX files; got ''.",
        str(tmp_path / "none"): (
            f"`folder` '{tmp_path / 'none'}' is not a folder; pass the one that holds the IDX files."
        ),
        str(tmp_path): (
            f"`folder` '{tmp_path}' has no train-images-idx3-ubyte (or train-images-idx3-ubyte.gz); pass the folder that "
            "holds MNIST's four files."
        ),
    }
    for data, message in cases.items():
        with pytest.raises(InputError) as caught:
            tasks.make("sequential-digits", data=data)
        assert str(caught.value) == message
    with pytest.raises(InputError) as caught:
        tasks.make("permuted-digits", order_seed=-1)
    assert str(caught.value) == "`order_seed` must be a whole number of at least 0; got -1."
    real = builtins.__import__

    def missing(name, *rest):
        if name.startswith("sklearn"):
            raise ImportError(name)
        return real(name, *rest)

    digits._load.cache_clear()
    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(InputError) as caught:
        tasks.make("sequential-digits")
    assert str(caught.value) == (
        "The digits come with scikit-learn, which is not installed: `pip install rnnvg[digits]`, or pass a folder with "
        "MNIST's IDX files."
    )
