"""Deep networks by option: depth, width, activation, initialisation, normalisation, residual connections.

    none    a_l = f(norm(W a))                                                 depth layers
    skip    a_l = a + f(norm(W a)), from the second layer on                   depth layers
    block   a_l = f(a + norm(W2 f(norm(W1 a)))), behind a stem f(norm(W x))    depth blocks (He et al. 2016, figure 2)

Normalisation comes before the activation. Every weight is drawn from an explicit generator; biases start at 0. Beside them the
slopes that such a network really applies: f'(z) at its pre-activations, layer by layer, not at its maximum.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from rnnvg.depth.activations import FLAT
from rnnvg.depth.activations import activation as find_activation
from rnnvg.depth.names import RESIDUALS
from rnnvg.errors import InputError, check_float, check_int, check_name
from rnnvg.tasks.images import Images

if TYPE_CHECKING:
    import pandas as pd

GAUSSIAN_STD = 0.01


def _gaussian(weight: Tensor, generator: torch.Generator) -> None:
    weight.normal_(0, GAUSSIAN_STD, generator=generator)


def _xavier(weight: Tensor, generator: torch.Generator) -> None:
    weight.normal_(0, math.sqrt(2 / sum(weight.shape)), generator=generator)


def _he(weight: Tensor, generator: torch.Generator) -> None:
    weight.normal_(0, math.sqrt(2 / weight.shape[1]), generator=generator)


def _orthogonal(weight: Tensor, generator: torch.Generator) -> None:
    """Rows or columns orthonormal, uniformly drawn: QR of a Gaussian with the signs of R's diagonal taken out."""
    rows, columns = weight.shape
    drawn = torch.randn(max(rows, columns), min(rows, columns), generator=generator, dtype=torch.float64)
    q, r = torch.linalg.qr(drawn)
    q *= r.diagonal().sign()
    weight.copy_(q if rows >= columns else q.T)


# gaussian: N(0, 0.01^2), the habit of the 2000s. xavier: Glorot and Bengio 2010. he: He et al. 2015. orthogonal: Saxe et al.
# 2014.
INITS: dict[str, Callable[[Tensor, torch.Generator], None]] = {
    "gaussian": _gaussian,
    "xavier": _xavier,
    "he": _he,
    "orthogonal": _orthogonal,
}
# batch: Ioffe and Szegedy 2015. layer: Ba, Kiros and Hinton 2016.
NORMS: dict[str, Callable[[int], nn.Module]] = {
    "none": lambda width: nn.Identity(),
    "batch": nn.BatchNorm1d,
    "layer": nn.LayerNorm,
}


class Layer(nn.Module):
    """f(norm(W a + b)), with a itself added to it where `skip` is set."""

    def __init__(self, n_inputs: int, width: int, activation: str, norm: str, skip: bool = False) -> None:
        super().__init__()
        self.linear, self.norm = nn.Linear(n_inputs, width), NORMS[norm](width)
        self.activation, self.skip = find_activation(activation).module(), skip

    def forward(self, a: Tensor) -> Tensor:
        passed = self.activation(self.norm(self.linear(a)))
        return a + passed if self.skip else passed


class ResidualBlock(nn.Module):
    """f(a + norm(W2 f(norm(W1 a)))): two layers beside an identity, the activation after the sum."""

    def __init__(self, width: int, activation: str, norm: str, zero_last: bool) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(width, width), nn.Linear(width, width)
        self.first_norm, self.second_norm = NORMS[norm](width), NORMS[norm](width)
        self.inner, self.outer = find_activation(activation).module(), find_activation(activation).module()
        if zero_last:
            nn.init.zeros_(self.second_norm.weight)  # type: ignore[arg-type]

    def forward(self, a: Tensor) -> Tensor:
        branch = self.second_norm(self.second(self.inner(self.first_norm(self.first(a)))))
        return self.outer(a + branch)


class DeepNetwork(nn.Module):
    """A deep classifier: `blocks` one after the other, then `readout`.

    Attributes:
        blocks: the hidden layers or residual blocks in order, the stem of the residual network first.
        readout: nn.Linear to the classes.
        ends: the two blocks, counted from 1, whose outputs' gradients are compared: the first and the last layer. Of a
            residual network the first residual block and the last but one: what the last block is handed. Between its
            output and the readout there is a ReLU and nothing else, which halves the gradient whatever the depth.
        spec: what it was built with.

    >>> import torch
    >>> from rnnvg.depth import build
    >>> build(4, 3, depth=5, width=8)(torch.randn(16, 4)).shape
    torch.Size([16, 3])
    """

    def __init__(self, blocks: list[nn.Module], readout: nn.Linear, ends: tuple[int, int], spec: dict) -> None:
        super().__init__()
        self.blocks, self.readout = nn.ModuleList(blocks), readout
        self.ends, self.spec = ends, spec

    def forward(self, x: Tensor) -> Tensor:
        """Scores [B, classes] of a batch [B, ...]; everything behind the first axis is one row."""
        a = x.flatten(1)
        for block in self.blocks:
            a = block(a)
        return self.readout(a)


