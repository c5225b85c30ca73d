"""Training a deep network on images, with every layer's gradient norm written down as it goes.

The same seeds give the same numbers on one machine with one number of threads. One optimiser step is the unit of budget.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Literal

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from rnnvg.depth.adjoints import log_norm
from rnnvg.depth.networks import DeepNetwork
from rnnvg.errors import check_float, check_int, check_name
from rnnvg.horizon import NATS_PER_DECADE
from rnnvg.tasks.images import Images
from rnnvg.training.descent import Descent

# Plain gradient descent moves a weight in proportion to its gradient: what vanishes stands still. Adam divides that out, down
# to its epsilon.
OPTIMIZERS = {"sgd": partial(torch.optim.SGD, momentum=0.9), "adam": torch.optim.Adam}


@dataclass(frozen=True)
class DeepTraining:
    """What a training came to.

    Attributes:
        history: columns step, loss (mean training loss since the row before), accuracy (on all test images).
        gradients: columns step, layer (1 the first; the readout left out), log10_norm of the batch's gradient by the layer's
            weight matrices as the optimiser would see it without clipping; -inf is an exact zero.
        clipped: share of the steps whose gradient clipping shortened; nan without clipping.
        status: "ok", or "diverged" where the loss stopped being finite; `reason` says at which step.
        steps: done.    accuracy: on the test images at the end.    seconds: wall time, evaluation included.
    """

    history: pd.DataFrame
    gradients: pd.DataFrame
    clipped: float
    status: Literal["ok", "diverged"]
    reason: str
    steps: int
    accuracy: float
    seconds: float

    def steps_to(self, accuracy: float) -> int | None:
        """The first evaluated step with at least this test accuracy, or None."""
        reached = self.history.loc[self.history["accuracy"] >= accuracy, "step"]
        return int(reached.iloc[0]) if len(reached) else None


def fit(
    network: DeepNetwork,
    images: Images,
    *,
    steps: int,
    batch: int = 64,
    lr: float = 0.05,
    optimizer: str = "sgd",
    clip: float | None = None,
    measure_every: int = 25,
    generator: torch.Generator | None = None,
    on_progress: Callable[[int, int], object] | None = None,
) -> DeepTraining:
    """Train a network in place by cross-entropy.

    Args:
        network, images: what to train and on what.
        steps: optimiser steps.
        batch: images a step, drawn without replacement until all have been seen.
        lr: learning rate.
        optimizer: "sgd" (momentum 0.9) or "adam".
        clip: scale the gradient of all weights together down to this norm where it is longer (Pascanu et al. 2013).
        measure_every: steps between rows of history and gradients; the first and last step have one too.
        generator: draws the batches; None is a fresh one seeded 0.
        on_progress: called as on_progress(step, steps) at every row.

    Raises:
        InputError: an argument out of its range.
    """
    steps, batch = check_int("steps", steps, least=0), check_int("batch", batch, least=1)
    measure_every = check_int("measure_every", measure_every, least=1)
    clip = math.inf if clip is None else check_float("clip", clip, above=0)
    kind = OPTIMIZERS[check_name("optimizer", optimizer, OPTIMIZERS)]
    descent = Descent(kind(network.parameters(), lr=check_float("lr", lr, above=0)), clip)
    start, rows, norms, losses = time.perf_counter(), [], [], []
    step, reason = 0, ""
    mode = network.training
    network.train()
    for step, (x, y) in enumerate(_batches(images, batch, steps, generator), start=1):
        measured = step == 1 or step == steps or step % measure_every == 0
        unclipped: list[float] = []
        note = partial(_note, unclipped, network.blocks) if measured else None
        losses.append(descent.gradient(cross_entropy(network(x), y), before_clipping=note))
        if descent.fault is not None:
            reason = f"The {descent.fault[0]} is {descent.fault[1]} at step {step}."
            break
        norms += [(step, layer, each) for layer, each in enumerate(unclipped, start=1)]
        descent.update()
        if measured:
            rows.append((step, sum(losses) / len(losses), accuracy(network, images)))
            losses.clear()
            if on_progress is not None:
                on_progress(step, steps)
    final = accuracy(network, images)
    network.train(mode)
    return DeepTraining(
        history=pd.DataFrame(rows, columns=["step", "loss", "accuracy"]),
        gradients=pd.DataFrame(norms, columns=["step", "layer", "log10_norm"]),
        clipped=descent.clipped / max(1, step) if math.isfinite(clip) else math.nan,
        status="diverged" if reason else "ok",
        reason=reason,
        steps=step,
        accuracy=final,
        seconds=time.perf_counter() - start,
    )


def _note(norms: list[float], blocks: nn.ModuleList) -> None:
    norms += weight_norms(blocks)


def weight_norms(blocks: nn.ModuleList) -> list[float]:
    """log10 of each block's gradient norm, over its weight matrices; nan where a block has none."""
    found = []
    for block in blocks:
        grads = [each.grad for each in block.parameters() if each.ndim >= 2 and each.grad is not None]
        found.append(log_norm(grads) / NATS_PER_DECADE if grads else math.nan)
    return found


@torch.no_grad()
def accuracy(network: nn.Module, images: Images) -> float:
    """Share of the test images classified rightly, in eval mode; the mode is left as it was."""
    mode = network.training
    network.eval()
    right = network(images.test_x).argmax(1) == images.test_y
    network.train(mode)
    return float(right.double().mean())


def _batches(
    images: Images, size: int, count: int, generator: torch.Generator | None
) -> Iterator[tuple[Tensor, Tensor]]:
    """`count` batches of `size` images (fewer where there are fewer), each image once before any comes again."""
    generator = torch.Generator().manual_seed(0) if generator is None else generator
    n = len(images.train_y)
    size = min(size, n)
    order, at = torch.randperm(n, generator=generator), 0
    for _ in range(count):
        if at + size > n:
            order, at = torch.randperm(n, generator=generator), 0
        chosen = order[at : at + size]
        at += size
        yield images.train_x[chosen], images.train_y[chosen]
