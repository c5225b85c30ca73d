"""How much of the gradient each layer gets: by activation (a GradientProfile, distance = layers) and by weight.

Axes: L blocks, B items, K = L + 1 distances: k = 0 is the last block's output, k = L the network's input.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from rnnvg.bptt.arguments import unit_covectors
from rnnvg.bptt.profile import GradientProfile
from rnnvg.bptt.sweep import sweep
from rnnvg.bptt.tensors import check_finite
from rnnvg.depth.blocks import Block, BlockLinearization, couples_items, trace
from rnnvg.errors import InputError, check_int, check_name
from rnnvg.horizon import NATS_PER_DECADE

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class LayerGradients:
    """The gradient of one batch's loss, layer by layer, the first layer first.

    Attributes:
        profile: ||dL/da|| against distance from the last block, the whole batch as one state: log_norm [1, L + 1, 1].
        log_activation: [L + 1], ln ||dL/da_l|| of the whole batch, a_0 the input.
        log_weight: [L], ln ||dL/dW_l||, all weight matrices of block l together; -inf is an exact zero, nan a block
            without weights.

    >>> import torch
    >>> from rnnvg.depth import build, network_gradients
    >>> found = network_gradients(build(4, 3, depth=5, width=8), torch.randn(16, 4), torch.randint(3, (16,)))
    >>> found.to_frame().columns.tolist()
    ['layer', 'log10_activation', 'log10_weight']
    """

    profile: GradientProfile
    log_activation: np.ndarray
    log_weight: np.ndarray

    def log_ratio(self, ends: tuple[int, int] | None = None, of: str = "activations") -> float:
        """ln of the gradient at one block over that at another, by default the first over the last.

        Args:
            ends: two blocks, counted from 1.
            of: "activations", ||dL/da|| of the blocks' outputs, or "weights", ||dL/dW||.
        """
        check_name("of", of, ("activations", "weights"))
        norms = self.log_weight if of == "weights" else self.log_activation[1:]
        first, last = ends or (1, len(norms))
        for block in (first, last):
            check_int("ends", block, least=1, most=len(norms))
        return float(norms[first - 1] - norms[last - 1])

    def to_frame(self) -> pd.DataFrame:
        """A row per block: layer (1 the first), log10_activation (after the block), log10_weight."""
        import pandas as pd

        return pd.DataFrame(
            {
                "layer": np.arange(1, len(self.log_weight) + 1),
                "log10_activation": self.log_activation[1:] / NATS_PER_DECADE,
                "log10_weight": self.log_weight / NATS_PER_DECADE,
            }
        )

    def plot(self, ax: Axes | None = None) -> Axes:
        """Gradient by layer on a log axis, relative to the last layer's. Returns the Axes."""
        from rnnvg.bptt.plots import BLUE, ORANGE, lettered, new_axes

        ax = new_axes() if ax is None else ax
        frame = self.to_frame()
        for by, colour, marker in (("activation", BLUE, "o"), ("weight", ORANGE, "s")):
            relative = frame[f"log10_{by}"] - frame[f"log10_{by}"].iloc[-1]
            shown = relative.where(np.isfinite(relative))
            ax.plot(frame["layer"], shown, color=colour, marker=marker, markersize=4, label=f"by the layer's {by}s")
        return lettered(ax, "layer (1 the first)", "log10 gradient, relative to the last layer")


def layer_profile(
    blocks: Sequence[Block],
    inputs: Tensor,
    *,
    output_grad: Tensor | None = None,
    generator: torch.Generator | None = None,
    whole_batch: bool | None = None,
) -> GradientProfile:
    """Gradient magnitude against distance in layers, exactly and in log space.

    Args:
        blocks: L modules or functions, each from the activation before it, [B, ...], to the one after it, the first layer
            first. They are copied, run once in their own mode and left as they are.
        inputs: [B, ...], float32 or float64.
        output_grad: dL/d(last block's output), shaped like it. None draws one random unit covector per item.
        generator: for the random covectors; None is a fresh one seeded 0.
        whole_batch: True: the batch is one state and the profile has one column, the norm of the gradient by all items'
            activations together. False: a column per item, each of its own loss; exact only where items do not meet.
            None: False where items were measured not to meet in any block, True where they do (batch norm in training).

    Returns:
        A profile with log_norm [1, L + 1, B], or [1, L + 1, 1] for a whole batch; `wrt` is "state".

    Raises:
        InputError: an argument that does not fit; `whole_batch=False` for blocks that couple the items.

    >>> halves = [lambda a: 0.5 * a] * 1000
    >>> profile = layer_profile(halves, torch.ones(1, 1, dtype=torch.float64))
    >>> bool(np.isclose(profile.log_norm[0, 1000, 0], 1000 * np.log(0.5), rtol=1e-12))
    True
    """
    steps = trace(blocks, inputs)
    if not whole_batch and couples_items(steps):
        if whole_batch is False:
            raise InputError(
                "`whole_batch` is False, but an item's loss depends on other items' activations here (batch norm in "
                "training mode?); pass whole_batch=True, or call .eval() on the blocks."
            )
        whole_batch = True
    linear = BlockLinearization(steps, bool(whole_batch))
    return _profile(linear, _covector(linear, output_grad, generator))


