"""Everything that the teaching page tells, measured in one go, in the order in which it is told.

Nothing is quoted: every number comes from a network that is built, run and trained here.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from rnnvg.bptt import GradientProfile
from rnnvg.bptt.threads import OneThread
from rnnvg.depth import activations
from rnnvg.depth.chain import Chain, chain
from rnnvg.depth.diagnose import Diagnosis
from rnnvg.depth.gated import CELLS, CellRun, compare_cells
from rnnvg.depth.gradients import LayerGradients, network_gradients
from rnnvg.depth.kept import Kept
from rnnvg.depth.names import CHAIN_ACTIVATIONS
from rnnvg.depth.networks import GAUSSIAN_STD, INITS, build_for
from rnnvg.depth.planted import PLANTED, check, planted
from rnnvg.depth.remedies import PROBE, REMEDIES, RESIDUAL, Clipped, Treated, compare_clipping, treat
from rnnvg.depth.theory import bound, predict_log_ratio
from rnnvg.depth.training import DeepTraining
from rnnvg.depth.verdict import Finding, LayerHealth
from rnnvg.errors import check_float, check_int
from rnnvg.horizon import NATS_PER_DECADE
from rnnvg.tasks.images import Images

if TYPE_CHECKING:
    import pandas as pd

CHAIN_LAYERS = (20, 50)
WIDTHS = (25, 100, 400)
BLOCKS = (5, 10, 20, 50, 100)
PARTS = "parts"
_CLASSES = (
    CellRun,
    Clipped,
    DeepTraining,
    Diagnosis,
    Finding,
    GradientProfile,
    LayerGradients,
    LayerHealth,
    Treated,
)


@dataclass(frozen=True)
class Story:
    """What was measured.

    Attributes:
        images: name and number of training images.
        settings: depth, width, steps, seed.
        chains: (activation, layers) -> Chain with the weight asked for.
        curves, survey: activations and slopes on a grid; what each does to a gradient (rnnvg.depth.activations).
        starts: initialisation -> gradients of the deep sigmoid network at the start.
        widths: columns width, textbook, predicted, measured: log10 of the first layer's gradient over the last one's, deep
            sigmoid network with N(0, 0.01^2) weights.
        blocks: columns blocks, zero_last, predicted, measured: the same for residual networks with batch norm.
        treated, clipped, cells: remedies, clipping and recurrent cells.
        diagnoses: the planted defect -> what diagnose() said.
        seconds: it took.
    """

    images: tuple[str, int]
    settings: dict[str, Any]
    chains: dict[tuple[str, int], Chain]
    curves: pd.DataFrame
    survey: pd.DataFrame
    starts: dict[str, LayerGradients]
    widths: pd.DataFrame
    blocks: pd.DataFrame
    treated: dict[str, Treated]
    clipped: tuple[Clipped, ...]
    cells: tuple[CellRun, ...]
    diagnoses: dict[str, Diagnosis]
    seconds: float


def measure(
    images: Images,
    *,
    weight: float = 0.17,
    depth: int = 10,
    width: int = 64,
    steps: int = 400,
    seed: int = 0,
    directory: Path | None = None,
    on_progress: Callable[[str], object] | None = None,
) -> Story:
    """Measure the whole story, with one thread.

    Args:
        images: what networks are trained on.
        weight: of the chains.
        depth, width, steps, seed: of the sick network and its training (rnnvg.depth.remedies.treat). Recurrent cells get half
            as many steps again.
        directory: where parts are kept as they end (`parts`), so that the same call goes on after a kill; None: nowhere.
        on_progress: called with a few words before each part: "3 of 23: remedy clipping".

    Raises:
        InputError: an argument out of its range.
        OSError: the directory cannot be written.
    """
    depth, width = check_int("depth", depth, least=2), check_int("width", width, least=1)
    steps, seed = check_int("steps", steps, least=4), check_int("seed", seed, least=0)
    weight = check_float("weight", weight)
    began = time.perf_counter()
    options: dict[str, Any] = {"depth": depth, "width": width, "steps": steps, "seed": seed}
    parts: dict[str, Callable[[], Any]] = {
        "at the start": lambda: _at_the_start(images, depth, width, seed),
        **{f"remedy {name}": partial(treat, images, name, **options) for name in REMEDIES},
        "clipping": lambda: compare_clipping(images, **options),
        "diagnoses": lambda: {
            name: check(planted(name, images, width=width, seed=seed), images, seed) for name in PLANTED
        },
        **{f"cell {name}": partial(_cell, name, 3 * steps // 2, seed) for name in CELLS},
    }
    kept = Kept(None if directory is None else directory / PARTS, _made_from(images, options), _CLASSES)
    found: dict[str, Any] = {}
    with OneThread():
        for place, (name, make) in enumerate(parts.items(), start=1):
            if on_progress is not None:
                on_progress(f"{place} of {len(parts)}: {name}{' (kept)' if kept.has(_file(name)) else ''}")
            found[name] = kept.get(_file(name), make)
    starts, widths, blocks = found["at the start"]
    return Story(
        images=(images.name, len(images.train_y)),
        settings=options,
        chains={(name, n): chain(n, weight, name) for n in CHAIN_LAYERS for name in CHAIN_ACTIVATIONS},
        curves=activations.curves(),
        survey=activations.survey(),
        starts=starts,
        widths=widths,
        blocks=blocks,
        treated={name: found[f"remedy {name}"] for name in REMEDIES},
        clipped=found["clipping"],
        cells=tuple(found[f"cell {name}"] for name in CELLS),
        diagnoses=found["diagnoses"],
        seconds=time.perf_counter() - began,
    )


def forget_parts(directory: Path) -> None:
    """Remove what `measure` kept: the page is written."""
    names = ["at the start", *(f"remedy {name}" for name in REMEDIES), "clipping", "diagnoses"]
    Kept(directory / PARTS, None, ()).clear(map(_file, [*names, *(f"cell {name}" for name in CELLS)]))


def _file(name: str) -> str:
    return name.replace(" ", "-")


def _made_from(images: Images, options: dict[str, Any]) -> dict[str, Any]:
    """All that the parts depend on; the sums tell two folders of images apart."""
    from rnnvg import __version__

    sums = [float(each.double().sum()) for each in (images.train_x, images.train_y, images.test_x, images.test_y)]
    device = images.train_x.device.type
    return {
        **options,
        **({} if device == "cpu" else {"device": device}),
        "images": [images.name, len(images.train_y), *sums],
        "versions": [__version__, torch.__version__],
        "constants": [WIDTHS, BLOCKS],
    }


def _cell(name: str, steps: int, seed: int) -> CellRun:
    return compare_cells([name], steps=steps, seed=seed)[0]


def _at_the_start(
    images: Images, depth: int, width: int, seed: int
) -> tuple[dict[str, LayerGradients], pd.DataFrame, pd.DataFrame]:
    starts = {name: _start(images, depth, width, seed, init=name) for name in INITS}
    return starts, _widths(images, depth, seed), _blocks(images, width, seed)


def _start(images: Images, depth: int, width: int, seed: int, init: str = "gaussian") -> LayerGradients:
    network = build_for(images, seed, depth=depth, width=width, init=init)
    return network_gradients(network, images.train_x[:PROBE], images.train_y[:PROBE])


def _widths(images: Images, depth: int, seed: int) -> pd.DataFrame:
    import pandas as pd

    x = images.train_x[:PROBE]
    rows = []
    for width in WIDTHS:
        spec = build_for(images, depth=depth, width=width).spec
        rows.append(
            {
                "width": width,
                "textbook": bound(depth, width, GAUSSIAN_STD) / NATS_PER_DECADE,
                "predicted": predict_log_ratio(spec, float(x.square().mean()), x.shape[1]) / NATS_PER_DECADE,
                "measured": _start(images, depth, width, seed).log_ratio() / NATS_PER_DECADE,
            }
        )
    return pd.DataFrame(rows)


def _blocks(images: Images, width: int, seed: int) -> pd.DataFrame:
    import pandas as pd

    x, y = images.train_x[:PROBE], images.train_y[:PROBE]
    rows = []
    for zero_last in (False, True):
        for depth in BLOCKS:
            network = build_for(images, seed, depth=depth, width=width, zero_last=zero_last, **RESIDUAL)
            measured = network_gradients(network, x, y).log_ratio(network.ends)
            rows.append(
                {
                    "blocks": depth,
                    "zero_last": zero_last,
                    "predicted": math.exp(predict_log_ratio(network.spec)),
                    "measured": math.exp(measured),
                }
            )
    return pd.DataFrame(rows)
