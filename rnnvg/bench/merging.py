"""Directories of results brought together in a new one: every run once, nothing lost, and what is read left as it is.

Everything is checked before the first file is written, and what is written appears in one move.
"""

from __future__ import annotations

import json
import os
import secrets
import shlex
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rnnvg.bench.plan import Plan, kept_if_any
from rnnvg.bench.spec import GIVEN_UP, RunSpec
from rnnvg.bench.store import RESULT, Store
from rnnvg.errors import InputError, bounded, shown
from rnnvg.faults import disk_faults_named
from rnnvg.files import make_folder, named_folder, read_regular, write_whole

# What differs between two people who do the same run: when it was, where, and how long it took.
# A run that was not given up is the same, whether or not it might have been.
_OF_THE_OCCASION = ("started", "finished", "machine", "notes", "checksum", "files", "give_up")
_LISTED = 4


@dataclass(frozen=True)
class Merged:
    """What came of bringing directories together.

    Attributes:
        directory: the new one.
        runs: directory -> ids that were taken from it.
        again: ids that several directories hold with the same numbers; those of the first were taken.
        aside: ids in which they differ -> in what; the first one's were taken, the others lie in `set-aside`.
        damaged: path of a run's folder -> what is wrong with it; left where it is.
    """

    directory: Path
    runs: Mapping[str, tuple[str, ...]]
    again: tuple[str, ...]
    aside: Mapping[str, str]
    damaged: Mapping[str, str]


def merge(directories: Sequence[str | Path], out: str | Path, first: bool = False) -> Merged:
    """Brings the runs of several directories together in `out`, which must be new or empty.

    A run that several hold with the same numbers is taken once. Files that were changed after they were written are
    skipped and named. Benchmarks go along, so that `bench resume` goes on with what was asked for in any of them.

    Args:
        directories: two or more.
        first: of a run in which they differ, take that of the first directory and keep the others' in `set-aside`.

    Raises:
        InputError: a directory that is not there or holds no results, `out` that holds something or lies inside one of them,
            runs of one id that differ, or settings in which the directories differ as a whole.
        StorageError: `out` cannot be written.

    >>> import tempfile
    >>> from rnnvg import bench
    >>> training = {"steps": 2, "batch": 4, "eval_size": 10}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for seed in (0, 1):
    ...         spec = bench.run_spec({"name": "adding", "length": 5}, "rnn", hidden=4, seed=seed, training=training)
    ...         _ = bench.execute(spec, f"{folder}/{seed}")
    ...     len(bench.merge([f"{folder}/0", f"{folder}/1"], f"{folder}/both").runs)
    2
    """
    target = named_folder(out)
    stores = _stores(directories, target)
    readings = [store.read() for store in stores]
    pairs = list(zip(stores, readings, strict=True))
    damaged = {str(store.runs / run): what for store, found in pairs for run, what in found.damaged.items()}
    for store, found in pairs:
        if not found.results:
            raise InputError(f"{shown(store.directory)} holds no results. Pass directories that rnnvg wrote.")
    plans = [kept_if_any(store.directory) for store in stores]
    _check_settings(stores, plans)
    holders: dict[str, list[int]] = {}
    for index, found in enumerate(readings):
        for run in found.results:
            holders.setdefault(run, []).append(index)
    again, aside = [], {}
    for run, which in sorted(holders.items()):
        results = [readings[index].results[run] for index in which]
        differing = next(filter(None, (_difference(results[0], other) for other in results[1:])), "")
        if differing:
            aside[run] = differing
        elif len(which) > 1:
            again.append(run)
    if aside and not first:
        listed = "; ".join(f"{run} ({what})" for run, what in list(aside.items())[:_LISTED])
        more = f" and {len(aside) - _LISTED} more" if len(aside) > _LISTED else ""
        many = "runs that differ" if len(aside) > 1 else "run that differs"
        raise InputError(
            f"The directories hold {len(aside)} {many} under one id: {listed}{more}. Pass --first (first=True) to take those "
            f"of {shown(stores[0].directory)}, or of the first that has them, and keep the others in set-aside."
        )
    with disk_faults_named(target):
        _write(target, stores, holders, aside, plans)
    runs = {
        str(store.directory): tuple(sorted(run for run, which in holders.items() if which[0] == index))
        for index, store in enumerate(stores)
    }
    return Merged(target, runs, tuple(again), aside, damaged)


