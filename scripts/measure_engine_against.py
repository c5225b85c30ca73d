"""The sweep of this checkout against another checkout's, by turns in two processes: `measure_engine.py --against PATH`.

Run by itself it is one side of that: it computes the case whose name each line of its input holds, and answers with the times.
"""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import click
from measure_engine import ratios, taken

CASES = {
    "LSTM, one source, T=500 B=32 H=128": ("LSTM", 500, 32, 128, "last"),
    "GRU, all sources, T=200 B=8 H=128": ("GRU", 200, 8, 128, "all"),
    "RNN, one source, T=2000 B=32 H=64": ("RNN", 2000, 32, 64, "last"),
    "LSTM, one source, T=50 B=32 H=64": ("LSTM", 50, 32, 64, "last"),
}


def serve() -> None:
    """Runs a case for every line with its name and answers with its times: one side of `--against`."""
    import torch
    from torch import nn

    import rnnvg

    torch.set_flush_denormal(True)
    works = {}
    for case, (name, T, B, H, sources) in CASES.items():
        torch.manual_seed(0)
        works[case] = (getattr(nn, name)(H, H), torch.randn(T, B, H), sources)
    print(json.dumps(rnnvg.__file__), flush=True)
    for line in sys.stdin:
        module, x, sources = works[line.strip()]
        print(json.dumps(taken(lambda m=module, x=x, s=sources: rnnvg.gradient_profile(m, x, sources=s))), flush=True)


def measure_against(other: str, repeats: int, environment: dict[str, str]) -> dict[str, dict[str, float]]:
    """This checkout's sweep over another's, in two processes that take turns."""
    with ExitStack() as stack:
        sides = []
        for checkout in (Path(__file__).resolve().parent.parent, Path(other).resolve()):
            process = subprocess.Popen(
                [sys.executable, __file__],
                env=environment | {"PYTHONPATH": str(checkout)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            stack.enter_context(process)
            stack.callback(process.kill)
            assert process.stdin is not None
            assert process.stdout is not None
            imported = Path(json.loads(process.stdout.readline()))
            if imported.parent.parent != checkout:
                raise click.UsageError(f"`--against` is {other!r}, and there {imported} is imported; pass a checkout.")
            sides.append((process.stdin, process.stdout))

        def ask(side: int, case: str) -> tuple[float, float]:
            stdin, stdout = sides[side]
            print(case, file=stdin, flush=True)
            clock, processor = json.loads(stdout.readline())
            return clock, processor

        found = {}
        for case in CASES:
            for side in (0, 1, 0, 1):
                ask(side, case)
            found[case] = ratios([(ask(0, case), ask(1, case)) for _ in range(3 * repeats)])
        return found


if __name__ == "__main__":
    serve()
