"""Greedy layer-wise pre-training: each layer learns on its own what to keep of the layer below, then all are fine-tuned.

Schmidhuber (1992) trained a hierarchy of recurrent networks one level at a time, each to predict what the one below could
not; Hinton, Osindero and Teh (2006) and Bengio et al. (2007) did it for deep feed-forward networks, as is done here: layer l
is trained as an autoencoder of layer l - 1's activations, with a linear decoder that is thrown away. No gradient ever crosses
more than one hidden layer, so none can vanish.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from rnnvg.depth.networks import DeepNetwork
from rnnvg.errors import check_float, check_int
from rnnvg.tasks.images import Images
from rnnvg.training.descent import Descent

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
