"""What was learned: training and held-out loss against training step, and scores beside the baseline's."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from rnnvg.bench.spec import GIVEN_UP
from rnnvg.bench.stored import BROKEN_OFF
from rnnvg.horizon.intervals import fraction_interval
from rnnvg.missing import number
from rnnvg.report import pooled, style, wording
from rnnvg.report.page import Table
from rnnvg.report.part import Panels, Part, each_row, nothing
from rnnvg.report.results import Results

FALL = 0.95  # a loss that never gets below this share of the baseline has not fallen
BASELINE_DASHES, BEST_DASHES = (0, (1, 1.2)), (0, (6, 1.5, 1, 1.5))
RUN = ["id", "problem", "network", "cell", "task", "seed", "status", "reason", "solved", "solved_at", "metric", "value"]
RUN += ["loss", "baseline", "baseline_loss", "baseline_text", "best_loss", "unit", "seconds", "parameters"]


def frame(results: Results) -> pd.DataFrame:
    """A row a run, split ("train", "valid") and step with its loss as `point`; and what each run came to (RUN).

    A run whose loss was never measured has one row without a split. baseline, baseline_loss, baseline_text, best_loss and
    metric are those of the problem.
    """
    rows: pd.DataFrame = pd.concat([pooled.measured(results, split) for split in ("train", "valid")])
    runs = results.runs[RUN].copy()
    for column in ("baseline", "baseline_loss", "baseline_text", "best_loss", "metric"):
        known = {problem: results.known(problem, column) for problem in results.problems}
        runs[column] = runs["problem"].map(known)
    points: pd.DataFrame = rows.rename(columns={"value": "point"})[["id", "split", "step", "point"]]
    return runs.merge(points, on="id", how="left")


def runs_of(rows: pd.DataFrame) -> pd.DataFrame:
    """A row a run of what `frame` gives."""
    return rows.drop_duplicates("id").drop(columns=["split", "step", "point"])


def sentences(rows: pd.DataFrame) -> list[str]:
    """Where the loss stays at the baseline's, and what broke off."""
    runs, statements = runs_of(rows), []
    ended = runs[runs["status"] == "ok"]
    stuck = ended[ended["loss"] >= FALL * ended["baseline_loss"]]
    if len(stuck):
        who = dict.fromkeys(stuck["network"])
        named = f": {wording.listed(list(who))}" if len(who) <= 4 else ""
        statements.append(
            f"In {len(stuck)} of {wording.count(len(ended), 'run')} the loss ends less than 5 % below the baseline's{named}."
        )
    elif len(ended):
        statements.append("In every run that came to its end the loss falls clearly below the baseline's.")
    given_up = runs[runs["status"] == GIVEN_UP]
    if len(given_up):
        many = len(given_up) > 1
        statements.append(
            f"{wording.count(len(given_up), 'run')} {'were' if many else 'was'} given up as hopeless at a tenth of the budget "
            f"and count{'s' * (not many)} as not solved; the table of every run has what was seen."
        )
    broken = runs[~runs["status"].isin(["ok", GIVEN_UP])]
    if len(broken):
        statements.append(f"{wording.count(len(broken), 'run')} broke off; the table of every run says why.")
    return statements


def _median(column: pd.Series[Any]) -> float:
    """Of the values that are there; nan where none is, which older versions of pandas answer with a warning."""
    return float(column.dropna().median())


def scores(every_run: pd.DataFrame) -> pd.DataFrame:
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
                **{_column(status): int((runs["status"] == status).sum()) for status in ("ok", *BROKEN_OFF)},
                "solved": solved,
                "solved_fraction": solved / len(runs),
                "solved_low": low,
                "solved_high": high,
                "steps_to_solve": _median(ended.loc[ended["solved"], "solved_at"]),
                **about,
                "value": _median(ended["value"]),
                "least": float(ended["value"].min()),
                "most": float(ended["value"].max()),
                **{name: number(level) for name, level in levels.items()},
                "values": ended["value"].to_list(),
                "loss": _median(ended["loss"]),
                "seconds": _median(runs["seconds"]),
                "parameters": _median(runs["parameters"]),
            }
        )
    return pd.DataFrame(rows)


def scores_shown(table: pd.DataFrame) -> pd.DataFrame:
    """`scores` for readers: a row a problem and network. Text is never solved; its rows say nothing of it."""
    rows = []
    for row in each_row(table):
        broken = [f"{count} {status}" for status in BROKEN_OFF if (count := getattr(row, _column(status)))]
        text = row.metric == "perplexity"
        fraction = f"{row.solved} of {row.runs} [{100 * row.solved_low:.0f}–{100 * row.solved_high:.0f}\u00a0%]"
        rows.append(
            {
                "task": row.problem + (f" ({style.metric_short(row.metric)})" if row.metric else ""),
                "network": row.network,
                "score": wording.values(pd.Series(row.values, dtype=float)),
                "baseline": wording.known(row.baseline),
                "loss": wording.known(row.loss),
                "lowest loss": wording.known(row.best_loss),
                "solved": "–" if text else fraction,
                "at step": "" if text or math.isnan(row.steps_to_solve) else f"{row.steps_to_solve:g}",
                "broken off": ", ".join(broken),
            }
        )
    shown = pd.DataFrame(rows)
    if not (table["best_loss"] > 0).any():  # no more than that a loss is never below 0
        shown = shown.drop(columns=["loss", "lowest loss"])
    return shown if any(shown["broken off"]) else shown.drop(columns="broken off")


