"""Kills drivers, workers and schedulers at random moments, and checks that the results do not show it.

    python scripts/kill_test.py --moments 100 --out DIR          # the report as JSON on stdout
    python scripts/kill_test.py --moments 25 --seed 2            # a quarter of it, with moments of its own

Real runs (small ones) are done over and over in fresh directories, half of them by a driver with worker processes of its
own and half by a driver, a `dask scheduler` and two `dask worker`. The first directory of each kind is left alone, and
timed; in the others, at moments drawn evenly from that time, one of the processes is killed with SIGKILL and what is gone
is started again. Whenever a directory is complete it has to hold every run once, whole, with
tables equal byte for byte to those of an uninterrupted run; and no result may ever change once it is there.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

HERE = Path(__file__).resolve()
RUNS = 10
# A directory that is not complete after this many seconds without a kill is a failure.
AT_LAST = 900.0
VICTIMS = {"local": ("driver", "worker"), "cluster": ("driver", "worker", "scheduler")}


def specs() -> list[Any]:
    """Real runs of a fraction of a second."""
    from rnnvg.bench import run_spec

    training = {"steps": 40, "eval_every": 20, "eval_size": 20, "batch": 4, "checkpoints": [0, 20]}
    settings: dict[str, Any] = {"hidden": 5, "training": training, "measure": {"sequences": 2, "wrt": ["state"]}}
    cells = ("rnn", "gru")
    return [
        run_spec({"name": "adding", "length": 6}, cells[seed % 2], seed=seed // 2, **settings) for seed in range(RUNS)
    ]


def drive(directory: str, scheduler: str | None) -> None:
    """A driver: does the runs that are in specs.json beside the directory."""
    from rnnvg.bench import RunSpec, WorkersLostError, run_all, sweep

    # Killed from outside over and over, no run is to blame.
    sweep.DEATHS = 10**9
    planned = [RunSpec.model_validate(each) for each in json.loads((Path(directory).parent / "specs.json").read_text())]
    try:
        run_all(planned, directory, jobs=2, scheduler=scheduler)
    except (WorkersLostError, ValueError) as error:  # the scheduler is gone, or not there yet
        print(error, file=sys.stderr)
        sys.exit(3)


@dataclass
class Round:
    """One directory on its way to completion: the processes that work on it.

    Attributes:
        kind: "local" or "cluster".
        directory: of the results.
        seen: path of each result.json -> what it was when it was first seen.
    """

    kind: str
    directory: Path
    log: Any
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    seen: dict[Path, tuple[int, int]] = field(default_factory=dict)

    def start_missing(self) -> None:
        """Starts whatever is not running."""
        if self.kind == "cluster":
            file = self.directory.parent / f"{self.directory.name}-scheduler.json"
            if self._gone("scheduler"):
                for name in [name for name in self.processes if name.startswith("worker")]:
                    end(self.processes.pop(name))
                file.unlink(missing_ok=True)
                loopback = ["--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(file)]
                self._start("scheduler", "-m", "dask", "scheduler", *loopback)
            until = time.monotonic() + 60
            while not written(file) and time.monotonic() < until:
                time.sleep(0.02)
            for name in ("worker-1", "worker-2"):
                if self._gone(name):
                    loopback = [
                        "--host",
                        "127.0.0.1",
                        "--nthreads",
                        "1",
                        "--no-dashboard",
                        "--scheduler-file",
                        str(file),
                    ]
                    self._start(name, "-m", "dask", "worker", *loopback)
            address = [json.loads(file.read_text())["address"]]
        else:
            address = []
        if self._gone("driver"):
            self._start("driver", str(HERE), "--drive", str(self.directory), *address)

    def done(self) -> bool:
        """Whether the driver says that everything is done."""
        driver = self.processes.get("driver")
        return driver is not None and driver.poll() == 0

    def kill(self, victim: str, choose: random.Random) -> str:
        """Kills a process of that kind, if there is one; what was killed."""
        self.look()
        if victim == "worker":
            names = ["driver"] if self.kind == "local" else [name for name in self.processes if "worker" in name]
            workers = [child for name in names for child in children(self.processes.get(name)) if is_worker(child)]
            if not workers:
                return ""
            with suppress(psutil.Error):
                choose.choice(workers).kill()
            return victim
        process = self.processes.get(victim)
        if process is None or process.poll() is not None:
            return ""
        process.send_signal(signal.SIGKILL)
        process.wait()
        return victim

    def look(self) -> None:
        """Notes the results that are there; one that changed since it was first seen ends the test."""
        for path in self.directory.glob("runs/*/result.json"):
            with suppress(FileNotFoundError):
                status = path.stat()
                sign = (status.st_mtime_ns, status.st_ino)
                assert self.seen.setdefault(path, sign) == sign, f"{path} was written twice"

    def end(self) -> None:
        for process in self.processes.values():
            end(process)

    def _gone(self, name: str) -> bool:
        process = self.processes.get(name)
        return process is None or (process.poll() is not None and not (name == "driver" and process.poll() == 0))

    def _start(self, name: str, *command: str) -> None:
        self.processes[name] = subprocess.Popen([sys.executable, *command], stdout=self.log, stderr=self.log)


def written(file: Path) -> bool:
    """Whether a scheduler has written all of its file: it does so in place."""
    with suppress(OSError, ValueError):
        return bool(json.loads(file.read_text())["address"])
    return False


def children(process: subprocess.Popen[bytes] | None) -> list[psutil.Process]:
    with suppress(psutil.Error):
        return psutil.Process(process.pid).children(recursive=True) if process else []
    return []


def is_worker(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        return "spawn_main" in " ".join(process.cmdline())
    return False


def end(process: subprocess.Popen[bytes]) -> None:
    """Ends a process and those that it started."""
    started = children(process)
    process.kill()
    process.wait()
    for each in started:
        with suppress(psutil.Error):
            each.kill()


def tables(directory: Path) -> dict[str, bytes]:
    return {name: (directory / name).read_bytes() for name in ("curves.csv", "training.csv", "horizons.csv")}


def faults(directory: Path, wanted: dict[str, bytes], ids: set[str]) -> list[str]:
    """What is wrong with a directory that is said to be complete."""
    from rnnvg.bench import Store

    reading = Store(directory).read()
    found = [f"{run} is damaged: {what}" for run, what in reading.damaged.items()]
    found += [f"missing: {sorted(ids - set(reading.results))}"] if set(reading.results) != ids else []
    found += [f"{run} ended as {r['status']}" for run, r in reading.results.items() if r["status"] != "ok"]
    found += [f"{name} differs" for name, content in tables(directory).items() if content != wanted[name]]
    found += ["something was set aside"] if (directory / "set-aside").exists() else []
    return found


def main(moments: int, out: Path, seed: int) -> dict[str, Any]:
    """Kills at so many random moments; the report."""
    from rnnvg.bench import Store, execute

    os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONPATH": str(HERE.parent.parent)}
    out.mkdir(parents=True, exist_ok=True)
    planned = specs()
    (out / "specs.json").write_text(json.dumps([spec.to_dict() for spec in planned]))
    # Uninterrupted: one after the other, in this process.
    for spec in planned:
        execute(spec, out / "uninterrupted")
    Store(out / "uninterrupted").merge()
    wanted, ids = tables(out / "uninterrupted"), {spec.id for spec in planned}
    choose, killed, wrong, complete = random.Random(seed), Counter(), [], Counter()
    takes: dict[str, float] = {}
    start = time.monotonic()
    with open(out / "log", "ab") as log:
        number = 0
        while sum(killed.values()) < moments and not wrong:
            kind = ("local", "cluster")[number % 2]
            going = Round(kind, out / f"{kind}-{number}", log)
            number += 1
            try:
                began = last = time.monotonic()
                while not going.done():
                    going.start_missing()
                    # A moment at random, that need not be one at which anything in particular happens.
                    until = time.monotonic() + (choose.uniform(0, takes[kind]) if kind in takes else 1.0)
                    while time.monotonic() < until and not going.done():
                        time.sleep(0.02)
                    if kind in takes and not going.done() and sum(killed.values()) < moments:
                        if hit := going.kill(choose.choice(VICTIMS[kind]), choose):
                            killed[f"{kind} {hit}"] += 1
                            last = time.monotonic()
                            print(f"{sum(killed.values())} of {moments}: {kind} {hit}", file=sys.stderr)
                    elif time.monotonic() - last > AT_LAST:
                        raise TimeoutError(f"{going.directory} is not complete; see {out / 'log'}")
                going.look()
                takes.setdefault(kind, time.monotonic() - began)
            finally:
                going.end()
            wrong = [f"{going.directory.name}: {fault}" for fault in faults(going.directory, wanted, ids)]
            complete[kind] += 1
            if not wrong:
                shutil.rmtree(going.directory)
    return {
        "killed": sum(killed.values()),
        "of": dict(sorted(killed.items())),
        "directories_completed": dict(complete),
        "runs_each": len(ids),
        "seconds_uninterrupted": {kind: round(seconds, 1) for kind, seconds in takes.items()},
        "faults": wrong,
        "seconds": round(time.monotonic() - start, 1),
        "seed": seed,
    }


def end_in_order(*_: object) -> None:
    """A request to end is an interrupt: what was started is ended too."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--moments", type=int, default=100)
    parser.add_argument("--out", type=Path, default=None)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--drive", nargs="+", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.drive:
        drive(asked.drive[0], asked.drive[1] if len(asked.drive) > 1 else None)
    else:
        signal.signal(signal.SIGTERM, end_in_order)
        report = main(asked.moments, asked.out or Path(tempfile.mkdtemp(prefix="rnnvg-kill-")), asked.seed)
        print(json.dumps(report, indent=1))
        sys.exit(1 if report["faults"] else 0)