def layer_gradients(
    blocks: Sequence[Block], inputs: Tensor, head: Callable[[Tensor], Tensor] | None = None, **options
) -> LayerGradients:
    """The gradient at every block's activations and weights, at any depth.

    Args:
        blocks, inputs: as `layer_profile` takes them.
        head: from the last block's output to a scalar loss. None draws a random unit covector instead.
        options: `output_grad` and `generator` of `layer_profile`, where there is no head.

    Raises:
        InputError: an argument that does not fit; a loss that is not a scalar or does not depend on the blocks' output.

    >>> import torch
    >>> from rnnvg.depth import layer_gradients
    >>> blocks = [torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Tanh()) for _ in range(3)]
    >>> layer_gradients(blocks, torch.randn(16, 8)).log_weight.shape
    (3,)
    """
    linear = BlockLinearization(trace(blocks, inputs), whole_batch=True)
    if head is None:
        covector = _covector(linear, options.pop("output_grad", None), options.pop("generator", None))
    else:
        covector = _covector(linear, head_gradient(head, linear.steps[-1].after), None)
    if options:
        raise InputError(f"`options` has {sorted(options)[0]!r}; pass output_grad or generator.")
    return follow(linear, covector)


def follow(linear: BlockLinearization, covector: Tensor) -> LayerGradients:
    """The gradients of a linearised chain with the whole batch as one state, for dL/da_L as `covector` [1, 1, N] float64."""
    profile = _profile(linear, covector)
    log_activation = profile.log_norm[0, ::-1, 0].copy()
    return LayerGradients(profile, log_activation, log_activation[1:] + linear.log_weight_gain)


def network_gradients(network: nn.Module, inputs: Tensor, targets: Tensor, loss: Loss | None = None) -> LayerGradients:
    """`layer_gradients` of a network with `.blocks` and `.readout`, such as DeepNetwork, for one labelled batch.

    Args:
        network: its blocks are measured, its readout belongs to the loss.
        inputs, targets: [B, ...] and class ids [B].
        loss: loss(outputs, targets) -> scalar; None for the cross-entropy.

    >>> import torch
    >>> from rnnvg.depth import build, network_gradients
    >>> found = network_gradients(build(4, 3, depth=5, width=8), torch.randn(16, 4), torch.randint(3, (16,)))
    >>> found.log_weight.shape, found.log_ratio() < 0  # the first layer gets less than the last one
    ((5,), True)
    """
    compute = torch.nn.functional.cross_entropy if loss is None else loss
    blocks, readout = list(network.blocks), network.readout  # type: ignore[arg-type]
    return layer_gradients(blocks, inputs.flatten(1), lambda last: compute(readout(last), targets))  # type: ignore[operator]


def head_gradient(head: Callable[[Tensor], Tensor], output: Tensor) -> Tensor:
    """d head(output) / d output, shaped like `output`, by autograd."""
    with torch.enable_grad():
        point = output.detach().clone().requires_grad_()
        loss = head(point)
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            found = f"has shape {list(loss.shape)}" if isinstance(loss, Tensor) else f"is a {type(loss).__name__}"
            raise InputError(f"The loss {found}; return a scalar tensor.")
        found = torch.autograd.grad(loss.reshape(()), point, allow_unused=True)[0] if loss.requires_grad else None
    if found is None:
        raise InputError("The loss does not depend on the blocks' output; return one that does.")
    return found


def _covector(linear: BlockLinearization, output_grad: Tensor | None, generator: torch.Generator | None) -> Tensor:
    """dL/da_L as the sweep takes it, [1, B, N] float64."""
    if output_grad is None:
        return linear.covectors(unit_covectors(1, linear.batch, linear.n_outputs, generator, linear.device))
    wanted = linear.steps[-1].after.shape
    if not isinstance(output_grad, Tensor) or output_grad.shape != wanted:
        found = list(output_grad.shape) if isinstance(output_grad, Tensor) else type(output_grad).__name__
        raise InputError(f"`output_grad` is {found}; pass one shaped like the output, {list(wanted)}.")
    check_finite("output_grad", output_grad)
    return linear.covectors(output_grad.detach().reshape(1, linear.batch, -1))


def _profile(linear: BlockLinearization, covector: Tensor) -> GradientProfile:
    last = np.full((1, linear.batch), linear.n_steps - 1)
    n_distances = linear.n_steps + 1
    return GradientProfile(
        log_norm=sweep(linear, last, covector, [slice(0, linear.size)], n_distances),
        sources=last[:, 0],
        distance=np.arange(n_distances),
        wrt="state",
        first_nonfinite=linear.first_nonfinite.numpy(),
    )
