"""The teaching page's tables: every number behind its figures, as text."""

from __future__ import annotations

import math
import platform
import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import pandas as pd

from rnnvg.horizon import NATS_PER_DECADE
from rnnvg.report import style
from rnnvg.report.depth_cures import VERDICTS
from rnnvg.report.depth_figures import INIT_LABELS
from rnnvg.report.depth_words import exact, predictions
from rnnvg.report.page import Table
from rnnvg.report.wording import number, power

if TYPE_CHECKING:
    from rnnvg.depth.story import Story


def finding(story: Story) -> list[Table]:
    shown = _remedies(story)[["remedy", "gradient before training", "after", "accuracy", "steps to 90 %"]]
    caption = "Gradient of the first layer over that of the last; accuracy on test images."
    return [Table(shown, caption)]


def chains(story: Story) -> list[Table]:
    short = min(layers for _, layers in story.chains)
    line = story.chains["sigmoid", short]
    frame: pd.DataFrame = line.to_frame()
    first: Any = frame.iloc[0] - frame.iloc[-1]
    worst = max(each.residual for each in story.chains.values())
    estimates = {
        "what happens": first["log10_gradient"],
        "a slope of 0.25 a layer: the most that slopes leave": first["log10_slope_bound"],
        "0.25 · |w| a layer: a true bound, which says nothing for |w| above 4": first["log10_bound"],
        "0.2 a layer: a rule of thumb": first["log10_rule"],
        "slope at the activation instead of the pre-activation: a common mistake": first["log10_of_activation"],
    }
    layers = {
        "layer": frame["layer"],
        "activation": _texts(number, frame["value"]),
        "slope": _texts(number, frame["slope"]),
        "gradient": _texts(_power, frame["log10_gradient"]),
        "by the sweep": _texts(_power, frame["log10_by_sweep"]),
        "0.25 a layer above": _texts(_power, frame["log10_slope_bound"]),
        "0.25 · |w| a layer above": _texts(_power, frame["log10_bound"]),
        "0.2 a layer above": _texts(_power, frame["log10_rule"]),
    }
    return [
        Table(
            {"estimate": list(estimates), f"left after {short - 1} layers": _texts(_power, estimates.values())},
            f"Weights of {line.weight:g}: what is left, beside what is often said.",
        ),
        Table(
            layers,
            "The chain, layer by layer. The chain rule written out and the analyzer's sweep agree to "
            f"{worst:.0e} in the logarithm.",
            folded=True,
        ),
    ]


def activations(story: Story) -> list[Table]:
    from rnnvg.depth.activations import ACTIVATIONS

    def edge(value: float) -> str:
        return "never" if math.isnan(value) else f"{value:.1f}".replace("-0.0", "0.0")

    frame: pd.DataFrame = story.survey
    columns = {
        "activation": [ACTIVATIONS[name].label for name in frame["activation"]],
        "f(z)": [ACTIVATIONS[name].formula for name in frame["activation"]],
        "largest slope": _texts(number, frame["max_slope"]),
        "mean": _texts(number, frame["mean_slope"]),
        "root mean square": _texts(number, frame["rms_slope"]),
        "flat below": _texts(edge, frame["flat_below"]),
        "flat above": _texts(edge, frame["flat_above"]),
        "dead below": _texts(edge, frame["dead_below"]),
        "source": [ACTIVATIONS[name].source for name in frame["activation"]],
    }
    caption = (
        "Slopes: mean and root mean square for standard normal z. Flat: a slope below 0.01; dead: exactly 0, so that a unit "
        "that is there for every example gets no gradient and stays as it is."
    )
    return [Table(columns, caption)]


def starts(story: Story) -> list[Table]:
    widths: pd.DataFrame = story.widths
    blocks: pd.DataFrame = story.blocks
    plain, zero = (blocks[blocks["zero_last"] == each].set_index("blocks") for each in (False, True))
    return [
        Table(
            {
                "initialisation": [INIT_LABELS[name] for name in story.starts],
                "first over last": [_power(each.log_ratio() / NATS_PER_DECADE) for each in story.starts.values()],
            },
            "The millionth that is often quoted for small random weights is that of Xavier's.",
        ),
        Table(
            {
                "width": widths["width"],
                "(0.25 · 0.01 · √width)⁹": _texts(_power, widths["textbook"]),
                "mean field": _texts(_power, widths["predicted"]),
                "measured": _texts(_power, widths["measured"]),
            },
            "Small weights: estimate and measurement",
            folded=True,
        ),
        Table(
            {
                "blocks": plain.index,
                "gains start at 1": _texts(number, plain["measured"]),
                "mean field": _texts(number, plain["predicted"]),
                "last gain of a block at 0": _texts(number, zero["measured"].reindex(plain.index)),
            },
            "Residual blocks: first block's gradient over the last one's",
            folded=True,
        ),
    ]


