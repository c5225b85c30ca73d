"""What benchmarks came to beside their runs: figures beside published ones, and ladders; as frames and as files."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import fmean, median
from typing import Any

import pandas as pd

from rnnvg.bench import grid
from rnnvg.bench.extras import Published
from rnnvg.bench.grid import Grid
from rnnvg.bench.ladder import climbed_frame, rungs_frame
from rnnvg.bench.plan import FOLDER, Plan, kept
from rnnvg.bench.spec import GIVEN_UP, by_id
from rnnvg.bench.store import Store
from rnnvg.errors import InputError, bounded, shown
from rnnvg.files import write_set
from rnnvg.stored import Damaged, read_table

COLUMNS = (
    "benchmark", "task", "cell", "where", "metric", "published", "claim", "ours", "least", "most", "baseline", "runs",
    "solved", "status", "difference", "source", "tolerance", "verdict", "because", "hours",
)  # fmt: skip
NUMBERS = ("published", "ours", "least", "most", "baseline", "hours")  # nan where there is none
VERDICTS = ("reproduced", "partly", "not", "not comparable", "not run")
_NETWORK = ("init", "hidden", "layers", "embed", "tied", "dropout", "t_max")

PUBLISHED = "published.csv"
_READ = {name: float if name in NUMBERS else int if name in ("runs", "solved") else str for name in COLUMNS}


def beside_published(grids: Iterable[Grid], results: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """A row for each published figure of the benchmarks: COLUMNS.

    `ours` is the median over the runs that were meant to be compared and came to their end (of "solved" the mean, their
    share), `least` and `most` their range, all in units of `metric`; `status` is "run", or "not run" with the reason or the
    way to get what is missing; `difference` names the settings in which the runs and the paper differ. `verdict` is one of
    VERDICTS, by the ranges that the benchmark's file names (`tolerance`); `because` says what is missing, what differs, or
    what the analysis of a "not" is; a figure of which runs were given up is not comparable, for a prediction is no outcome.
    `hours` is the time that the runs took, one thread each.
    """
    every = list(results)
    rows = [_row(grid, figure, every) for grid in grids for figure in grid.published]
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype(dict.fromkeys(NUMBERS, float))


def _row(grid: Grid, figure: Published, results: list[Mapping[str, Any]]) -> tuple[Any, ...]:
    task = figure.task or grid.tasks[0]
    entry = next(entry for entry in grid.entries if entry.name == task)
    planned = by_id(grid.runs()) if entry.ladder is None else None
    ours = [
        result
        for result in results
        if result["spec"]["task"]["name"] == task
        and result["spec"]["cell"] == figure.cell
        and (planned is None or ((spec := planned.get(result["id"])) and spec.is_same_as(result["spec"])))
        and all(_same(_setting(result["spec"], key), value) for key, value in figure.where.items())
    ]
    ended = [result for result in ours if result["status"] == "ok"]
    # A run that was given up has no final score; of "solved" it is one that is not.
    counted = ours if figure.metric in ("solved", "solved_at") else []
    ended += [result for result in counted if result["status"] == GIVEN_UP]
    values = [value for result in ended if (value := _value(result, figure.metric)) is not None]
    center = fmean if figure.metric == "solved" else median
    baselines = [r["baseline"] for r in ended if r.get("baseline")]
    baseline = next((_baseline(each, figure.metric) for each in baselines), None)
    if entry.missing:
        status = f"not run: {entry.missing}"
    elif not ours:
        cost = "" if figure.hours is None else f"about {figure.hours:g} CPU-hours, "
        status = f"not run: {cost}rnnvg bench run {grid.name} --only {figure.cell}"
    elif not values:
        status = f"not run: every run ended as {ours[0]['status']}. {ours[0]['reason']}"
    else:
        status = "run"
    found = center(values) if values else None
    verdict, because = _verdict(figure, found, status, _other_settings(figure, ours))
    return (
        grid.name,
        task,
        figure.cell,
        ", ".join(f"{key} {value}" for key, value in figure.where.items()),
        figure.metric,
        figure.value,
        figure.claim,
        found,
        min(values, default=None),
        max(values, default=None),
        baseline,
        len(ours),
        sum(bool(result["solved"]) for result in ours),
        status,
        _difference(figure, ours),
        figure.source,
        "" if figure.reproduced is None else str(figure.reproduced),
        verdict,
        because,
        sum(float(result.get("seconds") or 0) for result in ours) / 3600,
    )


def _value(result: Mapping[str, Any], metric: str) -> float | None:
    """A score of a run; "solved" is 1 or 0, and "solved_at" the step at which it was, beyond all steps where it was not."""
    if metric == "solved":
        return float(result["solved"])
    if metric == "solved_at":
        return math.inf if result["solved_at"] is None else float(result["solved_at"])
    return (result["score"] or {}).get(metric)


def _verdict(figure: Published, ours: float | None, status: str, otherwise: list[str]) -> tuple[str, str]:
    """One of VERDICTS, and its reason."""
    if ours is None:
        return "not run", status.removeprefix("not run: ")
    if otherwise:
        return "not comparable", "; ".join(otherwise)
    if figure.reproduced is None:
        return "not comparable", "no tolerance was written down before the runs"
    if figure.reproduced.hold(ours):
        return "reproduced", ""
    if figure.partly is not None and figure.partly.hold(ours):
        return "partly", f"inside {figure.partly}, not {figure.reproduced}"
    return "not", figure.analysis


def _baseline(baseline: Mapping[str, Any], metric: str) -> float | None:
    if metric == baseline.get("metric"):
        return baseline.get("value")
    return baseline.get("loss") if metric == "loss" else None


def _other_settings(figure: Published, ours: list[Mapping[str, Any]]) -> list[str]:
    """The paper's settings that the runs do not have: "length 50 (paper: 600)"; and whether runs were given up."""
    found = []
    if given := sum(result["status"] == GIVEN_UP for result in ours):
        found.append(f"{given} of {len(ours)} runs given up at a tenth of their budget")
    for key, wanted in figure.settings.items():
        values = list(dict.fromkeys(str(_setting(result["spec"], key)) for result in ours))
        here = [_setting(result["spec"], key) for result in ours]
        if ours and not all(_same(value, wanted) for value in here):
            found.append(f"{key} {_plain(' or '.join(values))} (paper: {_plain(wanted)})")
    return found


