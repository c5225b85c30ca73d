"""Gradient descent, a step at a time, the same for every training in the house: gradient, clipping, faults, update."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor, nn


class Descent:
    """The steps of one training.

    Attributes:
        fault: what was not finite of the last gradient, "loss" or "gradient's norm", and its value: no update is to be made of
            it, so that the weights stay as they were. None where all is well.
        clipped: how many gradients were scaled down.

    Args:
        optimizer: of the weights that are learned.
        clip: the norm that longer gradients are scaled down to (Pascanu, Mikolov and Bengio 2013); inf: none is.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, clip: float = math.inf) -> None:
        self.optimizer, self.clip = optimizer, clip
        self.parameters = [each for group in optimizer.param_groups for each in group["params"]]
        self.fault: tuple[str, float] | None = None
        self.clipped = 0

    def gradient(
        self, loss: Tensor, *, penalty: Tensor | None = None, before_clipping: Callable[[], object] | None = None
    ) -> float:
        """Leaves the clipped gradient of `loss` in every parameter's .grad, and gives the loss.

        Args:
            penalty: is learned from too, and is no part of the loss that is given back.
            before_clipping: called when the gradient is there.
        """
        self.optimizer.zero_grad()
        torch.autograd.backward(loss if penalty is None else loss + penalty)
        if before_clipping is not None:
            before_clipping()
        norm = nn.utils.clip_grad_norm_(self.parameters, self.clip)
        value, length = map(float, torch.stack((loss.detach(), norm)).cpu().numpy())
        named = (("loss", value), ("gradient's norm", length))
        self.fault = next((each for each in named if not math.isfinite(each[1])), None)
        self.clipped += self.fault is None and length > self.clip
        return value

    def update(self) -> None:
        """Moves the weights along the last gradient."""
        self.optimizer.step()

    def follow(self, losses: Iterable[Tensor]) -> Iterator[float]:
        """A step on each loss, which is computed only when the step before it is done; gives their values.

        Ends before the update of a step that has a `fault`.
        """
        for loss in losses:
            value = self.gradient(loss)
            if self.fault is not None:
                return
            self.update()
            yield value