def _column(status: str) -> str:
    return status.replace("-", "_")


def score_tables(rows: pd.DataFrame) -> list[Table]:
    """Scores against baselines."""
    runs = runs_of(rows)
    caption = (
        "Median (each seed) of the score on held-out data, beside a baseline without memory (described among the "
        "settings); solved runs with the exact 95 % binomial interval."
    )
    return [Table(scores_shown(scores(runs)), caption)]


def draw(rows: pd.DataFrame, panels: Panels) -> None:
    """Draws loss against training step: a column a problem, training loss in the upper row, held-out loss in the lower."""
    for _, column, own in panels.each(rows):
        column[0].sharey(column[1])
        for ax, (split, name) in zip(column, (("train", "training"), ("valid", "held-out")), strict=True):
            curves(ax, panels, own[own["split"] == split])
            levels(ax, own)
            ax.set_ylabel(f"{name} loss\n({unit(own)})")
        column[-1].set_xlabel("training step")
    panels.legend(entries(rows[rows["split"] == "valid"], rows))


def unit(rows: pd.DataFrame) -> str:
    """What a problem's loss is measured in."""
    return "as the task defines it" if rows.empty else str(rows["unit"].iloc[0])


def curves(ax: Axes, panels: Panels, rows: pd.DataFrame) -> None:
    """Every run's loss (step, point) as a line; a cross where a run diverged, a dot where it was solved."""
    for (network, run), line in rows.groupby(["network", "id"], sort=False):
        colour, marker, dashes = panels.looks[str(network)]
        line = line[np.isfinite(line["point"]) & (line["point"] > 0)]
        if line.empty:
            continue
        look: Any = {"color": colour, "linestyle": dashes, "linewidth": 1.2, "alpha": 0.85}
        ax.plot(line["step"], line["point"], label=f"{network}/{run}", **look)
        end = line.iloc[-1]
        sign: Any = {"color": colour, "marker": "x", "markersize": 6, "markeredgewidth": 1.8, "label": "broke off"}
        if end["status"] != "ok":
            ax.plot(end["step"], end["point"], **sign)
        elif end["solved"]:
            ax.plot(end["step"], end["point"], **(sign | {"marker": marker, "markersize": 4.5, "label": "solved"}))
    if rows.empty:
        if not ax.texts:
            nothing(ax)
        return
    low, high = ax.dataLim.intervaly
    if not 0 < low <= high < 5 * low:  # over less than a factor of 5 decades would show nothing
        ax.set_yscale("log")


def levels(ax: Axes, rows: pd.DataFrame) -> None:
    """The loss of the baseline as a line, and the lowest possible loss where it is known and above 0."""
    for column, dashes in (("baseline_loss", BASELINE_DASHES), ("best_loss", BEST_DASHES)):
        loss = next(iter(rows[column].dropna()), math.nan)
        if loss > 0:
            ax.axhline(loss, color=style.INK, linewidth=1.0, linestyle=dashes, zorder=1.5, label=column)


def entries(drawn: pd.DataFrame, rows: pd.DataFrame) -> list[Any]:
    """Legend entries for what `curves` and `levels` have drawn."""
    drawn_entries: list[Any] = []
    names = (("baseline_loss", BASELINE_DASHES, "baseline"), ("best_loss", BEST_DASHES, "lowest possible"))
    for column, dashes, name in names:
        if (rows[column] > 0).any():
            drawn_entries.append(style.line(name, color=style.INK, linewidth=1.0, linestyle=dashes))
    if (drawn["solved"] & (drawn["status"] == "ok")).any():
        drawn_entries.append(style.mark("o", "solved", markersize=5))
    if (drawn["status"] != "ok").any():
        drawn_entries.append(style.mark("x", "broke off", markersize=6, markeredgewidth=1.8))
    return drawn_entries


PART = Part(
    name="loss-curves",
    title="What was learned",
    frame=frame,
    lead="A gradient that arrives is not yet learning. What did the networks learn, beside a baseline without memory?",
    caption="Each run is one line. Upper row: loss on training batches; lower row: on held-out data.",
    alt="Training and held-out loss against training step with the baseline",
    draw=draw,
    rows=2,
    height=2.1,
    sentences=sentences,
    tables=score_tables,
)
