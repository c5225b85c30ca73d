"""The page of a comparison: which figures, tables and words it has, and what each is called."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from rnnvg.report import cause_sections, curves, horizons, legend, losses, opening, pairs, style, svg, tables
from rnnvg.report.page import Page, Picture, Section, Table
from rnnvg.report.results import Results
from rnnvg.report.wording import count, listed
from rnnvg.report.words import certificate, overview
from rnnvg.report.words import curves as curve_words
from rnnvg.report.words import horizons as horizon_words
from rnnvg.report.words import losses as loss_words
from rnnvg.report.words import opening as opening_words

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FIGURES: dict[str, Callable[[Results], Figure]] = {
    "gradient-against-distance": curves.draw,
    "memory-horizons": horizons.draw,
    "horizon-through-training": opening.draw,
    "loss-curves": losses.draw,
    **cause_sections.FIGURES,
}

LEAD = (
    "A recurrent network learns from the gradient of its loss, which travels back through the time steps and shrinks, or "
    "grows, by a factor at every one; where it has vanished, nothing that happened earlier can be learned from. Here its "
    "magnitude is measured at every distance on held-out sequences: the higher and the farther right a curve stays, the "
    "farther back the learning signal reaches, and its memory horizon is the last distance at which at least 1/e (37 %) "
    "of what there is one step back is left."
)


def picture(results: Results, name: str, caption: str, alt: str) -> Picture:
    """One of FIGURES, drawn in the house style."""
    with style.applied():
        figure = FIGURES[name](results)
        document = svg.to_svg(figure)
        figure.set_layout_engine("none")  # the places found for the first hold for the second: half of the work
        return Picture(name, alt, caption, document, svg.to_png(figure))


def page(results: Results) -> Page:
    """The whole report of a comparison of networks on tasks."""
    who = f"{_some(results.networks(), 'network')} on {_some([name.lower() for name in results.problems], 'task')}"
    horizon_table = tables.horizon_table(results)
    scores = tables.score_table(results)
    sections = [
        Section(
            "gradient",
            "Gradient against distance",
            "The loss is applied at one time step. How much of its gradient is left at the network's state, further and "
            "further back?",
            picture(
                results,
                "gradient-against-distance",
                "Geometric mean over sequences and sources; log axis. Thick: geometric mean over seeds. Dotted: thresholds. "
                "Dashed: length of a training sequence.",
                f"Gradient magnitude against time-step distance on a log axis, before and after training: {who}.",
            ),
            curve_words.paragraphs(results),
        ),
        Section(
            "horizons",
            "Memory horizons",
            "The last distance at which at least 1/e of the gradient is left.",
            picture(
                results,
                "memory-horizons",
                "Large: geometric mean over seeds with its 95 % t-interval, or median with order statistics where a seed is "
                "censored; small: every seed; an arrow: only known to be larger, or an interval that goes on. The axis is "
                "logarithmic in horizon + 1.",
                f"Memory horizon at 1/e of every seed and pooled with its interval, before and after training: {who}.",
            ),
            horizon_words.paragraphs(results),
            [*horizon_tables(horizon_table), *paired_tables(results)],
        ),
        Section(
            "opening",
            "When the horizon opens",
            "The horizon at 1/e as training goes on, and above it the held-out loss at the same steps: does the network "
            "first reach back and then learn, or the other way round?",
            picture(
                results,
                "horizon-through-training",
                "A line a run. Upper row: held-out loss and the baseline. Lower row: memory horizon; the axis is "
                "logarithmic in horizon + 1.",
                f"Held-out loss and, below it on the same training steps, the memory horizon of every run: {who}.",
            ),
            opening_words.paragraphs(results),
        ),
        *cause_sections.sections(results, who, picture),
        Section(
            "scores",
            "Loss curves and scores",
            "What was learned, beside what a baseline without memory gets.",
            picture(
                results,
                "loss-curves",
                "A line a run. Upper row: loss on training batches; lower row: on held-out data.",
                f"Training and held-out loss against training step with the baseline: {who}.",
            ),
            loss_words.paragraphs(results),
            [
                Table.of(
                    tables.scores_shown(scores),
                    "Scores: median over seeds (range); runs that solved the task with the exact 95 % binomial interval.",
                ),
                Table.of(tables.runs_shown(results), f"Every run ({len(results.runs)})", folded=True),
            ],
        ),
        Section(
            "settings",
            "Settings and versions",
            "With the same settings, seeds and versions the numbers come out again on the same machine. The complete "
            "specification of each run is in its result.json.",
            paragraphs=certificate.paragraphs(results),
            tables=[
                Table.of(tables.settings_table(results), "What the results depend on; values that differ are listed.")
            ],
        ),
    ]
    colours = {network: look[0] for network, look in legend.looks(results).items()}
    return Page(
        title="How far back does the learning signal reach?",
        lead=LEAD,
        sections=sections,
        paragraphs=overview.paragraphs(results),
        chips=colours,
        names=results.problems,
        footer=f"Written by rnnvg from {count(len(results.runs), 'run')}. Figures and tables lie beside this page.",
    )


def _some(names: list[str], what: str) -> str:
    return listed(names) if len(names) <= 5 else count(len(names), what)


def paired_tables(results: Results) -> list[Table]:
    """Networks compared seed by seed, folded; nothing where no two share two seeds."""
    frame = pairs.shown(results)
    if frame.empty:
        return []
    caption = (
        "Paired by seed, after training at 1/e: horizon of the first network over that of the second, median (each seed), "
        "or [interval] from six seeds on; exact sign-flip test."
    )
    return [Table.of(frame, caption, folded=True)]


def horizon_tables(table: tables.Frame) -> list[Table]:
    """The table of horizons by the state, and folded behind it those by whatever else was measured."""
    if table.empty:
        return []
    caption = (
        "Memory horizons by the {}, time steps: geometric mean over seeds, or median where one is censored [interval]."
    )
    measured = sorted(table["wrt"].unique(), key=lambda wrt: wrt != "state")
    return [Table.of(tables.horizons_shown(table, wrt), caption.format(wrt), folded=wrt != "state") for wrt in measured]
