"""What a report is written from: the runs of one directory with the names that figures and tables give them.

Files in (through the store), tidy frames out. Two runs belong to the same problem when their task's settings are the
same, and to the same network when everything but the seed is; where settings differ, the names say how.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from rnnvg.bench.spec import GIVEN_UP, dotted
from rnnvg.errors import InputError, shown
from rnnvg.missing import number
from rnnvg.report.style import AFTER, BEFORE, CELL_LABELS, cell_label, loss_unit, task_label
from rnnvg.tasks import NAMES as TASKS

if TYPE_CHECKING:
    from rnnvg.bench import Plan
    from rnnvg.bench.store import Store

RUN = ["problem", "network", "cell", "seed", "id"]
NAMED = ["problem", "network", "cell", "seed", "status"]
CURVES = ["step", "wrt", "distance", "log10_gain"]
CAUSES = ["step", "quantity", "part", "distance", "value", "stderr"]


@dataclass(frozen=True, eq=False)
class Results:
    """Runs and their measurements, every frame with the columns `problem` and `network`; not to be changed.

    Attributes:
        runs: a row a run: id, problem, network, task, cell, seed, status, reason, solved, solved_at, steps, seconds,
            parameters, metric, value, baseline, baseline_loss, baseline_text, best_loss, unit (of the loss), training_steps,
            n_probe_steps.
        curves: id, step, wrt, distance, log10_gain (decades) of every run's first and last checkpoint.
        horizons: id, step, wrt, threshold, last (steps), censored and the rest of horizons.csv.
        training: id, step, split, metric, value.
        records: the result.json files as dicts, sorted by id.
        damaged: what is wrong with files that are left out for it: of runs by id, of others by name.
        causes: id, step, quantity, part, distance, value, stderr of causes.csv; empty for results that have none.
        directory: where they were read from; None for results that were never in files.
        recall: what the networks remember, as `rnnvg report --functional` has asked them; None where it has not.
    """

    runs: pd.DataFrame
    curves: pd.DataFrame
    horizons: pd.DataFrame
    training: pd.DataFrame
    records: list[dict[str, Any]] = field(repr=False)
    damaged: dict[str, str] = field(default_factory=dict)
    causes: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=["id", *NAMED, *CAUSES]))
    directory: Path | None = None
    recall: pd.DataFrame | None = None

    @cached_property
    def plan(self) -> Plan | None:
        """The benchmarks that were asked for in the directory; None where none was."""
        from rnnvg.bench.plan import kept_if_any

        return None if self.directory is None else kept_if_any(self.directory)

    @cached_property
    def outcome(self) -> dict[str, pd.DataFrame]:
        """What benchmarks came to beside their runs: "published", "ladder", "rungs"; empty where none was asked for."""
        from rnnvg.bench.published import outcome

        if self.directory is None or self.plan is None:
            return {}
        return outcome(self.directory, self.plan, {record["id"]: record for record in self.records})

    @property
    def problems(self) -> list[str]:
        """The problems in the order of the figures' panels."""
        return list(dict.fromkeys(self.runs["problem"]))

    def networks(self, problem: str | None = None) -> list[str]:
        """The networks of one problem, or of all, in the order of the legend."""
        runs = self.runs.sort_values("network_order", kind="stable")
        return list(
            dict.fromkeys(runs["network"] if problem is None else runs.loc[runs["problem"] == problem, "network"])
        )

    @property
    def by(self) -> str:
        """What figures take the gradient by: "state", or "input" where not every network has one by the state.

        A network without a recurrence has no state; the input is what all share.
        """
        seen = self.horizons.groupby("wrt")["network"].unique()
        measured = set(self.horizons["network"])
        whole = [wrt for wrt in ("state", "input") if wrt in seen and set(seen[wrt]) == measured]
        return whole[0] if whole else "state"

    @property
    def without_state(self) -> list[str]:
        """Networks that figures by the state leave out: measured by the input alone, as no other network was."""
        known = set(self.horizons.loc[self.horizons["wrt"] == "state", "network"])
        by_input = set(self.horizons.loc[self.horizons["wrt"] == "input", "network"])
        return [each for each in self.networks() if each in by_input - known] if self.by == "state" and known else []

    def cause(self, quantity: str) -> pd.DataFrame:
        """The rows of `causes` for one quantity."""
        return self.causes[self.causes["quantity"] == quantity]

    def cell_of(self, network: str) -> str:
        """The cell of a network, which gives it its colour."""
        return str(self.runs.loc[self.runs["network"] == network, "cell"].iloc[0])

    def known(self, problem: str, column: str) -> Any:
        """What the runs of a problem have in a column of `runs`; None where none of them came far enough to say."""
        return next(iter(self.runs.loc[self.runs["problem"] == problem, column].dropna()), None)

    def training_length(self, problem: str) -> int | None:
        """Length of a training sequence in time steps, None where no run came far enough to say."""
        length = self.known(problem, "training_steps")
        return None if length is None else int(length)


