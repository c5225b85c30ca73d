"""What there is to remember: mutual information between words against their distance in a text."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from rnnvg.errors import InputError, check_int


def mutual_information(ids: np.ndarray, distances: Sequence[int], *, most_words: int = 200) -> pd.DataFrame:
    """Mutual information, nats, between a word and the word d places after it, for each distance d.

    Estimated from counts of pairs, which is too high by about (cells seen - words seen before - words seen after + 1) / 2N
    nats (Miller 1955; Roulston 1999): `information` has that taken off and may fall below 0 by chance. All but the
    commonest words count as one, without which rare pairs would swamp it: a lower bound on the information of the words.

    Args:
        ids: word ids [N].
        distances: in words, each from 1 to N - 1.
        most_words: how many of the commonest words are told apart, at least 1.

    Returns:
        A row per distance: distance, information (corrected), plain (uncorrected), n (pairs).

    Raises:
        InputError: no distance, or one out of its range.

    Source: Li 1990; Lin and Tegmark 2017, who find a power law in natural text and an exponential in Markov chains.

    >>> found = mutual_information(np.arange(10_000) % 2, [1, 2])
    >>> bool(np.allclose(found["plain"], np.log(2), atol=1e-4))
    True
    """
    ids = np.asarray(ids)
    most_words = check_int("most_words", most_words, least=1)
    if not len(distances):
        raise InputError("`distances` is empty; pass at least one, such as [1, 2, 5, 10].")
    chosen = [check_int("distances", d, least=1, most=len(ids) - 1) for d in distances]
    words, place = np.unique(ids, return_inverse=True)
    rank = np.argsort(np.argsort(-np.bincount(place), kind="stable"), kind="stable")
    classes = np.minimum(rank, most_words)[place].astype(np.int64)
    width = min(len(words), most_words + 1)
    rows = []
    for d in chosen:
        n = len(classes) - d
        joint = np.bincount(classes[:-d] * width + classes[d:], minlength=width * width).reshape(width, width)
        before, after = joint.sum(1), joint.sum(0)
        seen = joint > 0
        i, j = np.nonzero(seen)
        part = joint[seen] / n
        plain = float((part * np.log(part * n / before[i] * (n / after[j]))).sum())
        excess = (seen.sum() - (before > 0).sum() - (after > 0).sum() + 1) / (2 * n)
        rows.append((d, plain - excess, plain, n))
    return pd.DataFrame(rows, columns=["distance", "information", "plain", "n"])
