"""The report's sections on why the gradient vanishes; none where the results hold no causes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from rnnvg.report import cause_figures
from rnnvg.report.page import Picture, Section, Table
from rnnvg.report.results import Results
from rnnvg.report.words import causes as words

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FIGURES: dict[str, Callable[[Results], Figure]] = {
    "why-it-vanishes": cause_figures.areas,
    "every-source": cause_figures.source_maps,
    "exponents-through-training": cause_figures.exponents,
    "theory-at-initialisation": cause_figures.theory,
}


def sections(results: Results, who: str, picture: Callable[[Results, str, str, str], Picture]) -> list[Section]:
    """Attribution, source maps, Lyapunov exponents and theory, each with its figure and words.

    Args:
        results: of one directory.
        who: networks and tasks, for readers who cannot see the figures.
        picture: draws one of FIGURES: results, name, caption, alt.
    """
    if results.causes.empty:
        return []
    gates = words.gates_shown(results)
    return [
        Section(
            "why",
            "Why it vanishes",
            "A vanilla RNN's gradient passes its units' slopes and its matrix at every step: how many nats does each take "
            "or give? A gated cell's arrives by several paths: which carry it?",
            picture(
                results,
                "why-it-vanishes",
                "After training, means over a few sequences and all seeds. RNN: areas are the nats that each part has added "
                "by that distance, the line is their sum. LSTM, GRU: signed shares of the gradient that arrives, which add "
                "to 1 (dotted).",
                f"Stacked areas over distance of what makes the gradient decay, after training: {who}.",
            ),
            words.attribution(results),
            [
                Table.of(
                    gates,
                    "Gates, means over units, steps and seeds; implied time constant of the gate that carries the state "
                    "(median unit) beside the measured e-fold of the whole gradient, in steps, where an exponential fits.",
                    folded=True,
                )
            ]
            if len(gates)
            else [],
        ),
        Section(
            "sources",
            "From every source",
            "The same for losses at many steps: does the reach of the gradient depend on where in the sequence the loss is?",
            picture(
                results,
                "every-source",
                "After training, the first seed: mean over a few sequences. The diagonal is one step back from each loss; "
                "what lies above and left of it is the past.",
                f"Heat maps of the gradient left at every time step for losses at every step, after training: {who}.",
            ),
            words.source_maps(results),
        ),
        Section(
            "exponents",
            "Lyapunov exponents through training",
            "The largest Lyapunov exponent is the rate at which a perturbation, and with it the gradient, grows or dies in "
            "the long run, whatever the loss.",
            picture(
                results,
                "exponents-through-training",
                "Over two training lengths of held-out sequences. A thick line a run: its largest exponent at each "
                "checkpoint; thin: the second and third. Dotted: neither growth nor decay.",
                f"Leading Lyapunov exponents of every run against the training step: {who}.",
            ),
            words.exponents(results),
        ),
        Section(
            "theory",
            "Theory at initialisation",
            "Before training, how a gradient decays follows from the width, the inputs' size and the biases alone.",
            picture(
                results,
                "theory-at-initialisation",
                "Thin: measured at step 0, a line a seed. Dashed: the wide-network limit of PyTorch's initialisation. "
                "Distances up to the width.",
                f"Measured and predicted gradient against distance before training: {who}.",
            ),
            words.theory(results),
        ),
    ]
