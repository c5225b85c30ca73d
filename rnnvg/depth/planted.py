"""Networks with one known defect each, and a healthy one: what a checker must tell apart."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from rnnvg.depth.diagnose import Diagnosis, diagnose
from rnnvg.depth.networks import DeepNetwork, build_for
from rnnvg.errors import check_int, check_name
from rnnvg.tasks.images import Images

DEAD_BIAS = -20.0
SATURATING_GAIN = 30.0
BATCH = 64
Build = Callable[..., DeepNetwork]


def _healthy(build: Build) -> DeepNetwork:
    return build(activation="relu", init="he", norm="batch", residual="block", depth=20)


def _dead_relus(build: Build) -> DeepNetwork:
    """As after one step that was far too long: the biases of one layer are deep below zero."""
    network = build(activation="relu", init="he")
    torch.nn.init.constant_(network.blocks[4].linear.bias, DEAD_BIAS)  # type: ignore[union-attr, arg-type]
    return network


def _frozen_layer(build: Build) -> DeepNetwork:
    """The healthy network with a first layer that nobody thawed."""
    network = _healthy(build)
    network.blocks[0].requires_grad_(False)
    return network


# The verdict that is right -> the network that deserves it.
PLANTED: dict[str, Callable[[Build], DeepNetwork]] = {
    "healthy": _healthy,
    "tiny-initialisation": lambda build: build(activation="sigmoid", init="gaussian"),
    "saturated-units": lambda build: build(activation="sigmoid", init="xavier", gain=SATURATING_GAIN),
    "dead-relus": _dead_relus,
    "frozen-layer": _frozen_layer,
}


def planted(verdict: str, images: Images, *, width: int = 64, seed: int = 0) -> DeepNetwork:
    """The network of PLANTED that deserves this verdict, its weights drawn from `seed`.

    Raises:
        InputError: no such verdict (with the nearest right name), an argument out of its range.
    """
    make = PLANTED[check_name("verdict", verdict, PLANTED)]
    return make(partial(build_for, images, check_int("seed", seed, least=0), width=width))


def check(network: DeepNetwork, images: Images, seed: int = 0) -> Diagnosis:
    """`diagnose` on a batch of training images drawn from `seed`, for the cross-entropy."""
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(images.train_y), generator=generator)[:BATCH]
    return diagnose(network, (images.train_x[chosen], images.train_y[chosen]), _loss)


def _loss(model: DeepNetwork, batch: tuple[Tensor, Tensor]) -> Tensor:
    return cross_entropy(model(batch[0]), batch[1])
