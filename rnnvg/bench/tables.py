"""The three tables of a run, and the same merged over all runs of a directory.

Merging puts the run's name before every line and touches no number: the same runs give the same bytes, in whatever
order and by however many workers they were done.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from rnnvg.bench.spec import GIVEN_UP

CURVE = ("step", "wrt", "distance", "log10_gain", "log10_gain_rms", "low", "high", "n", "n_zero")
TRAINING = ("step", "split", "metric", "value")
HORIZON = ("step", "wrt", "threshold", "last", "first_below", "censored", "rate", "e_fold", "status")
NAMED = ("id", "task", "cell", "init", "hidden", "seed")
# The file of a run -> the merged file, and its columns.
MERGED = {"curve.csv": "curves.csv", "training.csv": "training.csv", "horizons.csv": "horizons.csv"}
COLUMNS = {"curve.csv": CURVE, "training.csv": TRAINING, "horizons.csv": HORIZON}
_NUMBERS = ("solved_at", "steps", "seconds", "parameters", "value", "baseline")


def to_csv(rows: pd.DataFrame | Iterable[Sequence[Any]], columns: Sequence[str]) -> str:
    """A run's table as text: every float in full, missing values empty."""
    frame = rows if isinstance(rows, pd.DataFrame) else pd.DataFrame(list(rows), columns=list(columns))
    return frame[list(columns)].to_csv(index=False, lineterminator="\n")


def merge(results: Iterable[dict[str, Any]], folder: Callable[[str], Path], file: str) -> Iterator[str]:
    """The lines of a merged table: those of `file` in every run's folder, in the order of `results`."""
    header = ",".join(COLUMNS[file])
    yield ",".join(NAMED) + f",{header}\n"
    for result in results:
        spec = result["spec"]
        name = f"{result['id']},{spec['task']['name']},{spec['cell']},{spec['init']},{spec['hidden']},{spec['seed']},"
        with open(folder(result["id"]) / file, encoding="utf-8") as lines:
            next(lines)
            yield from (name + line for line in lines)


def to_frame(source: str | Path | Iterable[str], columns: Sequence[str] | None = None) -> pd.DataFrame:
    """A table (or some columns) as a frame, from its file or its lines, with the numbers exactly as they were written."""
    file = source if isinstance(source, (str, Path)) else _Text(source)
    # Before pandas 3.1 the last digit is lost unless it is asked for; since then asking is deprecated.
    older = tuple(map(int, pd.__version__.split(".")[:2])) < (3, 1)
    exact: dict[str, Any] = {"float_precision": "round_trip"} if older else {}
    return pd.read_csv(file, usecols=None if columns is None else list(columns), **exact)


class _Text(io.TextIOBase):
    """Lines as an open file, of which no more exist at a time than are read."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._lines, self._rest = iter(lines), ""

    def read(self, size: int | None = -1, /) -> str:
        wanted = sys.maxsize if size is None or size < 0 else size
        pieces, length = [self._rest], len(self._rest)
        while length < wanted and (line := next(self._lines, "")):
            pieces.append(line)
            length += len(line)
        text = "".join(pieces)
        self._rest = text[wanted:]
        return text[:wanted]

    def readline(self, size: int = -1, /) -> str:  # type: ignore[override]
        line, self._rest = self._rest or next(self._lines, ""), ""
        return line


def one_row_each(results: Sequence[dict[str, Any]], horizons: pd.DataFrame) -> pd.DataFrame:
    """Runs as a tidy frame, one row each: what was run, how it ended, scores, horizons (wrt state, last checkpoint)."""
    rows = {result["id"]: _row(result) for result in results}
    state = horizons[(horizons["wrt"] == "state") & horizons["step"].notna()]
    last = state[state["step"] == state.groupby("id")["step"].transform("max")]
    for run, threshold, steps, censored in zip(
        last["id"], last["threshold"], last["last"], last["censored"], strict=True
    ):
        if rows[run]["status"] == GIVEN_UP:
            continue
        rows[run] |= {f"horizon_{threshold:.2g}": steps, f"censored_{threshold:.2g}": censored}
    settings = {result["id"]: _settings(result["spec"]) for result in results}
    frame = pd.DataFrame([rows[run] | settings[run] for run in rows])
    for name in map(str, frame):
        # None where a run has no such number; a column of them is still one of numbers.
        if name in _NUMBERS or name.startswith(("score_", "horizon_", "given_up_")):
            frame[name] = frame[name].astype(float)
    order = ("score_", "horizon_", "censored_", "given_up_", "set_")
    ranks = [
        next((rank for rank, start in enumerate(order, 1) if name.startswith(start)), 0) for name in map(str, frame)
    ]
    return frame.reindex(columns=[name for _, name in sorted(zip(ranks, frame, strict=True), key=lambda pair: pair[0])])


def _row(result: dict[str, Any]) -> dict[str, Any]:
    spec, score, baseline = result["spec"], result["score"] or {}, result["baseline"] or {}
    network = {key: spec[key] for key in ("cell", "init", "hidden", "layers", "seed")}
    ended = {key: result[key] for key in ("status", "reason", "solved", "solved_at", "steps", "seconds", "parameters")}
    metric = baseline.get("metric")
    every = {f"score_{name}": value for name, value in score.items()}
    scored = {"metric": metric, "value": score.get(metric), "baseline": baseline.get("value")}
    if result["status"] == GIVEN_UP:
        # Its state at the time is no final one: under other names it is in nobody's median.
        then = result["give_up"]
        every = {
            "given_up_value": scored["value"],
            **{f"given_up_{name}": then[name] for name in ("step", "loss", "horizon")},
        }
        scored["value"] = None
    return {"id": result["id"], "task": spec["task"]["name"], **network, **ended, **scored, **every}


def _settings(spec: dict[str, Any]) -> dict[str, Any]:
    """set_length, set_lr, set_embed, ...: every setting that is not a column of its own."""
    task = {key: value for key, value in spec["task"].items() if key != "name"}
    network = {key: spec[key] for key in ("embed", "tied", "dropout", "t_max")}
    # A setting that a task and its training both have is the task's.
    settings = spec["measure"] | spec["training"] | network | task
    return {
        f"set_{key}": ",".join(map(str, value)) if isinstance(value, list) else value for key, value in settings.items()
    }