def _stores(directories: Sequence[str | Path], target: Path) -> list[Store]:
    stores = [Store(each) for each in bounded("directories", directories)]
    for store in stores:
        if not os.path.isdir(store.directory):
            raise InputError(f"{shown(store.directory)} does not exist. Pass directories that rnnvg wrote.")
    places = [store.directory.resolve() for store in stores]
    if len(stores) < 2 or len({*places}) < len(places):
        raise InputError("Pass two or more different directories to merge.")
    inside = next((place for place in places if target.resolve().is_relative_to(place)), None)
    if inside is not None:
        raise InputError(f"`out` {shown(target)} lies in {shown(inside)}, which is left as it is. Pass another --out.")
    if os.path.lexists(target) and (not target.is_dir() or any(target.iterdir())):
        raise InputError(f"`out` {shown(target)} is there already. Pass the name of a new directory.")
    return stores


def _check_settings(stores: Sequence[Store], plans: Sequence[Plan | None]) -> None:
    """Nothing where the runs belong in one table: those of one network differ by seed alone."""
    axes = {axis for plan in plans if plan is not None for axis in plan.axes}
    for index, store in enumerate(stores):
        specs = [RunSpec.model_validate(result["spec"]) for result in store.results()]
        for other in stores[:index]:
            found = other.differing_settings(specs, axes)
            if found:
                task, rows = found
                listed = "; ".join(f"{name} = {a!r} and {b!r}" for name, a, b in rows[:_LISTED])
                pair = shlex.join([str(other.directory), str(store.directory)])
                raise InputError(
                    f"{shown(other.directory)} and {shown(store.directory)} hold results of {task} with {listed}, which are "
                    f"not repetitions of each other. Compare them: rnnvg bench compare {pair}"
                )


def _difference(a: Mapping[str, Any], b: Mapping[str, Any]) -> str:
    """In what two results of one id differ, in words; empty where it is only the occasion."""
    if (a["status"] == GIVEN_UP) != (b["status"] == GIVEN_UP):
        return "given up in one of them"
    found = []
    for package in sorted({*a["versions"], *b["versions"]}):
        pair = [str(each["versions"].get(package, "unknown")) for each in (a, b)]
        if pair[0] != pair[1]:
            found.append(f"{package} {pair[0]} and {pair[1]}")
    devices = [each["spec"].get("training", {}).get("device", "cpu") for each in (a, b)]
    if devices[0] != devices[1]:
        found.append(f"device {devices[0]} and {devices[1]}")
    files = [name for name in sorted({*a["files"], *b["files"]}) if a["files"].get(name) != b["files"].get(name)]
    if files:
        found.append(f"other bytes in {', '.join(files)}")
    if not found and _numbers(a) != _numbers(b):
        found.append(f"other numbers in {RESULT}")
    return ", ".join(found)


def _numbers(result: Mapping[str, Any]) -> str:
    rest = {key: value for key, value in result.items() if key not in _OF_THE_OCCASION and not key.endswith("seconds")}
    rest |= {"spec": RunSpec.model_validate(result["spec"]).canonical}
    return json.dumps(rest, sort_keys=True)


def _write(
    target: Path,
    stores: Sequence[Store],
    holders: Mapping[str, list[int]],
    aside: Mapping[str, str],
    plans: Sequence[Plan | None],
) -> None:
    """Writes everything beside `target` and moves it there."""
    make_folder(target.parent)
    temporary = target.with_name(f".{target.name[:64]}.{secrets.token_hex(8)}.tmp")
    os.mkdir(temporary, 0o775)
    try:
        made = Store(temporary)
        for run, which in holders.items():
            _copy(stores[which[0]], run, made.folder(run))
            for number, index in enumerate(which[1:] if run in aside else [], start=1):
                _copy(stores[index], run, temporary / "set-aside" / f"{run}-{number}")
        if {*made.read().results} != {*holders}:
            raise InputError("A directory was changed while it was read. Merge again when nobody writes to it.")
        for plan in plans:
            if plan is not None:
                plan.beside(temporary).keep(temporary)
        made.merge()
        if target.is_dir():
            target.rmdir()
        os.rename(temporary, target)
    except BaseException:
        with suppress(OSError):
            shutil.rmtree(temporary)
        raise


def _copy(store: Store, run: str, folder: Path) -> None:
    """A run's files as its result vouches for them."""
    result = store.result(run)
    make_folder(folder)
    for name in [*(result or {"files": ()})["files"], RESULT]:
        write_whole(folder / name, read_regular(store.folder(run) / name))
