"""Run the tests as other machines would, and print what failed where.

Instruction sets, numbers of threads, an empty home directory, and other environments than this one (--python NAME=PATH).

    python scripts/portable.py                        the whole suite under every setting
    python scripts/portable.py tests/bptt tests/depth        part of it
    python scripts/portable.py --only "2 threads" tests/bptt
    python scripts/portable.py --out portable.json --resume        what did not pass yet on this commit
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from rnnvg.files import check_ours, mark_of, read_regular, write_ours

ROOT = Path(__file__).parent.parent
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
# ATen's own loops, MKL's products and oneDNN's layers each choose their instructions for themselves. PyTorch's sums differ
# between vector widths, and oneDNN has no LSTM in bfloat16 below AVX-512.
SETTINGS = {
    "ATen default": {"ATEN_CPU_CAPABILITY": "default", "MKL_ENABLE_INSTRUCTIONS": "SSE4_2", **ONE_THREAD},
    "ATen AVX2": {"ATEN_CPU_CAPABILITY": "avx2", "MKL_ENABLE_INSTRUCTIONS": "AVX2", **ONE_THREAD},
    "oneDNN SSE4.1": {"ONEDNN_MAX_CPU_ISA": "SSE41", **ONE_THREAD},
    "oneDNN AVX2": {"ONEDNN_MAX_CPU_ISA": "AVX2", **ONE_THREAD},
    "1 thread": ONE_THREAD,
    "2 threads": {"OMP_NUM_THREADS": "2", "MKL_NUM_THREADS": "2"},
    "empty home": {"HOME": "", **ONE_THREAD},  # a new directory takes the place of ""
}
HOMES = ("XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "MPLCONFIGDIR")


# What runs: the instruction set that ATen takes, which a setting may lower, and the versions that differ between environments.
MACHINE = "import numpy, torch; print(torch.backends.cpu.get_cpu_capability(), torch.__version__, numpy.__version__)"


@contextmanager
def surroundings(changes: dict[str, str]) -> Generator[dict[str, str]]:
    """The environment of a setting, with the home directory that it may need for as long as it runs."""
    with tempfile.TemporaryDirectory() as home:
        # The tests and the package of this checkout, also where the environment has another one installed.
        environment = {**os.environ, **changes, "PYTHONPATH": str(ROOT)}
        if changes.get("HOME") == "":
            environment["HOME"] = home
            for name in HOMES:
                environment.pop(name, None)
        yield environment


def machine(python: str, changes: dict[str, str]) -> str:
    """The instruction set and the versions of PyTorch and NumPy under a setting."""
    with surroundings(changes) as environment:
        return _output([python, "-c", MACHINE], environment)[0][-1]


def run(python: str, changes: dict[str, str], arguments: tuple[str, ...], processes: int) -> dict[str, Any]:
    """What became of the tests: outcome, counts, seconds, failed (test -> first line of why), last (pytest's line).

    A run without a report is a failure of its own.
    """
    began = time.monotonic()
    with surroundings(changes) as environment, tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.xml")
        parallel = ("-n", str(processes), "--dist", "loadgroup")
        options = ("-p", "no:cacheprovider", *parallel, f"--junitxml={report}")
        lines, status = _output([python, "-m", "pytest", *options, *arguments], environment)
        counts, failed = _found(report) if report.exists() else ({}, {})
    if status and not failed:
        failed = {"the run itself": lines[-1]}
    return {
        "outcome": "failed" if failed else "passed",
        "counts": counts,
        "seconds": round(time.monotonic() - began, 1),
        "failed": failed,
        "last": lines[-1].strip("= "),
    }


def _output(command: list[str], environment: dict[str, str]) -> tuple[list[str], int]:
    """The lines that a program prints, and its exit status."""
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    return [line for line in done.stdout.splitlines() if line.strip()] or ["no output"], done.returncode


def _found(report: Path) -> tuple[dict[str, int], dict[str, str]]:
    """How many tests ran, failed and were skipped, and what failed, as pytest's report has them."""
    counts, failed = {"tests": 0, "failed": 0, "skipped": 0}, {}
    for case in ElementTree.parse(report).iter("testcase"):
        faults = [*case.findall("failure"), *case.findall("error")]
        counts["tests"] += 1
        counts["failed"] += bool(faults)
        counts["skipped"] += case.find("skipped") is not None
        for fault in faults:
            name = f"{case.get('classname')}::{case.get('name')}"
            failed[name] = ((fault.get("message") or "").splitlines() or ["no message"])[0][:120]
    return counts, failed


def commit() -> str | None:
    """The commit that this checkout is at; None where it has changes, or is no checkout."""
    git = ["git", "-C", str(ROOT)]
    try:
        changes = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, check=True)
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return None if changes.stdout.strip() else head.stdout.strip()


