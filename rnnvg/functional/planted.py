"""agreement_by_distance(): how far back a language model remembers a planted word, read off the word that it decides."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from rnnvg.errors import InputError, check_name
from rnnvg.functional.reading import check_text, read
from rnnvg.models import SequenceModel
from rnnvg.tasks.scoring import evaluating
from rnnvg.text.corpus import SPLITS
from rnnvg.text.lexicon import NOUNS

REMEMBERED = 0.5


def agreement_by_distance(
    model: SequenceModel, task: Any, split: str = "test", max_words: int = 20_000
) -> pd.DataFrame:
    """Accuracy and loss of the verb against the words between it and its noun.

    Args:
        model: trained on `task`.
        task: next-word on the text "agreement"; several distances in one text make one model's curve.
        split: which part is read, from its start, the state carried over.
        max_words: read at most so many.

    Returns:
        A row per distance, words from noun to verb: distance, accuracy (share of verbs that are the first choice; guessing
        has one in 40), loss (nats; the best possible is 0, the noun decides the verb), n (verbs).

    Raises:
        InputError: a text without planted words.

    >>> from rnnvg import models, tasks
    >>> task = tasks.make("next-word", text="agreement", distance=[2, 4], n_words=4000)
    >>> model = models.build(task, "gru", hidden=8)
    >>> agreement_by_distance(model, task)["distance"].tolist()
    [2, 4]
    """
    corpus = task.corpus
    if corpus.decided is None or corpus.planted is None:
        raise InputError(f"`task` reads the text {task.text!r}, which has no planted words; pass one of 'agreement'.")
    ids = corpus.split(check_name("split", split, SPLITS))[:max_words]
    with evaluating(model):
        found = read(model, check_text(model, ids))
    nouns = np.flatnonzero(np.isin(ids, corpus.vocabulary.encode(list(NOUNS))))
    verbs = np.flatnonzero(np.isin(ids, corpus.decided))
    verbs = verbs[verbs > nouns[0]]
    distance = verbs - nouns[np.searchsorted(nouns, verbs) - 1]
    right = found.first_choice[verbs - 1] == ids[verbs]
    frame = pd.DataFrame({"distance": distance, "accuracy": right.astype(float), "loss": found.loss[verbs - 1]})
    return frame.groupby("distance", as_index=False).agg(
        accuracy=("accuracy", "mean"), loss=("loss", "mean"), n=("loss", "size")
    )


def remembered(by_distance: pd.DataFrame, threshold: float = REMEMBERED) -> tuple[int, bool]:
    """The functional horizon: the last distance up to which every accuracy is at least `threshold`, 0 where the first is
    not; and whether it is censored, the longest distance that was asked for being still remembered.

    >>> import pandas as pd
    >>> remembered(pd.DataFrame({"distance": [2, 4, 8], "accuracy": [0.9, 0.6, 0.1]}))
    (4, False)
    """
    kept = (by_distance["accuracy"] >= threshold).to_numpy()
    n = int(kept.argmin()) if not kept.all() else len(kept)
    return (int(by_distance["distance"].iloc[n - 1]) if n else 0), bool(kept.all())
