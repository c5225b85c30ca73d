"""Sequential digits: an image read pixel by pixel, row by row, and after the last one: which digit was it?

Le, Jaitly, Hinton 2015, with MNIST. Here scikit-learn's 8 x 8 digits (64 steps), or MNIST and its kin from a folder with their
IDX files (784 steps). A fifth of scikit-learn's images, or the folder's own test files, are held out; scores and
profiles are taken on those, so that a training that stops when it is solved has looked at them before.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache, partial

import torch
from torch import Tensor

from rnnvg.errors import InputError
from rnnvg.tasks import images, scoring
from rnnvg.tasks.task import Batch, Description, Task

SKLEARN = "digits"
SHADES = " .:*#"

ABOUT = Description(
    name="sequential-digits",
    label="Sequential digits",
    kind="numbers",
    metric="accuracy",
    unit="nats per scored step",
    solved=0.9,
    settings={"data": "'digits' (scikit-learn's), or a folder with MNIST's four IDX files, gzipped or not"},
)


def make(*, data: str = SKLEARN) -> Task:
    """Makes the task: inputs [T, B, 1], one pixel a step, centred and scaled by the training images; scored at the last step.

    `targets` [T, B] repeats the class at every step, `weight` picks the last.

    Raises:
        InputError: scikit-learn is not installed, or the folder does not hold IDX files.
    """
    found = load(data)
    order = torch.arange(found.train_x.shape[1])
    return of_images(ABOUT, {"data": data}, found, order, "row by row")


@lru_cache(maxsize=2)
def _load(data: str) -> images.Images:
    # A worker makes the same task for many runs.
    return images.digits() if data == SKLEARN else images.from_idx(data)


def load(data: str) -> images.Images:
    """The images that the setting `data` names.

    Raises:
        InputError: as `make`.
    """
    if not isinstance(data, str) or not data.strip():
        raise InputError(f"`data` must be 'digits' or the path of a folder with MNIST's IDX files; got {data!r}.")
    return _load(data)


def of_images(about: Description, settings: dict, data: images.Images, order: Tensor, how: str) -> Task:
    """The task of reading `data` in `order` [T], the pixel of each step; `how` that is, in words."""
    steps, classes = len(order), data.classes
    counts = torch.bincount(data.train_y, minlength=classes).double()
    commonest = int(counts.argmax())
    share = float((data.test_y == commonest).double().mean())
    # One added to every count: a class that is only held out still has a finite price.
    shares = (counts + 1) / (counts + 1).sum()
    price = float(-shares[data.test_y].log().mean())
    # Pixels that do not differ between training images say nothing.
    varies = (data.train_x != data.train_x[0]).any(0)[order]
    return Task(
        about=about,
        settings=settings,
        n_inputs=1,
        n_outputs=classes,
        steps=steps,
        distances=(steps - 1 - varies.nonzero()[:, 0]).unique().numpy(),
        baseline=share,
        baseline_loss=price,
        baseline_text=(
            f"Always saying {commonest}, the commonest digit of the training images, is right for "
            f"{100 * share:.4g} % of the held-out ones; class frequencies alone cost {price:.4g} nats."
        ),
        best_loss=None,
        draw=partial(_draw, data, order),
        draw_longer=partial(_draw_longer, data, order),
        held_out=partial(_held_out, data, order),
        show=partial(_show, order, how),
    )


def _draw(data: images.Images, order: Tensor, size: int, generator: torch.Generator) -> Batch:
    """Training images, with replacement."""
    chosen = torch.randint(len(data.train_y), (size,), generator=generator)
    return _read(data.train_x[chosen], data.train_y[chosen], order)


def _draw_longer(data: images.Images, order: Tensor, n: int, generator: torch.Generator) -> Batch:
    """Four held-out images, one after the other; the class of the last is due."""
    chosen = torch.randint(len(data.test_y), (4, n), generator=generator)
    parts = [_read(data.test_x[row], data.test_y[row], order) for row in chosen]
    inputs = torch.cat([part.inputs for part in parts])
    return Batch(inputs, parts[-1].targets.repeat(4, 1), scoring.last_step(len(inputs), n))


def _held_out(data: images.Images, order: Tensor, n: int, generator: torch.Generator) -> Iterator[Batch]:
    """All held-out images, or `n` drawn from them where there are more."""
    held_out, start = len(data.test_y), 0
    chosen = torch.randperm(held_out, generator=generator)[:n] if n < held_out else torch.arange(held_out)
    for size in scoring.sizes(len(chosen), len(order)):
        part = chosen[start : start + size]
        start += size
        yield _read(data.test_x[part], data.test_y[part], order)


def _read(pixels: Tensor, classes: Tensor, order: Tensor) -> Batch:
    """The sequences of some images [n, T] with their classes [n]."""
    inputs = pixels[:, order].T.contiguous()[..., None]
    return Batch(inputs, classes.repeat(len(order), 1), scoring.last_step(len(order), len(classes)))


def _show(order: Tensor, how: str, batch: Batch) -> str:
    """One image as it stands, and how it is read."""
    steps = len(order)
    pixels = torch.empty(steps)
    pixels[order] = batch.inputs[:, 0, 0]
    side = round(steps**0.5)
    side = side if side * side == steps else steps
    return (
        f"{_drawn(pixels, side)}\n\nThe image is read pixel by pixel, {how}, {steps} steps in all; its digit, "
        f"{int(batch.targets[-1, 0])}, is due at the last one."
    )


def _drawn(pixels: Tensor, side: int) -> str:
    share = (pixels - pixels.min()) / (pixels.max() - pixels.min()).clamp(min=1e-12)
    levels = (share * (len(SHADES) - 1)).round().int().tolist()
    rows = [levels[start : start + side] for start in range(0, len(levels), side)]
    return "\n".join("".join(2 * SHADES[level] for level in row).rstrip() or "." for row in rows)
