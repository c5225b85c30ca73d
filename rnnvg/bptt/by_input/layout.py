"""Which axis of a leaf and of an output is the batch, which is time: shapes say it in part, gradients the rest.

Sequences do not mix: the gradient of one sequence's output is zero at every other's input. Time axes do mix, and so does a
batch that is normalised as a whole, which is refused: one vector-Jacobian product serves the whole batch.
Axes: T steps, B sequences.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rnnvg.bptt.by_input.subject import Forward
from rnnvg.errors import InputError, check_name

LAYOUTS = ("TBI", "BTI", "BIT")


@dataclass(frozen=True)
class Layout:
    """Axes of the leaf (steps called one by one are stacked in front) and of the output; no time: one output a sequence."""

    leaf_batch: int
    leaf_time: int
    out_batch: int
    out_time: int | None

    def fits(self, leaf: tuple[int, ...], out: tuple[int, ...]) -> bool:
        if max(self.leaf_batch, self.leaf_time) >= len(leaf) or max(self.out_batch, self.out_time or 0) >= len(out):
            return False
        same_batch = leaf[self.leaf_batch] == out[self.out_batch]
        return same_batch and (self.out_time is None or leaf[self.leaf_time] == out[self.out_time])

    def by_step(self, gradient: Tensor) -> Tensor:
        """The leaf's gradient as [T, B, numbers]."""
        both = gradient.movedim((self.leaf_time, self.leaf_batch), (0, 1))
        return both.reshape(*both.shape[:2], -1)

    def at_source(self, output: Tensor, step: int) -> Tensor:
        """The output at `step`, [B, numbers]."""
        if self.out_time is None:
            return output.movedim(self.out_batch, 0).reshape(output.shape[self.out_batch], -1)
        both = output.movedim((self.out_time, self.out_batch), (0, 1))
        return both[step].reshape(both.shape[1], -1)


def find_layout(forward: Forward, named: str | None, batch_first: bool) -> Layout:
    """The first reading of the axes under which the sequences do not mix.

    Args:
        forward: a pass of the model.
        named: "TBI", "BTI" or "BIT" (convolutions); None finds it.
        batch_first: what the model says of itself, tried first.

    Raises:
        InputError: no reading fits the shapes, or the sequences mix under every one.
    """
    stepwise = len(forward.leaves) > 1
    leaf = (len(forward.leaves), *forward.leaves[0].shape) if stepwise else tuple(forward.leaves[0].shape)
    out = tuple(forward.output.shape)
    if named is not None:
        readings = _readings(check_name("layout", named, LAYOUTS))
    else:
        order = ["BTI", "TBI"] if batch_first else ["TBI", "BTI"]
        place = 0 if forward.into_convolution else 2
        order.insert(place, "BIT")
        readings = [each for name in order for each in _readings(name)]
        readings += [Layout(1, 0, 0, 1), Layout(0, 1, 1, 0)]
    if stepwise:  # the leaf's own axes are known
        readings = [Layout(1, 0, 1, 0), Layout(1, 0, 0, 1), Layout(1, 0, 0, None)]
    in_order = [each for each in readings if each.out_time is not None] + [
        each for each in readings if each.out_time is None and (each.leaf_time < 2 or forward.into_convolution or named)
    ]
    fitting = [each for each in in_order if each.fits(leaf, out)]
    if not fitting:
        raise InputError(
            f"`model` turns {list(leaf)} into {list(out)}, which is neither an output for every step nor one for every "
            f"sequence; {_batch_of_one(leaf)}pass outputs= with a function that gives [T, B, ...], [B, T, ...] or "
            "[B, ...]."
        )
    for each in fitting:
        if _separates(forward, each):
            return each
    single = _batch_of_one(leaf)
    if single:
        raise InputError(
            f"`inputs` has shape {list(leaf)}, a number for each step and sequence, and `model` mixes them along both axes; "
            f"{single}otherwise take out what looks across the batch."
        )
    raise InputError(
        "`model` mixes its sequences: the gradient of one sequence's output reaches the input of another, so a batch cannot "
        "be measured at once; take out what looks across the batch, or pass one sequence at a time."
    )


def _batch_of_one(leaf: tuple[int, ...]) -> str:
    """What to do where one sequence may have come without its batch axis; "" where it cannot have."""
    if len(leaf) != 2:
        return ""
    return (
        "for one sequence without a batch axis pass inputs.unsqueeze(1), or inputs.unsqueeze(0) where the model takes the "
        "batch first; "
    )


def says_batch_first(model: object) -> bool:
    """Whether a model says that its batch comes first: of itself, by every module in it, or as transformers' models do."""
    if isinstance(said := getattr(model, "batch_first", None), bool):
        return said
    if hasattr(model, "get_input_embeddings"):
        return True
    if not isinstance(model, nn.Module):
        return False
    found = {each.batch_first for each in model.modules() if isinstance(getattr(each, "batch_first", None), bool)}
    return found == {True}


def _readings(name: str) -> list[Layout]:
    batch, time = {"TBI": (1, 0), "BTI": (0, 1), "BIT": (0, 2)}[name]
    return [Layout(batch, time, batch, time), Layout(batch, time, 0, None)]


def _separates(forward: Forward, layout: Layout) -> bool:
    """Whether the first and the last sequence's outputs have no gradient by any other sequence's input."""
    batch = forward.output.shape[layout.out_batch]
    if batch == 1:
        return True
    generator = torch.Generator().manual_seed(0)
    for index in (0, batch - 1):
        one = forward.output.select(layout.out_batch, index)
        covector = torch.randn(one.shape, generator=generator, dtype=torch.float64).to(one)
        found = forward.gradient(one, covector)
        if found is None:
            continue
        others = torch.arange(batch, device=found.device) != index
        elsewhere = found.movedim(layout.leaf_batch, 0)[others]
        if bool(((elsewhere != 0) & ~elsewhere.isnan()).any()):  # nan is 0 x inf of a sequence that diverged
            return False
    return True
