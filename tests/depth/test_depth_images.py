"""The digits, and IDX files written here byte by byte."""

import builtins
import gzip
import struct

import numpy as np
import pytest
import torch

from rnnvg.errors import InputError
from rnnvg.tasks.images import digits, from_idx, read_idx


def idx(array, code):
    big = array.astype(array.dtype.newbyteorder(">"))
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, code, array.ndim, *array.shape) + big.tobytes()


def write_mnist(folder, n=30, side=4, compress=False):
    rng = np.random.default_rng(0)
    for split in ("train", "t10k"):
        for name, content in (
            ("images-idx3", idx(rng.integers(0, 256, (n, side, side)).astype(np.uint8), 0x08)),
            ("labels-idx1", idx((np.arange(n) % 3).astype(np.uint8), 0x08)),
        ):
            path = folder / f"{split}-{name}-ubyte{'.gz' if compress else ''}"
            path.write_bytes(gzip.compress(content) if compress else content)


def test_digits_are_split_once_and_for_all():
    one, other = digits(), digits()
    assert one.train_x.shape == (1438, 64)
    assert one.test_x.shape == (359, 64)
    assert one.classes == 10
    assert torch.equal(one.test_y, other.test_y)
    assert float(one.train_x.mean()) == pytest.approx(0, abs=1e-5)
    assert float(one.train_x.std()) == pytest.approx(1, abs=1e-3)
    seen = {tuple(row.tolist()) for row in one.train_x}
    assert sum(tuple(row.tolist()) in seen for row in one.test_x) < 5


def test_digits_without_scikit_learn(monkeypatch):
    real = builtins.__import__

    def missing(name, *rest):
        if name.startswith("sklearn"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(InputError) as caught:
        digits()
    assert str(caught.value) == (
        "The digits come with scikit-learn, which is not installed: `pip install rnnvg[digits]`, or pass a folder with "
        "MNIST's IDX files."
    )


@pytest.mark.parametrize(
    ("dtype", "code"),
    [(np.uint8, 0x08), (np.int8, 0x09), (np.int16, 0x0B), (np.int32, 0x0C), (np.float32, 0x0D), (np.float64, 0x0E)],
)
def test_every_type_of_idx_comes_back(tmp_path, dtype, code):
    array = (np.arange(24).reshape(2, 3, 4) - 5).astype(dtype)
    (tmp_path / "a").write_bytes(idx(array, code))
    found = read_idx(tmp_path / "a")
    np.testing.assert_array_equal(found, array)
    assert found.dtype == np.dtype(dtype)


@pytest.mark.parametrize("compress", [False, True])
def test_a_folder_of_idx_files(tmp_path, compress):
    write_mnist(tmp_path, compress=compress)
    images = from_idx(tmp_path)
    assert images.name == tmp_path.name
    assert images.train_x.shape == (30, 16)
    assert images.classes == 3
    assert images.train_y[:4].tolist() == [0, 1, 2, 0]
    assert len(from_idx(tmp_path, limit=7).test_y) == 7


def broken(tmp_path, name, content):
    write_mnist(tmp_path)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError) as caught:
        from_idx(tmp_path)
    return str(caught.value)


def test_files_that_are_not_what_they_should_be(tmp_path):
    images, labels = tmp_path / "train-images-idx3-ubyte", tmp_path / "train-labels-idx1-ubyte"
    assert broken(tmp_path, images.name, b"") == f"`path` '{images}' is not an IDX file; it begins with nothing."
    assert (
        broken(tmp_path, images.name, b"PNG!abc")
        == f"`path` '{images}' is not an IDX file; it begins with 50 4e 47 21."
    )
    assert broken(tmp_path, images.name, b"\0\0\x08\x03\0\0") == f"`path` '{images}' is cut short within its header."
    short = idx(np.zeros((2, 3, 3), np.uint8), 0x08)[:-1]
    assert broken(tmp_path, images.name, short) == (
        f"`path` '{images}' says [2, 3, 3], which takes 18 bytes, and holds 17."
    )
    assert broken(tmp_path, labels.name, idx(np.zeros(4, np.uint8), 0x08)) == (
        "train-images-idx3-ubyte holds [30, 4, 4] and train-labels-idx1-ubyte [4]; images must be [n, rows, columns] and "
        "labels [n], at least one."
    )
    assert broken(tmp_path, labels.name, idx(np.full(30, -1, np.int8), 0x09)) == (
        "train-labels-idx1-ubyte holds labels that are not class numbers from 0 on."
    )
    assert broken(tmp_path, "t10k-images-idx3-ubyte", idx(np.zeros((30, 5, 5), np.uint8), 0x08)) == (
        "The training images have 16 pixels and the test images 25; they must agree."
    )
    assert "cannot be read" in broken(tmp_path, images.name, b"\x1f\x8b broken")


def test_folders_that_are_not_there_or_incomplete(tmp_path):
    with pytest.raises(InputError) as caught:
        from_idx(tmp_path / "none")
    assert str(caught.value) == (
        f"`folder` '{tmp_path / 'none'}' is not a folder; pass the one that holds the IDX files."
    )
    with pytest.raises(InputError) as caught:
        from_idx(tmp_path)
    assert str(caught.value) == (
        f"`folder` '{tmp_path}' has no train-images-idx3-ubyte (or train-images-idx3-ubyte.gz); pass the folder that holds "
        "MNIST's four files."
    )
    with pytest.raises(InputError, match="`limit` must be a whole number of at least 1; got 0"):
        from_idx(tmp_path, limit=0)
