"""Measured and predicted gradient before training."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from rnnvg.bptt.gaussian import EDGE_ERROR, side_of_edge
from rnnvg.report import causes, legend, wording
from rnnvg.report.page import Table
from rnnvg.report.part import Panels, Part
from rnnvg.report.results import Results, each_row

FAR = 3.0  # standard errors


def frame(results: Results) -> pd.DataFrame:
    """What `causes.theory` gives, and edge: how much the zero state grows a step; without a prediction, one row that says so.

    Nothing where the runs hold no causes.
    """
    if results.causes.empty:
        return causes.theory(results)
    rows = causes.theory(results)
    edges = causes.edges(results)
    if rows.empty:
        run = results.runs.iloc[0]
        return pd.DataFrame(
            [{"problem": run["problem"], "network": run["network"], "cell": run["cell"], "id": run["id"]}]
        )
    return rows.assign(edge=rows["id"].map(edges))


def sentences(rows: pd.DataFrame) -> list[str]:
    """How many networks are far from theory."""
    if "predicted" not in rows:
        return [
            "No network here starts as the theory supposes: one layer, PyTorch's default weights, a set forget bias."
        ]
    rates = causes.theory_rates(rows)
    far = rates[rates["z"].abs() > FAR]
    statements = []
    if len(far):
        statements.append(
            f"{len(far)} of {wording.count(len(rates), 'rate')} lie more than three standard errors from theory, which is for "
            "independent inputs and for widths far above the distance."
        )
    for side, meaning in (("past the edge", "there the zero state is unstable"), ("at the edge", "to within rounding")):
        rows_there = [row for row in each_row(rates) if side_of_edge(row.edge, EDGE_ERROR) == side]
        if rows_there:
            names = [f"{row.network} ({wording.problem(row.problem)})" for row in rows_there]
            starts = "starts" if len(names) == 1 else "start"
            who = wording.listed(names) if len(names) <= 4 else wording.count(len(names), "network")
            statements.append(f"{who} {starts} {side}: {meaning}.")
    return statements[:2]


def tables(rows: pd.DataFrame) -> list[Table]:
    """Measured and predicted rates at initialisation with the z-score."""
    rates = causes.theory_rates(rows) if "predicted" in rows else pd.DataFrame()
    if rates.empty:
        return []
    shown = pd.DataFrame(
        {
            "task": rates["problem"],
            "network": rates["network"],
            "measured": [f"{value:+.3f}" for value in rates["measured"]],
            "standard error": ["" if math.isnan(value) else f"{value:.3f}" for value in rates["stderr"]],
            "half-life": [wording.half_life(value) for value in rates["measured"]],
            "predicted": [f"{value:+.3f}" for value in rates["predicted"]],
            "z": ["" if math.isnan(value) else f"{value:+.1f}" for value in rates["z"]],
            "seeds": rates["n"],
            "zero state, a step": ["" if math.isnan(value) else f"{value:.3f}" for value in rates["edge"]],
        }
    )
    caption = (
        "Rates before training, nats a step, and the half-life in steps (inf: no decay); mean and standard error over "
        "seeds, to be set against a prediction of the mean. With few seeds a standard error is itself uncertain. "
        "A zero state above 1 a step is unstable."
    )
    return [Table.of(shown, caption)]


def draw(rows: pd.DataFrame, panels: Panels) -> None:
    """Measured gain at initialisation, a thin line a seed, and what theory says, dashed: a column a problem."""
    known = rows if "predicted" in rows else rows.head(0)
    for _, (ax,), own in panels.each(known):
        for network, lines in own.groupby("network", sort=False):
            colour = panels.looks[str(network)][0]
            for _, line in lines.groupby("id", sort=False):
                decades = line["measured"] / math.log(10)
                ax.plot(line["distance"], decades, color=colour, linewidth=0.9, alpha=0.7, label=f"{network}")
            mean = lines.groupby("distance")["predicted"].mean() / math.log(10)
            look: Any = {"color": colour, "linestyle": (0, (4, 2)), "linewidth": 2, "label": f"{network}, theory"}
            ax.plot(mean.index, mean.to_numpy(), **look)
        ax.set_xlabel("distance (time steps back)")
        ax.set_ylabel("gradient left (decades)")
    measured = legend.line("measured, one seed", linewidth=0.9)
    panels.legend([measured, legend.line("theory, wide network", linewidth=2, linestyle=(0, (4, 2)))])


PART = Part(
    name="theory-at-initialisation",
    title="Theory at initialisation",
    frame=frame,
    lead="Before training, how a gradient decays follows from the width, the inputs' size and the biases alone.",
    caption="Thin: measured at step 0, relative to one step back, each seed one line. Dashed: the wide-network limit of "
    "PyTorch's initialisation. Distances up to the width.",
    alt="Measured and predicted gradient against distance before training",
    draw=draw,
    height=2.8,
    sentences=sentences,
    tables=tables,
    folded=True,
)
