"""What the teaching page says of each figure: at most two sentences, and every number and claim is of the story."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pandas as pd

from rnnvg.horizon import NATS_PER_DECADE
from rnnvg.report import style
from rnnvg.report.wording import factor, listed, number, power

if TYPE_CHECKING:
    from rnnvg.depth.remedies import Clipped, Treated
    from rnnvg.depth.story import Story

GOOD = 0.9
LEAD = (
    "A network learns by the chain rule: the gradient of a layer is that of the layer above it, times the slope of its "
    "activation, times its weights. A product of many factors below one vanishes, and a layer without a gradient does not "
    "learn. Every number and figure on this page was measured on networks built and trained for it."
)


def exact(log10: float) -> str:
    """A ratio given in decades, with two digits.

    >>> exact(-15.28), exact(-0.43), exact(1.23)
    ('5.2·10⁻¹⁶', '0.37', '17')
    """
    if not math.isfinite(log10) or -3.5 < log10 < 3.5:
        return power(log10)
    exponent = math.floor(log10)
    return f"{10 ** (log10 - exponent):.1f}·{power(float(exponent))}"


def finding(story: Story) -> list[str]:
    """What ails the sick network, and how many remedies help, in a sentence."""
    cured, uncured = _cured(story)
    return [
        f"The first layer of a deep sigmoid network gets {power(story.treated['none'].measured)} of the last one's gradient "
        f"and does not learn; {len(cured)} of {len(cured) + len(uncured)} remedies bring the same network to {GOOD:.0%} "
        "accuracy."
    ]


def _cured(story: Story) -> tuple[list[Treated], list[Treated]]:
    rest = [each for name, each in story.treated.items() if name != "none"]
    cured = [each for each in rest if each.training.accuracy >= GOOD]
    return cured, [each for each in rest if each.training.accuracy < GOOD]


def chains(story: Story) -> list[str]:
    short, long = sorted({layers for _, layers in story.chains})
    line = story.chains["sigmoid", short]
    tanh, relu = (power(story.chains[name, long].log_by_hand[0] / NATS_PER_DECADE) for name in ("tanh", "relu"))
    return [
        f"Every sigmoid layer passes on {line.weight * line.slopes[-1]:.4f} of the gradient above it, so {short - 1} layers "
        f"leave {exact(line.log_ratio / NATS_PER_DECADE)}.",
        f"A slope of 1 alone does not help: with the same weights {long} layers leave the first one {tanh} with tanh and "
        f"{relu} with ReLU.",
    ]


def activations(story: Story) -> list[str]:
    from rnnvg.depth.activations import ACTIVATIONS

    largest: pd.Series[Any] = story.survey.set_index("activation")["max_slope"]
    above = [ACTIVATIONS[str(name)].label for name in largest.index if largest[name] > 1.001]
    return [
        f"The slope is at most {largest['sigmoid']:.2f} for the sigmoid and {largest['tanh']:.2f} for tanh, and only at "
        "z = 0.",
        f"That of {listed(above)} exceeds 1 somewhere: this helps a gradient through, and can make it grow.",
    ]


def slopes(story: Story) -> list[str]:
    tanh, relu = (story.treated[name] for name in ("tanh-orthogonal", "relu-he"))
    before, after = (float(table["mean_slope"].mean()) for table in (tanh.slopes, tanh.slopes_end))
    off = 1 - float(relu.slopes_end["mean_slope"].mean())
    return [
        "The largest slope is not the one that a network has: over the layers of the tanh network the mean is "
        f"{before:.2f} before training and {after:.2f} after.",
        f"In the ReLU network {off:.0%} of the units are off after training.",
    ]


def starts(story: Story) -> list[str]:
    orthogonal = story.starts["orthogonal"].log_ratio() / NATS_PER_DECADE
    blocks: pd.DataFrame = story.blocks
    plain: pd.Series[Any] = blocks[~blocks["zero_last"]].set_index("blocks")["measured"]
    kept = blocks.loc[blocks["zero_last"], "measured"]
    many = int(plain.index.max())
    growth = number(plain.loc[many])
    return [
        "Good weights are not enough where every slope is at most 0.25: even orthogonal ones leave "
        f"{power(orthogonal)} of the gradient.",
        f"Residual blocks turn the product into a sum: over {many} of them the gradient grows by {growth}, and by "
        f" {number(kept.iloc[-1])} where the last gain of each block starts at 0.",
    ]


def through_training(story: Story) -> list[str]:
    sick, well, deep = (story.treated[name] for name in ("none", "relu-he", "residual-blocks"))
    guess = ", no better than a guess" if sick.training.accuracy < 0.2 else ""
    return [
        f"First and last layer of the sick network end {abs(round(sick.after))} decades apart, and its accuracy at "
        f"{sick.training.accuracy:.0%}{guess}.",
        f"The ReLU network ends at {well.training.accuracy:.0%} and the residual one at {deep.training.accuracy:.0%}.",
    ]


def diagnoses(story: Story) -> list[str]:
    right = sum(diagnosis.verdict == name for name, diagnosis in story.diagnoses.items())
    ratio = story.diagnoses["saturated-units"].ratio
    if ratio < -1:
        saturated = f"Saturated units let {power(ratio)} of the last layer's gradient through to the first."
    else:
        saturated = (
            "Saturated units need not show in the gradient's size: the few left on a slope are multiplied by large weights, "
            f"and the first layer gets {factor(10**ratio)} times the last one's, which is noise."
        )
    return [f"Here it named {right} of {len(story.diagnoses)} rightly.", saturated]


def remedies(story: Story) -> list[str]:
    named = [[each.remedy.change for each in some] for some in _cured(story)]
    beginnings = (f"To {GOOD:.0%} accuracy or more", "Not a cure by itself")
    return [f"{words}: {listed(names)}." for words, names in zip(beginnings, named, strict=True) if names]


def predictions(story: Story) -> str:
    """How good mean-field theory's predictions are."""
    off = [abs(each.measured - each.predicted) for each in story.treated.values() if each.predicted is not None]
    return (
        "Gradient of the first layer over that of the last. Predictions are mean-field theory's, from the weights' variance "
        f"and the activation alone; none is off by more than a factor of {factor(10 ** max(off))}."
    )


def clipping(story: Story) -> list[str]:
    trainings = {(each.network, each.clip is None): each for each in story.clipped}
    return [
        f"The {name} network {_end(trainings[name, True])} without clipping and {_end(trainings[name, False])} with it."
        for name in ("vanishing", "exploding")
    ]


def _end(each: Clipped) -> str:
    return f"diverges at step {each.steps}" if each.status != "ok" else f"ends at {each.accuracy:.0%}"


def cells(story: Story) -> list[str]:
    solved = [
        f"{style.CELL_LABELS[run.cell]} (step {run.solved_at})" for run in story.cells if run.solved_at is not None
    ]
    left = [style.CELL_LABELS[run.cell] for run in story.cells if run.solved_at is None]
    solvers = [f"{listed(solved)} solved it."] if solved else []
    return [*solvers, *([f"{listed(left)} did not in {story.cells[0].steps} steps."] if left else [])]