def slopes(story: Story) -> list[Table]:
    names = ("xavier", "tanh-orthogonal", "relu-he")
    tables = [(story.treated[name].slopes, story.treated[name].slopes_end) for name in names]
    columns = {
        "network": [story.treated[name].remedy.change for name in names],
        "before training": [f"{before['mean_slope'].mean():.2f}" for before, _ in tables],
        "after": [f"{after['mean_slope'].mean():.2f}" for _, after in tables],
    }
    return [Table(columns, "Mean slope over all layers")]


def diagnoses(story: Story) -> list[Table]:
    rows = []
    for name, diagnosis in story.diagnoses.items():
        first = diagnosis.findings[0] if diagnosis.findings else None
        evidence = str(diagnosis).partition(": ")[2] if first is None else _raised(first.evidence)
        found = {"planted": VERDICTS[name], "verdict": diagnosis.verdict, "evidence": evidence}
        rows.append({**found, "try first": "" if first is None else first.remedy})
    return [Table(rows, "What the checker said")]


def remedies(story: Story) -> list[Table]:
    return [Table(_remedies(story), predictions(story))]


def clipping(story: Story) -> list[Table]:
    free = {each.network: each for each in story.clipped if each.clip is None}
    own = [each for each in story.clipped if each.clip is not None]
    columns = {
        "network": [each.network for each in own],
        "norm, first step": [number(10 ** each.log10_norm[0]) for each in own],
        "clipped to": [f"{each.clip:g}" for each in own],
        "steps clipped": [f"{each.clipped:.0%}" for each in own],
        "first over last layer": [_power(each.log10_ratio[0]) for each in own],
        "after clipping": [_power(each.log10_ratio[1]) for each in own],
        "accuracy without": [_ended(free[each.network]) for each in own],
        "with": [_ended(each) for each in own],
    }
    return [Table(columns, "Clipping changes no layer's share of the gradient.")]


def cells(story: Story) -> list[Table]:
    from rnnvg.depth.gated import cell_frame

    frame: pd.DataFrame = cell_frame(story.cells)
    columns = {
        "cell": [style.CELL_LABELS[cell] for cell in frame["cell"]],
        "weights": [f"{value:,}" for value in frame["parameters"]],
        "predicted": _texts(_power, frame["predicted"]),
        "measured": _texts(_power, frame["measured"]),
        "after training": _texts(_power, frame["after"]),
        "error": _texts(number, frame["mse"]),
        "guessing": _texts(number, frame["baseline"]),
        "solved at step": _texts(_or_never, frame["solved_at"]),
        "seconds": _texts(number, frame["seconds"]),
    }
    caption = f"{story.cells[0].length} time steps: gradient at the first over that at the last, and what was learned."
    return [Table(columns, caption)]


def settings(story: Story) -> list[Table]:
    import torch

    from rnnvg import __version__

    chain = next(iter(story.chains.values()))
    values = {
        "images": f"{story.images[0]}, {story.images[1]} to train on",
        "weight of the chains": f"{chain.weight:g}",
        **story.settings,
        "rnnvg, torch, Python": f"{__version__}, {torch.__version__}, {platform.python_version()}",
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
    }
    return [Table({"setting": list(values), "value": list(values.values())}, "What the numbers depend on")]


def _remedies(story: Story) -> pd.DataFrame:
    from rnnvg.depth.remedies import remedy_frame

    frame: pd.DataFrame = remedy_frame(list(story.treated.values()))
    status = ["" if each == "ok" else f" ({each})" for each in frame["status"]]
    return pd.DataFrame(
        {
            "remedy": frame["change"],
            "predicted": _texts(_power, frame["predicted"]),
            "gradient before training": _texts(_power, frame["measured"]),
            "after": _texts(_power, frame["after"]),
            "accuracy": [f"{value:.0%}{more}" for value, more in zip(frame["accuracy"], status, strict=True)],
            "steps to 90 %": _texts(_or_never, frame["steps_to_90"]),
            "steps": frame["steps"],
            "seconds": _texts(number, frame["seconds"]),
        }
    )


def _texts(write: Callable[[float], str], values: Iterable[float]) -> list[str]:
    return [write(value) for value in values]


def _power(log10: float) -> str:
    return "–" if math.isnan(log10) else exact(log10)


def _or_never(step: float) -> str:
    return "never" if math.isnan(step) else f"{step:.0f}"


def _ended(each: Any) -> str:
    return f"{each.accuracy:.0%}" if each.status == "ok" else f"diverged at step {each.steps}"


def _raised(evidence: str) -> str:
    """10^-17, as a terminal has it, with the exponent raised."""
    return re.sub(r"10\^(-?\d+)", lambda match: power(float(match[1])), evidence)
