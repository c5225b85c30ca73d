"""Permuted digits: an image read pixel by pixel in one fixed random order, and after the last one: which digit was it?

Le, Jaitly, Hinton 2015. As sequential digits, but neighbours in the image are far apart in time: nothing is local, and
every dependency is as long as any other. The order is the same for all images and comes from the setting `order_seed`.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from rnnvg.errors import check_int
from rnnvg.tasks import scoring
from rnnvg.tasks.digits import SKLEARN, SequentialDigits


class PermutedDigits(SequentialDigits):
    """Inputs [T, B, 1], one pixel a step in the drawn order; everything else is as in `SequentialDigits`.

    Raises:
        InputError: as `SequentialDigits`, or an `order_seed` below 0.
    """

    ABOUT: Mapping[str, str] = {
        **SequentialDigits.ABOUT,
        "order_seed": "what the order of the pixels is drawn from",
    }
    name = "permuted-digits"

    def __init__(self, *, data: str = SKLEARN, order_seed: int = 0) -> None:
        super().__init__(data=data)
        self.order_seed = check_int("order_seed", order_seed, least=0)
        self.order = torch.randperm(self.steps, generator=scoring.seeded(self.order_seed))

    def _how(self) -> str:
        first = ", ".join(str(int(pixel)) for pixel in self.order[:4])
        return f"in one order for all images (pixels {first} and so on, counted along the rows)"
