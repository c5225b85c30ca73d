"""What gradient clipping does and what it does not: it shortens the whole gradient, and no layer's share of it changes.

A network that explodes is kept from diverging; one that vanishes is not helped at all (Pascanu, Mikolov and Bengio 2013).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from rnnvg.depth.adjoints import log_norm
from rnnvg.depth.networks import DeepNetwork, build_for
from rnnvg.depth.training import fit, weight_norms
from rnnvg.errors import check_float, check_int
from rnnvg.horizon import NATS_PER_DECADE
from rnnvg.tasks.images import Images

EXPLODING_GAIN = 1.5  # times He's weights: 1.5^9 between the ends of ten layers
NETWORKS: dict[str, dict[str, Any]] = {
    "vanishing": {"activation": "sigmoid", "init": "gaussian"},
    "exploding": {"activation": "relu", "init": "he", "gain": EXPLODING_GAIN},
}


@dataclass(frozen=True)
class Clipped:
    """One network trained with or without clipping.

    Attributes:
        network: "vanishing" or "exploding".
        clip: the norm clipped to, or None.
        log10_norm: of the first batch's gradient by all weights, before and after clipping.
        by_layer: log10 of the gradient by each hidden layer's weights, the first first, before and after clipping.
        clipped: share of the training steps that were clipped; nan without clipping.
        accuracy, status, steps: of the training.
    """

    network: str
    clip: float | None
    log10_norm: tuple[float, float]
    by_layer: tuple[tuple[float, ...], tuple[float, ...]]
    clipped: float
    accuracy: float
    status: str
    steps: int

    @property
    def log10_ratio(self) -> tuple[float, float]:
        """Gradient by the first hidden layer's weights over the last one's, before and after clipping."""
        before, after = self.by_layer
        return before[0] - before[-1], after[0] - after[-1]


def compare_clipping(
    images: Images,
    *,
    depth: int = 10,
    width: int = 64,
    steps: int = 400,
    lr: float = 0.02,
    clip: float = 1.0,
    seed: int = 0,
) -> tuple[Clipped, ...]:
    """Train a vanishing and an exploding network, each without clipping and with.

    Raises:
        InputError: an argument out of its range.
    """
    clip, seed = check_float("clip", clip, above=0), check_int("seed", seed, least=0)
    found = []
    for name, options in NETWORKS.items():
        for limit in (None, clip):
            generator = torch.Generator().manual_seed(seed)
            network = build_for(images, generator, depth=depth, width=width, **options)
            norms, by_layer = _one_batch(network, images, limit)
            training = fit(network, images, steps=steps, lr=lr, clip=limit, generator=generator)
            found.append(
                Clipped(
                    network=name,
                    clip=limit,
                    log10_norm=norms,
                    by_layer=by_layer,
                    clipped=training.clipped,
                    accuracy=training.accuracy,
                    status=training.status,
                    steps=training.steps,
                )
            )
    return tuple(found)


def _one_batch(
    network: DeepNetwork, images: Images, clip: float | None
) -> tuple[tuple[float, float], tuple[tuple[float, ...], tuple[float, ...]]]:
    """log10 of the whole gradient's norm and of each layer's, before and after clipping."""
    loss = cross_entropy(network(images.train_x[:64]), images.train_y[:64])
    loss.backward()
    norms, layers = [], []
    for limit in (math.inf, clip or math.inf):
        nn.utils.clip_grad_norm_(network.parameters(), limit)
        every = [each.grad for each in network.parameters() if each.grad is not None]
        norms.append(log_norm(every) / NATS_PER_DECADE)
        layers.append(tuple(weight_norms(network.blocks)))
    network.zero_grad()
    return (norms[0], norms[1]), (layers[0], layers[1])
