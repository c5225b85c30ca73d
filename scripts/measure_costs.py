"""What large inputs cost: CPU seconds and peak memory of what should take no more than its output needs. JSON on stdout.

    .venv/bin/python scripts/measure_costs.py                           # every case, some minutes
    .venv/bin/python scripts/measure_costs.py --only 'report,plot-*'    # some of them
    .venv/bin/python scripts/measure_costs.py --out costs.json

Every case runs in a process of its own with one thread. `before_mb` is its resident memory once everything is imported and
its input exists, `peak_mb` the largest that it had afterwards: the difference is what the call took.
"""

from __future__ import annotations

import contextlib
import fnmatch
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

Call = Callable[[], object]
SEEDS = 34  # of nine networks: 306 runs


def write_runs(folder: Path, seeds: int = SEEDS, cells: tuple[str, ...] = ("rnn", "lstm", "gru")) -> None:
    """A comparison of 9 `seeds` runs: three real ones a task, and the same tables again for the other seeds."""
    from rnnvg.bench import Store, defaults, execute
    from rnnvg.bench.record import record

    grid = defaults.comparison(None, cells, 1, "agreement", 40, lambda line: None)
    store = Store(folder)
    for spec in grid.runs():
        done = execute(spec, folder)
        texts = {
            name: (store.folder(spec.id) / name).read_text(encoding="utf-8")
            for name in done["files"]
            if ".safe" not in name
        }
        for seed in range(1, seeds):
            other = spec.model_copy(update={"seed": seed})
            store.publish(record(other, done | {"id": other.id, "spec": other.to_dict()}), texts)
    store.merge()


def cli(*arguments: object) -> Call:
    """A command of rnnvg, its output thrown away."""
    from rnnvg.cli import main

    def call() -> None:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            main.main([str(each) for each in arguments], prog_name="rnnvg", standalone_mode=False)

    return call


def of_runs(*arguments: str) -> Callable[[Path], Call]:
    return lambda folder: cli(
        *(each.replace("RUNS", str(folder / "runs")).replace("HERE", str(folder)) for each in arguments)
    )


def example(task: str, setting: str) -> Callable[[Path], Call]:
    return lambda folder: cli("tasks", "show", task, "--set", setting)


def profile(sources: int, steps: int, sequences: int = 1) -> Any:
    """A profile of `sources` spread over `steps`, with the decay of a trained network."""
    import numpy as np

    from rnnvg.bptt import GradientProfile

    at = np.round((np.arange(sources) + 1) * steps / sources).astype(int) - 1
    distance = np.arange(steps + 1)
    random = np.random.default_rng(0)
    log_norm = -0.01 * distance[None, :, None] + 0.1 * random.standard_normal((sources, steps + 1, sequences))
    log_norm[distance[None, :] > at[:, None] + 1] = np.nan
    return GradientProfile(log_norm, at, distance, "state")


def of_profile(what: str, *arguments: Any, sources: int, steps: int, sequences: int = 1) -> Callable[[Path], Call]:
    def prepare(folder: Path) -> Call:
        import matplotlib.figure  # noqa: F401
        import pandas  # noqa: F401

        found = profile(sources, steps, sequences)
        if what == "load":
            found.save(folder / "saved.npz")
            return lambda: type(found).load(folder / "saved.npz")
        given = [folder / each if isinstance(each, Path) else each for each in arguments]
        return lambda: drawn(getattr(found, what)(*given))

    return prepare


def drawn(found: Any) -> Any:
    """`found`, and where it is axes their figure as a PNG."""
    if hasattr(found, "figure"):
        found.figure.savefig(io.BytesIO(), format="png")
    return found


def contributions(steps: int, method: str = "") -> Callable[[Path], Call]:
    def prepare(folder: Path) -> Call:
        import torch

        from rnnvg import temporal_contributions

        torch.manual_seed(0)
        module, inputs = torch.nn.LSTM(8, 32), torch.randn(steps, 2, 8)
        grad = torch.zeros(steps, 2, 32)
        grad[-1] = 1
        if not method:
            return lambda: temporal_contributions(module, inputs, output_grad=grad)
        import matplotlib.figure  # noqa: F401

        found = temporal_contributions(module, inputs, output_grad=grad)
        return lambda: drawn(getattr(found, method)())

    return prepare


def of_module(name: str, steps: int, method: str = "", **settings: Any) -> Callable[[Path], Call]:
    """A public measurement of an LSTM of 32 units over `steps` steps, or a method of what it gives."""

    def prepare(folder: Path) -> Call:
        import matplotlib.figure  # noqa: F401
        import torch

        import rnnvg

        torch.manual_seed(0)
        module, inputs = torch.nn.LSTM(8, 32), torch.randn(steps, 2, 8)
        measure = getattr(rnnvg, name)
        if not method:
            return lambda: measure(module, inputs, **settings)
        found = measure(module, inputs, **settings)
        return lambda: drawn(getattr(found, method)())

    return prepare


def horizon(points: int) -> Callable[[Path], Call]:
    def prepare(folder: Path) -> Call:
        import numpy as np

        from rnnvg import memory_horizon

        gain = -1e-7 * np.arange(points) - 0.01 * np.sin(np.arange(points))
        return lambda: memory_horizon(gain)

    return prepare


def pooled(name: str, models: int) -> Callable[[Path], Call]:
    def prepare(folder: Path) -> Call:
        import numpy as np
        import scipy.stats  # noqa: F401

        import rnnvg.horizon as home

        lasts = np.random.default_rng(0).geometric(1e-4, (2, models))
        one, two = ([home.MemoryHorizon(0.1, int(k), None, False, -0.1, None) for k in row] for row in lasts)
        if name == "compare_horizons":
            return lambda: home.compare_horizons(one, two)
        return lambda: getattr(home, name)(one)

    return prepare


