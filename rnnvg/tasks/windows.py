"""Windows on a text of word ids: drawn anywhere, or consecutive so that a state can be carried over.

Axes: T words of a window, B windows side by side. Targets are the words after the inputs.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from rnnvg.errors import check_int
from rnnvg.tasks.scoring import check_generator
from rnnvg.tasks.task import Batch


def drawn(ids: np.ndarray, steps: int, size: int, generator: torch.Generator) -> Batch:
    """`size` windows of `steps` words, each from anywhere in `ids` [N]."""
    size = check_int("size", size, least=1)
    starts = torch.randint(len(ids) - steps, (size,), generator=check_generator(generator)).numpy()
    windows = ids[starts + np.arange(steps + 1)[:, None]]
    return Batch(_tensor(windows[:-1]), _tensor(windows[1:]))


def consecutive(ids: np.ndarray, batch: int, steps: int) -> Iterator[Batch]:
    """`ids` [N] cut into `batch` equal parts that are read side by side; what is left over at the end is not read."""
    length = (len(ids) - 1) // batch
    inputs = ids[: length * batch].reshape(batch, length)
    targets = ids[1 : length * batch + 1].reshape(batch, length)
    for start in range(0, length, steps):
        window = slice(start, start + steps)
        yield Batch(_tensor(inputs[:, window].T), _tensor(targets[:, window].T))


def whole(ids: np.ndarray, batch: int, steps: int) -> Iterator[Batch]:
    """As `consecutive`, with every word of `ids` but the first a target once: a weight leaves out the padding."""
    n = len(ids) - 1
    length = -(-n // batch)
    inputs, targets, weight = (np.zeros(length * batch, dtype) for dtype in (np.int32, np.int32, np.float32))
    inputs[:n], targets[:n], weight[:n] = ids[:-1], ids[1:], 1
    rows = [each.reshape(batch, length) for each in (inputs, targets, weight)]
    for start in range(0, length, steps):
        read, due, scored = (row[:, start : start + steps].T for row in rows)
        padded = not scored.all()
        yield Batch(_tensor(read), _tensor(due), torch.from_numpy(scored.copy(order="C")) if padded else None)


def sentence_bounds(ids: np.ndarray, ends: np.ndarray, longest: int) -> np.ndarray:
    """Where the sentences of `ids` [N] are cut, int64 [M + 1]: sentence i is the words after place i up to place i + 1.

    Its first word is predicted from the word at place i, the end of the sentence before. Every word but the first is thus
    due once. A sentence of more than `longest` words is cut into parts of so many.

    Args:
        ends: ids of the words that end a sentence.
    """
    found, start = [np.zeros(1, dtype=np.int64)], 0
    for part in parts(ids):
        found.append(np.flatnonzero(np.isin(part, ends)) + start)
        start += len(part)
    bounds = np.unique(np.concatenate([*found, [len(ids) - 1]]))
    gaps = np.diff(bounds)
    pieces = -(-gaps // longest)
    within = np.arange(pieces.sum()) - np.repeat(pieces.cumsum() - pieces, pieces)
    return np.append(np.repeat(bounds[:-1], pieces) + within * longest, bounds[-1])


def sentences(ids: np.ndarray, bounds: np.ndarray, chosen: np.ndarray) -> Batch:
    """The sentences `chosen` [B] side by side, as long as the longest of them: a weight leaves out the padding."""
    starts = bounds[chosen]
    lengths = bounds[chosen + 1] - starts
    step = np.arange(lengths.max())[:, None]
    inside = step < lengths
    place = np.where(inside, starts + step, 0)
    weight = None if inside.all() else torch.from_numpy(inside.astype(np.float32))
    return Batch(_tensor(np.where(inside, ids[place], 0)), _tensor(np.where(inside, ids[place + 1], 0)), weight)


def sentences_in_order(ids: np.ndarray, bounds: np.ndarray, most_words: int) -> Iterator[Batch]:
    """Every sentence once, as many side by side as make at most `most_words` when padded to the longest."""
    side_by_side = max(1, most_words // int(np.diff(bounds).max()))
    for start in range(0, len(bounds) - 1, side_by_side):
        yield sentences(ids, bounds, np.arange(start, min(start + side_by_side, len(bounds) - 1)))


def parts(ids: np.ndarray, size: int = 1 << 20) -> Iterator[np.ndarray]:
    """`ids` [N] a million words at a time: a mapped text never stands in memory as a whole."""
    for start in range(0, len(ids), size):
        yield ids[start : start + size]


def counts(ids: np.ndarray, n_words: int) -> np.ndarray:
    """How often each word stands in `ids` [N], int64 [V]."""
    found = np.zeros(n_words, dtype=np.int64)
    for part in parts(ids):
        found += np.bincount(part, minlength=n_words)
    return found


def _tensor(ids: np.ndarray) -> torch.Tensor:
    # A copy: a corpus is shared and must not be written to.
    return torch.from_numpy(ids.astype(np.int64, order="C"))
