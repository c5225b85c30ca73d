"""A gradient profile as a terminal or a program reads it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from rnnvg.bptt import GradientProfile
from rnnvg.cli import output
from rnnvg.horizon import THRESHOLDS, decay_fit, half_life
from rnnvg.report import style, terminal

# Letters of the longest bar.
BAR = 24
NOTHING = "There is no gain to speak of: the gradient one step back is exactly zero, or a state is not finite."


def as_text(facts: dict[str, Any], profile: GradientProfile) -> str:
    """Horizons, and the curve at a few distances with a bar for each.

    Args:
        facts: what was measured: task, cell, hidden, layers, init, weights, wrt, sequences, n_steps, training_steps, seed.
    """
    about = [
        heading(facts),
        *([f"Weights: {facts['weights']}"] if facts["weights"] else []),
        f"Gradient by the {facts['wrt']}, {facts['sequences']} sequences of {facts['n_steps']} steps "
        f"(training: {facts['training_steps']})",
        "",
    ]
    if not observed(profile):
        return "\n".join([*about, NOTHING])
    by_threshold = [profile.horizon(threshold) for threshold in THRESHOLDS]
    fit = decay_fit(profile.mean_log_gain())
    horizons = pd.DataFrame(
        {
            "gain at least": [style.threshold_name(each.threshold) for each in by_threshold],
            "last at distance": [str(each) for each in by_threshold],
            "first below at": ["never" if each.first_below is None else str(each.first_below) for each in by_threshold],
        }
    )
    return "\n".join(
        [
            *about,
            "Memory horizons, time steps",
            terminal.as_text(horizons, output.width()),
            f"Rate: {fit.rate:.3g} nats a step, half-life {fit.half_life:.3g} steps; {fit}.",
            "",
            "Gain at each distance, relative to one step back: geometric mean and quantiles over sequences",
            terminal.as_text(_at_few_distances(profile), output.width()),
        ]
    )


def observed(profile: GradientProfile) -> bool:
    """Whether there is a gain at any distance: not where every unit is dead, or a state is not finite."""
    return bool((profile.curve()["n"] > 0).any())


def heading(facts: dict[str, Any]) -> str:
    """What was measured, in a line."""
    layers = "" if facts["layers"] == 1 else f"{facts['layers']} layers of "
    state = "trained" if facts["weights"] else f"at initialisation ({facts['init']}, seed {facts['seed']})"
    on = "" if facts.get("device", "cpu") == "cpu" else f", computed on {facts['gpu']}"
    return f"{style.cell_label(facts['cell'])}, {layers}{facts['hidden']} units, on {facts['task']}, {state}{on}"


def as_json(facts: dict[str, Any], profile: GradientProfile) -> dict[str, Any]:
    """`facts`, horizons and the whole curve as one JSON object."""
    by_threshold = [profile.horizon(threshold) for threshold in THRESHOLDS] if observed(profile) else []
    horizons = [
        {key: value for key, value in vars(each).items() if key not in ("rate", "e_fold")} for each in by_threshold
    ]
    shape = {key: getattr(by_threshold[0], key) if by_threshold else None for key in ("rate", "e_fold")}
    shape["half_life"] = None if shape["rate"] is None else half_life(shape["rate"])
    return {**facts, "horizons": horizons, **shape, "curve": output.rows(profile.curve())}


def few(last: int, leads: Sequence[int] = (1, 2, 5)) -> set[int]:
    """Numbers that read like 1, 2, 5, 10, 20, 50, and the last one.

    >>> sorted(few(30))
    [1, 2, 5, 10, 20, 30, 50]
    """
    return {lead * 10**power for power in range(len(str(last))) for lead in leads} | {last}


def drawn(results: Sequence[Any], title: str, ending: str, **look: Any) -> bytes:
    """The plots of some results below each other, as a file of that ending; the title stands above the first."""
    from matplotlib.figure import Figure

    from rnnvg.report import picture

    with style.applied():
        figure = Figure(figsize=(6.4, 4.0 * len(results)), layout="constrained")
        axes = figure.subplots(len(results), squeeze=False)[:, 0]
        for ax, each in zip(axes, results, strict=True):
            each.plot(ax)
        axes[0].set_title(title, **look)
        return picture.to_bytes(figure, ending, dpi=150)


def _at_few_distances(profile: GradientProfile) -> Any:
    """The curve at distances that read like 1, 2, 5, 10, 20, 50 and at the last one."""
    curve: Any = profile.curve()
    curve = curve[curve["n"] > 0]
    last = int(curve["distance"].max())
    curve = curve[curve["distance"].isin(few(last))]
    finite = curve["log10_gain"][curve["log10_gain"].map(math.isfinite)]
    lowest, highest = min(finite.min(), -1.0), max(finite.max(), 0.0)
    share = (curve["log10_gain"].clip(lower=lowest) - lowest) / (highest - lowest)
    return pd.DataFrame(
        {
            "distance": curve["distance"],
            "gain": curve["log10_gain"].map(_power),
            "10 %": curve["low"].map(_power),
            "90 %": curve["high"].map(_power),
            "log scale": share.map(lambda part: "#" * round(BAR * part)),
        }
    )


def _power(log10: float) -> str:
    """10 to this, in three digits, however small.

    >>> _power(-0.3), _power(-3000.5), _power(-4.0001), _power(-math.inf)
    ('0.501', '3.16e-3001', '1.00e-04', '0')
    """
    if not math.isfinite(log10):
        return {-math.inf: "0", math.inf: "inf"}.get(log10, "")
    if -3 < log10 < 3:
        return f"{10**log10:.3g}"
    whole = math.floor(log10)
    lead = f"{10 ** (log10 - whole):.2f}"
    return f"1.00e{whole + 1:+03d}" if lead == "10.00" else f"{lead}e{whole:+03d}"