PROFILE = {"sources": 3000, "steps": 3000}
TASKS = {
    "copy": "delay",
    "adding": "length",
    "variable-copy": "delay",
    "selective-copy": "length",
    "temporal-order": "length",
    "delayed-recall": "delay",
    "noisy-recall": "delay",
    "multiplication": "length",
    "parity": "length",
}
CASES: dict[str, Callable[[Path], Call]] = {
    "report-306": of_runs("report", "RUNS", "--quiet"),
    "export-306": of_runs("bench", "export", "RUNS", "--out", "HERE/export"),
    "status-306": of_runs("bench", "status", "RUNS"),
    "verdicts-306": of_runs("bench", "verdicts", "RUNS"),
    "bench-compare-306": of_runs("bench", "compare", "RUNS", "RUNS"),
    "plot-all-3000": of_profile("plot", **PROFILE),
    "plot-all-3000-B4": of_profile("plot", sequences=4, **PROFILE),
    "notebook-all-3000": of_profile("_repr_html_", **PROFILE),
    "curve-all-3000": of_profile("curve", **PROFILE),
    "horizon-all-3000": of_profile("horizon", **PROFILE),
    "frame-all-3000": of_profile("to_frame", **PROFILE),
    "save-all-3000": of_profile("save", Path("saved.npz"), **PROFILE),
    "load-all-3000": of_profile("load", **PROFILE),
    "plot-one-1000000": of_profile("plot", sources=1, steps=10**6),
    "notebook-one-1000000": of_profile("_repr_html_", sources=1, steps=10**6),
    "curve-one-1000000": of_profile("curve", sources=1, steps=10**6),
    "curve-one-1000000-B32": of_profile("curve", sources=1, steps=10**6, sequences=32),
    "contributions-10000": contributions(10_000),
    "contributions-100000": contributions(100_000),
    "contributions-100000-plot": contributions(100_000, "plot"),
    "contributions-100000-notebook": contributions(100_000, "_repr_html_"),
    "horizon-10000000": horizon(10**7),
    "lyapunov-10000": of_module("lyapunov_spectrum", 10_000, n_exponents=3),
    "lyapunov-100000": of_module("lyapunov_spectrum", 100_000, n_exponents=3),
    "attribution-1000": of_module("attribute_decay", 1000),
    "attribution-10000": of_module("attribute_decay", 10_000),
    "attribution-10000-notebook": of_module("attribute_decay", 10_000, "_repr_html_"),
    **{
        f"{name}-{models}": pooled(name, models)
        for name in ("pool_horizons", "horizon_survival", "compare_horizons")
        for models in (1000, 10_000)
    },
    **{f"tasks-show-{task}-10000000": example(task, f"{setting}={10**7}") for task, setting in TASKS.items()},
}


def peak_mb() -> float:
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 1024


def measure(name: str, folder: Path) -> dict[str, Any]:
    """One case in this process."""
    call = CASES[name](folder)
    before, start = peak_mb(), time.process_time()
    outcome = "done"
    try:
        call()
    except Exception as error:
        outcome = f"{type(error).__name__}: {error}"[:200]
    seconds = time.process_time() - start
    found = {"case": name, "cpu_seconds": round(seconds, 2), "before_mb": round(before), "peak_mb": round(peak_mb())}
    return found if outcome == "done" else found | {"ended": outcome}


@click.command()
@click.option("--only", default="*", help="Cases, with commas between them; * stands for anything.")
@click.option("--out", type=click.Path(dir_okay=False), help="Where to write the JSON; stdout otherwise.")
@click.option("--limit", default=300, show_default=True, help="Seconds after which a case is given up.")
@click.option(
    "--runs", type=click.Path(file_okay=False), help="A results directory for the cases of runs; made by default."
)
@click.option("--case", hidden=True)
@click.option("--folder", hidden=True, type=click.Path(path_type=Path))
def main(only: str, out: str | None, limit: int, runs: str | None, case: str | None, folder: Path | None) -> None:
    """Measure what large inputs cost."""
    if case and folder:
        if case == "runs":
            write_runs(folder / "runs")
        else:
            click.echo(json.dumps(measure(case, folder)))
        return
    names = [name for name in CASES if any(fnmatch.fnmatch(name, each) for each in only.split(","))]
    rows = []
    with tempfile.TemporaryDirectory() as place:
        if runs:
            (Path(place) / "runs").symlink_to(Path(runs).resolve())
        elif any(name.endswith("-306") for name in names):
            _alone("runs", place, 600)
        for name in names:
            rows.append(_alone(name, place, limit))
            click.echo(json.dumps(rows[-1]), err=True)
    text = json.dumps(rows, indent=1) + "\n"
    if out:
        Path(out).write_text(text, encoding="utf-8")
    else:
        click.echo(text, nl=False)


def _alone(case: str, place: str, limit: int) -> dict[str, Any]:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    command = [sys.executable, __file__, "--case", case, "--folder", place]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=limit, check=False)
    except subprocess.TimeoutExpired:
        return {"case": case, "ended": f"given up after {limit} s"}
    if done.returncode:
        return {"case": case, "ended": (done.stderr.strip() or f"exit {done.returncode}").splitlines()[-1][:200]}
    return json.loads(done.stdout) if done.stdout else {}


if __name__ == "__main__":
    main()
