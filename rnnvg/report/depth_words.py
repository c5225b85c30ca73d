"""What the teaching page says of each figure: every number is of the story, and so is every claim."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from rnnvg.depth.logs import NATS_PER_DECADE
from rnnvg.report import style
from rnnvg.report.results import Frame
from rnnvg.report.wording import factor, listed, number, power

if TYPE_CHECKING:
    from rnnvg.depth.remedies import Treated
    from rnnvg.depth.story import Story

GOOD = 0.9
# What paragraphs may begin with, to be found at a glance.
NAMES = (
    "What happens.",
    "Why.",
    "Signs.",
    "Cures.",
    "Through time.",
    "Often told wrong.",
    "Often misquoted.",
    "Faster hardware.",
    "Not a cure by itself.",
    "Vanishing.",
    "Exploding.",
)

LEAD = (
    "A network learns by the chain rule: the gradient of a layer is that of the layer above it, times the slope of its "
    "activation, times its weights. A product of many factors below one vanishes, and a layer without a gradient does not "
    "learn. Every number and figure on this page was measured a moment ago, on networks built and trained for it."
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


def finding(story: Story) -> str:
    """What ails the sick network, and how many remedies help, in a sentence."""
    sick, (cured, uncured) = story.treated["none"], _cured(story)
    return (
        f"The first layer of a deep sigmoid network gets {exact(sick.measured)} of the last one's gradient and "
        f"does not learn; "
        f"{len(cured)} of {len(cured) + len(uncured)} remedies bring the same network to {GOOD:.0%} accuracy."
    )


def glance(story: Story) -> list[str]:
    """The page in five paragraphs."""
    short = min(layers for _, layers in story.chains)
    line = story.chains["sigmoid", short]
    sick, cured, uncured = story.treated["none"], *_cured(story)
    names = [name for name, found in story.diagnoses.items() if found.verdict == name]
    fixed = [style.CELL_LABELS[run.cell] for run in story.cells if run.solved_at is not None]
    return [
        f"What happens. In a chain of {short} sigmoid neurons with weights of {line.weight:g} the first weight gets "
        f"{exact(line.log_ratio / NATS_PER_DECADE)} of the last one's gradient; in a network of {sick.spec['depth']} sigmoid "
        f"layers with small random weights the first layer gets {exact(sick.measured)}.",
        f"Why. A sigmoid's slope is at most 0.25, and small weights take the rest: {_factors(story)}",
        f"Signs. Early layers stand still and the loss stays flat: the sick network ends at an accuracy of "
        f"{sick.training.accuracy:.0%} after {sick.training.steps} steps. A checker that looks for the cause named "
        f"{len(names)} of {len(story.diagnoses)} networks rightly, a healthy one among them.",
        f"Cures. {len(cured)} of {len(cured) + len(uncured)} remedies bring the same network to {GOOD:.0%} accuracy"
        + (f", the fastest in {_fastest(cured)}." if cured else "."),
        "Through time. A recurrent network is as deep as its sequence is long, and the product is the same one. "
        + (f"On the adding problem {listed(fixed)} solved what the vanilla network did not." if fixed else ""),
    ]


def _factors(story: Story) -> str:
    sick = story.treated["none"]
    spec = sick.spec
    slopes: Frame = sick.slopes
    slope = float(slopes["mean_slope"].mean())
    gain = 0.01 * math.sqrt(spec["width"])
    return (
        f"the mean slope here is {slope:.3f}, weights of N(0, 0.01²) shorten a vector to {gain:.2g} of its length at width "
        f"{spec['width']}, and {spec['depth'] - 1} such factors make {exact(sick.predicted or 0.0)}."
    )


def _cured(story: Story) -> tuple[list[Treated], list[Treated]]:
    rest = [each for name, each in story.treated.items() if name != "none"]
    cured = [each for each in rest if each.training.accuracy >= GOOD]
    return cured, [each for each in rest if each.training.accuracy < GOOD]


def _fastest(cured: list[Treated]) -> str:
    reached = [(each.training.steps_to(GOOD) or math.inf, each.remedy.change) for each in cured]
    steps = min(steps for steps, _ in reached)
    names = [change for each, change in reached if each == steps]
    return f"{steps:g} steps ({listed(names)})"


def chains(story: Story) -> list[str]:
    short, long = sorted({layers for _, layers in story.chains})
    line = story.chains["sigmoid", short]
    last = line.slopes[-1]
    apart = (line.log_of_activation[0] - line.log_of_activation[-1] - line.log_ratio) / NATS_PER_DECADE
    worst = max(each.residual for each in story.chains.values())
    flat = [power(story.chains[name, long].log_by_hand[0] / NATS_PER_DECADE) for name in ("tanh", "relu")]
    return [
        f"What happens. Every layer passes on w f′(z) = {line.weight:g} × {last:.4f} = {line.weight * last:.4f} of the "
        f"gradient above it, so {short - 1} layers leave {exact(line.log_ratio / NATS_PER_DECADE)}. The chain rule written "
        f"out and the analyzer's sweep over slopes from automatic differentiation agree to {worst:.0e} in the logarithm.",
        f"Often told wrong. The bound 0.25ⁿ (0.25⁵ = {0.25**5:.6f}, 0.25¹⁰ = {0.25**10:.1e}) is what the slopes alone could "
        f"leave at best: for {short - 1} layers {power((short - 1) * math.log10(0.25))}. The rule of thumb 0.2ⁿ gives "
        f"{power((short - 1) * math.log10(0.2))}. With weights of {line.weight:g} neither is near: weights decide. "
        "A true bound is (0.25 |w|)ⁿ, and for weights above 4 it says nothing at all.",
        "Often told wrong. A widely copied program applies the sigmoid's derivative to the activation instead of the "
        f"pre-activation. Here that is off by a factor {power(abs(apart))} over {short} layers.",
        f"Slope 1 alone saves nobody. With these weights {long} layers of tanh give the first one {flat[0]} and {long} of "
        f"ReLU {flat[1]}, and every other layer the same: what the layers above do not take from the gradient, those below "
        "have taken from the signal.",
    ]


def activations(story: Story) -> list[str]:
    table: Frame = story.survey.set_index("activation")
    dies = [name for name in table.index if not math.isnan(table.loc[name, "dead_below"])]
    saturates = [name for name in table.index if not math.isnan(table.loc[name, "flat_above"])]
    one_sided = [
        name for name in table.index if not math.isnan(table.loc[name, "flat_below"]) and name not in saturates
    ]
    largest = table["max_slope"]
    above = [name for name in table.index if largest[name] > 1.001]
    return [
        f"Why. The slope is at most {largest['sigmoid']:.2f} for the sigmoid and {largest['tanh']:.2f} for tanh, and only at "
        f"z = 0. On both sides {_labels(saturates)} go flat (|z| beyond {table.loc['sigmoid', 'flat_above']:.1f} and "
        f"{table.loc['tanh', 'flat_above']:.1f} leave less than 0.01); {_labels(one_sided)} on the negative side only. The "
        f"slope of {_labels(dies)} is exactly 0 there: a unit that is negative for every example gets no gradient and stays "
        "as it is.",
        f"{_labels(above)} exceed 1 somewhere: that helps a gradient through, and can make it grow.",
    ]


def _labels(names: list[str]) -> str:
    from rnnvg.depth.activations import ACTIVATIONS

    return listed([ACTIVATIONS[name].label for name in names]) if names else "none"


def slopes(story: Story) -> list[str]:
    def mean(name: str, column: str) -> float:
        return float(getattr(story.treated[name], column)["mean_slope"].mean())

    tanh, sigmoid, relu = "tanh-orthogonal", "xavier", "relu-he"
    return [
        f"The largest slope is not the one a network has. Over the layers of the tanh network the mean slope is "
        f"{mean(tanh, 'slopes'):.2f} before training and {mean(tanh, 'slopes_end'):.2f} after it; over those of the sigmoid "
        f"network with Xavier weights {mean(sigmoid, 'slopes'):.2f}; of the ReLU network {mean(relu, 'slopes'):.2f} and "
        f"{mean(relu, 'slopes_end'):.2f}: about half of its units are off."
    ]


def starts(story: Story) -> list[str]:
    ratio = {name: each.log_ratio() / NATS_PER_DECADE for name, each in story.starts.items()}
    widths: Frame = story.widths
    blocks: Frame = story.blocks
    off = float((widths["measured"] - widths["textbook"]).abs().max())
    grown = blocks[~blocks["zero_last"]].set_index("blocks")["measured"]
    kept = blocks[blocks["zero_last"]]["measured"]
    few, many = 20, int(grown.index.max())
    return [
        f"Weights of N(0, 0.01²) leave the first of {story.settings['depth']} sigmoid layers {power(ratio['gaussian'])} of "
        f"the last one's gradient, Xavier's {power(ratio['xavier'])}, He's {power(ratio['he'])}, orthogonal ones "
        f"{power(ratio['orthogonal'])}: good weights are not enough where every slope is below 0.25.",
        "Often misquoted. The millionth that is told of small random weights is Xavier's. For N(0, 0.01²) the estimate is "
        f"(0.25 · 0.01 · √width)⁹, and at every width here it is within a factor {factor(10**off)} of what is measured.",
        f"Residual blocks with batch norm turn the product into a sum: their gradient does not vanish, it grows, by "
        f"{number(grown[few])} over {few} blocks and {number(grown[many])} over {many}. With the last gain of every "
        f"block started at 0 the ratio is {number(kept.iloc[-1])} at any depth. Dashed: mean-field theory, nothing fitted.",
    ]


def through_training(story: Story) -> list[str]:
    sick, well, deep = (story.treated[name] for name in ("none", "relu-he", "residual-blocks"))

    def told(each: Treated) -> str:
        at = each.training.steps_to(GOOD)
        return f"{each.training.accuracy:.0%}" + (f", {GOOD:.0%} at step {at}" if at else "")

    apart = round(-sick.after)
    return [
        f"Signs. First and last layer of the sick network are {apart} decades apart from the first step to the last, and its "
        f"accuracy ends at {told(sick)}, no better than a guess."
        if apart > 6 and sick.training.accuracy < 0.2
        else f"Signs. The sick network ends at {told(sick)}.",
        f"Side by side the layers of the other two learn together: {well.spec['depth']} layers of ReLU with He weights reach "
        f"{told(well)}; {deep.spec['depth']} residual blocks {told(deep)}.",
    ]


def diagnoses(story: Story) -> list[str]:
    right = sum(found.verdict == name for name, found in story.diagnoses.items())
    return [
        "rnnvg.diagnose(model, batch, loss) looks at a copy of any nn.Module: the gradient at every layer's output, the "
        "length of a few real updates over that of the weights, dead and saturated units, the size of the weights. It names "
        "causes before effects.",
        f"Here it named {right} of {len(story.diagnoses)} rightly. {_saturated(story)}In the frozen "
        "network the gradient arrives and the weights do not "
        "move; in the one with dead ReLUs nothing arrives below them.",
    ]


def _saturated(story: Story) -> str:
    ratio = story.diagnoses["saturated-units"].ratio
    if ratio < -1:
        return f"Saturated units let {power(ratio)} of the last layer's gradient through to the first. "
    return (
        "Saturated units need not show in the gradient's size: where weights are large enough to saturate them, the few units "
        f"left on a slope are multiplied by those weights, and the first layer gets {factor(10**ratio)} times the last one's; "
        "what arrives is noise. "
    )


def remedies(story: Story) -> list[str]:
    cured, uncured = _cured(story)
    off = [abs(each.measured - each.predicted) for each in story.treated.values() if each.predicted is not None]
    faster, sick = story.treated["faster-hardware"], story.treated["none"]
    balanced = [each for each in uncured if each.measured > -1]
    paragraphs = [
        f"Cures. To {GOOD:.0%} accuracy or more: {listed([each.remedy.change for each in cured])}." if cured else "",
        f"Not a cure by itself. {_sentence(listed([each.remedy.change for each in uncured]))}." if uncured else "",
        f"Faster hardware. {faster.training.steps} steps instead of {sick.training.steps} take "
        f"{factor(faster.seconds / sick.seconds)} times as long and "
        f"end at {faster.training.accuracy:.0%} accuracy, from {sick.training.accuracy:.0%}: an update of "
        f"{exact(sick.measured)} of the last layer's does not add up to one in any number of steps that can be bought.",
        f"The predictions are mean-field theory's, from the weights' variance and the activation alone; over "
        f"{-min(each.measured for each in story.treated.values()):.0f} decades none is off by more than a factor "
        f"{factor(10 ** max(off))}.",
    ]
    if balanced:
        paragraphs.append(f"A ratio near 1 is not yet learning: {listed([each.remedy.change for each in balanced])}.")
    return [each for each in paragraphs if each]


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]


def clipping(story: Story) -> list[str]:
    found = {(each.network, each.clip is None): each for each in story.clipped}
    paragraphs = []
    for name in ("vanishing", "exploding"):
        free, clipped = found[name, True], found[name, False]
        free_end = f"diverges at step {free.steps}" if free.status != "ok" else f"ends at {free.accuracy:.0%}"
        clipped_end = (
            f"diverges at step {clipped.steps}" if clipped.status != "ok" else f"ends at {clipped.accuracy:.0%}"
        )
        paragraphs.append(
            f"{name.capitalize()}. The gradient's norm is {number(10 ** clipped.log10_norm[0])}; clipping to "
            f"{clipped.clip:g} touched {clipped.clipped:.0%} of the steps and changes no layer's share: first over last layer "
            f"{power(clipped.log10_ratio[0])} before and {power(clipped.log10_ratio[1])} after. Without it the training "
            f"{free_end}, with it {clipped_end}."
        )
    return paragraphs


def cells(story: Story) -> list[str]:
    def told(run) -> str:
        end = f"solved it at step {run.solved_at}" if run.solved_at is not None else f"did not in {run.steps} steps"
        return (
            f"{style.CELL_LABELS[run.cell]}: {power(run.ratio(run.start))} of the gradient is left at the first step before "
            f"training, {power(run.ratio(run.end))} after; it {end} (error {number(run.mse)}; guessing the mean "
            f"{number(run.baseline)})."
        )

    length = story.cells[0].length
    return [
        f"Unrolled over {length} time steps a recurrent network is {length} layers deep, with the same weights in each; its "
        "gradient is the same product. The task is to add two numbers that were marked somewhere in the sequence.",
        *[told(run) for run in story.cells],
        "A gated cell does not start out better. Its gates can open, and then its state is carried on by a sum, as a residual "
        "block's is; the vanilla cell has no such way.",
    ]
