"""suggest_clip(): a threshold for gradient clipping, from norms that were measured instead of guessed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from rnnvg.depth.isolated import copied, isolated
from rnnvg.errors import InputError, bounded, check_float, check_function
from rnnvg.notebook import Shown

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

MOST_BATCHES = 100_000  # an endless loader is stopped here


@dataclass(frozen=True, repr=False)
class ClipSuggestion(Shown):
    """A clipping threshold and the gradient norms that it comes from.

    Attributes:
        threshold: the norm to pass to torch.nn.utils.clip_grad_norm_.
        quantile: the share of batches whose gradient stays as it is.
        norms: [n] float64, Euclidean norm of the whole gradient, batch by batch; inf or nan where it is not finite.

    >>> import numpy as np
    >>> from rnnvg import ClipSuggestion
    >>> ClipSuggestion(threshold=3.0, quantile=0.9, norms=np.array([1.0, 2.0, 3.0, 40.0])).threshold
    3.0
    """

    threshold: float
    quantile: float
    norms: np.ndarray

    @property
    def n_nonfinite(self) -> int:
        """Batches whose gradient is not finite; clipping does not mend these."""
        return int((~np.isfinite(self.norms)).sum())

    def __str__(self) -> str:
        finite = self.norms[np.isfinite(self.norms)]
        text = (
            f"clip at a norm of {self.threshold:.3g}: {(finite <= self.threshold).mean():.0%} of {len(finite)} batches stay "
            f"as they are (median {np.median(finite):.3g}, largest {finite.max():.3g})"
        )
        return text + (f"; {self.n_nonfinite} more had a gradient that is not finite" if self.n_nonfinite else "")

    def to_frame(self) -> pd.DataFrame:
        """A row a batch: batch, norm, clipped."""
        import pandas as pd

        return pd.DataFrame(
            {"batch": np.arange(len(self.norms)), "norm": self.norms, "clipped": ~(self.norms <= self.threshold)}
        )

    def plot(self, ax: Axes | None = None) -> Axes:
        """The share of batches with at most each norm, on a log axis, and the threshold. Returns the Axes."""
        from rnnvg.bptt.plots import lettered, new_axes, seen_points

        ax = new_axes() if ax is None else ax
        finite = np.sort(self.norms[np.isfinite(self.norms)])
        seen = seen_points(finite)
        ax.step(finite[seen], (seen + 1) / len(finite), where="post")
        ax.axvline(self.threshold, color="0.4", linestyle="--", label=f"threshold {self.threshold:.3g}")
        ax.set(xscale="log", ylim=(0, 1.02))
        return lettered(ax, "norm of the gradient", "share of batches with at most this norm")


def suggest_clip(
    model: nn.Module, batches: Iterable[Any], loss: Callable[[Any, Any], Tensor], *, quantile: float = 0.9
) -> ClipSuggestion:
    """Measure gradient norms over batches and suggest the norm to clip at.

    A threshold should catch the rare large gradient and leave the others alone, so it is a high quantile of the norms seen. A
    threshold far below the usual norm turns gradient descent into steps of constant length; one far above it does nothing.
    Norms change while a network learns: measure after some training, and again later.

    Args:
        model: any nn.Module, in the mode it is to be measured in. A copy is run: weights, gradients, buffers and random
            states stay as they are.
        batches: what `loss` takes, one at a time; a DataLoader, or a list.
        loss: loss(model, batch) -> scalar tensor; it must call the model that it is handed.
        quantile: the share of batches whose gradient is to stay as it is, in (0, 1).

    Raises:
        InputError: no batch, a loss that is not a scalar or does not depend on the model, no finite gradient at all,
            `quantile` outside (0, 1).

    Source: clipping by the norm and thresholds from its statistics, Pascanu, Mikolov and Bengio 2013, section 3.2.

    >>> model = nn.Linear(1, 1, bias=False)
    >>> _ = nn.init.constant_(model.weight, 1.0)
    >>> batches = [torch.full((1, 1), float(size)) for size in range(1, 11)]
    >>> found = suggest_clip(model, batches, lambda model, x: model(x).sum(), quantile=0.9)
    >>> found.norms.tolist()
    [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0]
    >>> found.threshold
    9.0
    """
    quantile = check_float("quantile", quantile, above=0, below=1)
    if not isinstance(model, nn.Module):
        raise InputError(f"`model` is a {type(model).__name__}; pass a torch.nn.Module.")
    check_function("loss", loss, "loss(model, batch) that returns a scalar tensor")
    if not isinstance(batches, Iterable) or (isinstance(batches, Tensor) and batches.ndim == 0):
        raise InputError(f"`batches` is a {type(batches).__name__}; pass a DataLoader or a list of batches.")
    with isolated(model):
        measured, _, _ = copied(model, None, None)
        parameters = [each for each in measured.parameters() if each.requires_grad]
        if not parameters:
            raise InputError("`model` has no parameter that requires a gradient; nothing is clipped.")
        norms = []
        for batch in bounded("batches", batches, MOST_BATCHES):
            norms.append(_norm(loss(measured, batch), parameters))
    found = np.array(norms)
    finite = found[np.isfinite(found)]
    if not len(found):
        raise InputError("`batches` is empty; pass at least one batch.")
    if not len(finite):
        raise InputError(
            f"None of the {len(found)} gradients is finite; rnnvg.diagnose(model, batch, loss) looks for the cause."
        )
    threshold = float(np.quantile(finite, quantile, method="inverted_cdf"))
    return ClipSuggestion(threshold, quantile, found)


def _norm(value: Any, parameters: list[nn.Parameter]) -> float:
    if not isinstance(value, Tensor) or value.numel() != 1:
        shape = list(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise InputError(f"`loss` returned {shape}; pass a function that returns one number as a tensor.")
    if not value.requires_grad:
        raise InputError("`loss` does not depend on the model that it is handed; call that model inside it.")
    grads = torch.autograd.grad(value.reshape(()), parameters, allow_unused=True)
    norms = [torch.linalg.vector_norm(grad.to(torch.float64)) for grad in grads if grad is not None]
    if not norms:
        raise InputError("`loss` does not depend on the model that it is handed; call that model inside it.")
    return float(torch.linalg.vector_norm(torch.stack(norms)))
