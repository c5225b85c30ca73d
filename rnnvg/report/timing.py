"""Which came first in each run, the opening of the horizon or the fall of the loss."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from rnnvg.report import pooled
from rnnvg.report.results import Results, each_row

OPEN = 2.0  # a horizon that has not more than doubled has not opened
FALL = 0.95  # a loss that never gets below this share of the baseline has not fallen
BEFORE, AFTER, TOGETHER = "before", "after", "together"
NEVER_OPENED, CLOSED, NEVER_FELL = "never opened", "closed again", "never fell"


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
        rows.append(
            {
                "id": run.id,
                "problem": run.problem,
                "network": run.network,
                "seed": run.seed,
                "start": float(horizon["last"].iloc[0]),
                "most": float(horizon["last"].max()),
                "opened_after": math.nan if isinstance(opened, str) else opened[0],
                "opened_at": math.nan if isinstance(opened, str) else opened[1],
                "fell_after": fell[0],
                "fell_at": fell[1],
                "order": opened if isinstance(opened, str) else _order(opened, fell),
            }
        )
    columns = [
        "id",
        "problem",
        "network",
        "seed",
        "start",
        "most",
        "opened_after",
        "opened_at",
        "fell_after",
        "fell_at",
    ]
    return pd.DataFrame(rows, columns=[*columns, "order"])


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
    if value.min() > FALL * start:
        return math.nan, math.nan
    step, place = loss["step"].to_numpy(), int(np.argmax(value <= (start + value.min()) / 2))
    return float(step[max(0, place - 1)]), float(step[place])


def _order(opened: tuple[float, float], fell: tuple[float, float]) -> str:
    if math.isnan(fell[1]):
        return NEVER_FELL
    if opened[1] <= fell[0]:
        return BEFORE
    return AFTER if fell[1] <= opened[0] else TOGETHER
