"""Labelled images to be classified: scikit-learn's digits, or MNIST and its kin from IDX files in a folder.

IDX (LeCun's format): two zero bytes, a type code, the number of axes, one big-endian uint32 per axis, then the numbers.
"""

from __future__ import annotations

import gzip
import math
import os
import struct
import zlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from rnnvg.errors import InputError, check_int

_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_TEST_SHARE = 0.2


@dataclass(frozen=True)
class Images:
    """A classification problem.

    Attributes:
        name: of the data.      classes: number of them.
        train_x, test_x: [n, I] float32, one row an image, centred and scaled by the training images' mean and deviation.
        train_y, test_y: [n] int64, class ids.
    """

    name: str
    classes: int
    train_x: Tensor
    train_y: Tensor
    test_x: Tensor
    test_y: Tensor

    def to(self, device: torch.device | str) -> Images:
        """The same images on another device."""
        names = ("train_x", "train_y", "test_x", "test_y")
        return replace(self, **{name: getattr(self, name).to(device) for name in names})


def digits() -> Images:
    """scikit-learn's 1797 images of 8 x 8, a fifth of them (drawn with a fixed seed) held out.

    Raises:
        InputError: scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise InputError(
            "The digits come with scikit-learn, which is not installed: `pip install rnnvg[digits]`, or pass a folder "
            "with MNIST's IDX files."
        ) from None
    pixels, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    held_out = round(_TEST_SHARE * len(labels))
    test, train = order[:held_out], order[held_out:]
    pixels, labels = np.asarray(pixels), np.asarray(labels)
    return _images("digits", pixels[train], labels[train], pixels[test], labels[test])


def from_idx(folder: str | os.PathLike[str], limit: int | None = None) -> Images:
    """MNIST, Fashion-MNIST or the like: {train,t10k}-{images-idx3,labels-idx1}-ubyte, with .gz or without.

    Args:
        folder: where the four files lie.
        limit: use the first so many training and test images; None for all.

    Raises:
        InputError: a file is missing, is not IDX, is cut short, or images and labels do not match.
    """
    if limit is not None:
        limit = check_int("limit", limit, least=1)
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"`folder` {str(folder)!r} is not a folder; pass the one that holds the IDX files.")
    parts = []
    for split in ("train", "t10k"):
        images, labels = _find(folder, f"{split}-images-idx3-ubyte"), _find(folder, f"{split}-labels-idx1-ubyte")
        x, y = read_idx(images), read_idx(labels)
        if x.ndim != 3 or y.ndim != 1 or len(x) != len(y) or not len(y):
            raise InputError(
                f"{images.name} holds {list(x.shape)} and {labels.name} {list(y.shape)}; images must be [n, rows, columns] "
                "and labels [n], at least one."
            )
        if not np.issubdtype(y.dtype, np.integer) or y.min() < 0:
            raise InputError(f"{labels.name} holds labels that are not class numbers from 0 on.")
        parts += [x[:limit].reshape(len(x[:limit]), -1), y[:limit]]
    if parts[0].shape[1] != parts[2].shape[1]:
        raise InputError(
            f"The training images have {parts[0].shape[1]} pixels and the test images {parts[2].shape[1]}; they must agree."
        )
    return _images(folder.resolve().name, *parts)


def read_idx(path: str | os.PathLike[str]) -> np.ndarray:
    """The array in an IDX file, gzipped or not, in the machine's byte order.

    Raises:
        InputError: the file is not there, is not IDX, or does not hold as many numbers as it says.
    """
    path = Path(path)
    try:
        raw = path.read_bytes()
        content = gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"`path` {str(path)!r} cannot be read ({error}).") from None
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in _TYPES or not content[3]:
        raise InputError(
            f"`path` {str(path)!r} is not an IDX file; it begins with {content[:4].hex(' ') or 'nothing'}."
        )
    kind, axes = np.dtype(_TYPES[content[2]]), content[3]
    start = 4 + 4 * axes
    if len(content) < start:
        raise InputError(f"`path` {str(path)!r} is cut short within its header.")
    shape = struct.unpack(f">{axes}I", content[4:start])
    needed = math.prod(shape) * kind.itemsize
    if len(content) - start != needed:
        raise InputError(
            f"`path` {str(path)!r} says {list(shape)}, which takes {needed} bytes, and holds {len(content) - start}."
        )
    return np.frombuffer(content, kind, offset=start).reshape(shape).astype(kind.newbyteorder("="))


def _find(folder: Path, stem: str) -> Path:
    # Some copies of MNIST are unpacked with a dot for the last dash but one.
    names = [stem, f"{stem}.gz", stem.replace("-idx", ".idx"), stem.replace("-idx", ".idx") + ".gz"]
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise InputError(
        f"`folder` {str(folder)!r} has no {stem} (or {stem}.gz); pass the folder that holds MNIST's four files."
    )


def _images(name: str, train_x: np.ndarray, train_y: np.ndarray, test_x: np.ndarray, test_y: np.ndarray) -> Images:
    # One mean and deviation for all pixels: pixels that are always blank would be divided by zero.
    mean, deviation = float(train_x.mean()), float(train_x.std()) or 1.0
    x = [torch.from_numpy((part.astype(np.float32) - mean) / deviation) for part in (train_x, test_x)]
    y = [torch.from_numpy(part.astype(np.int64)) for part in (train_y, test_y)]
    return Images(name, int(max(y[0].max(), y[1].max())) + 1, x[0], y[0], x[1], y[1])
