"""What benchmarks came to beside their runs: figures beside published ones, and ladders; as frames and as files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from rnnvg.bench import grid
from rnnvg.bench.ladder import climbed_frame, rungs_frame
from rnnvg.bench.plan import FOLDER, Plan, kept
from rnnvg.bench.published import COLUMNS, NUMBERS, beside_published
from rnnvg.bench.store import Store
from rnnvg.errors import InputError, bounded, shown
from rnnvg.files import write_set
from rnnvg.stored import Damaged, read_table

PUBLISHED = "published.csv"
_READ = {name: float if name in NUMBERS else int if name in ("runs", "solved") else str for name in COLUMNS}


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