def build(
    n_inputs: int,
    n_outputs: int,
    *,
    depth: int = 10,
    width: int = 64,
    activation: str = "sigmoid",
    init: str = "gaussian",
    norm: str = "none",
    residual: str = "none",
    zero_last: bool = False,
    gain: float = 1.0,
    generator: torch.Generator | None = None,
    device: torch.device | str | None = None,
) -> DeepNetwork:
    """A deep network, its weights drawn from `generator`.

    Args:
        n_inputs, n_outputs: features of an item and number of classes.
        depth: hidden layers, or residual blocks behind the stem where residual is "block".
        width: units of every hidden layer.
        activation: a name from rnnvg.depth.activations.
        init: "gaussian" (standard deviation 0.01), "xavier", "he" or "orthogonal", for every weight matrix.
        norm: "none", "batch" or "layer".
        residual: "none", "skip" (around one layer) or "block" (around two, the activation after the sum).
        zero_last: start the last normalisation's gain of every residual block at 0 (Goyal et al. 2017).
        gain: multiplies every weight as drawn: above 1 a network explodes that is balanced at 1.
        generator: None is a fresh one seeded 0.
        device: where the network is put; its weights are drawn on the CPU all the same. None: it stays there.

    Raises:
        InputError: no layers, width 0, an unknown name (with the nearest right one), zero_last without such a gain.

    >>> network = build(64, 10, depth=3, width=16, activation="relu", init="he")
    >>> network.spec["depth"], network.spec["activation"]
    (3, 'relu')
    """
    n_inputs, n_outputs = check_int("n_inputs", n_inputs, least=1), check_int("n_outputs", n_outputs, least=1)
    depth, width = check_int("depth", depth, least=1), check_int("width", width, least=1)
    find_activation(activation)
    check_name("init", init, INITS)
    check_name("norm", norm, NORMS)
    check_name("residual", residual, RESIDUALS)
    if zero_last and (residual != "block" or norm == "none"):
        raise InputError(
            f"`zero_last` zeroes the last gain of a residual block; got residual={residual!r} and norm={norm!r}. "
            "Pass residual='block' with norm='batch' or 'layer'."
        )
    with torch.random.fork_rng(devices=[]):  # modules draw weights of their own, which are overwritten
        blocks: list[nn.Module] = [Layer(n_inputs, width, activation, norm)]
        if residual == "block":
            blocks += [ResidualBlock(width, activation, norm, zero_last) for _ in range(depth)]
        else:
            blocks += [Layer(width, width, activation, norm, skip=residual == "skip") for _ in range(depth - 1)]
        readout = nn.Linear(width, n_outputs)
    spec = {
        "depth": depth,
        "width": width,
        "activation": activation,
        "init": init,
        "norm": norm,
        "residual": residual,
        "zero_last": bool(zero_last),
        "gain": check_float("gain", gain, above=0),
    }
    network = DeepNetwork(blocks, readout, (min(2, depth), depth) if residual == "block" else (1, depth), spec)
    initialise(network, init, generator, gain)
    return network.to(device)


def build_for(images: Images, generator: torch.Generator | int | None = None, **options: Any) -> DeepNetwork:
    """`build` for images, where they lie. A number seeds a generator of its own."""
    if isinstance(generator, int):
        generator = torch.Generator().manual_seed(generator)
    x = images.train_x
    return build(x.shape[1], images.classes, generator=generator, device=x.device, **options)


@torch.no_grad()
def initialise(network: nn.Module, init: str, generator: torch.Generator | None = None, gain: float = 1.0) -> None:
    """Draw every nn.Linear's weight by `init`, in order of the modules, times `gain`, and set its bias to 0."""
    draw = INITS[check_name("init", init, INITS)]
    generator = torch.Generator().manual_seed(0) if generator is None else generator
    for module in network.modules():
        if isinstance(module, nn.Linear):
            draw(module.weight, generator)
            module.weight.mul_(gain)
            nn.init.zeros_(module.bias)


def slopes_along(network: DeepNetwork, inputs: Tensor) -> pd.DataFrame:
    """Slopes of every layer's activation on a batch, by autograd.

    The network is run once in its own mode; its buffers and mode are left as they were.

    Args:
        network: from rnnvg.depth.build.
        inputs: [B, ...].

    Returns:
        A row per layer (of a residual block: the activation after the sum), the first first. Columns: layer; mean_slope;
        rms_slope, over units and items; flat, the share of values with |slope| < 0.01; dead, the share of units whose slope
        is 0 for every item.
    """
    import pandas as pd

    rows = []
    for layer, (module, z) in enumerate(_preactivations(network, inputs), start=1):
        with torch.enable_grad():
            point = z.detach().clone().requires_grad_()
            (slope,) = torch.autograd.grad(module(point.clone()).sum(), point)
        slope = slope.double()
        rows.append(
            {
                "layer": layer,
                "mean_slope": float(slope.mean()),
                "rms_slope": float(slope.pow(2).mean().sqrt()),
                "flat": float((slope.abs() < FLAT).double().mean()),
                "dead": float((slope == 0).all(0).double().mean()),
            }
        )
    return pd.DataFrame(rows)


def _preactivations(network: DeepNetwork, inputs: Tensor) -> list[tuple[nn.Module, Tensor]]:
    seen: list[tuple[nn.Module, Tensor]] = []
    hooks = []
    buffers = [(each, each.clone()) for each in network.buffers()]
    for block in network.blocks:
        assert isinstance(block, (Layer, ResidualBlock))
        module = block.activation if isinstance(block, Layer) else block.outer
        hooks.append(module.register_forward_pre_hook(lambda module, given: seen.append((module, given[0]))))
    try:
        with torch.no_grad():
            network(inputs)
    finally:
        for hook in hooks:
            hook.remove()
        for each, was in buffers:
            each.copy_(was)
    return seen
