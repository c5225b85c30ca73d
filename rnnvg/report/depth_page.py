"""The teaching page: the story of the vanishing gradient in order, each figure measured on the spot."""

from __future__ import annotations

import math
import platform
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from rnnvg.report import depth_cures, depth_figures, depth_words, style, svg
from rnnvg.report.page import Page, Picture, Section, Table, render
from rnnvg.report.results import Frame
from rnnvg.report.wording import number, power

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from rnnvg.depth.story import Story

# Figure -> how it is drawn, its caption, and what it shows to those who cannot see it.
FIGURES: dict[str, tuple[Callable[[Story], Figure], str, str]] = {
    "chain": (
        depth_figures.chains,
        "Left: relative to the last layer, on a log axis. Middle: the gradient itself. Right: the activations, on a log axis.",
        "Gradient by every weight of a chain of single neurons on a log axis, beside the textbook's bounds, and the chain's "
        "activations.",
    ),
    "activations": (
        depth_figures.activations,
        "Above: functions. Below: their slopes, by automatic differentiation; dotted: 0.25, the most a sigmoid lets through.",
        "Eight activation functions over their derivatives.",
    ),
    "slopes": (
        depth_figures.slopes,
        "Mean over units and images of f′(z), at the pre-activations that the networks have.",
        "Mean slope of the activations by layer for a sigmoid, a tanh and a ReLU network, before and after training.",
    ),
    "start": (
        depth_figures.starts,
        "Gradient by a layer's activations, the whole batch together, before any training. Log axes.",
        "Gradient by layer for four initialisations; measured ratios against the textbook's estimate for three widths; growth "
        "of the gradient with the number of residual blocks.",
    ),
    "through-training": (
        depth_cures.through_training,
        "Above: a line a layer, first layers dark, last ones light; log axis. Below: share of test images classified rightly.",
        "Gradient norm of every layer and test accuracy through training: a sick network, a ReLU network, a residual one.",
    ),
    "diagnoses": (
        depth_cures.diagnoses,
        "Above: gradient at the layer's output; below: length of an update over that of the weights. Log axes.",
        "Gradient and relative update by layer for a healthy network and four with a planted defect.",
    ),
    "remedies": (
        depth_cures.remedies,
        "Left: log axis; a line joins before and after training. A ratio of 1 means that the first layer gets as much as the "
        "last one.",
        "Predicted and measured gradient ratio, accuracy and training time of the sick network under every remedy.",
    ),
    "clipping": (
        depth_cures.clipping,
        "The first batch's gradient by the weights of each layer; log axes.",
        "Gradient by layer before and after clipping, for a vanishing and an exploding network.",
    ),
    "recurrent": (
        depth_cures.cells,
        "Geometric mean over 64 sequences; log axis; dotted: 1/e. Right: what reaches the first step, as training goes on.",
        "Gradient against distance in time steps for three recurrent cells before and after training, and through training.",
    ),
}