def collect(
    records: Iterable[dict[str, Any]],
    curves: pd.DataFrame,
    horizons: pd.DataFrame,
    training: pd.DataFrame,
    damaged: dict[str, str] | None = None,
    causes: pd.DataFrame | None = None,
) -> Results:
    """Names the runs of `records` and gives the frames their names; horizons that were not measured are left out."""
    records = sorted(records, key=lambda record: record["id"])
    runs = pd.DataFrame([_row(record) for record in records])
    problems, networks = _problem_names(records), _network_names(records)
    runs["problem"] = [problems[run] for run in runs["id"]]
    runs["network"] = [networks[run] for run in runs["id"]]
    runs["problem_order"] = [_place(TASKS, task) for task in runs["task"]]
    runs["network_order"] = [_place(tuple(CELL_LABELS), cell) for cell in runs["cell"]]
    runs = runs.sort_values(
        ["problem_order", "problem", "network_order", "network", "seed"], kind="stable", key=_numbers_in_order
    ).reset_index(drop=True)
    names = runs[["id", *NAMED]]
    horizons = horizons[horizons["last"].notna() & horizons["step"].notna()]
    horizons = horizons.astype({"step": int, "last": int, "censored": bool})
    curves = curves.astype({"distance": int, "log10_gain": float})  # an empty file has no types
    training = training.astype({"step": int, "value": float})
    frames = [_named(frame, names) for frame in (curves, horizons, training)]
    if causes is None:
        causes = pd.DataFrame(columns=["id", *CAUSES])
    why = _named(causes.astype({"value": float, "stderr": float}), names)
    return Results(runs, *frames, records=records, damaged=damaged or {}, causes=why)


def read(directory: str | Path) -> Results:
    """The results of a directory that a comparison or a benchmark wrote.

    Raises:
        InputError: there is no such directory, or no run in it is done.
    """
    from rnnvg.bench.store import Store
    from rnnvg.bench.trained import RECALL, answers

    store = Store(directory)
    how = _HOW_TO_GET_SOME.format(shown(store.directory).strip("'"))
    if not os.path.isdir(store.directory):
        raise InputError(f"`directory` {shown(store.directory)} does not exist. {how}")
    reading = store.read()
    if not reading.results:
        raise InputError(f"`directory` {str(directory)!r} holds no results. {how}")
    frames = [_curves(store, reading.results), *(store.frame(name) for name in ("horizons.csv", "training.csv"))]
    damaged, recall = dict(reading.damaged), None
    try:
        recall = answers(directory, reading.results)
    except InputError as error:
        damaged[RECALL] = str(error)
    results = collect(reading.results.values(), *frames, damaged=damaged, causes=_causes(store, reading.results))
    return replace(results, directory=Path(directory), recall=recall)


def _curves(store: Store, runs: Iterable[str]) -> pd.DataFrame:
    """What a report draws of the curves of every run: those before and after training, and of those the gain alone."""
    from rnnvg.bench.tables import to_frame

    def ends(run: str) -> pd.DataFrame:
        own = to_frame(store.folder(run) / "curve.csv", CURVES)
        return own[own["step"].isin([0, own["step"].max()])]

    return _joined(runs, ends, CURVES)


def _causes(store: Store, runs: Iterable[str]) -> pd.DataFrame:
    """causes.csv of the runs that have one, with their ids."""
    from rnnvg.bench.store import CAUSES as FILE

    return _joined(
        (run for run in runs if (store.folder(run) / FILE).is_file()),
        lambda run: pd.read_csv(store.folder(run) / FILE, dtype={"part": str}, keep_default_na=True),
        CAUSES,
    )


def _joined(runs: Iterable[str], table: Callable[[str], pd.DataFrame], columns: list[str]) -> pd.DataFrame:
    """The tables of several runs below each other, with the column id; `columns` where none has a row."""
    tables = [own.assign(id=run) for run in runs if len(own := table(run))]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=["id", *columns])


