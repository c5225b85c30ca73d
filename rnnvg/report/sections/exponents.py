"""Leading Lyapunov exponents through training."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from rnnvg.horizon import spread
from rnnvg.report import style, wording
from rnnvg.report.page import Table
from rnnvg.report.part import Panels, Part, by_network
from rnnvg.report.results import Results


def frame(results: Results) -> pd.DataFrame:
    """Leading Lyapunov exponents of every run at every checkpoint: names, id, seed, step, index, value, stderr."""
    rows = results.cause("exponent")
    rows = rows.assign(index=rows["part"].astype(float).astype(int))
    columns = ["problem", "network", "cell", "id", "seed", "step", "index", "value", "stderr"]
    order = {run: place for place, run in enumerate(dict.fromkeys(rows["id"]))}  # that of the legend
    rows = rows.assign(order=rows["id"].map(order)).sort_values(["order", "index", "step"], kind="stable")
    return rows[columns].reset_index(drop=True)


def sentences(rows: pd.DataFrame) -> list[str]:
    """In how many runs the largest exponent was above zero at some checkpoint."""
    largest = _largest(rows)
    if largest.empty:
        return []
    crossed = int((largest.groupby("id")["value"].max() > 0).sum())
    many = wording.count(largest["id"].nunique(), "run")
    if not crossed:
        return ["The largest exponent stays at or below zero at every checkpoint of every run."]
    return [f"The largest exponent is above zero at some checkpoint in {crossed} of {many}."]


def _largest(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[(rows["index"] == 1) & np.isfinite(rows["value"])]


def tables(rows: pd.DataFrame) -> list[Table]:
    """The largest exponent before and after training."""

    def cells(own: pd.DataFrame) -> dict[str, str]:
        ends = own.groupby("id", sort=False)["value"].agg(["first", "last", "max"])
        return {
            "before": wording.over(spread(ends["first"].to_numpy()), _signed),
            "after": wording.over(spread(ends["last"].to_numpy()), _signed),
            "half-life after": wording.half_life(ends["last"].median()),
            "above zero at some time": f"{int((ends['max'] > 0).sum())} of {len(ends)}",
        }

    shown = by_network(_largest(rows), cells)
    caption = (
        "Largest exponent in nats a step: median (each seed). Below zero the gradient shrinks in the long run by "
        "a factor of e "
        "every 1/exponent steps; above zero it explodes. Half-life: steps, at the median; inf where nothing decays."
    )
    return [Table(shown, caption)] if len(shown) else []


def _signed(value: float) -> str:
    return f"{value:+.3f}"


def draw(rows: pd.DataFrame, panels: Panels) -> None:
    """Draws leading Lyapunov exponents against the training step: a column a problem, a line a run, the first one thick."""
    for _, (ax,), own in panels.each(rows):
        for (network, run, index), line in own.groupby(["network", "id", "index"], sort=False):
            colour, marker, dashes = panels.looks[str(network)]
            first = index == 1
            look: Any = (
                {"linewidth": 1.4, "alpha": 0.9, "marker": marker} if first else {"linewidth": 0.7, "alpha": 0.35}
            )
            values = line["value"].where(np.isfinite(line["value"]))
            label = f"{network}/{run}/{index}"
            ax.plot(line["step"], values, color=colour, linestyle=dashes, markersize=3.2, label=label, **look)
        ax.axhline(0.0, color=style.INK, linewidth=0.9, linestyle=(0, (1, 1.5)))
        ax.set_xlabel("training step")
        ax.set_ylabel("Lyapunov exponent\n(nats per time step)")
    second = style.line("second and third", linewidth=0.7, alpha=0.6)
    panels.legend([style.line("largest", linewidth=1.4), second])


PART = Part(
    name="exponents-through-training",
    title="Lyapunov exponents through training",
    frame=frame,
    lead="The largest Lyapunov exponent is the rate at which a perturbation, and with it the gradient, grows or dies "
    "in the long run, whatever the loss.",
    caption="Over two training lengths of held-out sequences. Each run is one thick line: its largest exponent at each "
    "checkpoint; thin: the second and third. Dotted: neither growth nor decay.",
    alt="Leading Lyapunov exponents of every run against the training step",
    draw=draw,
    height=2.8,
    sentences=sentences,
    tables=tables,
    folded=True,
)
