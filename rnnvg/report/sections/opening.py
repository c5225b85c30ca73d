"""When the horizon opens: horizon against training step, and above it the loss on the same steps."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from rnnvg.report import pooled, style, wording
from rnnvg.report.page import Table
from rnnvg.report.part import Panels, Part, each_row, nothing
from rnnvg.report.results import Results
from rnnvg.report.sections import learned

OPEN = 2.0  # a horizon that has not more than doubled has not opened
BEFORE, AFTER, TOGETHER = "before", "after", "together"
WHEN = ["opened_after", "opened_at", "fell_after", "fell_at"]
NEVER_OPENED, CLOSED, NEVER_FELL = "never opened", "closed again", "never fell"
ORDERS = {
    BEFORE: "before the loss fell",
    TOGETHER: "together with it",
    AFTER: "after it",
    NEVER_FELL: "without a fall of the loss",
}


def frame(results: Results) -> pd.DataFrame:
    """What `learned.frame` has of the held-out loss, and a row a run and checkpoint: split "horizon", step, last, censored.

    order, opened_after, opened_at, fell_after and fell_at are those of `timing`, on every row of a run.
    """
    loss = learned.frame(results)
    seen = pooled.through_training(results, results.by)
    runs = learned.runs_of(loss)
    horizons = runs.merge(seen[["id", "step", "last", "censored"]], on="id").assign(split="horizon")
    rows = pd.concat([loss[loss["split"] == "valid"], horizons], ignore_index=True) if len(horizons) else loss
    when = timing(results, results.by)[["id", "order", *WHEN]]
    rows = rows.merge(when, on="id", how="left").assign(by=results.by)
    return rows if len(horizons) else rows.assign(last=float("nan"), censored=None)


def timing(results: Results, wrt: str = "state", threshold: float = pooled.THRESHOLD) -> pd.DataFrame:
    """When the horizon of each finished run opened, and when its loss fell.

    The horizon has opened at the checkpoint from which on it stays at or above half of the way, in logs, from its start
    to its largest, if it more than doubles at all; it has closed again where it is below that at the end. The held-out loss
    has fallen at the first evaluation where it is half of the way from the baseline (or its own start, if that is lower)
    to its lowest, if it gets at all below 95 % of that. Both are only seen at intervals: one comes before the other
    where their intervals say so, otherwise they come together.

    Returns:
        DataFrame, a row a run: id, problem, network, seed, start and most (horizons, steps), opened_after and opened_at,
        fell_after and fell_at (training steps; it happened after the first and not later than the second; nan where it
        did not), order ("before", "after", "together", "never opened", "closed again", "never fell").
    """
    seen = pooled.through_training(results, wrt, threshold)
    loss = pooled.measured(results, "valid")
    rows = []
    for run in each_row(results.runs[results.runs["status"] == "ok"]):
        horizon = seen[seen["id"] == run.id]
        if len(horizon) < 2:  # one look at a network shows no change
            continue
        opened = _opened(horizon["step"].to_numpy(), horizon["last"].to_numpy(dtype=float))
        fell = _fell(loss[loss["id"] == run.id], run.baseline_loss)
        order = opened if isinstance(opened, str) else _order(opened, fell)
        between = (math.nan, math.nan) if isinstance(opened, str) else opened
        ends = (float(horizon["last"].iloc[0]), float(horizon["last"].max()))
        rows.append((run.id, run.problem, run.network, run.seed, *ends, *between, *fell, order))
    return pd.DataFrame(rows, columns=["id", "problem", "network", "seed", "start", "most", *WHEN, "order"])


def _opened(step: np.ndarray, last: np.ndarray) -> tuple[float, float] | str:
    logs = np.log(np.maximum(last, 1.0))
    if last.max() <= OPEN * max(last[0], 1.0):
        return NEVER_OPENED
    below = np.flatnonzero(logs < (logs[0] + logs.max()) / 2)  # the start is
    if below[-1] == len(step) - 1:
        return CLOSED
    return float(step[below[-1]]), float(step[below[-1] + 1])


def _fell(loss: pd.DataFrame, baseline: float) -> tuple[float, float]:
    loss = loss[np.isfinite(loss["value"])]
    if len(loss) < 2:
        return math.nan, math.nan
    value: Any = loss["value"].to_numpy()
    start = float(np.fmin(baseline, value[0]))
    if value.min() > learned.FALL * start:
        return math.nan, math.nan
    step, place = loss["step"].to_numpy(), int(np.argmax(value <= (start + value.min()) / 2))
    return float(step[max(0, place - 1)]), float(step[place])


def _order(opened: tuple[float, float], fell: tuple[float, float]) -> str:
    if math.isnan(fell[1]):
        return NEVER_FELL
    if opened[1] <= fell[0]:
        return BEFORE
    return AFTER if fell[1] <= opened[0] else TOGETHER


def sentences(rows: pd.DataFrame) -> list[str]:
    """What came first, in how many runs."""
    runs = rows.drop_duplicates("id")
    judged = runs[runs["order"].notna()]
    if judged.empty:
        return ["No run was measured more than once, so nothing can be said about when its horizon opened."]
    opened = judged[judged["order"].isin(ORDERS)]
    if opened.empty:
        return [f"The horizon did not open and stay open in any of {wording.count(len(judged), 'run')}."]
    counts = opened["order"].value_counts()
    parts = [f"in {counts[order]} {text}" for order, text in ORDERS.items() if order in counts]
    beginning = f"The horizon opened in {len(opened)} of {wording.count(len(judged), 'run')}"
    if len(parts) == 1:
        return [f"{beginning}, {ORDERS[opened['order'].iloc[0]]}."]
    return [f"{beginning}.", f"{parts[0][0].upper()}{wording.listed(parts)[1:]}."]


def tables(rows: pd.DataFrame) -> list[Table]:
    """When the horizon of each run opened, and when its loss fell."""
    runs = rows.drop_duplicates("id")
    runs = runs[runs["order"].notna()]
    if runs.empty:
        return []
    shown = pd.DataFrame(
        {
            "task": runs["problem"],
            "network": runs["network"],
            "seed": runs["seed"],
            "horizon opened": [_between(*pair) for pair in zip(runs["opened_after"], runs["opened_at"], strict=True)],
            "loss fell": [_between(*pair) for pair in zip(runs["fell_after"], runs["fell_at"], strict=True)],
            "order": [ORDERS.get(order, order) for order in runs["order"]],
        }
    )
    caption = (
        "Training steps between which the horizon opened for good (half of the way, in logs, to its largest, if it doubles) "
        "and the held-out loss fell (half of the way from the baseline to its lowest)."
    )
    return [Table(shown, caption, folded=True)]


def _between(after: float, at: float) -> str:
    return "" if pd.isna(at) else f"{after:g} to {at:g}"


def draw(rows: pd.DataFrame, panels: Panels) -> None:
    """Draws held-out loss over memory horizon, sharing the training step: a column a problem, a line a run."""
    panels.figure.get_layout_engine().set(h_pad=0.06)  # type: ignore[union-attr]
    loss, seen = rows[rows["split"] == "valid"], rows[rows["split"] == "horizon"]
    by_input = pooled.by(rows) == "input"
    for problem, (upper, lower), own in panels.each(rows):
        learned.curves(upper, panels, loss[loss["problem"] == problem])
        learned.levels(upper, own)
        upper.set_ylabel(f"held-out loss\n({learned.unit(own)})")
        here = seen[seen["problem"] == problem]
        _horizons(lower, panels, here)
        length = panels.lengths[problem]
        style.horizon_axis(lower, "y", 1.5 * max([2.0, float(length or 0), *here["last"]]))
        if length is not None:
            lower.axhline(length, color=style.INK, linewidth=0.9, linestyle=style.TRAINING_DASHES, zorder=1)
        lower.set_xlabel("training step")
        lower.set_ylabel(
            "horizon by the input\nat 1/e (time steps)" if by_input else "memory horizon at 1/e\n(time steps)"
        )
    entries = learned.entries(loss, rows)
    if seen["censored"].eq(True).any():
        entries.append(style.mark(">", "horizon beyond what was observed"))
    panels.legend([*entries, style.training_length()])


def _horizons(ax: Axes, panels: Panels, seen: pd.DataFrame) -> None:
    for (network, run), line in seen.groupby(["network", "id"], sort=False):
        colour, marker, dashes = panels.looks[str(network)]
        look: Any = {"color": colour, "linestyle": dashes, "linewidth": 1.1, "alpha": 0.85}
        ax.plot(line["step"], line["last"], label=f"{network}/{run}", **look)
        censored = line["censored"].astype(bool)
        for part, mark in ((line[~censored], marker), (line[censored], ">")):
            dots: Any = {"color": colour, "marker": mark, "markersize": 3.4, "linestyle": "none"}
            if len(part):
                ax.plot(part["step"], part["last"], label="checkpoints" if mark != ">" else "censored", **dots)
    if seen.empty and not ax.texts:
        nothing(ax)


PART = Part(
    name="horizon-through-training",
    title="When the horizon opens",
    frame=frame,
    lead="Does a network first reach back and then learn, or the other way round?",
    caption="Each run is one line. Upper row: held-out loss and the baseline. Lower row: memory horizon at the same training "
    "steps; log axis with a place for 0.",
    alt="Held-out loss and, below it on the same training steps, the memory horizon of every run",
    draw=draw,
    rows=2,
    height=2.3,
    sentences=sentences,
    tables=tables,
)
