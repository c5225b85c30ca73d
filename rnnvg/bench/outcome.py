"""What benchmarks came to beside their runs: figures beside published ones, and ladders; as frames and as files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from rnnvg.bench.ladder import climbed_frame, rungs_frame
from rnnvg.bench.plan import Plan, kept
from rnnvg.bench.published import beside_published
from rnnvg.bench.store import Store
from rnnvg.errors import InputError
from rnnvg.files import write_set


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


def verdicts(directories: Iterable[str | Path]) -> pd.DataFrame:
    """A row for each published figure of the benchmarks in several directories, with its verdict.

    Columns as in `beside_published`; the figures of one directory stand together, in the order of its files.

    Raises:
        InputError: as `outcome`, or no figure was published for any of the benchmarks.
    """
    folders = [Path(each) for each in directories]
    frames = [frame for folder in folders if (frame := outcome(folder).get("published")) is not None]
    if not frames:
        listed = ", ".join(map(repr, map(str, folders)))
        raise InputError(f"No benchmark in {listed} names a published figure. Pass directories of benchmarks that do.")
    return pd.concat(frames, ignore_index=True)


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