def page(story: Story) -> Page:
    """The whole page of one story."""
    remedy_table, cell_table = remedies_shown(story), cells_shown(story)
    spec = story.treated["none"].spec
    sections = [
        _section(
            story,
            "chain",
            "What vanishes: the chain",
            "The smallest deep network is a chain of single neurons, a = f(w · a before), with the last activation for a "
            "loss. The gradient by a weight is the product of everything above it.",
            depth_words.chains(story),
            [Table.of(_chain_shown(story), "The chain, layer by layer", folded=True)],
        ),
        _section(
            story,
            "activations",
            "Why: slopes",
            "Of each activation only the slope enters the product.",
            depth_words.activations(story),
            [
                Table.of(
                    _survey_shown(story),
                    "What each activation does to a gradient: root mean square and mean are for standard normal z.",
                )
            ],
        ),
        _section(
            story,
            "slopes",
            "Why: the slopes that networks have",
            "A bound is not a measurement: these are the slopes of three trained networks.",
            depth_words.slopes(story),
        ),
        _section(
            story,
            "start",
            "Why: weights, at the start",
            "The other factor are the weights. How much of the last layer's gradient reaches the first, before any training?",
            depth_words.starts(story),
        ),
        _section(
            story,
            "through-training",
            "Signs: layers that stand still",
            f"Three networks on {story.images[0]}, {story.images[1]} images, the same batches in the same order.",
            depth_words.through_training(story),
        ),
        _section(
            story,
            "diagnoses",
            "Signs: a checker for any network",
            "",
            depth_words.diagnoses(story),
            [Table.of(diagnoses_shown(story), "What the checker said")],
        ),
        _section(
            story,
            "remedies",
            "Cures, applied to the same sick network",
            f"{spec['depth']} sigmoid layers, {spec['width']} wide, weights of N(0, 0.01²). Each row changes one thing and is "
            "trained on the same batches.",
            depth_words.remedies(story),
        ),
        _section(
            story,
            "clipping",
            "What clipping does and does not do",
            "Clipping shortens the gradient of all weights together to a given length.",
            depth_words.clipping(story),
        ),
        _section(
            story,
            "recurrent",
            "The recurrent case: steps for layers",
            "",
            depth_words.cells(story),
            [
                Table.of(
                    cell_table,
                    "The adding problem: first step's gradient over the last one's, and what was learned",
                )
            ],
        ),
        Section(
            "settings",
            "Settings and versions",
            "With the same settings and versions the same machine gives the same numbers, times apart.",
            tables=[Table("What the numbers depend on", ("setting", "value"), _settings(story))],
        ),
    ]
    return Page(
        title="Why deep networks stop learning: the vanishing gradient, measured",
        lead=depth_words.LEAD,
        sections=sections,
        paragraphs=depth_words.glance(story),
        chips={style.CELL_LABELS[run.cell]: style.CELL_COLOURS[run.cell] for run in story.cells},
        names=depth_words.NAMES,
        footer=f"Measured in {story.seconds:.0f} seconds and written by rnnvg.",
        first=Section(
            "finding",
            "What came out",
            paragraphs=[depth_words.finding(story)],
            tables=[Table.of(remedy_table, "First layer's gradient over the last one's, accuracy and time")],
        ),
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
    from rnnvg.files import write_set

    made = page(story)
    frames = {"remedies": remedy_frame(list(story.treated.values())), "cells": cell_frame(story.cells)}
    folder = Path(directory)
    contents: dict[str, str | bytes] = {}
    for section in made.sections:
        if section.picture is not None:
            contents[f"figures/{section.picture.name}.svg"] = section.picture.svg
            contents[f"figures/{section.picture.name}.png"] = section.picture.png
    for name, frame in frames.items():
        contents[f"tables/depth-{name}.csv"] = frame.to_csv(index=False, lineterminator="\n")
    write_set(folder, contents | {"depth.html": render(made)})
    return folder / "depth.html"


def _section(
    story: Story, name: str, title: str, lead: str, paragraphs: list[str], tables: list[Table] | None = None
) -> Section:
    draw, caption, alt = FIGURES[name]
    with style.applied():
        figure = draw(story)
        document = svg.to_svg(figure)
        figure.set_layout_engine("none")  # the places found for the first hold for the second
        picture = Picture(f"depth-{name}", alt, caption, document, svg.to_png(figure))
    return Section(name, title, lead, picture, paragraphs, tables or [])


def remedies_shown(story: Story) -> Frame:
    """The remedy table as text: change, predicted, at the start, after training, accuracy, steps to 90 %, seconds."""
    import pandas as pd

    from rnnvg.depth.remedies import remedy_frame

    frame: Frame = remedy_frame(list(story.treated.values()))
    return pd.DataFrame(
        {
            "remedy": frame["change"],
            "predicted": [_power(value) for value in frame["predicted"]],
            "measured": [_power(value) for value in frame["measured"]],
            "after training": [_power(value) for value in frame["after"]],
            "accuracy": [
                f"{row.accuracy:.0%}" + ("" if row.status == "ok" else f" ({row.status})") for row in frame.itertuples()
            ],
            "steps to 90 %": ["never" if math.isnan(value) else f"{value:.0f}" for value in frame["steps_to_90"]],
            "steps": [f"{value}" for value in frame["steps"]],
            "seconds": [number(value) for value in frame["seconds"]],
        }
    )


def cells_shown(story: Story) -> Frame:
    """The table of recurrent cells as text."""
    import pandas as pd

    from rnnvg.depth.gated import cell_frame

    frame: Frame = cell_frame(story.cells)
    return pd.DataFrame(
        {
            "cell": [style.CELL_LABELS[cell] for cell in frame["cell"]],
            "weights": [f"{value:,}" for value in frame["parameters"]],
            "predicted": [_power(value) for value in frame["predicted"]],
            "measured": [_power(value) for value in frame["measured"]],
            "after training": [_power(value) for value in frame["after"]],
            "error": [number(value) for value in frame["mse"]],
            "guessing": [number(value) for value in frame["baseline"]],
            "solved at step": ["never" if math.isnan(value) else f"{value:.0f}" for value in frame["solved_at"]],
            "seconds": [number(value) for value in frame["seconds"]],
        }
    )


def diagnoses_shown(story: Story) -> Frame:
    """What the checker said of each planted network, as text."""
    import pandas as pd

    rows = []
    for name, found in story.diagnoses.items():
        first = found.findings[0] if found.findings else None
        rows.append(
            {
                "planted": depth_cures.VERDICTS[name],
                "verdict": found.verdict,
                "evidence": str(found).partition(": ")[2] if first is None else _raised(first.evidence),
                "try first": "" if first is None else first.remedy,
            }
        )
    return pd.DataFrame(rows)


def _raised(evidence: str) -> str:
    """10^-17, as a terminal has it, with the exponent raised."""
    return re.sub(r"10\^(-?\d+)", lambda found: power(float(found[1])), evidence)


def _chain_shown(story: Story) -> Frame:
    import pandas as pd

    short = min(layers for _, layers in story.chains)
    frame: Frame = story.chains["sigmoid", short].to_frame()
    return pd.DataFrame(
        {
            "layer": frame["layer"],
            "activation": [number(value) for value in frame["value"]],
            "slope": [number(value) for value in frame["slope"]],
            "gradient": [_power(value) for value in frame["log10_gradient"]],
            "by the sweep": [_power(value) for value in frame["log10_by_sweep"]],
            "0.25 a layer above": [_power(value) for value in frame["log10_slope_bound"]],
            "0.25 · |w| a layer above": [_power(value) for value in frame["log10_bound"]],
            "0.2 a layer above": [_power(value) for value in frame["log10_rule"]],
        }
    )


def _survey_shown(story: Story) -> Frame:
    import pandas as pd

    from rnnvg.depth.activations import ACTIVATIONS

    def edge(value: float) -> str:
        return "never" if math.isnan(value) else f"{value:.1f}".replace("-0.0", "0.0")

    frame: Frame = story.survey
    return pd.DataFrame(
        {
            "activation": [ACTIVATIONS[name].label for name in frame["activation"]],
            "f(z)": [ACTIVATIONS[name].formula for name in frame["activation"]],
            "largest slope": [number(value) for value in frame["max_slope"]],
            "mean": [number(value) for value in frame["mean_slope"]],
            "root mean square": [number(value) for value in frame["rms_slope"]],
            "flat below": [edge(value) for value in frame["flat_below"]],
            "flat above": [edge(value) for value in frame["flat_above"]],
            "dead below": [edge(value) for value in frame["dead_below"]],
            "source": [ACTIVATIONS[name].source for name in frame["activation"]],
        }
    )


def _settings(story: Story) -> list[tuple[str, str]]:
    import torch

    from rnnvg import __version__

    chain = next(iter(story.chains.values()))
    return [
        ("images", f"{story.images[0]}, {story.images[1]} to train on"),
        ("weight of the chains", f"{chain.weight:g}"),
        *((name, str(value)) for name, value in story.settings.items()),
        ("rnnvg, torch, Python", f"{__version__}, {torch.__version__}, {platform.python_version()}"),
        ("machine", f"{platform.machine()}, {torch.get_num_threads()} threads"),
    ]


def _power(log10: float) -> str:
    return "–" if math.isnan(log10) else depth_words.exact(log10)
