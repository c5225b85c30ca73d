"""Permuted digits: an image read pixel by pixel in one fixed random order, and after the last one: which digit was it?

Le, Jaitly, Hinton 2015. As sequential digits, but neighbours in the image are far apart in time: nothing is local, and
every dependency is as long as any other. The order is the same for all images and comes from the setting `order_seed`.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from rnnvg.errors import check_int
from rnnvg.tasks import digits, scoring
from rnnvg.tasks.task import Task

ABOUT = replace(
    digits.ABOUT,
    name="permuted-digits",
    label="Permuted digits",
    settings={**digits.ABOUT.settings, "order_seed": "seed of the order of the pixels"},
)


def make(*, data: str = digits.SKLEARN, order_seed: int = 0) -> Task:
    """Makes the task: inputs [T, B, 1], one pixel a step in the drawn order; everything else is as in sequential digits.

    Raises:
        InputError: as sequential digits, or an `order_seed` below 0.
    """
    found = digits.load(data)
    order = pixel_order(found.train_x.shape[1], check_int("order_seed", order_seed, least=0))
    first = ", ".join(str(int(pixel)) for pixel in order[:4])
    how = f"in one order for all images (pixels {first} and so on, counted along the rows)"
    return digits.of_images(ABOUT, {"data": data, "order_seed": order_seed}, found, order, how)


def pixel_order(n: int, seed: int) -> Tensor:
    """The pixel that is read at each step, [n]."""
    return torch.randperm(n, generator=scoring.seeded(seed))
