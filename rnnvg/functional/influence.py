"""influence(): how strongly the price of each word of a text depends on the embedding of every word before it.

reach() has the same against distance alone, over windows of a task's held-out text.

Axes: T predicted words, D distances in words. The word right before a predicted word is at distance 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from rnnvg.bptt import GradientProfile, gradient_profile
from rnnvg.errors import bounded
from rnnvg.functional.reading import check_text, read, state_after
from rnnvg.horizon import NATS_PER_DECADE
from rnnvg.models import SequenceModel, check_fits, encoded, loss_gradient
from rnnvg.notebook import Shown
from rnnvg.tasks.scoring import evaluating

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

LINES = 200  # predicted words that are drawn one by one


@dataclass(frozen=True, repr=False)
class Influence(Shown):
    """Which earlier words the prediction of each word leans on.

    Attributes:
        ids: [T + 1] the words, the first of which is only read.
        loss: [T] float64, nats: the price of words 1 to T.
        first_choice: [T] the id that the model found likeliest in the place of words 1 to T.
        profile: the gradients, one source a predicted word: source s is the loss of word s + 1, and distance k of its
            profile is the word k + 1 before it.

    Source: gradient of a word's loss by the embeddings before it, one loss at a time (Pascanu, Mikolov and Bengio 2013;
    as saliency of words, Li, Chen, Hovy and Jurafsky 2016).

    >>> from rnnvg import models, tasks
    >>> from rnnvg.functional import influence
    >>> task = tasks.make("next-word", text="agreement", n_words=2000)
    >>> model = models.build(task, "gru", hidden=8)
    >>> influence(model, task.corpus.test[:12]).curve()["distance"].tolist()
    [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]
    """

    ids: np.ndarray
    loss: np.ndarray
    first_choice: np.ndarray
    profile: GradientProfile

    @property
    def log_norm(self) -> np.ndarray:
        """[T, T] float64: row s, column j is ln ||d loss of word s + 1 / d embedding of word j||; nan where j > s.

        -inf is an exact zero: a word that the prediction does not depend on at all.
        """
        by_distance = self.profile.log_norm[:, :, 0]
        size = len(by_distance)
        distance = np.arange(size)[:, None] - np.arange(size)[None, :]
        found = np.take_along_axis(by_distance, np.maximum(distance, 0), 1)
        return np.where(distance >= 0, found, np.nan)

    def __str__(self) -> str:
        return f"{len(self.loss)} predicted words, mean loss {self.loss.mean():.3g} nats: {self.profile}"

    def _table(self) -> pd.DataFrame:
        return self.curve()

    def curve(self) -> pd.DataFrame:
        """Influence at each distance, relative to the word right before the predicted one.

        Columns: distance (words, from 1), log10_gain, log10_gain_rms, low, high, n, n_zero as `GradientProfile.curve`.
        """
        return _by_words(self.profile)

    def to_frame(self, words: Sequence[str] | None = None) -> pd.DataFrame:
        """Tidy, a row per predicted word and earlier word: position, word, loss, source_position, source_word,
        distance (words), log10_influence.

        Args:
            words: the T + 1 words as they stand in the text; None writes their ids.
        """
        import pandas as pd

        labels = np.asarray(self.ids.tolist() if words is None else list(bounded("words", words)), dtype=object)
        log_norm = self.log_norm
        due, source = np.tril_indices(len(log_norm))
        return pd.DataFrame(
            {
                "position": due + 1,
                "word": labels[due + 1],
                "loss": self.loss[due],
                "source_position": source,
                "source_word": labels[source],
                "distance": due + 1 - source,
                "log10_influence": log_norm[due, source] / NATS_PER_DECADE,
            }
        )

    def plot(self, ax: Axes | None = None) -> Axes:
        """Influence against distance on log axes, predicted words as thin lines, the geometric mean of all over them.

        Of more than LINES words as many are drawn, evenly spread.
        """
        from rnnvg.bptt.curves import log_gain
        from rnnvg.bptt.plots import COLOUR, lettered, line, new_axes, seen_points

        ax = new_axes() if ax is None else ax
        rows = np.unique(np.linspace(0, len(self.profile.sources) - 1, LINES).round().astype(int))
        for row in log_gain(self.profile.log_norm[rows], self.profile.distance, 0)[:, :-1, 0] / NATS_PER_DECADE:
            seen = seen_points(row, log=True)
            line(ax, seen + 1, row[seen], color="0.6", linewidth=0.5, alpha=0.35)
        curve = self.curve()
        line(ax, curve["distance"], curve["log10_gain"], color=COLOUR, linewidth=2, label="geometric mean")
        ax.set(xscale="log")
        return lettered(
            ax, "distance back from the predicted word (words)", "log10 influence, relative to the word before"
        )


def influence(model: SequenceModel, ids: Any, *, before: Any = ()) -> Influence:
    """The norm of d(loss of a word) / d(embedding of an earlier word), for all pairs of words of a text.

    Exact and in log space: `gradient_profile(model.core, ..., sources="all", wrt="input")` with each word's own loss
    gradient at the core's output. Dropout is off.

    Args:
        model: reads words.
        ids: word ids [T + 1].
        before: word ids read before these; they set the state, and have no influence of their own.

    Raises:
        InputError: a model that reads numbers, fewer than two words, an id the model does not have, a loss that is not
            finite.

    >>> from rnnvg import models, tasks
    >>> task = tasks.make("next-word", text="agreement", n_words=2000)
    >>> model = models.build(task, "gru", hidden=8)
    >>> found = influence(model, task.corpus.test[:12])
    >>> found.loss.shape, found.log_norm.shape
    ((11,), (11, 11))
    """
    text = check_text(model, ids)
    with evaluating(model):
        state = state_after(model, check_text(model, before, "before", least=0))
        reading = read(model, text, state)
        profile = gradient_profile(
            model.core, reading.embedded, state, output_grad=reading.output_grad, sources="all", wrt="input"
        )
    return Influence(text.numpy(), reading.loss, reading.first_choice, profile)


def reach(model: SequenceModel, task: Any, *, windows: int = 8, seed: int = 0) -> pd.DataFrame:
    """The gradient of a word's loss by the embedding of the words before it, against distance, over a whole text.

    As `influence`, of the task's own loss, at the steps `task.probe_sources` of windows drawn from its held-out text, and in
    the model's own precision.

    Args:
        model: reads the task's words.
        task: next-word.
        windows: how many to average over.
        seed: draws them.

    Returns:
        A row per distance in words, from 1: distance, log10_gain (geometric mean, relative to the word right before), low,
        high (10 and 90 %), n.

    Raises:
        InputError: the model and the task do not fit.

    >>> from rnnvg import models, tasks
    >>> task = tasks.make("next-word", text="agreement", distance=[2, 4], n_words=4000)
    >>> model = models.build(task, "gru", hidden=8)
    >>> reach(model, task, windows=1).columns.tolist()[:2]
    ['distance', 'log10_gain']
    """
    check_fits(model.spec, task)
    probe = task.probe(windows, torch.Generator().manual_seed(seed))
    # A mean over words: each word's own gradient is scaled alike, and a gain is a ratio.
    output_grad = loss_gradient(model, task, probe)
    inputs = encoded(model, probe.inputs)
    with evaluating(model):
        profile = gradient_profile(model.core, inputs, output_grad=output_grad, sources=task.probe_sources, wrt="input")
    return _by_words(profile)[["distance", "log10_gain", "low", "high", "n"]]


def _by_words(profile: GradientProfile) -> Any:
    """The curve against distance in words: the word right before a predicted one, at distance 0 of the profile, is at 1."""
    frame: Any = profile.curve(reference=0)
    frame["distance"] += 1
    return frame[frame["n"] > 0].reset_index(drop=True)
