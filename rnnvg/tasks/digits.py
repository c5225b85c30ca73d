"""Sequential digits: an image read pixel by pixel, row by row, and after the last one: which digit was it?

Le, Jaitly, Hinton 2015, with MNIST. Here scikit-learn's 8 x 8 digits (64 steps), or MNIST and its kin from a folder with their
IDX files (784 steps). A fifth of scikit-learn's images, or the folder's own test files, are held out; scores and
profiles are taken on those, so that a training that stops when it is solved has looked at them before.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn

from rnnvg.errors import InputError, check_int
from rnnvg.tasks import images, scoring
from rnnvg.tasks.answers import Answers, last_step
from rnnvg.tasks.task import Batch

SKLEARN = "digits"
# Share of held-out images that counts as solved.
SOLVED = 0.9
SHADES = " .:*#"


class SequentialDigits(Answers):
    """Inputs [T, B, 1], one pixel a step, centred and scaled by the training images; scored at the last step.

    `targets` [T, B] repeats the class at every step, `weight` picks the last.

    Attributes:
        images: the data.
        order: [T] which pixel is read at each step.

    Raises:
        InputError: scikit-learn is not installed, or the folder does not hold IDX files.
    """

    ABOUT: Mapping[str, str] = {
        "data": "'digits' (scikit-learn's), or a folder with MNIST's four IDX files, gzipped or not",
    }
    name = "sequential-digits"
    kind = "numbers"
    metric = "accuracy"
    n_inputs = 1
    best_loss = None
    solved_from = SOLVED

    def __init__(self, *, data: str = SKLEARN) -> None:
        if not isinstance(data, str) or not data.strip():
            raise InputError(f"`data` must be 'digits' or the path of a folder with MNIST's IDX files; got {data!r}.")
        self.data = data
        self.images = _load(data)
        self.steps = self.images.train_x.shape[1]
        self.n_outputs = self.images.classes
        self.order = torch.arange(self.steps)
        counts = torch.bincount(self.images.train_y, minlength=self.n_outputs).double()
        self.commonest = int(counts.argmax())
        self.baseline = float((self.images.test_y == self.commonest).double().mean())
        # One added to every count: a class that is only held out still has a finite price.
        shares = (counts + 1) / (counts + 1).sum()
        self.baseline_loss = float(-shares[self.images.test_y].log().mean())

    @property
    def distances(self) -> np.ndarray:
        """From every pixel that differs between training images to the last step."""
        varies = (self.images.train_x != self.images.train_x[0]).any(0)[self.order]
        return np.unique(self.steps - 1 - varies.nonzero()[:, 0].numpy())

    @property
    def baseline_text(self) -> str:
        return (
            f"Always saying {self.commonest}, the commonest digit of the training images, is right for "
            f"{100 * self.baseline:.4g} % of the held-out ones; class frequencies alone cost {self.baseline_loss:.4g} nats."
        )

    def batch(self, size: int, generator: torch.Generator) -> Batch:
        """`size` training images, drawn with replacement."""
        generator = scoring.check_generator(generator)
        chosen = torch.randint(len(self.images.train_y), (check_int("size", size, least=1),), generator=generator)
        return self._read(self.images.train_x[chosen], self.images.train_y[chosen])

    def probe(self, n: int, generator: torch.Generator) -> Batch:
        """`n` sequences of four held-out images, one after the other; the class of the last is due."""
        generator = scoring.check_generator(generator)
        chosen = torch.randint(len(self.images.test_y), (4, check_int("n", n, least=1)), generator=generator)
        parts = [self._read(self.images.test_x[row], self.images.test_y[row]) for row in chosen]
        inputs = torch.cat([part.inputs for part in parts])
        return Batch(inputs, parts[-1].targets.repeat(4, 1), last_step(4 * self.steps, n))

    def score(self, model: nn.Module, generator: torch.Generator, n: int = 1000) -> dict[str, float]:
        """ "loss" in nats and "accuracy" on held-out images: all of them, or `n` drawn from them where there are more."""
        scoring.check_generator(generator)
        held_out = len(self.images.test_y)
        chosen = torch.randperm(held_out, generator=generator)[:n] if n < held_out else torch.arange(held_out)
        nats, right, start = 0.0, 0, 0
        with scoring.evaluating(model) as device:
            for size in scoring.sizes(len(chosen), self.steps):
                part = chosen[start : start + size]
                start += size
                batch = self._read(self.images.test_x[part], self.images.test_y[part]).to(device)
                outputs = model(batch.inputs)[0]
                nats += float(self.loss(outputs, batch)) * size
                right += int((outputs[-1].argmax(-1) == batch.targets[-1]).sum())
        return {"loss": nats / len(chosen), "accuracy": right / len(chosen)}

    def example(self, generator: torch.Generator | None = None) -> str:
        """One image as it stands, and how it is read."""
        batch = self.batch(1, generator or scoring.seeded(0))
        pixels = torch.empty(self.steps)
        pixels[self.order] = batch.inputs[:, 0, 0]
        side = round(self.steps**0.5)
        side = side if side * side == self.steps else self.steps
        return (
            f"{_drawn(pixels, side)}\n\n"
            f"The image is read pixel by pixel, {self._how()}, {self.steps} steps in all; its digit, "
            f"{int(batch.targets[-1, 0])}, is due at the last one."
        )

    def _how(self) -> str:
        return "row by row"

    def _read(self, pixels: Tensor, classes: Tensor) -> Batch:
        """The sequences of some images [n, T] with their classes [n]."""
        inputs = pixels[:, self.order].T.contiguous()[..., None]
        return Batch(inputs, classes.repeat(self.steps, 1), last_step(self.steps, len(classes)))


def _drawn(pixels: Tensor, side: int) -> str:
    share = (pixels - pixels.min()) / (pixels.max() - pixels.min()).clamp(min=1e-12)
    levels = (share * (len(SHADES) - 1)).round().int().tolist()
    rows = [levels[start : start + side] for start in range(0, len(levels), side)]
    return "\n".join("".join(2 * SHADES[level] for level in row).rstrip() or "." for row in rows)


@lru_cache(maxsize=2)
def _load(data: str) -> images.Images:
    # A worker makes the same task for many runs.
    return images.digits() if data == SKLEARN else images.from_idx(data)
