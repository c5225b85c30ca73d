"""truncation(): where training's gradient is cut off and where it has vanished, which a weight's gradient cannot tell apart.

Truncated backpropagation through time (Williams and Peng 1990) carries the state from window to window and not the
gradient: a word before the window's first has none at all, however long the network's memory. A gradient that vanished is a
number, however small. Axes: T predicted words, D distances in words.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from rnnvg.bptt import gradient_profile
from rnnvg.errors import check_int
from rnnvg.functional.influence import Influence, influence
from rnnvg.functional.reading import check_text, read, state_after
from rnnvg.horizon import NATS_PER_DECADE
from rnnvg.models import SequenceModel
from rnnvg.notebook import Shown
from rnnvg.tasks.scoring import evaluating

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


@dataclass(frozen=True, repr=False)
class Truncation(Shown):
    """The gradient that reaches back through a whole text, and what training with windows of `bptt` words sees of it.

    Attributes:
        bptt: words of a window.
        whole: the influence of every earlier word.
        log_norm: [T, T] float64, as `whole.log_norm`, measured window by window with the state carried over: -inf where the
            gradient was cut off.

    >>> from rnnvg import models, tasks
    >>> from rnnvg.functional import truncation
    >>> task = tasks.make("next-word", text="agreement", n_words=2000)
    >>> model = models.build(task, "gru", hidden=8)
    >>> truncation(model, task.corpus.test[:30], bptt=10).bptt
    10
    """

    bptt: int
    whole: Influence
    log_norm: np.ndarray

    def __str__(self) -> str:
        return f"windows of {self.bptt} words over {len(self.log_norm)} predicted words"

    def to_frame(self) -> pd.DataFrame:
        """A row per distance (words): log10_whole, the geometric mean relative to the word before; log10_seen, the same
        over the words whose gradient was not cut off (nan where all were); cut, the share that was; n."""
        import pandas as pd

        rows: list[tuple[int, float, float, float, int]] = []
        size = len(self.log_norm)
        norms = self.whole.log_norm  # made anew whenever it is asked for
        near = np.diagonal(norms)
        for distance in range(1, size + 1):
            whole = np.diagonal(norms, 1 - distance) - near[distance - 1 :]
            seen = np.diagonal(self.log_norm, 1 - distance) - near[distance - 1 :]
            cut = np.isneginf(seen) & ~np.isneginf(whole)
            kept = seen[~cut]
            mean = kept.mean() if len(kept) else np.nan
            rows.append((distance, whole.mean() / NATS_PER_DECADE, mean / NATS_PER_DECADE, cut.mean(), len(whole)))
        return pd.DataFrame(rows, columns=["distance", "log10_whole", "log10_seen", "cut", "n"])

    def plot(self, ax: Axes | None = None) -> Axes:
        """Influence against distance, whole and as training sees it, and the share of words for which it is cut off."""
        from rnnvg.bptt import plots

        ax = plots.new_axes() if ax is None else ax
        frame = self.to_frame()
        distance, seen = frame["distance"], f"windows of {self.bptt}: not cut off"
        plots.line(
            ax, distance, frame["log10_whole"], color="0.45", linestyle="--", label="whole text: vanishing alone"
        )
        plots.line(ax, distance, frame["log10_seen"], color=plots.COLOUR, linewidth=2, label=seen)
        share = plots.right_axis(ax)
        plots.band(share, distance, 0, frame["cut"], color=plots.ORANGE, step="mid", alpha=0.18)
        share.set(ylim=(0, 1), ylabel="share cut off: exactly zero")
        plots.mark(ax, self.bptt, color=plots.ORANGE)
        x, y = "distance back from the predicted word (words)", "log10 influence, relative to the word before"
        return plots.lettered(ax, x, y, loc="upper right")


def truncation(model: SequenceModel, ids: Any, bptt: int) -> Truncation:
    """Measures the gradients of a text twice: through all of it, and as truncated backpropagation sees it.

    Args:
        model: reads words.
        ids: word ids [T + 1].
        bptt: words of a window; the state is carried from window to window, the gradient is not.

    Raises:
        InputError: as `influence`; `bptt` below 1.

    >>> from rnnvg import models, tasks
    >>> task = tasks.make("next-word", text="agreement", n_words=2000)
    >>> model = models.build(task, "gru", hidden=8)
    >>> float(truncation(model, task.corpus.test[:30], bptt=10).to_frame()["cut"].iloc[-1])
    1.0
    """
    bptt = check_int("bptt", bptt, least=1)
    text = check_text(model, ids)
    size = len(text) - 1
    log_norm = np.where(np.tri(size, dtype=bool), -np.inf, np.nan)
    with evaluating(model):
        for start in range(0, size, bptt):
            stop = min(start + bptt, size)
            state = state_after(model, text[:start])
            part = read(model, text[start : stop + 1], state)
            profile = gradient_profile(
                model.core, part.embedded, state, output_grad=part.output_grad, sources="all", wrt="input"
            )
            for s in range(stop - start):
                log_norm[start + s, start : start + s + 1] = profile.log_norm[s, s::-1, 0]
    return Truncation(bptt, influence(model, text), log_norm)
