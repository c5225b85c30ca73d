"""Every cure applied to the same sick network: the predicted gradient ratio, the measured one, accuracy and time.

The sick network is the one of the textbooks: sigmoid layers with N(0, 0.01^2) weights. Each remedy changes what its row says
and nothing else; all are trained on the same batches for the same number of steps, but for the one that buys more of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from rnnvg.depth.adjoints import log_norm
from rnnvg.depth.gradients import LayerGradients, network_gradients
from rnnvg.depth.networks import DeepNetwork, build_for, slopes_along
from rnnvg.depth.theory import predict_log_ratio
from rnnvg.depth.training import DeepTraining, fit, pretrain, weight_norms
from rnnvg.errors import check_float, check_int, check_name
from rnnvg.horizon import NATS_PER_DECADE
from rnnvg.missing import number
from rnnvg.tasks.images import Images
from rnnvg.training.remedy import Base, Remedy, changed

if TYPE_CHECKING:
    import pandas as pd

PROBE = 128  # training images on which gradients are measured
MORE_STEPS = 10
CLIP = 1.0
RESIDUAL_BLOCKS = 20
GOOD = 0.9  # test accuracy to which steps are counted


RESIDUAL = {"activation": "relu", "init": "he", "norm": "batch", "residual": "block"}
# Settings of `build`, of the training, and whether layers are pre-trained one by one before it.
_ALL = (
    Remedy("none", "the sick network: sigmoid, weights N(0, 0.01²)"),
    Remedy(
        "faster-hardware",
        f"{MORE_STEPS} times the steps",
        changes=lambda base: {"training.steps": MORE_STEPS * base.steps},
    ),
    Remedy("clipping", f"gradient clipped to norm {CLIP:g}", changes=lambda _: {"training.clip": CLIP}),
    Remedy("xavier", "Xavier weights", changes=lambda _: {"init": "xavier"}),
    Remedy("relu", "ReLU, weights as they were", changes=lambda _: {"activation": "relu"}),
    Remedy("relu-he", "ReLU and He weights", changes=lambda _: {"activation": "relu", "init": "he"}),
    Remedy("leaky-relu-he", "leaky ReLU and He weights", changes=lambda _: {"activation": "leaky-relu", "init": "he"}),
    Remedy("elu-xavier", "ELU and Xavier weights", changes=lambda _: {"activation": "elu", "init": "xavier"}),
    Remedy(
        "tanh-orthogonal", "tanh and orthogonal weights", changes=lambda _: {"activation": "tanh", "init": "orthogonal"}
    ),
    Remedy("layer-norm", "layer norm before the sigmoids", changes=lambda _: {"norm": "layer"}),
    Remedy("batch-norm", "batch norm before the sigmoids", changes=lambda _: {"norm": "batch"}),
    Remedy("residual", "a skip around every sigmoid layer", changes=lambda _: {"residual": "skip"}),
    Remedy(
        "residual-blocks",
        f"{RESIDUAL_BLOCKS} residual blocks: ReLU, He, batch norm",
        changes=lambda _: {**RESIDUAL, "depth": RESIDUAL_BLOCKS},
    ),
    Remedy("pre-training", "layers pre-trained one by one, then fine-tuned", changes=lambda _: {"pretrained": True}),
)
REMEDIES = {each.name: each for each in _ALL}


@dataclass(frozen=True)
class Treated:
    """The sick network after one remedy.

    Attributes:
        name: of the remedy.
        spec: of the network.
        ends: the blocks that are compared.
        predicted: log10 of the first layer's gradient over the last one's, by mean-field theory; None where no theory says.
        start, end: gradients on the probe batch, before and after training.
        slopes, slopes_end: of the activations on the probe batch, before and after training, a row per layer.
        training: what it came to.
        seconds: wall time of pre-training and training.
    """

    name: str
    spec: dict[str, Any]
    ends: tuple[int, int]
    predicted: float | None
    start: LayerGradients
    end: LayerGradients
    slopes: pd.DataFrame
    slopes_end: pd.DataFrame
    training: DeepTraining
    seconds: float

    @property
    def remedy(self) -> Remedy:
        """What was done."""
        return REMEDIES[self.name]

    @property
    def measured(self) -> float:
        """log10 of the first layer's gradient over the last one's, before training."""
        return self.start.log_ratio(self.ends) / NATS_PER_DECADE

    @property
    def after(self) -> float:
        """The same after training."""
        return self.end.log_ratio(self.ends) / NATS_PER_DECADE


def treat(
    images: Images,
    name: str = "none",
    *,
    depth: int = 10,
    width: int = 64,
    steps: int = 400,
    lr: float = 0.02,
    batch: int = 64,
    seed: int = 0,
) -> Treated:
    """Build the sick network with one remedy, measure it, train it and measure it again.

    Args:
        images: what to train on.
        name: of a remedy in REMEDIES.
        depth, width: of the sick network.
        steps, lr, batch: of the training by gradient descent with momentum 0.9.
        seed: of the weights and the batches: two remedies with one seed see the same batches.

    Raises:
        InputError: an unknown remedy (with the nearest right name), an argument out of its range.
    """
    steps, seed = check_int("steps", steps, least=0), check_int("seed", seed, least=0)
    remedy = REMEDIES[check_name("remedy", name, REMEDIES)]
    sick = {
        "depth": depth,
        "width": width,
        "pretrained": False,
        "training": {"steps": steps, "batch": batch, "lr": lr, "clip": None},
    }
    settings = changed(sick, remedy.changes(Base(t_max=depth, lr=lr, steps=steps)))
    pretrained, budget = settings.pop("pretrained"), settings.pop("training")

    def seeded() -> torch.Generator:
        return torch.Generator().manual_seed(seed)

    x, y = images.train_x[:PROBE], images.train_y[:PROBE]
    network = build_for(images, seed, **settings)
    predicted, seconds = None, 0.0
    if pretrained:
        seconds = pretrain(network, images, generator=seeded()).seconds
    else:
        predicted = predict_log_ratio(network.spec, float(x.square().mean()), x.shape[1]) / NATS_PER_DECADE
    start, slopes = network_gradients(network, x, y), slopes_along(network, x)
    training = fit(network, images, generator=seeded(), **budget)
    return Treated(
        name=name,
        spec=network.spec,
        ends=network.ends,
        predicted=predicted,
        start=start,
        end=network_gradients(network, x, y),
        slopes=slopes,
        slopes_end=slopes_along(network, x),
        training=training,
        seconds=seconds + training.seconds,
    )


def compare_remedies(
    images: Images,
    remedies: Sequence[str] | None = None,
    *,
    on_progress: Callable[[str], object] | None = None,
    **settings: Any,
) -> tuple[Treated, ...]:
    """`treat` for each remedy (all of REMEDIES by default), with the same settings.

    Args:
        images, settings: as `treat` takes them.
        remedies: names.
        on_progress: called with each remedy's name before it is applied.
    """
    names = list(REMEDIES) if remedies is None else list(remedies)
    for name in names:
        check_name("remedies", name, REMEDIES)
    found = []
    for name in names:
        if on_progress is not None:
            on_progress(name)
        found.append(treat(images, name, **settings))
    return tuple(found)


def remedy_frame(treated: Sequence[Treated]) -> pd.DataFrame:
    """A row per remedy.

    Columns: remedy, change; predicted, measured, after (log10 of the first layer's gradient over the last one's: by theory,
    at the start, after training); accuracy; steps, steps_to_90 (nan where 90 % was never seen); seconds; status.
    """
    import pandas as pd

    return pd.DataFrame(
        [
            {
                "remedy": each.name,
                "change": each.remedy.change,
                "predicted": number(each.predicted),
                "measured": each.measured,
                "after": each.after,
                "accuracy": each.training.accuracy,
                "steps": each.training.steps,
                "steps_to_90": number(each.training.steps_to(GOOD)),
                "seconds": each.seconds,
                "status": each.training.status,
            }
            for each in treated
        ]
    )


EXPLODING_GAIN = 1.5  # times He's weights: 1.5^9 between the ends of ten layers
NETWORKS: dict[str, dict[str, Any]] = {
    "vanishing": {"activation": "sigmoid", "init": "gaussian"},
    "exploding": {"activation": "relu", "init": "he", "gain": EXPLODING_GAIN},
}


@dataclass(frozen=True)
class Clipped:
    """One network trained with or without clipping.

    Attributes:
        network: "vanishing" or "exploding".
        clip: the norm clipped to, or None.
        log10_norm: of the first batch's gradient by all weights, before and after clipping.
        by_layer: log10 of the gradient by each hidden layer's weights, the first first, before and after clipping.
        clipped: share of the training steps that were clipped; nan without clipping.
        accuracy, status, steps: of the training.
    """

    network: str
    clip: float | None
    log10_norm: tuple[float, float]
    by_layer: tuple[tuple[float, ...], tuple[float, ...]]
    clipped: float
    accuracy: float
    status: str
    steps: int

    @property
    def log10_ratio(self) -> tuple[float, float]:
        """Gradient by the first hidden layer's weights over the last one's, before and after clipping."""
        before, after = self.by_layer
        return before[0] - before[-1], after[0] - after[-1]


def compare_clipping(
    images: Images,
    *,
    depth: int = 10,
    width: int = 64,
    steps: int = 400,
    lr: float = 0.02,
    clip: float = 1.0,
    seed: int = 0,
) -> tuple[Clipped, ...]:
    """Train a vanishing and an exploding network, each without clipping and with.

    Clipping shortens the whole gradient, and no layer's share of it changes: a network that explodes is kept from diverging;
    one that vanishes is not helped at all (Pascanu, Mikolov and Bengio 2013).

    Raises:
        InputError: an argument out of its range.
    """
    clip, seed = check_float("clip", clip, above=0), check_int("seed", seed, least=0)
    found = []
    for name, options in NETWORKS.items():
        for limit in (None, clip):
            generator = torch.Generator().manual_seed(seed)
            network = build_for(images, generator, depth=depth, width=width, **options)
            norms, by_layer = _one_batch(network, images, limit)
            training = fit(network, images, steps=steps, lr=lr, clip=limit, generator=generator)
            found.append(
                Clipped(
                    network=name,
                    clip=limit,
                    log10_norm=norms,
                    by_layer=by_layer,
                    clipped=training.clipped,
                    accuracy=training.accuracy,
                    status=training.status,
                    steps=training.steps,
                )
            )
    return tuple(found)


def _one_batch(
    network: DeepNetwork, images: Images, clip: float | None
) -> tuple[tuple[float, float], tuple[tuple[float, ...], tuple[float, ...]]]:
    """log10 of the whole gradient's norm and of each layer's, before and after clipping."""
    loss = cross_entropy(network(images.train_x[:64]), images.train_y[:64])
    loss.backward()
    norms, layers = [], []
    for limit in (math.inf, clip or math.inf):
        nn.utils.clip_grad_norm_(network.parameters(), limit)
        every = [each.grad for each in network.parameters() if each.grad is not None]
        norms.append(log_norm(every) / NATS_PER_DECADE)
        layers.append(tuple(weight_norms(network.blocks)))
    network.zero_grad()
    return (norms[0], norms[1]), (layers[0], layers[1])
