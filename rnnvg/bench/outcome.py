"""What benchmarks came to beside their runs: figures beside published ones, and ladders; as frames and as files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from rnnvg.bench.files import disk_faults_named, write_whole
from rnnvg.bench.ladder import climbed_frame, rungs_frame
from rnnvg.bench.plan import Plan, kept
from rnnvg.bench.published import beside_published
from rnnvg.bench.store import Store


def outcome(directory: str | Path, plan: Plan | None = None) -> dict[str, pd.DataFrame]:
    """The tables "published", "ladder" (what each climb came to) and "rungs" (every length tried); empty ones left out.

    Args:
        directory: what a benchmark wrote.
        plan: None: what was kept in the directory.

    Raises:
        InputError: no benchmark was kept in the directory, or it holds another layout.
    """
    plan = plan or kept(directory)
    results: Mapping[str, Mapping[str, Any]] = Store(directory).read().results
    climbs = plan.climbs()
    frames = {
        "published": beside_published(plan.grids, results.values()),
        "ladder": climbed_frame(climbs, results),
        "rungs": rungs_frame(climbs, results),
    }
    return {name: frame for name, frame in frames.items() if len(frame)}


def write_outcome(directory: str | Path, plan: Plan | None = None) -> dict[str, pd.DataFrame]:
    """`outcome`, written to published.csv, ladder.csv and rungs.csv in the directory as well.

    Raises:
        InputError: as `outcome`.
        StorageError: the directory cannot be written.
    """
    frames = outcome(directory, plan)
    with disk_faults_named(Path(directory)):
        for name, frame in frames.items():
            write_whole(Path(directory) / f"{name}.csv", frame.to_csv(index=False, lineterminator="\n"))
    return frames