def _difference(figure: Published, ours: list[Mapping[str, Any]]) -> str:
    """What is otherwise here: settings, the budget, and what the note says."""
    found = _other_settings(figure, ours)
    steps = sorted({result["spec"]["training"]["steps"] for result in ours})
    found += [f"trained for {' or '.join(f'{each:,}' for each in steps)} steps at most"] if steps else []
    if any(result["solved"] and result["spec"]["training"]["stop_when_solved"] for result in ours):
        found.append("training ends when the task counts as solved")
    return "; ".join([*found, *([figure.note] if figure.note else [])])


def _plain(value: Any) -> str:
    if value is False or value in ("None", "False"):
        return "none"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _setting(spec: Mapping[str, Any], key: str) -> Any:
    """A setting of a run by its name alone: the task's, else the network's, else the training's."""
    for part in (spec["task"], spec, spec["training"], spec["measure"]):
        if key in part and (part is not spec or key in _NETWORK):
            return part[key]
    return None


def _same(value: Any, wanted: Any) -> bool:
    # TOML has no null: false stands for "none".
    return value == wanted or (wanted is False and value is None)


def outcome(
    directory: str | Path, plan: Plan | None = None, records: Mapping[str, Mapping[str, Any]] | None = None
) -> dict[str, pd.DataFrame]:
    """The tables "published", "ladder" (what each climb came to) and "rungs" (every length tried); empty ones left out.

    Args:
        directory: what a benchmark wrote.
        plan: None: what was kept in the directory.
        records: id -> the content of its result.json; None: those of the directory, which are read for it.

    Raises:
        InputError: no benchmark was kept in the directory, or it holds another layout.
    """
    plan = plan or kept(directory)
    results: Mapping[str, Mapping[str, Any]] = Store(directory).read().results if records is None else records
    climbs = plan.climbs()
    frames = {
        "published": beside_published(plan.grids, results.values()),
        "ladder": climbed_frame(climbs, results),
        "rungs": rungs_frame(climbs, results),
    }
    return {name: frame for name, frame in frames.items() if len(frame)}


def verdicts(places: Iterable[str | Path]) -> pd.DataFrame:
    """A row for each published figure of several benchmarks, with its verdict.

    Args:
        places: directories that benchmarks wrote; directories of their tables, with a published.csv (all of those below, where
            it has none itself); or names of benchmarks, whose figures are then not run.

    Columns as in `beside_published`; the figures of one place stand together, in the order of its files.

    Raises:
        InputError: as `outcome`, no such place, or no figure was published for any of the benchmarks.
    """
    listed = list(bounded("places", places))
    frames = [frame for place in listed for frame in _published(place)]
    if not frames:
        listed = ", ".join(repr(str(each)) for each in listed)
        raise InputError(f"No benchmark in {listed} names a published figure. Pass directories of benchmarks that do.")
    return pd.concat(frames, ignore_index=True)


def _published(place: str | Path) -> list[pd.DataFrame]:
    folder = Path(place)
    if not folder.is_dir() and str(place) in grid.names():
        found = beside_published([grid.read(str(place))], [])
        return [found] if len(found) else []
    here = (folder / FOLDER).is_dir()
    tables = [] if here else sorted(folder.glob(PUBLISHED)) or sorted(folder.glob(f"*/{PUBLISHED}"))
    if tables:
        return [published_table(path) for path in tables]
    found = outcome(folder).get("published")
    return [] if found is None else [found]


def published_table(path: Path) -> pd.DataFrame:
    """A published.csv as the frame that it was written from.

    Raises:
        InputError: it has other columns, or is damaged: where.
    """
    try:
        return read_table(path, _READ, empty=NUMBERS)
    except Damaged as error:
        raise InputError(
            f"{shown(path)} is not a table of published figures as this version writes it ({error}); write it again."
        ) from None


def write_outcome(directory: str | Path, plan: Plan | None = None) -> dict[str, pd.DataFrame]:
    """`outcome`, written to published.csv, ladder.csv and rungs.csv in the directory as well.

    Raises:
        InputError: as `outcome`.
        StorageError: the directory cannot be written.
    """
    frames = outcome(directory, plan)
    tables = {f"{name}.csv": frame.to_csv(index=False, lineterminator="\n") for name, frame in frames.items()}
    write_set(directory, tables)
    return frames
