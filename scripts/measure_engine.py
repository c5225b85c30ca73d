"""What the engine costs, as ratios to the work people do already, and how it grows.

    .venv/bin/python scripts/measure_engine.py                     # a table, and engine.json
    .venv/bin/python scripts/measure_engine.py --only ratios --threads 1

Each ratio is the median over repeats of profile time / peer time, measured in turn in one process, so that a machine whose
speed drifts does not decide it. Peers are built here from PyTorch alone. Every thread count gets a process of its own.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import click

DENORMAL_ROW = "profile / fused forward+backward as PyTorch runs it, gradients vanish"
BUDGETS = {
    "profile / fused forward+backward, denormals flushed": 0.8,
    "profile / hand-unrolled cells with retain_grad, denormals flushed": 0.5,
    DENORMAL_ROW: 0.2,
    "all sources / T retained backward passes (GRU)": 1 / 30,
    "training step under watch / without": 1.05,
}
SLOWED = 1.5  # a machine whose own backward pass takes less than so many times as long on denormal numbers has no such budget
# glibc gives large blocks back and takes fresh pages for the next call, whose first touch costs as much as the work itself.
ALLOCATOR = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**36), "MALLOC_TOP_PAD_": str(2**26)}
SHAPE = {"T": 500, "B": 32, "H": 128}
ALL = {"T": 400, "B": 8, "H": 128}


def pairs(one: Callable[[], Any], two: Callable[[], Any], repeats: int) -> dict[str, float]:
    """Median seconds of both and the median of the ratios, run in turn after a warm-up."""
    one()
    two()
    first, second = [], []
    for _ in range(repeats):
        first.append(seconds(one))
        second.append(seconds(two))
    ratios = [a / b for a, b in zip(first, second, strict=True)]
    return {
        "ratio": statistics.median(ratios),
        "low": min(ratios),
        "high": max(ratios),
        "seconds": statistics.median(first),
        "peer_seconds": statistics.median(second),
    }


def seconds(run: Callable[[], Any]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def measure_ratios(repeats: int) -> dict[str, dict[str, float]]:
    """Every row of BUDGETS, and the dense Jacobians of torch.func for comparison."""
    import torch
    from torch import nn

    import rnnvg

    T, B, H = SHAPE.values()
    torch.manual_seed(0)
    lstm, x = nn.LSTM(H, H), torch.randn(T, B, H)
    cell = nn.LSTMCell(H, H)

    def profile() -> None:
        rnnvg.gradient_profile(lstm, x)

    def fused() -> None:
        lstm.zero_grad()
        lstm(x)[0][-1].sum().backward()

    def unrolled() -> None:
        cell.zero_grad()
        h, c = torch.zeros(B, H), torch.zeros(B, H)
        states = []
        for t in range(T):
            h, c = cell(x[t], (h, c))
            h.retain_grad()
            c.retain_grad()
            states.append((h, c))
        h.sum().backward()
        [(a.grad.norm(), b.grad.norm()) for a, b in states]

    names = iter(BUDGETS)
    found = {}
    torch.set_flush_denormal(True)
    found[next(names)] = pairs(profile, fused, repeats)
    found[next(names)] = pairs(profile, unrolled, repeats)
    torch.set_flush_denormal(False)
    found[next(names)] = pairs(profile, fused, repeats)

    def flushed() -> None:
        torch.set_flush_denormal(True)
        fused()
        torch.set_flush_denormal(False)

    found["fused forward+backward as PyTorch runs it / denormals flushed"] = pairs(fused, flushed, repeats)
    torch.set_flush_denormal(True)

    gru, y = nn.GRU(ALL["H"], ALL["H"]), torch.randn(ALL["T"], ALL["B"], ALL["H"])
    gru_cell = nn.GRUCell(ALL["H"], ALL["H"])

    def all_sources() -> None:
        rnnvg.gradient_profile(gru, y, sources="all")

    def retained() -> None:
        h = torch.zeros(ALL["B"], ALL["H"], requires_grad=True)
        states = [h]
        for t in range(ALL["T"]):
            states.append(gru_cell(y[t], states[-1]))
            states[-1].retain_grad()
        for t in range(ALL["T"]):
            for state in states:
                state.grad = None
            states[t + 1].sum().backward(retain_graph=True)

    found[next(names)] = pairs(all_sources, retained, max(1, repeats // 5))

    def step() -> None:
        fused()

    def watched() -> None:
        with rnnvg.watch(lstm):
            fused()

    found[next(names)] = pairs(watched, step, 3 * repeats)

    weights = [parameter.detach() for parameter in cell.parameters()]

    def one(state: torch.Tensor, x_t: torch.Tensor) -> torch.Tensor:
        h, c = state.split(H)
        z = weights[0] @ x_t + weights[1] @ h + weights[2] + weights[3]
        i, f, g, o = z.split(H)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        return torch.cat([torch.sigmoid(o) * torch.tanh(c), c])

    jacobian = torch.func.vmap(torch.func.jacrev(one))
    states = torch.zeros(B, 2 * H)

    def dense() -> None:
        for t in range(10):
            jacobian(states, x[t])

    def tenth() -> None:
        rnnvg.gradient_profile(lstm, x[:10])

    found["profile / dense Jacobians by torch.func.jacrev, 10 steps"] = pairs(tenth, dense, repeats)
    return found


def measure_growth(repeats: int) -> list[dict[str, float | str]]:
    """Seconds and peak memory above the inputs as T, H or the number of sources grows (LSTM, B = 8, float32)."""
    rows: list[dict[str, float | str]] = []
    for vary, values in (
        ("T", (100, 300, 1000, 3000, 10_000, 30_000, 100_000)),
        ("H", (32, 64, 128, 256, 512, 1024)),
        ("sources", (1, 3, 10, 30, 100, 300)),
    ):
        for value in values:
            settings = {"T": 300, "H": 128, "sources": 1} | {vary: value}
            done = subprocess.run(
                [
                    sys.executable,
                    __file__,
                    "--one",
                    json.dumps({**settings, "repeats": repeats if value < 10_000 else 1}),
                ],
                capture_output=True,
                text=True,
                check=True,
            )
            rows.append({"vary": vary, **settings, **json.loads(done.stdout)})
    return rows


def measure_one(T: int, H: int, sources: int, repeats: int) -> dict[str, float]:
    """One size in a fresh process: median seconds, and peak resident memory above what the inputs and torch take."""
    import torch
    from torch import nn

    import rnnvg

    torch.manual_seed(0)
    module, x = nn.LSTM(H, H), torch.randn(T, 8, H)
    rnnvg.gradient_profile(module, x[:10])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    times = [seconds(lambda: rnnvg.gradient_profile(module, x, sources=sources)) for _ in range(repeats)]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return {"seconds": statistics.median(times), "peak_mib": peak / 1024}


def draw_growth(rows: list[dict[str, Any]], path: str) -> None:
    """Seconds and memory against T, H and the number of sources, on log axes."""
    from matplotlib.figure import Figure

    from rnnvg.files import write_ours
    from rnnvg.report.svg import to_bytes

    figure = Figure(figsize=(9.6, 4.8), layout="constrained")
    axes = figure.subplots(2, 3, sharex="col")
    labels = {"T": "steps T (H = 128)", "H": "width H (T = 300)", "sources": "sources (T = 300, H = 128)"}
    for column, (vary, label) in enumerate(labels.items()):
        chosen = [row for row in rows if row["vary"] == vary]
        for row, (key, unit) in enumerate((("seconds", "seconds"), ("peak_mib", "peak memory above inputs (MiB)"))):
            ax = axes[row, column]
            ax.loglog(
                [each[vary] for each in chosen],
                [max(each[key], 0.1 if row else 0) for each in chosen],
                "o-",
                color="#0072B2",
            )
            ax.grid(alpha=0.3)
            if row:
                ax.set_xlabel(label)
            if not column:
                ax.set_ylabel(unit)
    write_ours(path, to_bytes(figure, os.path.splitext(path)[1], 130), "--figure")


def table(found: dict[str, Any]) -> str:
    lines = []
    lines.append(f"{found['versions']['instructions']}; {found['allocator']}")
    for threads, rows in found["ratios"].items():
        lines.append(f"\n{threads} thread{'s' if threads != '1' else ''}")
        slowed = rows["fused forward+backward as PyTorch runs it / denormals flushed"]["ratio"]
        for name, row in rows.items():
            budget = f"at most {BUDGETS[name]:.3f}" if name in BUDGETS else ""
            if name == DENORMAL_ROW and slowed < SLOWED:
                budget = f"no budget: denormal numbers slow PyTorch {slowed:.2f} times here"
            lines.append(f"  {name:72s} {row['ratio']:7.3f}  ({row['low']:.3f} to {row['high']:.3f})  {budget}")
    for row in found["growth"]:
        sizes = f"T={row['T']} H={row['H']} sources={row['sources']}"
        lines.append(f"  {sizes:40s} {row['seconds'] * 1e3:10.1f} ms  {row['peak_mib']:8.1f} MiB")
    return "\n".join(lines)


@click.command(help=__doc__)
@click.option("--threads", default="1,2", show_default=True, help="Thread counts, comma-separated.")
@click.option("--repeats", default=7, show_default=True, help="Measurements behind each median.")
@click.option("--only", type=click.Choice(["ratios", "growth"]), help="Leave the other part out.")
@click.option("--out", default="engine.json", show_default=True, help="Where the JSON goes.")
@click.option("--figure", help="Also draw how the cost grows, to this file.")
@click.option("--inner", is_flag=True, hidden=True)
@click.option("--one", hidden=True)
def main(
    threads: str, repeats: int, only: str | None, out: str, figure: str | None, inner: bool, one: str | None
) -> None:
    if one:
        click.echo(json.dumps(measure_one(**json.loads(one))))
        return
    if inner:
        click.echo(json.dumps(measure_ratios(repeats)))
        return
    import torch

    found: dict[str, Any] = {
        "versions": {
            "torch": torch.__version__,
            "python": platform.python_version(),
            "instructions": torch.backends.cpu.get_cpu_capability(),
        },
        "allocator": "freed memory is kept for the next call, so that no call pays for fresh pages",
        "ratios": {},
        "growth": [],
    }
    if only != "growth":
        for count in threads.split(","):
            environment = os.environ | ALLOCATOR | {"OMP_NUM_THREADS": count, "MKL_NUM_THREADS": count}
            command = [sys.executable, __file__, "--inner", "--repeats", str(repeats)]
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
            found["ratios"][count] = json.loads(done.stdout)
    if only != "ratios":
        found["growth"] = measure_growth(max(1, repeats // 2))
        if figure:
            draw_growth(found["growth"], figure)
    from rnnvg.files import write_ours

    write_ours(out, json.dumps(found, indent=1), "--out")
    click.echo(table(found))


if __name__ == "__main__":
    main()
