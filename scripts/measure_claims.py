"""What two drivers on one directory cost with claim files and without: runs that are done twice, and time.

    python scripts/measure_claims.py            a JSON object on stdout

Each driver has two workers and the same list of runs, stand-ins that sleep. Without claims a driver passes over what has a
result by then and does everything else, in the order of the list ("without") or in one of its own ("without, shuffled").
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve()
WAYS = ("with", "without", "without, shuffled")


def drive(way: str, directory: str, seed: int, runs: int) -> None:
    """One driver; prints how many runs it has started and how many of them somebody else had done meanwhile."""
    from rnnvg.bench import run_all
    from rnnvg.bench.claims import Claims

    fake_runs: Any = importlib.import_module("fake_runs")  # of tests/bench
    specs = [fake_runs.spec(each) for each in range(runs)]
    if way != "with":
        Claims.take = lambda self, folder: True
    if way == "without, shuffled":
        random.Random(seed).shuffle(specs)
    counts = {"start": 0, "twice": 0}

    def count(event: object) -> None:
        kind, text = getattr(event, "kind", ""), getattr(event, "text", "")
        counts["start"] += kind == "start"
        counts["twice"] += "was done by another process too" in text

    run_all(specs, directory, jobs=2, observer=count, execute=fake_runs.steady)
    print(json.dumps(counts))


def measure(way: str, runs: int) -> dict[str, float]:
    """Two drivers at once in a fresh directory."""
    path = os.pathsep.join(map(str, (HERE.parent.parent, HERE.parent.parent / "tests" / "bench")))
    with tempfile.TemporaryDirectory() as folder:
        start = time.monotonic()
        drivers = [
            subprocess.Popen(
                [sys.executable, str(HERE), "--drive", way, folder, str(seed), str(runs)],
                stdout=subprocess.PIPE,
                env=os.environ | {"PYTHONPATH": path},
            )
            for seed in (0, 1)
        ]
        counts = [json.loads(driver.communicate()[0]) for driver in drivers]
        seconds = time.monotonic() - start
    started = sum(each["start"] for each in counts)
    return {"runs": runs, "started": started, "done twice": started - runs, "seconds": round(seconds, 1)}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=24)
    parser.add_argument("--drive", nargs=4, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.drive:
        way, directory, seed, runs = given.drive
        drive(way, directory, int(seed), int(runs))
    else:
        print(json.dumps({way: measure(way, given.runs) for way in WAYS}, indent=1))
