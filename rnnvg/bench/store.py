"""A directory of results: a folder a run, and tables merged from them.

    runs/<id>/spec.json      what is being done, until the run is done
    runs/<id>/result.json    written last and in one move: its presence means that the run is done
    runs/<id>/curve.csv  training.csv  horizons.csv  weights.safetensors
    curves.csv  training.csv  horizons.csv                        the same of all runs, sorted by id
    set-aside/<id>-1/        a run whose files were no longer what was written, kept and done again

result.json holds the SHA-256 of the run's other files and of itself, so that a file that was cut off or edited is
found. Nothing is ever deleted but a run's own temporary files.

Ids had 8 digits before they had 12: a folder that is named so holds a run where its stored specification is that run's.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from rnnvg.bench import folders, tables
from rnnvg.bench.folders import RESULT
from rnnvg.bench.spec import SCHEMA, RunSpec, by_id, short_id
from rnnvg.bench.stored import Result
from rnnvg.errors import InputError, shown
from rnnvg.faults import disk_faults_named
from rnnvg.files import check_ours, make_folder, move_aside, named_folder, read_regular, table_mark, write_whole
from rnnvg.missing import finite
from rnnvg.stored import Damaged, fit, read_json

WEIGHTS = "weights.safetensors"
CAUSES = "causes.csv"  # why the gradient vanishes, of runs that came to an end
VOCABULARY = "vocabulary.json"  # of next-word runs


@dataclass(frozen=True)
class Contents:
    """What a directory holds.

    Attributes:
        results: content of result.json by id, sorted; only runs whose files are all as they were written.
        damaged: name of a folder in `runs` -> what is wrong, of every other run that has a result.json.
    """

    results: dict[str, dict[str, Any]]
    damaged: dict[str, str]


# Settings in which what a directory holds may differ from what is added to it.
_ALWAYS_FREE = (
    "seed",
    "cell",
    "init",
    "training.device",
    "training.give_up",
    "sources",
    "sources.cell",
    "sources.task",
)


class Store:
    """The results in one directory; it need not exist yet.

    Args:
        directory: OUT.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Store(folder).results()
    []
    """

    def __init__(self, directory: str | Path) -> None:
        self.directory = named_folder(directory)
        self.runs = self.directory / "runs"
        # What has been checked is not read again while its result.json stays as it was.
        self._known: dict[Path, tuple[tuple[int, int, int], dict[str, Any]]] = {}

    def folder(self, run: str) -> Path:
        """Where a run's files are, by its id: in the folder of that name, or in one that was named by 8 digits."""
        return folders.find(self.runs, run, lambda folder: isinstance(self._checked(folder / RESULT), dict))

    def check_run(self, spec: RunSpec) -> None:
        """Nothing where the folder of a run is free, or holds this run, done or not.

        Raises:
            InputError: it holds another run that has the same id.
        """
        done = self.result(spec.id)
        other = folders.stored_spec(self.folder(spec.id)) if done is None else folders.specified(done["spec"])
        if other is not None and other.id == spec.id:
            by_id([other, spec])

    def read(self) -> Contents:
        """Every run that is done, checked against what was written.

        Raises:
            InputError: results of another layout.
        """
        results, damaged = {}, {}
        for path in sorted(self.runs.glob(f"*/{RESULT}")):
            content = self._checked(path)
            if isinstance(content, str):
                damaged[path.parent.name] = content
            else:  # of a folder named by 8 digits and one by 12, the second comes later and stands
                results[content["id"]] = content
        return Contents(dict(sorted(results.items())), damaged)

    def results(self) -> list[dict[str, Any]]:
        """Content of every result.json, sorted by id."""
        return list(self.read().results.values())

    def result(self, run: str) -> dict[str, Any] | None:
        """One run's result, or None where it is not done or its files are damaged."""
        content = self._checked(self.folder(run) / RESULT)
        return None if isinstance(content, str) else content

    def publish(self, result: Mapping[str, Any], files: Mapping[str, str]) -> dict[str, Any]:
        """Writes a run's files, result.json last. The first result of a run stands: where there is one, it is returned.

        Args:
            result: everything for result.json but the checksums.
            files: name -> text. Files that the result should vouch for and that lie in the folder already: WEIGHTS.

        Raises:
            InputError: another run has the same id.
            StorageError: the directory cannot be written.
        """
        self.check_run(RunSpec.model_validate(result["spec"]))
        folder = self.folder(result["id"])
        if (standing := self.result(result["id"])) is not None:
            return standing
        with disk_faults_named(self.directory):
            make_folder(folder)
            for name, text in files.items():
                write_whole(folder / name, text)
            names = [*files, *([WEIGHTS] if (folder / WEIGHTS).exists() else [])]
            content = json.loads(json.dumps(finite(result))) | {
                "files": {name: _digest((folder / name).read_bytes()) for name in names}
            }
            content["checksum"] = _checksum(content)
            write_whole(folder / RESULT, json.dumps(content, indent=1) + "\n")
        return content

    def set_aside(self, run: str) -> Path:
        """Moves a run's folder, with everything in it, out of the way; the run can then be done again.

        Raises:
            StorageError: the directory cannot be written.
        """
        return self.move_aside(self.folder(run))

    def move_aside(self, path: Path) -> Path:
        """Moves a file or folder of this directory to its set-aside, under a name that is not taken.

        Raises:
            StorageError: the directory cannot be written.
        """
        aside = self.directory / "set-aside"
        with disk_faults_named(self.directory):
            make_folder(aside)
            return move_aside(path, aside)

    def frame(self, file: str) -> pd.DataFrame:
        """ "curves.csv", "training.csv" or "horizons.csv" as a frame, from the runs that are done now."""
        source = next(each for each, merged in tables.MERGED.items() if merged == file)
        return tables.to_frame(tables.merge(self.results(), self.folder, source))

    def merge(self) -> None:
        """Writes the merged tables, sorted by id.

        Raises:
            InputError: a file that rnnvg did not write stands where one of them belongs.
            StorageError: the directory cannot be written.
        """
        self.check_tables()
        merged, results = None, self.read().results
        # Another process may finish a run meanwhile; whoever writes last has seen every run.
        while merged != list(results):
            merged = list(results)
            with disk_faults_named(self.directory):
                for source, target in tables.MERGED.items():
                    write_whole(self.directory / target, tables.merge(results.values(), self.folder, source))
            results = self.read().results

    def check_tables(self) -> None:
        """Nothing where the merged tables may be written.

        Raises:
            InputError: a file that rnnvg did not write stands where one of them belongs.
        """
        with disk_faults_named(self.directory):
            for source, target in tables.MERGED.items():
                check_ours(self.directory / target, table_mark((*tables.NAMED, *tables.COLUMNS[source])), "out")

    def check_settings(self, specs: Iterable[RunSpec], axes: Iterable[str] = ()) -> None:
        """Nothing where `specs` extend what the directory holds by seeds, cells, initialisers, tasks or along `axes`.

        A setting with several values, among `specs` or in the directory, is an axis too.

        Raises:
            InputError: another setting differs, two specifications have one id, or the directory holds results of another
                layout.
        """
        if found := self.differing_settings(specs, axes):
            task, differing = found
            listed = "; ".join(f"{name} = {found!r}, and now {wanted!r}" for name, found, wanted in differing[:4])
            raise InputError(
                f"`out` {str(self.directory)!r} holds results of {task} with {listed}. "
                "Pass another --out, or the settings that it holds."
            )

    def differing_settings(
        self, specs: Iterable[RunSpec], axes: Iterable[str] = ()
    ) -> tuple[str, list[tuple[str, Any, Any]]] | None:
        """The first task for which `check_settings` refuses `specs`, with each setting's value here and there; or None."""
        old = [RunSpec.model_validate(result["spec"]) for result in self.results()]
        new = list(specs)
        standing = {spec.id: spec.canonical for spec in old}
        for spec in new:
            if standing.get(spec.id, spec.canonical) != spec.canonical:  # digits of a hash agree by chance
                raise InputError(
                    f"`out` {str(self.directory)!r} holds another run that is named {spec.id} too. Pass another --out."
                )
        for task in sorted({spec.task["name"] for spec in old} & {spec.task["name"] for spec in new}):
            pairs = [_of_task(old, task), _of_task(new, task)]
            if differing := _differing(*pairs, free={*_ALWAYS_FREE, *axes}):
                return task, differing
        return None

    def other_versions(self, package: str, version: str) -> list[str]:
        """Versions of a package, other than `version`, that results in this directory were made with."""
        found = {str(result["versions"].get(package)) for result in self.results()}
        return sorted(found - {version})

    def _checked(self, path: Path) -> dict[str, Any] | str:
        """The content of a result.json, or what is wrong with it."""
        try:
            status = path.stat()
            sign = (status.st_mtime_ns, status.st_size, status.st_ino)
            if path in self._known and self._known[path][0] == sign:
                return self._known[path][1]
            content = read_json(path)
            if not isinstance(content, dict) or "schema" not in content:
                return f"{RESULT} is not whole"
        except OSError:
            return f"{RESULT} is not whole"
        except Damaged as error:
            return str(error)
        if (schema := content["schema"]) != SCHEMA and type(schema) is int:
            versions = content.get("versions")
            version = shown(versions.get("rnnvg", "unknown") if isinstance(versions, dict) else "unknown").strip("'")
            raise InputError(
                f"`out` {shown(self.directory)} holds results in layout {shown(schema)}, written by rnnvg {version}; "
                f"this version reads layout {SCHEMA}. Pass another --out, or use the rnnvg that wrote them."
            )
        try:
            if content.get("checksum") != _checksum(content):
                return f"{RESULT} was changed after it was written"
            files = fit(Result, content, RESULT).files
        except (RecursionError, ValueError) as error:
            return str(error) if isinstance(error, Damaged) else f"{RESULT} is nested too deeply"
        for name, digest in files.items():
            try:
                if _digest(read_regular(path.parent / name)) != digest:
                    return f"{name} was changed after it was written"
            except InputError:
                return f"{name} is missing"
        spec = folders.specified(content["spec"])
        if spec is None or path.parent.name not in (spec.id, short_id(spec.id)):
            return f"{RESULT} belongs to another run"
        content |= {"id": spec.id}
        self._known[path] = (sign, content)
        return content


