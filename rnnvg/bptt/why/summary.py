"""What contributions come to in one sentence, where steps can be counted from one loss; and where they cannot."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from rnnvg.bptt.why.contributions import TemporalContributions


def only_losses(output_grad: Tensor, state_grads: Mapping[int, Tensor]) -> np.ndarray | None:
    """The step of each sequence's only loss, [B], -1 where a sequence has none; None where a sequence has several.

    Args:
        output_grad: direct gradients at the output, [T, B, P].
        state_grads: step -> direct gradient of the whole state after it, [B, N].
    """
    read = (output_grad != 0).any(-1)
    for step, grad in state_grads.items():
        read[step] |= (grad != 0).any(-1).to(read.device)
    if bool((read.sum(0) > 1).any()):
        return None
    steps = torch.arange(len(read), device=read.device)[:, None]
    return torch.where(read, steps, -1).max(0).values.cpu().numpy()


def sentence(found: TemporalContributions, recent: int) -> str:
    """How much of the update the last steps before the loss make.

    A share of the last steps says something where all sequences have one loss, at one step. Where losses are many, or
    sequences end at different steps, "the last steps" of one are the first of another, and the sentence says so.
    """
    T = found.n_steps
    if np.isnan(found.shares()).all():
        return f"over {T} steps: the gradient of every parameter is zero"
    if found.losses is None:
        return (
            f"over {T} steps with losses at several: no share of the last steps is defined; to_frame() has every step's"
        )
    ends = np.unique(found.losses[found.losses >= 0])
    if len(ends) > 1:
        where = f"{ends[0]} to {ends[-1]}"
        return f"sequences end at steps {where}: no share of the last steps is defined; to_frame() has every step's"
    end = int(ends[0]) + 1
    last = min(recent, end)
    return (
        f"the last {last} of {end} steps make {100 * float(found.shares()[end - last : end].sum()):.3g} % of the update"
    )
