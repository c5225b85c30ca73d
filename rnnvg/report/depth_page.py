"""The teaching page: the story of the vanishing gradient in order, each figure measured on the spot."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from rnnvg.report import depth_cures, depth_figures, depth_tables, depth_words, style
from rnnvg.report.page import Page, Section, Table, save
from rnnvg.report.picture import Picture

if TYPE_CHECKING:
    from rnnvg.depth.story import Story


@dataclass(frozen=True)
class Chapter:
    """One figure of the page with what belongs to it.

    Attributes:
        name, title: anchor and heading.
        draw: story -> figure.
        caption: how to read the figure, the same for every story.
        alt: what the figure shows, for readers who cannot see it.
        lead: what is measured, the same for every story.
        sentences: what this story shows, at most two.
        tables: every other number.
        rows: the rows of all panels have the first one's labels.
    """

    name: str
    title: str
    draw: Callable[[Story], Figure]
    caption: str
    alt: str
    lead: str = ""
    sentences: Callable[[Story], list[str]] = lambda story: []
    tables: Callable[[Story], list[Table]] = lambda story: []
    rows: bool = False

    def section(self, story: Story) -> Section:
        with style.applied():
            figure = self.draw(story)
            labels = figure.axes[0] if self.rows else None
            picture = Picture.of(figure, f"depth-{self.name}", self.caption, self.alt, labels=labels)
        return Section(self.name, self.title, self.lead, picture, self.sentences(story), self.tables(story))


FINDING = Chapter(
    "finding",
    "What came out",
    depth_cures.finding,
    "Left: gradient by a layer's weights before training, relative to the last layer, log axis. Right: share of test images "
    "classified rightly.",
    "Gradient by layer before training, and test accuracy through training, of the sick network and three others.",
    sentences=depth_words.finding,
    tables=depth_tables.finding,
)
CHAPTERS = (
    Chapter(
        "chain",
        "What vanishes: the chain",
        depth_figures.chains,
        "Left: relative to the last layer, on a log axis. Middle: the gradient itself. Right: the activations, on a log axis.",
        "Gradient by every weight of a chain of single neurons on a log axis, beside the textbook's bounds, and the chain's "
        "activations.",
        "The smallest deep network is a chain of single neurons, a = f(w · a before), with the last activation for a "
        "loss. The gradient by a weight is the product of w f′(z) over everything above it. With small "
        "weights the layers above take from the gradient, and those below from the signal.",
        depth_words.chains,
        depth_tables.chains,
    ),
    Chapter(
        "activations",
        "Why: slopes",
        depth_figures.activations,
        "Above: functions. Below: their slopes, by automatic differentiation; dotted: 0.25, the most a sigmoid lets through.",
        "Eight activation functions over their derivatives.",
        "Of each activation only the slope enters the product.",
        depth_words.activations,
        depth_tables.activations,
    ),
    Chapter(
        "slopes",
        "Why: the slopes that networks have",
        depth_figures.slopes,
        "Mean over units and images of f′(z), at the pre-activations that the networks have.",
        "Mean slope of the activations by layer for a sigmoid, a tanh and a ReLU network, before and after training.",
        "A bound is not a measurement: these are the slopes of three trained networks.",
        depth_words.slopes,
        depth_tables.slopes,
    ),
    Chapter(
        "start",
        "Why: weights, at the start",
        depth_figures.starts,
        "Gradient by a layer's activations, the whole batch together, before any training. Log axes. Dashed on the right: "
        "mean-field theory, nothing fitted.",
        "Gradient by layer for four initialisations; measured ratios against the textbook's estimate for three widths; growth "
        "of the gradient with the number of residual blocks.",
        "The other factor is the weights. How much of the last layer's gradient reaches the first, before any training?",
        depth_words.starts,
        depth_tables.starts,
    ),
    Chapter(
        "through-training",
        "Signs: layers that stand still",
        depth_cures.through_training,
        "Above: each layer is one line, first layers dark, last ones light; log axis. Below: share of test images classified "
        "rightly.",
        "Gradient norm of every layer and test accuracy through training: a sick network, a ReLU network, a residual one.",
        "Three networks, trained on the same batches in the same order.",
        depth_words.through_training,
    ),
    Chapter(
        "diagnoses",
        "Signs: a checker for any network",
        depth_cures.diagnoses,
        "Above: gradient at the layer's output; below: length of an update over that of the weights. Log axes.",
        "Gradient and relative update by layer for a healthy network and four with a planted defect.",
        "rnnvg.diagnose(model, batch, loss) looks at a copy of any nn.Module: the gradient at every layer's output, the "
        "length of a few real updates over that of the weights, dead and saturated units, the size of the weights. It names "
        "causes before effects.",
        depth_words.diagnoses,
        depth_tables.diagnoses,
    ),
    Chapter(
        "remedies",
        "Cures, applied to the same sick network",
        depth_cures.remedies,
        "Left: log axis; a line joins before and after training. A ratio of 1 means that the first layer gets as much as the "
        "last one, which is not yet learning.",
        "Predicted and measured gradient ratio, accuracy and training time of the sick network under every remedy.",
        "Each row changes one thing of the sick network and is trained on the same batches. Ten times the steps stand for "
        "faster hardware.",
        depth_words.remedies,
        depth_tables.remedies,
        rows=True,
    ),
    Chapter(
        "clipping",
        "What clipping does and does not do",
        depth_cures.clipping,
        "The first batch's gradient by the weights of each layer; log axes.",
        "Gradient by layer before and after clipping, for a vanishing and an exploding network.",
        "Clipping shortens the gradient of all weights together to a given length.",
        depth_words.clipping,
        depth_tables.clipping,
    ),
    Chapter(
        "recurrent",
        "The recurrent case: steps for layers",
        depth_cures.cells,
        "Geometric mean over 64 sequences; log axis; dotted: 1/e. Right: what reaches the first step, as training goes on.",
        "Gradient against distance in time steps for three recurrent cells before and after training, and through training.",
        "A recurrent network is as deep as its sequence is long, with the same weights in each layer; its gradient is the "
        "same product. The task: add two numbers that are marked somewhere in the sequence. A gated cell does not start out "
        "better, but its gates can open, and then its state is carried on by a sum, as a residual block's is.",
        depth_words.cells,
        depth_tables.cells,
    ),
)


def page(story: Story) -> Page:
    """The whole page of one story."""
    settings = Section(
        "settings",
        "Settings and versions",
        "With the same settings and versions the same machine gives the same numbers, except for times.",
        tables=depth_tables.settings(story),
        folded=True,
    )
    return Page(
        title="Why deep networks stop learning: the vanishing gradient, measured",
        lead=depth_words.LEAD,
        sections=[*(chapter.section(story) for chapter in CHAPTERS), settings],
        chips={style.CELL_LABELS[run.cell]: style.CELL_COLOURS[run.cell] for run in story.cells},
        footer=f"Measured in {story.seconds:.0f} seconds and written by rnnvg.",
        first=FINDING.section(story),
    )


def write(story: Story, directory: str | Path) -> Path:
    """Writes depth.html (one file, nothing else needed), figures/depth-<name>.svg and .png and tables/depth-<name>.csv.

    Returns:
        The path of depth.html.

    Raises:
        InputError: the directory cannot be written, or a file that rnnvg did not write stands where one of these belongs.
    """
    from rnnvg.depth.gated import cell_frame
    from rnnvg.depth.remedies import remedy_frame

    frames = {
        "tables/depth-remedies.csv": remedy_frame(list(story.treated.values())),
        "tables/depth-cells.csv": cell_frame(story.cells),
    }
    return save(page(story), directory, "depth.html", frames)
