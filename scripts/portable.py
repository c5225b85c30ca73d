"""Run the tests as other machines would, and print what failed where.

Instruction sets, numbers of threads, an empty home directory, and other environments than this one (--python NAME=PATH).

    python scripts/portable.py                        the whole suite under every setting
    python scripts/portable.py tests/bptt tests/depth        part of it
    python scripts/portable.py --only "2 threads" tests/bptt
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import click

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


def run(python: str, changes: dict[str, str], arguments: tuple[str, ...], processes: int) -> tuple[dict[str, str], str]:
    """What failed (test -> first line of why) and pytest's last line; a run without a report is a failure of its own."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, **changes}
        if changes.get("HOME") == "":
            environment["HOME"] = str(Path(folder, "home"))
            Path(folder, "home").mkdir()
            for name in HOMES:
                environment.pop(name, None)
        report = Path(folder, "report.xml")
        command = [
            python,
            "-m",
            "pytest",
            "-p",
            "no:cacheprovider",
            "-n",
            str(processes),
            "--dist",
            "loadgroup",
            f"--junitxml={report}",
        ]
        done = subprocess.run(
            [*command, *arguments],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        lines = [line for line in done.stdout.splitlines() if line.strip()] or ["no output"]
        failed = _failures(report) if report.exists() else {}
        if done.returncode and not failed:
            failed = {"the run itself": lines[-1]}
        return failed, lines[-1].strip("= ")


def _failures(report: Path) -> dict[str, str]:
    found = {}
    for case in ElementTree.parse(report).iter("testcase"):
        for fault in (*case.findall("failure"), *case.findall("error")):
            found[f"{case.get('classname')}::{case.get('name')}"] = (fault.get("message") or "").splitlines()[0][:120]
    return found


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


@click.command(help=__doc__)
@click.argument("tests", nargs=-1)
@click.option("--only", multiple=True, help="A setting's name; may be repeated. All by default.")
@click.option(
    "--python", "pythons", multiple=True, metavar="NAME=PATH", help="Another environment's Python, run as it is."
)
@click.option("-n", "processes", default=2, show_default=True, help="Processes of pytest.")
def main(tests: tuple[str, ...], only: tuple[str, ...], pythons: tuple[str, ...], processes: int) -> None:
    """Run every setting and exit with 1 where a test failed in one."""
    runs = {name: (sys.executable, changes) for name, changes in SETTINGS.items()}
    for each in pythons:
        name, _, path = each.partition("=")
        runs[name] = (path, ONE_THREAD)
    unknown = set(only) - set(runs)
    if unknown:
        raise click.UsageError(f"no setting {', '.join(sorted(unknown))}; there are {', '.join(runs)}.")
    results = {}
    for name in only or runs:
        python, changes = runs[name]
        began = time.monotonic()
        results[name], last = run(python, changes, tests, processes)
        print(f"{name:>14}  {(time.monotonic() - began) / 60:5.1f} min  {last}")
        print("".join(f"{'':>16}{test}: {why}\n" for test, why in results[name].items()), end="", flush=True)
    print(f"\n{table(results)}")
    sys.exit(any(results.values()))


if __name__ == "__main__":
    main()