def load_results(directory: str | Path) -> pd.DataFrame:
    """The runs in a results directory as one tidy frame, a row a run, sorted by id.

    Columns: id, task, cell, init, hidden, layers, seed, status ("ok", "diverged", "failed", "given-up"), reason, solved,
    solved_at (training step), steps, seconds, parameters, metric, value and baseline (in units of the metric),
    score_<metric>, horizon_<threshold> and censored_<threshold> (steps; wrt the state at the last checkpoint), set_<setting>.

    A run that was given up has no value, score or horizon there, so that no median has one; where there are such runs,
    given_up_step, given_up_value (the metric), given_up_loss (over the loss without memory) and given_up_horizon have its
    state at the time.

    Raises:
        InputError: there is no such directory, it holds no results, or results of another layout.

    >>> import tempfile
    >>> from rnnvg import bench, load_results
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     training = {"steps": 2, "batch": 4, "eval_size": 10}
    ...     spec = bench.run_spec({"name": "adding", "length": 5}, "gru", hidden=4, training=training)
    ...     _ = bench.execute(spec, folder)
    ...     load_results(folder)[["task", "cell", "seed", "status"]].values.tolist()
    [['adding', 'gru', 0, 'ok']]
    """
    if not isinstance(directory, (str, os.PathLike)):
        raise InputError(f"`directory` is a {type(directory).__name__}; pass the path of a directory that rnnvg wrote.")
    return runs_frame(Store(directory))


