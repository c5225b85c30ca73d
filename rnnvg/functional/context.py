"""context_loss(): what it costs to lose, or to shuffle, all but the last k words before a prediction.

effective_context() says how many words back are enough: a functional horizon.

The part of memory that a gradient cannot show: a word may be remembered and its influence be saturated, or be felt in the
gradient and not matter (Khandelwal, He, Qi and Jurafsky 2018). Axes: T predicted words.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from rnnvg.errors import InputError, bounded, check_float, check_int
from rnnvg.functional.reading import check_text, read, state_after
from rnnvg.models import SequenceModel
from rnnvg.models.sequence_model import State
from rnnvg.notebook import Shown
from rnnvg.tasks.scoring import check_generator, evaluating

DROPPED, SHUFFLED = "dropped", "shuffled"
# Words read at once, over all predictions under way: bounds memory.
READ_AT_ONCE = 20_000


@dataclass(frozen=True, repr=False)
class ContextLoss(Shown):
    """The loss of every predicted word with less context, or with a part of it out of order.

    Attributes:
        loss: [T] float64, nats: with the whole context.
        changed: how ("dropped" or "shuffled") -> k -> [T] float64, nats: with words before the last k dropped or
            shuffled; nan for words that have no more than k words (shuffled: k + 1) before them.

    >>> from rnnvg import models, tasks
    >>> from rnnvg.functional import context_loss
    >>> task = tasks.make("next-word", text="agreement", n_words=2000)
    >>> model = models.build(task, "gru", hidden=8)
    >>> found = context_loss(model, task.corpus.test[:12], [2])
    >>> sorted(found.changed), found.loss.shape
    (['dropped', 'shuffled'], (11,))
    """

    loss: np.ndarray
    changed: dict[str, dict[int, np.ndarray]]

    def __str__(self) -> str:
        contexts = sorted({k for by_k in self.changed.values() for k in by_k})
        which = ", ".join(map(str, contexts))
        return f"{len(self.loss)} predicted words, mean loss {self.loss.mean():.3g} nats; contexts of {which} words"

    def to_frame(self) -> pd.DataFrame:
        """A row per way and k: how, context (k, words), loss (nats), increase (mean loss less that of the same words
        with the whole context), n (words). Words of one text and one model are no replications: no interval."""
        rows: list[tuple[str, int, float, float, int]] = []
        for how, by_k in self.changed.items():
            for k, loss in by_k.items():
                increase = (loss - self.loss)[~np.isnan(loss)]
                rows.append((how, k, float(np.nanmean(loss)), float(increase.mean()), len(increase)))
        return pd.DataFrame(rows, columns=["how", "context", "loss", "increase", "n"])


def context_loss(
    model: SequenceModel,
    ids: Any,
    contexts: Sequence[int] | None = None,
    *,
    before: Any = (),
    generator: torch.Generator | None = None,
) -> ContextLoss:
    """Loss increase when context beyond k words is dropped, or shuffled.

    Dropped: the k words before the predicted one are read from a zero state. Shuffled: the earlier words of `ids` are
    read in an order drawn for each prediction, then the last k in their own.

    Args:
        model: reads words.
        ids: word ids [T + 1].
        contexts: values of k; None: 1, 2, 5, 10, 20, 50 and so on, as far as half the words have more than k before them.
        before: word ids read before these; a part of the whole context.
        generator: draws the orders; None is a fresh one seeded 0.

    Raises:
        InputError: as `influence`; no k, one below 1, or one that no word has more than that before it.

    >>> from rnnvg import models, tasks
    >>> task = tasks.make("next-word", text="agreement", n_words=2000)
    >>> model = models.build(task, "gru", hidden=8)
    >>> context_loss(model, task.corpus.test[:12], [1, 4]).to_frame()[["how", "context", "n"]].values.tolist()
    [['dropped', 1, 10], ['dropped', 4, 7], ['shuffled', 1, 9], ['shuffled', 4, 6]]
    """
    text = check_text(model, ids)
    size = len(text) - 1
    chosen = _contexts(contexts, size)
    generator = torch.Generator().manual_seed(0) if generator is None else check_generator(generator)
    changed: dict[str, dict[int, np.ndarray]] = {DROPPED: {}, SHUFFLED: {}}
    with evaluating(model):
        state = state_after(model, check_text(model, before, "before", least=0))
        whole = read(model, text, state).loss
        for k in chosen:
            changed[DROPPED][k] = _dropped(model, text, k)
            if k + 1 < size:
                changed[SHUFFLED][k] = _shuffled(model, text, k, state, generator)
    return ContextLoss(whole, changed)


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


def _contexts(contexts: Sequence[int] | None, size: int) -> list[int]:
    if contexts is None:
        every = [lead * 10**power for power in range(6) for lead in (1, 2, 5)]
        contexts = [k for k in every if 2 * k <= size] or [1]
    contexts = list(bounded("contexts", contexts))
    chosen = sorted({check_int("contexts", k, least=1) for k in contexts})
    if not chosen or chosen[-1] >= size:
        raise InputError(
            f"`contexts` must be numbers of words from 1 to {size - 1}, fewer than the {size} that are read; "
            f"got {list(contexts)}."
        )
    return chosen


def _dropped(model: SequenceModel, text: Tensor, k: int) -> np.ndarray:
    """[T]: word s + 1 from words s - k + 1 to s and a zero state, for every s >= k."""
    size = len(text) - 1
    windows = text[:-1].unfold(0, k, 1)[1:]  # [T - k, k]; word 0 has been left behind
    loss = np.full(size, np.nan)
    most = max(1, READ_AT_ONCE // k)
    for start in range(0, len(windows), most):
        part = windows[start : start + most]
        at = torch.arange(start, start + len(part)) + k
        loss[at.numpy()] = _price(model, list(part), text[at + 1], None)
    return loss


def _shuffled(model: SequenceModel, text: Tensor, k: int, state: State, generator: torch.Generator) -> np.ndarray:
    """[T]: word s + 1 from words 0 to s - k in a drawn order, then s - k + 1 to s; for every s > k."""
    size = len(text) - 1
    loss = np.full(size, np.nan)
    most = max(1, READ_AT_ONCE // size)
    for start in range(k + 1, size, most):
        at = torch.arange(start, min(start + most, size))
        texts: list[Tensor] = []
        for s in range(start, min(start + most, size)):
            order = torch.randperm(s - k + 1, generator=generator)
            texts.append(torch.cat([text[order], text[s - k + 1 : s + 1]]))
        loss[at.numpy()] = _price(model, texts, text[at + 1], state)
    return loss


def _price(model: SequenceModel, texts: list[Tensor], due: Tensor, state: State) -> np.ndarray:
    """Loss of the word that follows each text, float64 nats [n], all read from `state` ([layers, 1, H] or None)."""
    device = next(model.parameters()).device
    lengths = torch.tensor([len(text) for text in texts])
    padded = nn.utils.rnn.pad_sequence(texts).to(device)
    if state is not None:
        n = len(texts)
        wide = [each.expand(-1, n, -1).contiguous() for each in (state if isinstance(state, tuple) else (state,))]
        state = tuple(wide) if isinstance(state, tuple) else wide[0]
    packed = nn.utils.rnn.pack_padded_sequence(model.encode(padded), lengths, enforce_sorted=False)
    _, after = model.core(packed, state)
    last: Tensor = (after if isinstance(after, Tensor) else after[0])[-1].double()
    logits: Tensor = last @ model.readout.weight.double().T + model.readout.bias.double()
    return -logits.log_softmax(-1).gather(1, due[:, None].to(device))[:, 0].cpu().numpy()
