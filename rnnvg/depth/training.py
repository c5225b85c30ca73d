"""Training a deep network on images, with every layer's gradient norm written down as it goes; or layer by layer, before that.

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
from torch.nn.functional import cross_entropy, mse_loss

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


RECENT = 20  # steps whose mean error counts


@dataclass(frozen=True)
class Pretraining:
    """What pre-training came to.

    Attributes:
        unexplained: per layer, the share of the variance of its input that its decoder could not give back; nan where
            the training stopped being finite.
        steps: optimiser steps done, over all layers.
        seconds: wall time.
    """

    unexplained: tuple[float, ...]
    steps: int
    seconds: float


def pretrain(
    network: DeepNetwork,
    images: Images,
    *,
    steps: int = 150,
    batch: int = 128,
    lr: float = 0.01,
    generator: torch.Generator | None = None,
) -> Pretraining:
    """Train each block of `network` in place, the first first, to keep what it is handed. Labels are not looked at.

    Greedy layer-wise pre-training: each layer learns on its own what to keep of the layer below, then all are fine-tuned.
    Schmidhuber (1992) trained a hierarchy of recurrent networks one level at a time, each to predict what the one below could
    not; Hinton, Osindero and Teh (2006) and Bengio et al. (2007) did it for deep feed-forward networks, as is done here: layer
    l is trained as an autoencoder of layer l - 1's activations, with a linear decoder that is thrown away. No gradient ever
    crosses more than one hidden layer, so none can vanish.

    Args:
        network: its readout is left as it is.
        images: only the training images are used.
        steps: optimiser steps (Adam) per block.
        batch: images a step.
        lr: learning rate.
        generator: draws the batches and the decoders; None is a fresh one seeded 0.

    Raises:
        InputError: an argument out of its range.
    """
    steps, batch = check_int("steps", steps, least=1), check_int("batch", batch, least=1)
    lr = check_float("lr", lr, above=0)
    generator = torch.Generator().manual_seed(0) if generator is None else generator
    start, unexplained = time.perf_counter(), []
    below = images.train_x
    mode = network.training
    network.train()
    for block in network.blocks:
        unexplained.append(_one_level(block, below, steps, batch, lr, generator))
        with torch.no_grad():
            below = block(below)
    network.train(mode)
    return Pretraining(tuple(unexplained), steps * len(unexplained), time.perf_counter() - start)


def _one_level(block: nn.Module, below: Tensor, steps: int, batch: int, lr: float, generator: torch.Generator) -> float:
    """Train one block with a decoder; the mean squared error of the last steps over the input's variance."""
    # Each unit below counts alike: a layer of sigmoids near 0.5 varies by thousandths, which is all there is to keep.
    target = (below - below.mean(0)) / (below.std(0) + 1e-6 + 0.01 * below.std())
    with torch.no_grad():
        width = block(below[:2]).shape[1]
    decoder = (torch.randn(width, below.shape[1], generator=generator) / width**0.5).to(below.device)
    decoder.requires_grad_()
    offset = torch.zeros(below.shape[1], requires_grad=True, device=below.device)

    def losses() -> Iterator[Tensor]:
        for _ in range(steps):
            chosen = torch.randint(len(below), (batch,), generator=generator)
            yield mse_loss(block(below[chosen]) @ decoder + offset, target[chosen])

    descent = Descent(torch.optim.Adam([*block.parameters(), decoder, offset], lr=lr))
    recent = list(descent.follow(losses()))[-RECENT:]
    error = sum(recent) / len(recent) if descent.fault is None else math.nan
    return error / float(target.var(0, correction=0).mean())
