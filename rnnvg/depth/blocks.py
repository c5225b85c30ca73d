"""A feed-forward network as a recurrence: layers for steps, each block's Jacobian by autograd, the analyzer's own sweep.

    a_l = block_l(a_{l-1}),   l = 1..L,   a_0 the input        dL/da_{l-1} = J_l^T dL/da_l

Widths may differ from block to block: the state has as many coordinates as the widest activation, and those that a layer does
not have are zero. Everything else (log space, one rescaling a layer, distances, GradientProfile) is what recurrences get.

**Whose gradient.** Where every item of a batch goes through the network on its own, each item has its own adjoint: the
gradient of its own loss. Batch normalisation in training mode couples them: every item's loss depends on every item's
activation, and "the gradient of one item" has no single meaning. Then the whole batch is one state: one adjoint, the gradient
of the batch's loss by all activations of a layer together. Which of the two holds is measured, not read off a module's type.
Axes: L blocks, B items, N coordinates.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from rnnvg.bptt.segments import Coordinate, Linearization, Segment
from rnnvg.bptt.tensors import check_finite
from rnnvg.depth.adjoints import log_norm
from rnnvg.errors import InputError, bounded

Block = nn.Module | Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Step:
    """One block's part of a forward pass: the activation before and after it, joined by autograd, and its weights."""

    before: Tensor
    after: Tensor
    weights: tuple[Tensor, ...]

    def pull(self, adjoint: Tensor, wrt: tuple[Tensor, ...]) -> list[Tensor]:
        """J^T adjoint by each tensor of `wrt`; zeros where the block does not look at it."""
        found = torch.autograd.grad(self.after, wrt, adjoint, retain_graph=True, allow_unused=True)
        return [torch.zeros_like(each) if grad is None else grad for each, grad in zip(wrt, found, strict=True)]


def trace(blocks: Sequence[Block], inputs: Tensor) -> list[Step]:
    """One forward pass, block by block, with its graph kept: a dropout mask is the same in every product.

    The blocks are copied (a batch norm's running averages would move) and run in their own mode; torch's random state is
    left as it was.

    Args:
        blocks: modules or functions, each from the activation before it to the one after it.
        inputs: [B, ...], float32 or float64.

    Raises:
        InputError: no blocks, inputs that are not a batch of finite numbers, a block that does not return one.
    """
    if not isinstance(inputs, Tensor) or inputs.ndim < 1 or inputs.numel() == 0:
        found = f"{list(inputs.shape)}" if isinstance(inputs, Tensor) else f"a {type(inputs).__name__}"
        raise InputError(f"`inputs` is {found}; pass a batch [B, ...] of at least one item.")
    if inputs.dtype not in (torch.float32, torch.float64):
        raise InputError(f"`inputs` has dtype {inputs.dtype}; pass float32 or float64.")
    check_finite("inputs", inputs)
    blocks = copy.deepcopy(
        list(bounded("blocks", blocks))
    )  # together, so that blocks that share a weight go on sharing it
    if not blocks:
        raise InputError("`blocks` is empty; pass at least one module or function, the first layer first.")
    steps, state = [], inputs.detach()
    devices = [inputs.device] if inputs.device.type == "cuda" else []
    with torch.enable_grad(), torch.random.fork_rng(devices=devices):
        for index, block in enumerate(blocks):
            before = state.clone().requires_grad_()
            after = block(before.clone())  # a copy: the block may work in place
            if not isinstance(after, Tensor) or after.ndim < 1 or after.shape[0] != inputs.shape[0]:
                found = f"{list(after.shape)}" if isinstance(after, Tensor) else f"a {type(after).__name__}"
                raise InputError(f"`blocks` {index} returned {found}; return a tensor [{inputs.shape[0]}, ...].")
            state = after.detach()
            if not after.requires_grad:  # it forgets everything: a zero Jacobian
                after = after + 0 * before.sum()
            weights = block.parameters() if isinstance(block, nn.Module) else ()
            steps.append(Step(before, after, tuple(each for each in weights if each.requires_grad and each.ndim >= 2)))
    return steps


