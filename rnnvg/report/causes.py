"""Why the gradient vanishes, over the seeds of each network: tidy frames from the runs' causes.csv.

Every frame has problem, network, cell; `when` is before or after training. Runs of older results have no such file, and
frames are then empty.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from rnnvg.horizon import memory_horizon
from rnnvg.report.results import Results, moments

GROUP = ["problem", "network", "cell", "when"]


def split(results: Results, quantity: str) -> pd.DataFrame:
    """ "nats", "share", "log_gain" or "counterfactual" by part and distance: GROUP, part, distance, value.

    The values are those of one run, the median seed: the one whose gain over the whole distance is the median (the lower of
    two), so that its parts add to its gain.
    """
    frame = moments(_of(results, quantity)).astype({"distance": int})
    middle = _median_seeds(results)
    return frame.merge(middle, on=[*GROUP, "id"])[[*GROUP, "part", "distance", "value"]]


def _median_seeds(results: Results) -> pd.DataFrame:
    """The run of each network and moment whose gain at the largest distance is the median: GROUP, id."""
    gains = moments(_of(results, "log_gain"))
    if gains.empty:
        return pd.DataFrame(columns=[*GROUP, "id"])
    ends = gains[gains["distance"] == gains.groupby([*GROUP, "id"])["distance"].transform("max")]
    ordered = ends.sort_values("value", kind="stable").groupby(GROUP, sort=False)["id"]
    return ordered.agg(lambda ids: ids.iloc[(len(ids) - 1) // 2]).reset_index()


def exponents(results: Results) -> pd.DataFrame:
    """Leading Lyapunov exponents of every run at every checkpoint: problem, network, cell, id, step, index, value, stderr."""
    frame = _of(results, "exponent")
    frame = frame.assign(index=frame["part"].astype(float).astype(int))
    columns = ["problem", "network", "cell", "id", "seed", "step", "index", "value", "stderr"]
    order = {run: place for place, run in enumerate(dict.fromkeys(frame["id"]))}  # that of the legend
    frame = frame.assign(order=frame["id"].map(order)).sort_values(["order", "index", "step"], kind="stable")
    return frame[columns].reset_index(drop=True)


def source_map(results: Results, problem: str, network: str) -> pd.DataFrame | None:
    """log10 gain after training of the first seed that has a map: rows sources, columns time steps; None where none has."""
    frame = _of(results, "map")
    frame = frame[(frame["problem"] == problem) & (frame["network"] == network)]
    if frame.empty:
        return None
    frame = frame[frame["seed"] == frame["seed"].min()]
    source, distance = frame["part"].astype(float).astype(int), frame["distance"].astype(int)
    return frame.assign(source=source, time=source - distance).pivot_table(
        index="source", columns="distance", values="value"
    )


def gates(results: Results) -> pd.DataFrame:
    """Gate statistics, median over seeds: GROUP, layer, gate, mean, closed, open, implied (time constant, steps), measured
    (e-fold)."""
    frame = moments(_of(results, "gate"))
    if frame.empty:
        return pd.DataFrame(columns=[*GROUP, "layer", "gate", "mean", "closed", "open", "implied", "measured"])
    named = frame["part"].str.split("/", expand=True)
    frame = frame.assign(layer=named[0].astype(int), gate=named[1], what=named[2])
    table = frame.pivot_table(
        index=[*GROUP, "layer", "gate"], columns="what", values="value", sort=False, aggfunc="median"
    ).reset_index()
    table = table.rename(columns={"time constant": "implied"})
    if "implied" not in table:
        table["implied"] = math.nan
    constants = moments(_of(results, "time constant"))
    measured = constants.groupby(GROUP)["value"].median().rename("measured").reset_index()
    table = table.merge(measured, on=GROUP, how="left")
    table["measured"] = table["measured"].where(table["implied"].notna())
    return table


def theory(results: Results) -> pd.DataFrame:
    """Measured and predicted gain at initialisation: problem, network, cell, distance, predicted, measured, stderr (nats).

    Distances up to the width, where the theory ends; measured is the mean over seeds of the curves at step 0.
    """
    predicted = _of(results, "theory").astype({"distance": int})
    width = {record["id"]: record["spec"]["hidden"] for record in results.records}
    predicted = predicted[predicted["distance"] <= predicted["id"].map(width).astype(float)]
    measured = results.curves[(results.curves["step"] == 0) & (results.curves["wrt"] == "state")]
    measured = measured.assign(measured=measured["log10_gain"] * math.log(10))[["id", "distance", "measured"]]
    frame = (
        predicted.rename(columns={"value": "predicted"}).drop(columns="stderr").merge(measured, on=["id", "distance"])
    )
    frame = frame[np.isfinite(frame["measured"])]
    return frame[["problem", "network", "cell", "id", "distance", "predicted", "measured"]]


def edges(results: Results) -> pd.Series[Any]:
    """How much the zero state grows a step before training, by run id."""
    return _of(results, "edge").groupby("id")["value"].first()


def theory_rates(rows_of_theory: pd.DataFrame) -> pd.DataFrame:
    """Rates of `theory` (with a column edge), nats a step: problem, network, cell, n, measured, stderr, predicted, z, edge.

    z is in standard errors over seeds, nan for fewer than two; edge above 1 says that the zero state is unstable.
    """
    rows = []
    for (problem, network, cell), own in rows_of_theory.groupby(["problem", "network", "cell"], sort=False):
        rates = np.array(
            [
                [np.polyfit(seed["distance"], seed[column], 1)[0] for column in ("measured", "predicted")]
                for _, seed in own.groupby("id")
                if len(seed) > 2
            ]
        )
        if not len(rates):
            continue
        measured, predicted = rates.mean(0)
        error = float(rates[:, 0].std(ddof=1) / math.sqrt(len(rates))) if len(rates) > 1 else math.nan
        rows.append(
            {
                "problem": problem,
                "network": network,
                "cell": cell,
                "n": len(rates),
                "measured": measured,
                "stderr": error,
                "predicted": predicted,
                "z": (measured - predicted) / error if error else math.nan,
                "edge": float(own.groupby("id")["edge"].first().mean()),
            }
        )
    return pd.DataFrame(
        rows, columns=["problem", "network", "cell", "n", "measured", "stderr", "predicted", "z", "edge"]
    )


def recent(results: Results) -> pd.DataFrame:
    """The fraction of the update from the last steps, median: problem, network, cell, last (steps), value, least, most."""
    frame = _of(results, "recent")
    frame = frame.assign(last=frame["part"].astype(float))
    grouped = frame.groupby(["problem", "network", "cell"], sort=False)
    return grouped.agg(
        last=("last", "max"), value=("value", "median"), least=("value", "min"), most=("value", "max")
    ).reset_index()


def covariance_horizons(results: Results, threshold: float) -> pd.DataFrame:
    """Horizons after training of the gradient in units of the state's spread: problem, network, id, last, censored."""
    rows = []
    frame = _of(results, "covariance").astype({"distance": int})
    for (problem, network, run), own in frame.groupby(["problem", "network", "id"], sort=False):
        gain = np.full(own["distance"].max() + 1, math.nan)
        gain[own["distance"]] = own["value"]
        known = np.flatnonzero(~np.isnan(gain))
        filled = np.where(
            np.arange(len(gain)) >= known[0], np.interp(np.arange(len(gain)), known, gain[known]), math.nan
        )
        found = memory_horizon(filled, threshold)
        rows.append({"problem": problem, "network": network, "id": run, "last": found.last, "censored": found.censored})
    return pd.DataFrame(rows, columns=["problem", "network", "id", "last", "censored"])


def _of(results: Results, quantity: str) -> pd.DataFrame:
    return results.causes[results.causes["quantity"] == quantity]
