"""Benchmarks: a specification, the grid of runs that it stands for, workers that do them, and the directory they fill.

Names are loaded where they are first used: to read results takes neither torch nor Dask.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

_HOME = {
    "Event": "events",
    "Grid": "grid",
    "Measure": "spec",
    "Observer": "events",
    "Plan": "plan",
    "ProgressBar": "progress",
    "Published": "extras",
    "RunSpec": "spec",
    "State": "state",
    "StorageError": "rnnvg.faults",
    "Store": "store",
    "Timings": "estimate",
    "Training": "spec",
    "WorkersLostError": "cluster",
    "compare": "differences",
    "execute": "run",
    "export": "exporting",
    "load_results": "store",
    "names": "grid",
    "read": "grid",
    "run_all": "runner",
    "run_spec": "spec",
}

__all__ = [
    "Event",
    "Grid",
    "Measure",
    "Observer",
    "Plan",
    "ProgressBar",
    "Published",
    "RunSpec",
    "State",
    "StorageError",
    "Store",
    "Timings",
    "Training",
    "WorkersLostError",
    "compare",
    "execute",
    "export",
    "load_results",
    "names",
    "read",
    "run_all",
    "run_spec",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        home = _HOME[name] if "." in _HOME[name] else f"rnnvg.bench.{_HOME[name]}"
        return getattr(importlib.import_module(home), name)
    raise AttributeError(f"module 'rnnvg.bench' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])


if TYPE_CHECKING:
    from rnnvg.bench.cluster import WorkersLostError
    from rnnvg.bench.differences import compare
    from rnnvg.bench.estimate import Timings
    from rnnvg.bench.events import Event, Observer
    from rnnvg.bench.exporting import export
    from rnnvg.bench.extras import Published
    from rnnvg.bench.grid import Grid, names, read
    from rnnvg.bench.plan import Plan
    from rnnvg.bench.progress import ProgressBar
    from rnnvg.bench.run import execute
    from rnnvg.bench.runner import run_all
    from rnnvg.bench.spec import Measure, RunSpec, Training, run_spec
    from rnnvg.bench.state import State
    from rnnvg.bench.store import Store, load_results
    from rnnvg.faults import StorageError
