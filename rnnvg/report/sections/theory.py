"""Measured and predicted gradient before training."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from rnnvg.bptt.gaussian import EDGE_ERROR, side_of_edge
from rnnvg.horizon import NATS_PER_DECADE
from rnnvg.report import style, wording
from rnnvg.report.page import Table
from rnnvg.report.part import Panels, Part, each_row
from rnnvg.report.results import Results

FAR = 3.0  # standard errors


def frame(results: Results) -> pd.DataFrame:
    """Measured and predicted gain at initialisation: names, id, distance, predicted, measured (nats), edge.

    Distances up to the width, where the theory ends; measured are the curves at step 0; edge: how much the zero state grows
    a step. Without a prediction, one row that says so; nothing where the runs hold no causes.
    """
    predicted = results.cause("theory").astype({"distance": int})
    width = {record["id"]: record["spec"]["hidden"] for record in results.records}
    predicted = predicted[predicted["distance"] <= predicted["id"].map(width).astype(float)]
    measured = results.curves[(results.curves["step"] == 0) & (results.curves["wrt"] == "state")]
    measured = measured.assign(measured=measured["log10_gain"] * NATS_PER_DECADE)[["id", "distance", "measured"]]
    rows = (
        predicted.rename(columns={"value": "predicted"}).drop(columns="stderr").merge(measured, on=["id", "distance"])
    )
    columns = ["problem", "network", "cell", "id", "distance", "predicted", "measured"]
    rows = rows.loc[np.isfinite(rows["measured"]), columns]
    if rows.empty and len(results.causes):
        run = results.runs.iloc[0]
        return pd.DataFrame([{name: run[name] for name in ("problem", "network", "cell", "id")}])
    edges: pd.Series[Any] = results.cause("edge").groupby("id")["value"].first()
    return rows.assign(edge=rows["id"].map(edges))


def rates(rows: pd.DataFrame) -> pd.DataFrame:
    """Rates of `frame`, nats a step: problem, network, cell, n, measured, stderr, predicted, z, edge.

    z is in standard errors over seeds, nan for fewer than two; edge above 1 says that the zero state is unstable.
    """
    table = []
    for (problem, network, cell), own in rows.groupby(["problem", "network", "cell"], sort=False):
        slopes = np.array(
            [
                [np.polyfit(seed["distance"], seed[column], 1)[0] for column in ("measured", "predicted")]
                for _, seed in own.groupby("id")
                if len(seed) > 2
            ]
        )
        if not len(slopes):
            continue
        measured, predicted = slopes.mean(0)
        error = float(slopes[:, 0].std(ddof=1) / math.sqrt(len(slopes))) if len(slopes) > 1 else math.nan
        z = (measured - predicted) / error if error else math.nan
        edge = float(own.groupby("id")["edge"].first().mean())
        table.append((problem, network, cell, len(slopes), measured, error, predicted, z, edge))
    names = ["problem", "network", "cell", "n", "measured", "stderr", "predicted", "z", "edge"]
    return pd.DataFrame(table, columns=names)


def sentences(rows: pd.DataFrame) -> list[str]:
    """How many networks are far from theory."""
    if "predicted" not in rows:
        return [
            "No network here starts as the theory supposes: one layer, PyTorch's default weights, a set forget bias."
        ]
    table = rates(rows)
    far = table[table["z"].abs() > FAR]
    statements = []
    if len(far):
        statements.append(
            f"{len(far)} of {wording.count(len(table), 'rate')} lie more than three standard errors from theory, which is for "
            "independent inputs and for widths far above the distance."
        )
    for side, meaning in (("past the edge", "there the zero state is unstable"), ("at the edge", "to within rounding")):
        rows_there = [row for row in each_row(table) if side_of_edge(row.edge, EDGE_ERROR) == side]
        if rows_there:
            names = [f"{row.network} ({wording.problem(row.problem)})" for row in rows_there]
            starts = "starts" if len(names) == 1 else "start"
            who = wording.listed(names) if len(names) <= 4 else wording.count(len(names), "network")
            statements.append(f"{who} {starts} {side}: {meaning}.")
    return statements[:2]


def tables(rows: pd.DataFrame) -> list[Table]:
    """Measured and predicted rates at initialisation with the z-score."""
    table = rates(rows) if "predicted" in rows else pd.DataFrame()
    if table.empty:
        return []
    shown = pd.DataFrame(
        {
            "task": table["problem"],
            "network": table["network"],
            "measured": [f"{value:+.3f}" for value in table["measured"]],
            "standard error": [wording.known(value, "{:.3f}".format) for value in table["stderr"]],
            "half-life": [wording.half_life(value) for value in table["measured"]],
            "predicted": [f"{value:+.3f}" for value in table["predicted"]],
            "z": [wording.known(value, "{:+.1f}".format) for value in table["z"]],
            "seeds": table["n"],
            "zero state, a step": [wording.known(value, "{:.3f}".format) for value in table["edge"]],
        }
    )
    caption = (
        "Rates before training, nats a step, and the half-life in steps (inf: no decay); mean and standard error over "
        "seeds, to be set against a prediction of the mean. With few seeds a standard error is itself uncertain. "
        "A zero state above 1 a step is unstable."
    )
    return [Table(shown, caption)]


def draw(rows: pd.DataFrame, panels: Panels) -> None:
    """Draws measured gain at initialisation, a thin line a seed, and what theory says, dashed: a column a problem."""
    known = rows if "predicted" in rows else rows.head(0)
    for _, (ax,), own in panels.each(known):
        for network, lines in own.groupby("network", sort=False):
            colour = panels.looks[str(network)][0]
            for _, line in lines.groupby("id", sort=False):
                decades = line["measured"] / NATS_PER_DECADE
                ax.plot(line["distance"], decades, color=colour, linewidth=0.9, alpha=0.7, label=f"{network}")
            mean = lines.groupby("distance")["predicted"].mean() / NATS_PER_DECADE
            look: Any = {"color": colour, "linestyle": (0, (4, 2)), "linewidth": 2, "label": f"{network}, theory"}
            ax.plot(mean.index, mean.to_numpy(), **look)
        ax.set_xlabel("distance (time steps back)")
        ax.set_ylabel("gradient left (decades)")
    measured = style.line("measured, one seed", linewidth=0.9)
    panels.legend([measured, style.line("theory, wide network", linewidth=2, linestyle=(0, (4, 2)))])


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
