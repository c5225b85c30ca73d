"""What `rnnvg compare` spends above the floor: PyTorch's own forward, loss, backward and optimiser step of the same work.

    .venv/bin/python scripts/measure_compare.py                          # the default comparison, and compare.json
    .venv/bin/python scripts/measure_compare.py --max-steps 200          # a shorter one
    .venv/bin/python scripts/measure_compare.py --directory runs/compare # of one that is done: its runs alone

Every run measures its own floor in its own process, right after its training. Seconds of runs are added over processes;
`wall` is what a person waits.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from itertools import groupby
from pathlib import Path
from typing import Any

import click

from rnnvg.bench.estimate import spent
from rnnvg.bench.record import processor
from rnnvg.bench.store import Store
from rnnvg.files import write_ours


def kind(result: dict[str, Any]) -> str:
    return f"{result['spec']['task']['name']} {result['spec']['cell']}"


@click.command()
@click.option("--directory", type=click.Path(exists=True, file_okay=False), help="A comparison that is done.")
@click.option("--max-steps", type=int, help="No run gets more training steps than this.")
@click.option("--text", default="shakespeare", show_default=True, help="What next-word reads.")
@click.option("--jobs", default=2, show_default=True, help="Worker processes.")
@click.option("--out", default="compare.json", show_default=True, help="Where to write the numbers.")
def main(directory: str | None, max_steps: int | None, text: str, jobs: int, out: str) -> None:
    """Measure the default comparison, or read off one that is done."""
    found: dict[str, Any] = {"processor": processor(), "jobs": jobs, "max_steps": max_steps}
    with tempfile.TemporaryDirectory() as fresh:
        if directory is None:
            limit = [] if max_steps is None else ["--max-steps", str(max_steps)]
            command = [sys.executable, "-m", "rnnvg", "compare", "--text", text, "--jobs", str(jobs), "--out", fresh]
            start = time.perf_counter()
            subprocess.run([*command, *limit, "--quiet"], check=True, stdout=subprocess.DEVNULL)
            found["wall"] = time.perf_counter() - start
        results = list(Store(Path(directory or fresh)).read().results.values())
    rows = []
    for name, members in groupby(sorted(results, key=kind), kind):
        group = list(members)
        total = spent(group)
        if total is None:
            continue
        steps = sum(each["steps"] for each in group)
        row = {"runs": name, "steps": steps, "step_ms": 1e3 * total.training / steps, "ratio": total.ratio}
        row |= {"floor_ms": 1e3 * total.floor / steps, "measuring_share": total.share}
        rows.append(row)
        click.echo(
            f"{name:20s}{row['step_ms']:8.2f} ms a step{row['floor_ms']:8.2f} floor{row['ratio']:6.2f}"
            f"{100 * row['measuring_share']:6.0f} % measuring"
        )
    whole = spent(results)
    if whole is None:
        raise click.ClickException("No run there has recorded its floor.")
    found |= {"rows": rows, "training": whole.training, "floor": whole.floor, "measuring": whole.measuring}
    found |= {"ratio": whole.ratio, "measuring_share": whole.share}
    click.echo(f"{whole}.")
    write_ours(out, json.dumps(found, indent=1), "--out")


if __name__ == "__main__":
    main()
