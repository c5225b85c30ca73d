"""Why the gradient vanishes: what takes it in a vanilla network, by which paths it arrives in a gated one, and the gates."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.patches import Patch

from rnnvg.bptt.plots import stack
from rnnvg.report import pooled, style, wording
from rnnvg.report.page import Table
from rnnvg.report.part import Panels, Part, each_network, each_row, nothing
from rnnvg.report.results import Results, moments
from rnnvg.report.style import AFTER

LEAST_SHARE = 0.05
QUANTITIES = ("nats", "share", "log_gain", "counterfactual")


def frame(results: Results) -> pd.DataFrame:
    """What took the gradient, median over seeds: problem, network, cell, when, quantity, part, distance, value.

    Beside QUANTITIES: "recent" (percent of the update, distance is how many steps), and "gate", with the columns of
    `gates`.
    """
    parts = [split(results, quantity).assign(quantity=quantity) for quantity in QUANTITIES]
    last_steps = recent(results).rename(columns={"last": "distance"}).assign(quantity="recent", when=AFTER, part="")
    known = [each for each in (*parts, gates(results).assign(quantity="gate"), last_steps) if len(each)]
    return pd.concat(known) if known else pd.DataFrame(columns=[*pooled.GROUP, "quantity", "part", "distance", "value"])


def split(results: Results, quantity: str) -> pd.DataFrame:
    """ "nats", "share", "log_gain" or "counterfactual" by part and distance: pooled.GROUP, part, distance, value.

    The values are those of one run, the median seed: the one whose gain over the whole distance is the median (the lower of
    two), so that its parts add to its gain.
    """
    frame = moments(results.cause(quantity)).astype({"distance": int})
    middle = _median_seeds(results)
    return frame.merge(middle, on=[*pooled.GROUP, "id"])[[*pooled.GROUP, "part", "distance", "value"]]


def _median_seeds(results: Results) -> pd.DataFrame:
    """The run of each network and moment whose gain at the largest distance is the median: pooled.GROUP, id."""
    gains = moments(results.cause("log_gain"))
    if gains.empty:
        return pd.DataFrame(columns=[*pooled.GROUP, "id"])
    ends = gains[gains["distance"] == gains.groupby([*pooled.GROUP, "id"])["distance"].transform("max")]
    ordered = ends.sort_values("value", kind="stable").groupby(pooled.GROUP, sort=False)["id"]
    return ordered.agg(lambda ids: ids.iloc[(len(ids) - 1) // 2]).reset_index()


def gates(results: Results) -> pd.DataFrame:
    """Gate statistics, median over seeds: pooled.GROUP, layer, gate, mean, closed, open, implied and measured (steps).

    implied is the time constant of the gate that carries the state, measured the e-fold of the whole gradient.
    """
    frame = moments(results.cause("gate"))
    if frame.empty:
        return pd.DataFrame(columns=[*pooled.GROUP, "layer", "gate", "mean", "closed", "open", "implied", "measured"])
    named = frame["part"].str.split("/", expand=True)
    frame = frame.assign(layer=named[0].astype(int), gate=named[1], what=named[2])
    table = frame.pivot_table(
        index=[*pooled.GROUP, "layer", "gate"], columns="what", values="value", sort=False, aggfunc="median"
    ).reset_index()
    table = table.rename(columns={"time constant": "implied"})
    if "implied" not in table:
        table["implied"] = math.nan
    constants = moments(results.cause("time constant"))
    measured = constants.groupby(pooled.GROUP)["value"].median().rename("measured").reset_index()
    table = table.merge(measured, on=pooled.GROUP, how="left")
    table["measured"] = table["measured"].where(table["implied"].notna())
    return table


def recent(results: Results) -> pd.DataFrame:
    """The fraction of the update from the last steps, median: problem, network, cell, last (steps), value, least, most."""
    frame = results.cause("recent")
    frame = frame.assign(last=frame["part"].astype(float))
    grouped = frame.groupby(["problem", "network", "cell"], sort=False)
    return grouped.agg(
        last=("last", "max"), value=("value", "median"), least=("value", "min"), most=("value", "max")
    ).reset_index()


def sentences(rows: pd.DataFrame) -> list[str]:
    """What takes most of the gradient in vanilla networks, and how much of the update comes from the last steps."""
    statements = []
    ends = _ends(rows[(rows["quantity"] == "nats") & (rows["when"] == AFTER)])
    taken = [(network, own.set_index("part")["value"]) for _, network, own in each_network(ends)]
    if taken:
        matrix = sum(float(nats["matrix"]) < float(nats["saturation"]) for _, nats in taken)
        who = wording.listed(list(dict.fromkeys(network for network, _ in taken)))
        which = "the recurrent matrix" if matrix > len(taken) / 2 else "saturation of its units"
        times = max(matrix, len(taken) - matrix)
        statements.append(
            f"After training {which} takes more of the gradient of {who} in {times} of {wording.count(len(taken), 'case')}."
        )
    shares = _ends(rows[(rows["quantity"] == "share") & (rows["when"] == AFTER)])
    carriers: dict[str, list[str]] = {}
    for _, network, own in each_network(shares):
        carriers.setdefault(network, []).append(own["part"].iloc[int(own["value"].abs().argmax())])
    if carriers:
        parts = [f"that of {network} by the {max(set(parts), key=parts.count)}" for network, parts in carriers.items()]
        statements.append(f"From far away the gradient arrives mostly along one path: {wording.listed(parts[:4])}.")
    return statements


def _ends(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows at the largest distance of each problem, network and moment."""
    if rows.empty:
        return rows
    last = rows.groupby(["problem", "network", "when"])["distance"].transform("max")
    return rows[rows["distance"] == last]