def table(results: dict[str, dict[str, str]]) -> str:
    """A row per test that failed anywhere, with where and why."""
    tests = sorted({test for failed in results.values() for test in failed})
    if not tests:
        return "Nothing failed."
    rows = []
    for test in tests:
        where = [setting for setting, failed in results.items() if test in failed]
        rows.append(f"{test}\n    {', '.join(where)}\n    {results[where[0]][test]}")
    return "\n".join(rows)


def earlier_results(out: str) -> dict[str, dict[str, Any]]:
    """What a file of results holds: setting -> what `run` found; nothing where there is no file yet."""
    try:
        check_ours(out, mark_of(".json", '{"settings": {}}'), "--out")
        return json.loads(read_regular(out, "--out"))["settings"] if os.path.exists(out) else {}
    except ValueError as error:  # another's file, or one that was cut
        raise click.UsageError(f"{out}: {error}") from error


@click.command(help=__doc__)
@click.argument("tests", nargs=-1)
@click.option("--only", multiple=True, help="A setting's name; may be repeated. All by default.")
@click.option(
    "--python", "pythons", multiple=True, metavar="NAME=PATH", help="Another environment's Python, run as it is."
)
@click.option("-n", "processes", default=2, show_default=True, help="Processes of pytest.")
@click.option("--out", type=click.Path(dir_okay=False), help="A JSON file for the outcome of each setting.")
@click.option(
    "--resume", is_flag=True, help="Skip the settings that passed the same tests on the same commit in --out."
)
def main(
    tests: tuple[str, ...],
    only: tuple[str, ...],
    pythons: tuple[str, ...],
    processes: int,
    out: str | None,
    resume: bool,
) -> None:
    """Run every setting and exit with 1 where a test failed in one."""
    runs = {name: (sys.executable, changes) for name, changes in SETTINGS.items()}
    for each in pythons:
        name, _, path = each.partition("=")
        runs[name] = (path, ONE_THREAD)
    unknown = set(only) - set(runs)
    if unknown:
        raise click.UsageError(f"no setting {', '.join(sorted(unknown))}; there are {', '.join(runs)}.")
    if resume and not out:
        raise click.UsageError("--resume reads the file of an earlier run: pass it with --out FILE.")
    before = earlier_results(out) if out else {}
    at, results = commit(), {}
    for name in only or runs:
        python, changes = runs[name]
        what = {"commit": at, "arguments": list(tests), "python": python, "machine": machine(python, changes)}
        earlier = before.get(name, {})
        if resume and at and earlier.get("outcome") == "passed" and what.items() <= earlier.items():
            results[name] = earlier
            print(f"{name:>14}  passed before  {what['machine']}  {earlier['last']}", flush=True)
            continue
        found = results[name] = {**what, **run(python, changes, tests, processes)}
        if out:
            write_ours(out, json.dumps({"settings": {**before, **results}}, indent=1) + "\n", "--out")
        print(f"{name:>14}  {found['seconds'] / 60:5.1f} min  {what['machine']}  {found['last']}")
        print("".join(f"{'':>16}{test}: {why}\n" for test, why in found["failed"].items()), end="", flush=True)
    failed = {name: found["failed"] for name, found in results.items()}
    print(f"\n{table(failed)}")
    sys.exit(any(failed.values()))


if __name__ == "__main__":
    main()
