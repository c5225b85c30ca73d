"""recall_curve(): how often a trained network still knows a symbol, against the delay.

What a gradient cannot show: a latch holds a bit for ever with a gradient that is gone in two steps (Bengio, Simard, Frasconi
1994). Axes: D delays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from rnnvg.errors import InputError, bounded, check_int
from rnnvg.functional.logistic import RecallHorizon, accuracy_at, recall_horizon
from rnnvg.notebook import Shown
from rnnvg.tasks import Task, delayed_recall
from rnnvg.tasks.scoring import check_generator, seeded

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

# The longest delay asked for, in longest delays of training: as far as gradient profiles are followed.
FARTHEST = 4


@dataclass(frozen=True, repr=False)
class RecallCurve(Shown):
    """Right answers of one network at several delays.

    Attributes:
        delay: [D] steps from the symbol to the query.
        right: [D] right answers.
        n: questions asked at each delay.
        chance: what a guess gets right.

    >>> import numpy as np
    >>> from rnnvg.functional import RecallCurve
    >>> found = RecallCurve(np.array([1, 10, 100]), np.array([98, 55, 25]), n=100, chance=0.25)
    >>> found.to_frame().shape[0]
    3
    """

    delay: np.ndarray
    right: np.ndarray
    n: int
    chance: float

    @property
    def accuracy(self) -> np.ndarray:
        """[D] share of right answers."""
        return self.right / self.n

    def horizon(self) -> RecallHorizon:
        """The delay of 50 %, by a logistic fit."""
        return recall_horizon(self.delay, self.right, self.n, self.chance)

    def __str__(self) -> str:
        return f"{len(self.delay)} delays of {self.n} questions: {self.horizon()}"

    def to_frame(self) -> pd.DataFrame:
        """A row per delay: delay (steps), right, n, accuracy, fitted (nan where the fit has no slope)."""
        import pandas as pd

        fitted = accuracy_at(self.delay, self.horizon())
        columns = {"delay": self.delay, "right": self.right, "n": self.n, "accuracy": self.accuracy, "fitted": fitted}
        return pd.DataFrame(columns)

    def plot(self, ax: Axes | None = None) -> Axes:
        """Accuracy against delay on a log axis, the logistic fit, the guess, and the delay of 50 %."""
        from rnnvg.bptt.plots import COLOUR, lettered, level, line, mark, new_axes

        ax = new_axes() if ax is None else ax
        found = self.horizon()
        line(ax, self.delay, self.accuracy, marker="o", linestyle="", color=COLOUR, label="measured")
        if found.slope is not None:
            at = np.geomspace(float(self.delay[0]), float(self.delay[-1]), 200)
            line(ax, at, accuracy_at(at, found), color=COLOUR, linewidth=1.5, label="logistic fit")
            mark(ax, found.d50, linestyle="--", label=f"50 %: {found} steps")
        level(ax, self.chance, label="a guess")
        ax.set(xscale="log", ylim=(0, 1.04))
        return lettered(ax, "delay between symbol and query (steps)", "share of right answers")


def recall_curve(
    model: nn.Module,
    task: Any,
    delays: Sequence[int] | None = None,
    *,
    n: int = 500,
    generator: torch.Generator | None = None,
) -> RecallCurve:
    """Asks a network for a symbol after each of several delays.

    Args:
        model: trained on `task`; called as model(inputs), returns (outputs, state).
        task: delayed-recall; it is asked at one delay after the other, shorter and longer than in training.
        delays: steps; None: about sixteen from 1 to four times the longest delay of training.
        n: questions at each delay.
        generator: draws the symbols; None is a fresh one seeded 0.

    Raises:
        InputError: another task, fewer than two delays, one below 1, `n` below 1.

    >>> from rnnvg import models, tasks
    >>> task = tasks.make("delayed-recall", delay=4, n_symbols=4)
    >>> found = recall_curve(models.build(task, "gru", hidden=8), task, [1, 2, 4], n=20)
    >>> found.delay.tolist(), found.chance
    ([1, 2, 4], 0.25)
    """
    if not isinstance(task, Task) or task.about is not delayed_recall.ABOUT:
        found = getattr(task, "name", type(task).__name__)
        raise InputError(f"`task` must be delayed-recall, whose delays can be chosen one by one; got {found!r}.")
    n = check_int("n", n, least=1)
    generator = seeded(0) if generator is None else check_generator(generator)
    tried = (
        spread(task.settings["delay"])
        if delays is None
        else sorted({check_int("delays", each, least=1) for each in bounded("delays", delays)})
    )
    if len(tried) < 2:
        raise InputError(f"`delays` must hold at least two different numbers of steps; got {delays!r}.")
    right = [round(delayed_recall.at_delay(task, delay).score(model, generator, n)[task.metric] * n) for delay in tried]
    return RecallCurve(np.array(tried), np.array(right), n, task.baseline)


def spread(longest: int) -> list[int]:
    """About sixteen delays from 1 to four times `longest`, evenly on a log axis.

    >>> spread(10)
    [1, 2, 3, 4, 6, 7, 9, 12, 15, 19, 24, 31, 40]
    """
    return sorted({int(each) for each in np.geomspace(1, FARTHEST * longest, 16).round()})