def tables(rows: pd.DataFrame) -> list[Table]:
    """What took the gradient over the measured distance, the change that would help most, and gate statistics."""
    shown = []
    for keys, own in rows.groupby(["problem", "network", "when"], sort=False):
        problem, network, when = map(str, keys)
        gain = _ends(own[own["quantity"] == "log_gain"])
        if gain.empty:
            continue
        nats, share = (_ends(own[own["quantity"] == quantity]) for quantity in ("nats", "share"))
        parts = [f"{row.part} {row.value:+.1f}" for row in each_row(nats)]
        big = share[share["value"].abs() >= LEAST_SHARE].sort_values("value", key=lambda each: -each.abs())
        parts += [f"{row.part} {100 * row.value:.0f} %" for row in each_row(big)]
        last_steps = [
            f"{100 * row.value:.0f} % from {row.distance:.0f}" for row in each_row(own[own["quantity"] == "recent"])
        ]
        shown.append(
            {
                "task": problem,
                "network": network,
                "when": when.split()[0],
                "distance": f"{gain['distance'].iloc[0]:.0f}",
                "nats": f"{gain['value'].iloc[0]:+.1f}",
                "taken by, or arriving by": ", ".join(parts),
                "would be, with": _cure(own),
                "update from last steps": last_steps[0] if last_steps else "",
            }
        )
    shown_tables = [
        Table(
            pd.DataFrame(shown),
            "Nats that the gradient loses (-) over the distance, median over seeds, and by what: nats in a vanilla network, "
            "shares of what arrives in a gated one. The change to the same trajectory that would keep most; the share of the "
            "trained network's update that comes from the last steps.",
        )
    ]
    gate_table = gates_shown(rows)
    if len(gate_table):
        caption = (
            "Gates, means over units and steps, median over seeds; implied time constant of the gate that carries the state "
            "beside the measured e-fold of the whole gradient, in steps, where an exponential fits."
        )
        shown_tables.append(Table(gate_table, caption, folded=True))
    return shown_tables


def _cure(rows: pd.DataFrame) -> str:
    """The counterfactual that would keep the most of the gradient."""
    own = _ends(rows[rows["quantity"] == "counterfactual"])
    own = own[np.isfinite(own["value"].astype(float))]
    if own.empty:
        return ""
    best = own.iloc[int(own["value"].argmax())]
    return f"{best['value']:+.1f} with {best['part']}"


def gates_shown(rows: pd.DataFrame) -> pd.DataFrame:
    """Gate statistics for readers: a row a problem, network, moment and gate."""
    return pd.DataFrame(
        [
            {
                "task": row.problem,
                "network": row.network,
                "when": row.when.split()[0],
                "gate": row.gate + (f", layer {row.layer:.0f}" if row.layer else ""),
                "mean": f"{row.mean:.2f}",
                "below 0.1": f"{100 * row.closed:.0f} %",
                "above 0.9": f"{100 * row.open:.0f} %",
                "implied time constant": wording.known(row.implied, wording.steps),
                "measured e-fold": wording.known(row.measured, wording.steps),
            }
            for row in each_row(rows[rows["quantity"] == "gate"])
        ]
    )


def draw(rows: pd.DataFrame, panels: Panels) -> None:
    """Draws nats added by each distance (vanilla RNN) or shares of what arrives (gated): a row a network, a column a task."""
    after = rows[rows["when"] == AFTER]
    drawn: list[dict[str, Any]] = [{} for _ in panels.looks]
    for problem, column, _ in panels.each(rows):
        for row, (network, ax) in enumerate(zip(panels.looks, column, strict=True)):
            own = after[(after["problem"] == problem) & (after["network"] == network)]
            parts = {}
            for quantity in ("nats", "share"):
                split = own[own["quantity"] == quantity]
                parts |= {str(part): each for part, each in split.groupby("part", sort=False)}
                if len(split) and quantity == "nats":
                    line = own[own["quantity"] == "log_gain"]
                    ax.plot(line["distance"], line["value"], color=style.INK, linewidth=1.3)
                elif len(split):
                    ax.axhline(1.0, color=style.INK, linewidth=0.8, linestyle=":")
            if parts:
                distance = next(iter(parts.values()))["distance"].to_numpy(dtype=float)
                stack(ax, distance, {name: each["value"].to_numpy(dtype=float) for name, each in parts.items()})
                areas = {str(each.get_label()): each.get_facecolor()[0] for each in ax.collections}
                drawn[row] |= {name: areas[name] for name in parts}
                ax.set_xlim(distance.min(), distance.max())
            elif not ax.texts:
                nothing(ax)
            ax.axhline(0.0, color=style.INK, linewidth=0.7)
            ax.set_ylabel("nats added" if "saturation" in parts else "share of what arrives", fontsize="small")
            ax.set_title(f"{network}: {problem.lower()}", fontsize="medium")
        column[-1].set_xlabel("distance (time steps back)")
    panels.row_legends(
        [[Patch(facecolor=colour, linewidth=0, label=name) for name, colour in names.items()] for names in drawn]
    )


PART = Part(
    name="why-it-vanishes",
    title="Why it vanishes",
    frame=frame,
    lead="A vanilla RNN's gradient passes its units' slopes and its matrix at every step: how much does each take or give? A "
    "gated cell's gradient arrives by several paths: which carry it?",
    caption="After training, medians over seeds. Vanilla: areas are the nats that each part has added by that distance, the "
    "line is their sum. Gated: signed shares of the gradient that arrives, which add to 1 (dotted).",
    alt="Stacked areas over distance of what makes the gradient decay, after training",
    draw=draw,
    height=1.55,
    rows=lambda networks: networks,
    network_rows=True,
    sentences=sentences,
    tables=tables,
)
