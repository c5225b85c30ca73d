"""The report's tables of numbers: horizons, scores against baselines, and the settings to get them again."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from rnnvg.horizon.intervals import fraction_interval
from rnnvg.missing import number
from rnnvg.report import pooled, style, wording
from rnnvg.report.results import Frame, Results, read
from rnnvg.report.style import AFTER, BEFORE


def horizon_table(source: str | Path | Results) -> Frame:
    """Memory horizons over seeds: a row per problem, network, wrt, threshold and moment.

    Args:
        source: a results directory, or what `results.read` gave.

    Returns:
        DataFrame with problem, network, cell, wrt ("state", "input", ...), threshold, when ("before training", "after
        training"), runs, n (seeds measured), n_censored, median, low, high, coverage, bound, least, most as
        `pooled.horizons` defines them, in time steps (nan where there is none; an infinite median is read "> bound"), and
        horizon, the same as text: the median, and each seed's value or from six seeds on the interval.

    Raises:
        InputError: `source` is a directory without results.
    """
    frame = pooled.horizons(results_of(source))
    written = [wording.over(found) for found in frame["spread"]]
    return frame.drop(columns="spread").assign(horizon=written) if len(frame) else frame.drop(columns="spread")


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
    from rnnvg.report.sections import learned

    return scores(learned.runs_of(learned.frame(results_of(source)))).drop(columns="values")


def scores(every_run: Frame) -> Frame:
    """`score_table` of a frame with a row a run, baselines filled in for each problem; and values, each run's score."""
    rows = []
    for (problem, network, cell), runs in every_run.groupby(["problem", "network", "cell"], sort=False):
        ended = runs[runs["status"] == "ok"]
        solved = int(ended["solved"].sum())
        low, high = fraction_interval(solved, len(runs))
        first = runs.iloc[0]
        about = {name: first[name] for name in ("metric", "baseline_text")}
        levels = {name: first[name] for name in ("baseline", "baseline_loss", "best_loss")}
        rows.append(
            {
                "problem": problem,
                "network": network,
                "cell": cell,
                "runs": len(runs),
                **{status: int((runs["status"] == status).sum()) for status in ("ok", "diverged", "failed")},
                "solved": solved,
                "solved_fraction": solved / len(runs),
                "solved_low": low,
                "solved_high": high,
                "steps_to_solve": float(ended.loc[ended["solved"], "solved_at"].median()),
                **about,
                "value": float(ended["value"].median()),
                "least": float(ended["value"].min()),
                "most": float(ended["value"].max()),
                **{name: number(level) for name, level in levels.items()},
                "values": ended["value"].to_list(),
                "loss": float(ended["loss"].median()),
                "seconds": float(runs["seconds"].median()),
                "parameters": float(runs["parameters"].median()),
            }
        )
    return pd.DataFrame(rows)


def columns(thresholds: Sequence[float]) -> list[tuple[str, float]]:
    """Moment and threshold of each column of a table of horizons; before training the main threshold is enough."""
    return [(BEFORE, each) for each in thresholds[:1]] + [(AFTER, each) for each in thresholds]


def scores_shown(table: Frame) -> Frame:
    """`scores` for readers: a row a problem and network. Text is never solved; its rows say nothing of it."""
    rows = []
    for row in table.itertuples():
        broken = [f"{getattr(row, status)} {status}" for status in ("diverged", "failed") if getattr(row, status)]
        text = row.metric == "perplexity"
        fraction = f"{row.solved} of {row.runs} [{100 * row.solved_low:.0f}–{100 * row.solved_high:.0f}\u00a0%]"
        rows.append(
            {
                "task": row.problem + (f" ({style.metric_short(row.metric)})" if row.metric else ""),
                "network": row.network,
                "score": wording.values(pd.Series(row.values, dtype=float)),
                "baseline": _known(row.baseline),
                "loss": _known(row.loss),
                "lowest loss": _known(row.best_loss),
                "solved": "–" if text else fraction,
                "at step": "" if text or math.isnan(row.steps_to_solve) else f"{row.steps_to_solve:g}",
                "broken off": ", ".join(broken),
            }
        )
    shown = pd.DataFrame(rows)
    if not (table["best_loss"] > 0).any():  # no more than that a loss is never below 0
        shown = shown.drop(columns=["loss", "lowest loss"])
    return shown if any(shown["broken off"]) else shown.drop(columns="broken off")


def settings_table(source: str | Path | Results) -> Frame:
    """Every setting that the results depend on, a row each, and the versions that they were made with.

    Returns:
        DataFrame with group ("task", "network", "training", "measure", "versions"), setting, and a column a problem.
        Values that differ between the runs of a problem are listed.
    """
    from rnnvg.report.sections import settings

    return settings_wide(settings.frame(results_of(source)))


def settings_wide(rows: Frame) -> Frame:
    """`settings_table` of a frame with a row a run and a column "group/setting" a setting."""
    names = [name for group in GROUPS for name in rows if str(name).startswith(f"{group}/")]
    shown = []
    for name in names:
        group, setting = str(name).split("/", 1)
        values = {problem: dict.fromkeys(own[name].dropna()) for problem, own in rows.groupby("problem", sort=False)}
        shown.append({"group": group, "setting": setting, **{key: ", ".join(value) for key, value in values.items()}})
    return pd.DataFrame(shown)


GROUPS = ("task", "network", "training", "measure", "versions")


def settings_of(record: dict[str, Any]) -> list[tuple[tuple[str, str], Any]]:
    """((group, setting), value) of everything that a run depends on."""
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


def _known(value: float) -> str:
    return "" if math.isnan(value) else wording.number(value)


def plain(value: Any) -> str:
    """A setting as text."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {plain(each)}" for key, each in value.items())
    if isinstance(value, list | tuple):
        return " ".join(plain(each) for each in value)
    if value is None or isinstance(value, bool):
        return {None: "none", True: "yes", False: "no"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)
