"""Every cure applied to the same sick network: the predicted gradient ratio, the measured one, accuracy and time.

The sick network is the one of the textbooks: sigmoid layers with N(0, 0.01^2) weights. Each remedy changes what its row says
and nothing else; all are trained on the same batches for the same number of steps, but for the one that buys more of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from rnnvg.depth.gradients import LayerGradients, network_gradients
from rnnvg.depth.images import Images
from rnnvg.depth.logs import NATS_PER_DECADE
from rnnvg.depth.networks import build
from rnnvg.depth.pretraining import pretrain
from rnnvg.depth.slopes import slopes_along
from rnnvg.depth.theory import predict_log_ratio
from rnnvg.depth.training import DeepTraining, fit
from rnnvg.errors import check_int, check_name

if TYPE_CHECKING:
    import pandas as pd

PROBE = 128  # training images on which gradients are measured
MORE_STEPS = 10
CLIP = 1.0
RESIDUAL_BLOCKS = 20
GOOD = 0.9  # test accuracy to which steps are counted


@dataclass(frozen=True)
class Cure:
    """A change to the sick network.

    Attributes:
        name: as `remedies=` takes it.
        change: what is done, in a few words.
        network: options of `build` that differ.
        steps: training steps, as a multiple.
        clip: gradient clipping in training.
        pretrained: layer by layer, before training.
    """

    name: str
    change: str
    network: dict[str, Any] = field(default_factory=dict)
    steps: int = 1
    clip: float | None = None
    pretrained: bool = False


_ALL = (
    Cure("none", "the sick network: sigmoid, weights N(0, 0.01²)"),
    Cure("faster-hardware", f"{MORE_STEPS} times the steps", steps=MORE_STEPS),
    Cure("clipping", f"gradient clipped to norm {CLIP:g}", clip=CLIP),
    Cure("xavier", "Xavier weights", {"init": "xavier"}),
    Cure("relu", "ReLU, weights as they were", {"activation": "relu"}),
    Cure("relu-he", "ReLU and He weights", {"activation": "relu", "init": "he"}),
    Cure("leaky-relu-he", "leaky ReLU and He weights", {"activation": "leaky-relu", "init": "he"}),
    Cure("elu-xavier", "ELU and Xavier weights", {"activation": "elu", "init": "xavier"}),
    Cure("tanh-orthogonal", "tanh and orthogonal weights", {"activation": "tanh", "init": "orthogonal"}),
    Cure("layer-norm", "layer norm before the sigmoids", {"norm": "layer"}),
    Cure("batch-norm", "batch norm before the sigmoids", {"norm": "batch"}),
    Cure("residual", "a skip around every sigmoid layer", {"residual": "skip"}),
    Cure(
        "residual-blocks",
        f"{RESIDUAL_BLOCKS} residual blocks: ReLU, He, batch norm",
        {"activation": "relu", "init": "he", "norm": "batch", "residual": "block", "depth": RESIDUAL_BLOCKS},
    ),
    Cure("pre-training", "layers pre-trained one by one, then fine-tuned", pretrained=True),
)
REMEDIES = {each.name: each for each in _ALL}


@dataclass(frozen=True)
class Treated:
    """The sick network after one remedy.

    Attributes:
        remedy: what was done.
        spec: of the network.
        ends: the blocks that are compared.
        predicted: log10 of the first layer's gradient over the last one's, by mean-field theory; None where no theory says.
        start, end: gradients on the probe batch, before and after training.
        slopes, slopes_end: of the activations on the probe batch, before and after training, a row per layer.
        training: what it came to.
        seconds: wall time of pre-training and training.
    """

    remedy: Cure
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
    def measured(self) -> float:
        """log10 of the first layer's gradient over the last one's, before training."""
        return self.start.log_ratio(self.ends) / NATS_PER_DECADE

    @property
    def after(self) -> float:
        """The same after training."""
        return self.end.log_ratio(self.ends) / NATS_PER_DECADE


def treat(
    images: Images,
    remedy: str = "none",
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
        remedy: a name from REMEDIES.
        depth, width: of the sick network.
        steps, lr, batch: of the training by gradient descent with momentum 0.9.
        seed: of the weights and the batches: two remedies with one seed see the same batches.

    Raises:
        InputError: an unknown remedy (with the nearest right name), an argument out of its range.
    """
    chosen = REMEDIES[check_name("remedy", remedy, REMEDIES)]
    steps, seed = check_int("steps", steps, least=0), check_int("seed", seed, least=0)
    network = build(
        images.train_x.shape[1],
        images.classes,
        device=images.train_x.device,
        **{"depth": depth, "width": width, "generator": torch.Generator().manual_seed(seed), **chosen.network},
    )
    x, y = images.train_x[:PROBE], images.train_y[:PROBE]
    predicted = None
    if not chosen.pretrained:
        predicted = predict_log_ratio(network.spec, float(x.square().mean()), x.shape[1]) / NATS_PER_DECADE
    began = time.perf_counter()
    if chosen.pretrained:
        pretrain(network, images, generator=torch.Generator().manual_seed(seed))
    before = time.perf_counter() - began
    start, slopes = network_gradients(network, x, y), slopes_along(network, x)
    training = fit(
        network,
        images,
        steps=steps * chosen.steps,
        batch=batch,
        lr=lr,
        clip=chosen.clip,
        generator=torch.Generator().manual_seed(seed),
    )
    return Treated(
        remedy=chosen,
        spec=network.spec,
        ends=network.ends,
        predicted=predicted,
        start=start,
        end=network_gradients(network, x, y),
        slopes=slopes,
        slopes_end=slopes_along(network, x),
        training=training,
        seconds=before + training.seconds,
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
                "remedy": each.remedy.name,
                "change": each.remedy.change,
                "predicted": float("nan") if each.predicted is None else each.predicted,
                "measured": each.measured,
                "after": each.after,
                "accuracy": each.training.accuracy,
                "steps": each.training.steps,
                "steps_to_90": each.training.steps_to(GOOD) or float("nan"),
                "seconds": each.seconds,
                "status": each.training.status,
            }
            for each in treated
        ]
    )