def runs_frame(store: Store) -> pd.DataFrame:
    """`load_results` of a store, which may have read its files already."""
    if not os.path.isdir(store.directory):
        raise InputError(f"`directory` {shown(store.directory)} does not exist. Pass a directory that rnnvg wrote.")
    results = store.results()
    if not results:
        raise InputError(f"`directory` {shown(store.directory)} holds no results. Pass a directory that rnnvg wrote.")
    return tables.one_row_each(results, store.frame("horizons.csv"))


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _checksum(content: Mapping[str, Any]) -> str:
    rest = {key: value for key, value in content.items() if key != "checksum"}
    return _digest(json.dumps(rest, sort_keys=True).encode())


def _of_task(specs: Iterable[RunSpec], task: str) -> list[RunSpec]:
    return [spec for spec in specs if spec.task["name"] == task]


def _differing(old: list[RunSpec], new: list[RunSpec], free: set[str]) -> list[tuple[str, Any, Any]]:
    """Settings with one value in `old` and another one in `new`: name, old value, new value.

    Hidden sizes may go with the cell (equal parameter counts): then each cell is compared with itself.
    """
    found = {}
    for cell in [None, *{spec.cell for spec in old} & {spec.cell for spec in new}]:
        before, after = ([s.settings() for s in specs if cell in (None, s.cell)] for specs in (old, new))
        for name in sorted({*before[0], *after[0]} - free):
            values, wanted = ([json.dumps(each.get(name)) for each in group] for group in (before, after))
            if len({*values}) == len({*wanted}) == 1 and values[0] != wanted[0]:
                found[name] = (name, json.loads(values[0]), json.loads(wanted[0]))
    return sorted(found.values())
