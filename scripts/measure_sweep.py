"""What a sweep costs beside its runs: overhead a run, efficiency of 1 and 2 workers, and the scheduler at many runs.

    python scripts/measure_sweep.py --out DIR          # JSON on stdout; some minutes

Simulated runs take a set time, without arithmetic, and publish the files of a real one, so that what is measured is the
machinery alone: Dask, claims, messages and the store. Take the figures on an otherwise idle machine.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from rnnvg.bench import RunSpec, Store, run_all
from rnnvg.bench.cluster import local_workers
from rnnvg.bench.record import process, record, version
from rnnvg.bench.sweep import Sweep
from rnnvg.bench.tables import CURVE, HORIZON, TRAINING, to_csv

# Seconds that a simulated run of the first two measurements takes.
LASTS = 0.5
DISTANCES, CHECKPOINTS = 200, 12


def spec(seed: int) -> RunSpec:
    return RunSpec.model_validate(
        {"task": {"name": "adding", "length": 50, "marks": "anywhere"}, "cell": "lstm", "hidden": 64, "seed": seed}
    )


def simulated(spec: RunSpec, directory: Path, on_progress: Any = None, lasts: float = LASTS) -> dict[str, Any]:
    """A run that waits; its files are as large as those of a real one."""
    until = time.perf_counter() + lasts
    while (left := until - time.perf_counter()) > 0:
        on_progress(1, 2, 0.5)
        time.sleep(min(left, 0.05))
    on_progress(2, 2, 0.5)
    steps = range(0, 100 * CHECKPOINTS, 100)
    value = -spec.seed / 7
    files = {
        "curve.csv": to_csv(
            [(step, "state", k, value * k, None, value, value, 32, 0) for step in steps for k in range(DISTANCES)],
            CURVE,
        ),
        "training.csv": to_csv([(step, "valid", "mse", value) for step in steps], TRAINING),
        "horizons.csv": to_csv([(step, "state", 0.1, 3, 4, False, value, None, "ok") for step in steps], HORIZON),
    }
    outcome = {"status": "ok", "reason": "", "score": {"mse": value}, "steps": 1200, "seconds": lasts}
    outcome |= {"baseline": {"metric": "mse", "value": 1 / 6}}
    return Store(directory).publish(record(spec, outcome), files)


def nothing(spec: RunSpec, directory: Path, on_progress: Any = None) -> dict[str, Any]:
    """A run that takes no time and writes nothing."""
    on_progress(1, 1, 0.5)
    return {"status": "ok", "reason": "", "machine": {"process": process()}}


def timed(specs: list[RunSpec], directory: Path, jobs: int, execute: Any) -> dict[str, float]:
    """Seconds until the first run starts, from then to the last one's end, and for what follows (tables)."""
    start = time.perf_counter()
    moments: dict[str, float] = {}

    def observer(event: Any) -> None:
        if event.kind in ("start", "done"):
            moments.setdefault(f"first {event.kind}", time.perf_counter() - start)
            moments[event.kind] = time.perf_counter() - start

    run_all(specs, directory, jobs=jobs, observer=observer, execute=execute)
    whole = time.perf_counter() - start
    return {
        "start": moments["first start"],
        "runs": moments["done"] - moments["first start"],
        "end": whole - moments["done"],
    }


def efficiency(out: Path, jobs: int, runs: int) -> dict[str, float]:
    """Overhead a run, and the share of the workers' time that runs get."""
    found = timed([spec(seed) for seed in range(runs)], out / f"jobs-{jobs}", jobs, simulated)
    ideal = runs * LASTS / jobs
    return {
        "jobs": jobs,
        "runs": runs,
        "seconds_a_run": LASTS,
        "start_s": round(found["start"], 2),
        "overhead_ms_a_run": round(1000 * (found["runs"] * jobs / runs - LASTS), 1),
        "efficiency": round(ideal / found["runs"], 4),
        "tables_s": round(found["end"], 2),
    }


def scheduler(out: Path, runs: int) -> dict[str, float]:
    """Claims, Dask and messages alone: runs that do and write nothing, on two workers."""
    told: Counter[str] = Counter()
    with local_workers(2) as client:
        sweep = Sweep(
            client, Store(out), [spec(seed) for seed in range(runs)], lambda e: told.update([e.kind]), nothing
        )
        before, start = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
        sweep.run()
        seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF)
    assert told["done"] == runs, told
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "runs": runs,
        "ms_a_run": round(1000 * seconds / runs, 2),
        "driver_processor_ms_a_run": round(1000 * processor / runs, 2),
        "driver_peak_MiB": round(after.ru_maxrss / 1024),
    }


def store(out: Path, runs: int) -> dict[str, float]:
    """The directory alone: writing a run, reading all of them again, and the merged tables."""
    times = {"write_ms_a_run": time.perf_counter()}
    for seed in range(runs):
        simulated(spec(seed), out, lambda *_: None, lasts=0)
    times["write_ms_a_run"] = time.perf_counter() - times["write_ms_a_run"]
    for name, act in (("read_ms_a_run", lambda: Store(out).read()), ("merge_ms_a_run", Store(out).merge)):
        start = time.perf_counter()
        act()
        times[name] = time.perf_counter() - start
    size = sum(path.stat().st_size for path in out.glob("runs/*/*"))
    return {"runs": runs, **{k: round(1000 * v / runs, 2) for k, v in times.items()}, "bytes_a_run": round(size / runs)}


def main(out: Path, runs: int, many_runs: int) -> dict[str, Any]:
    os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    return {
        "workers": [efficiency(out, jobs, runs * jobs) for jobs in (1, 2)],
        "scheduler": scheduler(out / "scheduler", many_runs),
        "store": store(out / "store", min(many_runs, 500)),
        "cpus": os.cpu_count(),
        "load_average": [round(each, 1) for each in os.getloadavg()] if hasattr(os, "getloadavg") else None,
        "versions": {name: version(name) for name in ("rnnvg", "dask", "distributed")}
        | {"python": platform.python_version()},
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=None, help="an empty folder; a temporary one by default")
    parser.add_argument("--runs", type=int, default=40, help="simulated runs a worker")
    parser.add_argument("--many", type=int, default=10_000, help="simulated runs for the scheduler")
    asked = parser.parse_args()
    place = asked.out or Path(tempfile.mkdtemp(prefix="rnnvg-sweep-"))
    json.dump(main(place, asked.runs, asked.many), sys.stdout, indent=1)
    print()