def couples_items(steps: Sequence[Step]) -> bool:
    """Whether one item's loss has a gradient by another item's activation anywhere in the chain.

    Every second item is given a covector, the others none; where items go through one by one theirs stays exactly zero. A
    single item is coupled to nothing.
    """
    for step in reversed(steps):
        adjoint = torch.ones_like(step.after)
        adjoint[1::2] = 0
        (into,) = step.pull(adjoint, (step.before,))
        if bool(into[1::2].any()):
            return True
    return False


class BlockLinearization(Linearization):
    """A chain of blocks along the activations of one forward pass.

    Attributes:
        widths: coordinates of each activation, the input's first, [L + 1].
        log_weight_gain: [L], ln(||dL/dW_l|| / ||dL/da_l||) of the pull that came last, W_l being all weight matrices of
            block l; -inf for an exact zero, nan for a block without weights. Only where the batch is one state: what a
            batch's items give to a weight adds up before it has a norm.

    Args:
        steps: of `trace`.
        whole_batch: the batch is one state (see above), else every item is one.
    """

    def __init__(self, steps: Sequence[Step], whole_batch: bool) -> None:
        self.steps, self.whole_batch = steps, whole_batch
        states = [steps[0].before, *(step.after for step in steps)]
        rows = 1 if whole_batch else states[0].shape[0]
        self.widths = [state.numel() // rows for state in states]
        super().__init__(
            n_steps=len(steps),
            batch=rows,
            coordinates=(Coordinate(0, "hidden", slice(0, max(self.widths))),),
            output=slice(0, self.widths[-1]),
            n_inputs=None,
            like=states[0],
        )
        self.bounds = [(0, self.n_steps)]
        self.log_weight_gain = np.full(self.n_steps, np.nan)
        for layer, step in enumerate(steps):
            self._note_nonfinite(step.after.detach().reshape(1, rows, -1), layer)

    def segment(self, index: int, reuse: bool = False) -> BlockSegment:
        return BlockSegment(self)


class BlockSegment(Segment):
    """The whole chain: its graph is already there."""

    def __init__(self, whole: BlockLinearization) -> None:
        self.start, self.stop = 0, whole.n_steps
        self._whole = whole

    def pull(self, t: int, a: Tensor, out: Tensor, inputs: bool = True) -> None:
        """Write J_t^T a to `out`; both [n, B, N], contiguous."""
        step, whole = self._whole.steps[t], self._whole
        before, after = whole.widths[t], whole.widths[t + 1]
        wrt = (step.before, *step.weights) if whole.whole_batch else (step.before,)
        out.zero_()
        for vector, result in zip(a, out, strict=True):
            adjoint = vector[:, :after].reshape(step.after.shape)
            into, *into_weights = step.pull(adjoint, wrt)
            result[:, :before] = into.reshape(whole.batch, before)
            if into_weights:
                norm = log_norm(into_weights)
                whole.log_weight_gain[t] = norm - log_norm([adjoint]) if norm > -math.inf else norm

    def input_adjoint(self) -> Tensor:
        raise InputError(
            "`wrt` 'input' is the activation at the largest distance of a feed-forward network; pass 'state'."
        )

    def push(self, t: int, v: Tensor) -> Tensor:
        """J_t v, [n, B, N], by two reverse passes: u -> J^T u is linear, and its own pullback is v -> J v."""
        step, whole = self._whole.steps[t], self._whole
        out = torch.zeros_like(v)
        with torch.enable_grad():
            dual = torch.zeros_like(step.after, requires_grad=True)
            (pulled,) = torch.autograd.grad(step.after, step.before, dual, create_graph=True, allow_unused=True)
            if pulled is None or not pulled.requires_grad:
                return out
            for vector, result in zip(v, out, strict=True):
                tangent = vector[:, : whole.widths[t]].reshape(step.before.shape)
                (after,) = torch.autograd.grad(pulled, dual, tangent, retain_graph=True)
                result[:, : whole.widths[t + 1]] = after.reshape(whole.batch, -1)
        return out
