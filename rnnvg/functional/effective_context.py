"""effective_context(): how many words back a language model makes use of; its functional horizon."""

from __future__ import annotations

import math
from typing import Any

from rnnvg.errors import check_float
from rnnvg.functional.context import DROPPED, ContextLoss


def effective_context(found: ContextLoss, tolerance: float = 0.01, how: str = DROPPED) -> tuple[int, bool]:
    """The smallest number of words that are enough: with them the perplexity is within `tolerance` of the whole context's.

    Khandelwal, He, Qi and Jurafsky 2018 call it the effective context size, with a tolerance of 1 %. Every larger k must be
    enough as well, so that noise at one k does not end it.

    Args:
        found: from `context_loss`.
        tolerance: of the perplexity, a share above 0.
        how: "dropped" (the words before are missing) or "shuffled" (they are there, their order is not).

    Returns:
        k in words, and whether it is censored: no k that was tried is enough, and k is the largest of them.

    Raises:
        InputError: `tolerance` is not above 0.

    >>> from rnnvg import models, tasks
    >>> from rnnvg.functional import context_loss
    >>> task = tasks.make("next-word", text="agreement", n_words=2000)
    >>> model = models.build(task, "gru", hidden=8)
    >>> words, censored = effective_context(context_loss(model, task.corpus.test[:40]), tolerance=10.0)
    >>> words, censored
    (1, False)
    """
    allowed = math.log1p(check_float("tolerance", tolerance, above=0))
    frame: Any = found.to_frame()
    frame = frame[frame["how"] == how].sort_values("context")
    contexts, enough = frame["context"].tolist(), (frame["increase"] <= allowed).tolist()
    if not enough[-1]:
        return contexts[-1], True
    last_short = max((place for place, each in enumerate(enough) if not each), default=-1)
    return contexts[last_short + 1], False
