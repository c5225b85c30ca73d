"""The report's tables: horizons, scores against baselines, runs, and the settings to get them again.

`horizon_table` and `score_table` hold numbers, for work; the `..._shown` ones are what a page or a terminal prints.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd

from rnnvg.report import pooled, style, wording
from rnnvg.report.results import Frame, Results, read
from rnnvg.report.style import AFTER, BEFORE


def horizon_table(source: str | Path | Results) -> Frame:
    """Memory horizons pooled over seeds: a row per problem, network, wrt, threshold and moment.

    Args:
        source: a results directory, or what `results.read` gave.

    Returns:
        DataFrame with problem, network, cell, wrt ("state", "input", ...), threshold, when ("before training", "after
        training"), runs, n (seeds measured), n_censored, median, center, low, high, coverage, bound, least, most as
        `pool_horizons` defines them, in time steps (nan where there is none; an infinite median is read "> bound"), and
        horizon, the same as text.

    Raises:
        InputError: `source` is a directory without results.
    """
    frame = pooled.horizons(results_of(source)).copy()
    if len(frame):
        frame["horizon"] = [wording.horizon(row) for row in frame.itertuples()]
    return frame


def score_table(source: str | Path | Results) -> Frame:
    """Scores against baselines: a row per problem and network.

    Args:
        source: a results directory, or what `results.read` gave.

    Returns:
        DataFrame with problem, network, cell, runs, ok, diverged, failed (counts), solved (count), solved_fraction,
        solved_low, solved_high (exact 95 % binomial interval, Clopper and Pearson 1934; a run that diverged or failed
        has not solved its task), steps_to_solve (median over solved runs), metric, baseline_text, value, least, most
        (median and range over runs that came to their end), baseline, baseline_loss, best_loss (nan where unknown), loss,
        seconds and parameters (medians).

    Raises:
        InputError: `source` is a directory without results.
    """
    from scipy.stats import binomtest

    rows, results = [], results_of(source)
    for (problem, network, cell), runs in results.runs.groupby(["problem", "network", "cell"], sort=False):
        ended = runs[runs["status"] == "ok"]
        solved = int(ended["solved"].sum())
        interval = binomtest(solved, len(runs)).proportion_ci(confidence_level=0.95, method="exact")
        about = {name: results.known(problem, name) for name in ("metric", "baseline_text")}
        levels = {name: results.known(problem, name) for name in ("baseline", "baseline_loss", "best_loss")}
        rows.append(
            {
                "problem": problem,
                "network": network,
                "cell": cell,
                "runs": len(runs),
                **{status: int((runs["status"] == status).sum()) for status in ("ok", "diverged", "failed")},
                "solved": solved,
                "solved_fraction": solved / len(runs),
                "solved_low": float(interval.low),
                "solved_high": float(interval.high),
                "steps_to_solve": float(ended.loc[ended["solved"], "solved_at"].median()),
                **about,
                "value": float(ended["value"].median()),
                "least": float(ended["value"].min()),
                "most": float(ended["value"].max()),
                **{name: math.nan if level is None else level for name, level in levels.items()},
                "loss": float(ended["loss"].median()),
                "seconds": float(runs["seconds"].median()),
                "parameters": float(runs["parameters"].median()),
            }
        )
    return pd.DataFrame(rows)


def horizons_shown(table: Frame, wrt: str = "state") -> Frame:
    """`horizon_table` for readers: a row a problem and network, a column a threshold and moment."""
    table = table[table["wrt"] == wrt] if len(table) else table
    rows = []
    for (problem, network), group in table.groupby(["problem", "network"], sort=False) if len(table) else ():
        row = {"task": problem, "network": network}
        for threshold in sorted(group["threshold"].unique(), reverse=True):
            for when in (BEFORE, AFTER):
                cell = group[(group["threshold"] == threshold) & (group["when"] == when)]
                row[f"{when.split()[0]}, {style.threshold_name(threshold)}"] = cell["horizon"].iloc[0]
        ended = group.loc[group["when"] == AFTER, "n"].max()
        runs = group["runs"].max()
        row["runs"] = str(runs) if ended == runs else f"{ended} of {runs}"
        rows.append(row)
    shown = pd.DataFrame(rows)
    first = [column for column in shown if column.startswith("before")]
    # Before training networks differ little: the main threshold is enough.
    return shown.drop(columns=first[1:])


def scores_shown(table: Frame) -> Frame:
    """`score_table` for readers: a row a problem and network, intervals and ranges written out."""
    rows = []
    for row in table.itertuples():
        broken = [f"{getattr(row, status)} {status}" for status in ("diverged", "failed") if getattr(row, status)]
        rows.append(
            {
                "task": row.problem + (f" ({style.metric_short(row.metric)})" if row.metric else ""),
                "network": row.network,
                "score": _with_range(row.value, row.least, row.most, row.ok),
                "baseline": _known(row.baseline),
                "loss": _known(row.loss),
                "lowest loss": _known(row.best_loss),
                "solved": f"{row.solved}/{row.runs} [{100 * row.solved_low:.0f}–{100 * row.solved_high:.0f}\u00a0%]",
                "at step": "" if math.isnan(row.steps_to_solve) else f"{row.steps_to_solve:g}",
                "broken off": ", ".join(broken),
            }
        )
    shown = pd.DataFrame(rows)
    if not (table["best_loss"] > 0).any():  # no more than that a loss is never below 0
        shown = shown.drop(columns=["loss", "lowest loss"])
    return shown if any(shown["broken off"]) else shown.drop(columns="broken off")


def runs_shown(results: Results) -> Frame:
    """Every run, those that diverged or failed among them with the reason."""
    rows = [
        {
            "run": run.id,
            "status": run.status + (f": {run.reason}" if run.reason else ""),
            "score": _known(run.value),
            "solved at step": _known(run.solved_at),
            "steps": _known(run.steps),
            "parameters": "" if math.isnan(run.parameters) else f"{run.parameters:,.0f}",
            "seconds": _known(run.seconds),
        }
        for run in results.runs.itertuples()
    ]
    return pd.DataFrame(rows)


def settings_table(source: str | Path | Results) -> Frame:
    """Every setting that the results depend on, a row each, and the versions that they were made with.

    Returns:
        DataFrame with group ("task", "network", "training", "measure", "versions"), setting, and a column a problem.
        Values that differ between the runs of a problem are listed.
    """
    results = results_of(source)
    record_of = {record["id"]: record for record in results.records}
    values: dict[tuple[str, str], dict[str, dict[str, None]]] = {}
    for run in results.runs.itertuples():
        for key, value in _settings(record_of[run.id]):
            values.setdefault(key, {}).setdefault(run.problem, {})[_plain(value)] = None
    rows = [
        {"group": group, "setting": setting, **{name: ", ".join(told.get(name, {})) for name in results.problems}}
        for (group, setting), told in sorted(values.items(), key=lambda item: GROUPS.index(item[0][0]))
    ]
    return pd.DataFrame(rows)


GROUPS = ("task", "network", "training", "measure", "versions")


def _settings(record: dict[str, Any]) -> list[tuple[tuple[str, str], Any]]:
    spec, baseline = record["spec"], record.get("baseline") or {}
    found = {
        "training length (time steps)": record.get("training_steps"),
        "measured length (time steps)": record.get("n_probe_steps"),
        "baseline": baseline.get("text"),
    }
    task = {**spec["task"], **{key: value for key, value in found.items() if value is not None}}
    parts = ("schema", "task", "training", "measure", "seed")
    network = {key: value for key, value in spec.items() if key not in parts}
    machine = record.get("machine") or {}
    made_with = {**(record.get("versions") or {}), **{key: machine.get(key) for key in ("system", "processor", "cpus")}}
    made_with["result schema"] = record.get("schema")
    groups = {"task": task, "network": {**network, "seeds": spec["seed"]}, "training": spec.get("training") or {}}
    groups |= {"measure": spec.get("measure") or {}, "versions": made_with}
    return [((group, key), value) for group, settings in groups.items() for key, value in settings.items()]


def results_of(source: str | Path | Results) -> Results:
    """The results of a directory, or those given."""
    return source if isinstance(source, Results) else read(source)


def _with_range(value: float, least: float, most: float, n: int) -> str:
    if n == 0:
        return "none"
    return wording.number(value) + (f" ({wording.number(least)}–{wording.number(most)})" if n > 1 else "")


def _known(value: float) -> str:
    return "" if math.isnan(value) else wording.number(value)


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_plain(each)}" for key, each in value.items())
    if isinstance(value, list | tuple):
        return " ".join(_plain(each) for each in value)
    if value is None or isinstance(value, bool):
        return {None: "none", True: "yes", False: "no"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)