_HOW_TO_GET_SOME = "Run `rnnvg compare --out {}` first, or pass a directory that rnnvg wrote."


def moments(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of `frame` (with id, step and status) measured before and after training, told apart by a column `when`.

    Before is step 0, of every run that has it. After is the last checkpoint, of runs that came to their end ("ok"): a
    run that diverged or was given up has no state after training.
    """
    before = frame[frame["step"] == 0].assign(when=BEFORE)
    trained = frame[(frame["status"] == "ok") & (frame["step"] > 0)]
    last = trained["step"] == trained.groupby("id")["step"].transform("max")
    return pd.concat([before, trained[last].assign(when=AFTER)], ignore_index=True)


def _row(record: dict[str, Any]) -> dict[str, Any]:
    spec, baseline, score = record["spec"], record.get("baseline") or {}, record.get("score") or {}
    metric = baseline.get("metric")
    if record["status"] == GIVEN_UP:
        score = {}  # what it was at the time is no final score
    return {
        "id": record["id"],
        "task": spec["task"]["name"],
        "cell": spec["cell"],
        "seed": spec["seed"],
        "status": record["status"],
        "reason": record.get("reason") or "",
        "solved": bool(record.get("solved")),
        "solved_at": number(record.get("solved_at")),
        "steps": number(record.get("steps")),
        "seconds": number(record.get("seconds")),
        "parameters": number(record.get("parameters")),
        "metric": metric,
        "value": number(score.get(metric)),
        "loss": number(score.get("loss")),
        "baseline": number(baseline.get("value")),
        "baseline_loss": number(baseline.get("loss")),
        "baseline_text": baseline.get("text"),
        "best_loss": number(baseline.get("best_loss")),
        "unit": loss_unit(spec["task"]["name"], record.get("task")),
        "training_steps": number(record.get("training_steps")),
        "n_probe_steps": number(record.get("n_probe_steps")),
    }


def _place(order: tuple[str, ...], name: str) -> int:
    return order.index(name) if name in order else len(order)


def _numbers_in_order(column: pd.Series) -> pd.Series:
    """Sort keys under which "length 50" comes before "length 200"."""
    if pd.api.types.is_numeric_dtype(column):
        return column
    return column.astype(str).str.replace(r"\d+", lambda digits: digits.group().zfill(9), regex=True)


def _named(frame: pd.DataFrame, names: pd.DataFrame) -> pd.DataFrame:
    kept = frame.drop(columns=[column for column in NAMED if column in frame])
    return names.merge(kept, on="id", how="inner")  # in the order of the legend: what is drawn later lies above


def _problem_names(records: list[dict[str, Any]]) -> dict[str, str]:
    settings = {record["id"]: dotted(record["spec"]["task"]) for record in records}
    names = {each["id"]: task_label(str(each["spec"]["task"]["name"]), each.get("task")) for each in records}
    return _with_differences(names, settings, ", ")


def _network_names(records: list[dict[str, Any]]) -> dict[str, str]:
    names: dict[str, str] = {}
    settings, groups = {}, {}
    for record in records:
        spec = record["spec"]
        run = record["id"]
        init = str(spec.get("init") or "default")
        cell = cell_label(str(spec["cell"]))
        names[run] = cell if init == "default" else f"{cell}/{init}"
        rest = {key: value for key, value in spec.items() if key not in ("task", "seed", "schema", "measure", "init")}
        # Whether it may be given up makes no other network: its status says whether it was.
        rest["training"] = {key: value for key, value in (spec.get("training") or {}).items() if key != "give_up"}
        settings[run] = dotted(rest)
        groups[run] = (names[run], str(spec["task"]))
    return _with_differences(names, settings, "/", groups)


def _with_differences(
    names: dict[str, str], settings: dict[str, dict[str, Any]], between: str, groups: dict[str, Any] | None = None
) -> dict[str, str]:
    """`names`, and behind each the settings in which runs of one group (of one name, if no groups are given) differ."""
    members: dict[Any, list[str]] = {}
    for run, name in names.items():
        members.setdefault(groups[run] if groups else name, []).append(run)
    apart = {}
    for runs in members.values():
        keys = dict.fromkeys(key for run in runs for key in settings[run])
        differ = [key for key in keys if len({str(settings[run].get(key)) for run in runs}) > 1]
        for run in runs:
            differences = [f"{key.rpartition('.')[2]} {settings[run].get(key)}" for key in differ]
            apart[run] = between.join([names[run], *differences])
    return apart
