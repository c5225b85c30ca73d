"""What the engine costs, as ratios to the work people do already, and how it grows.

    .venv/bin/python scripts/measure_engine.py                       # a table, and engine.json: two minutes of a quiet machine
    .venv/bin/python scripts/measure_engine.py --only growth --figure docs/cost.png
    .venv/bin/python scripts/measure_engine.py --only busy           # beside as many busy processes as there are cores
    .venv/bin/python scripts/measure_engine.py --against ../older    # this checkout's sweep over another checkout's

Both sides of a ratio are run in turn, so that a machine whose speed drifts does not decide it, and each ratio is a median.
On a machine that others use too, the ratio of processor time at one thread is the one to read. Peers are built here from
PyTorch alone. Every thread count gets a process of its own.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import click

DENORMAL_ROW = "profile / fused forward+backward as PyTorch runs it, gradients vanish"
SLOWED_ROW = "fused forward+backward as PyTorch runs it / denormals flushed"
BUDGETS = {
    "profile / fused forward+backward, denormals flushed": 0.8,
    "profile / hand-unrolled cells with retain_grad, denormals flushed": 0.5,
    DENORMAL_ROW: 0.2,
    "all sources / T retained backward passes (GRU)": 1 / 30,
    "training step under watch / without": 1.05,
}
BUSY = {"profile": 3.0, "fused forward+backward": None}  # beside busy processes / alone
LOST = 1.03  # of the sweep's time, against another checkout
SLOWED = 1.5  # a machine whose own backward pass takes less than so many times as long on denormal numbers has no such budget
# glibc gives large blocks back and takes fresh pages for the next call, whose first touch costs as much as the work itself.
ALLOCATOR = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**36), "MALLOC_TOP_PAD_": str(2**26)}
SHAPE = {"T": 500, "B": 32, "H": 128}
ALL = {"T": 400, "B": 8, "H": 128}
RETAINED = 10  # backward passes that are timed, from sources spread evenly, in place of all T


def taken(run: Callable[[], Any]) -> tuple[float, float]:
    """Seconds by the clock, and of the processor."""
    processor, start = time.process_time(), time.perf_counter()
    run()
    return time.perf_counter() - start, time.process_time() - processor


def pairs(one: Callable[[], Any], two: Callable[[], Any], repeats: int, scale: float = 1.0) -> dict[str, float]:
    """Median seconds of both and the median of the ratios, run in turn after a warm-up; the second counts `scale` times."""
    one()
    two()
    return ratios([(taken(one), taken(two)) for _ in range(repeats)], scale)


def ratios(times: list[tuple[tuple[float, float], tuple[float, float]]], scale: float = 1.0) -> dict[str, float]:
    """What `pairs` gives, from pairs of (seconds, processor seconds)."""
    clock = [a[0] / b[0] / scale for a, b in times]
    return {
        "ratio": statistics.median(clock),
        "low": min(clock),
        "high": max(clock),
        "processor_ratio": statistics.median(a[1] / b[1] / scale for a, b in times),
        "seconds": statistics.median(a[0] for a, _ in times),
        "peer_seconds": statistics.median(b[0] for _, b in times) * scale,
    }


def profile_and_fused() -> tuple[Callable[[], Any], Callable[[], Any], Any, Any]:
    """The profile of one source and PyTorch's own passes over the same LSTM, with that LSTM and its inputs."""
    import torch
    from torch import nn

    import rnnvg

    T, B, H = SHAPE.values()
    torch.manual_seed(0)
    torch.set_flush_denormal(True)
    lstm, x = nn.LSTM(H, H), torch.randn(T, B, H)

    def profile() -> None:
        rnnvg.gradient_profile(lstm, x)

    def fused() -> None:
        lstm.zero_grad()
        lstm(x)[0][-1].sum().backward()

    return profile, fused, lstm, x


def measure_ratios(repeats: int) -> dict[str, dict[str, float]]:
    """Every row of BUDGETS, and the dense Jacobians of torch.func for comparison."""
    import torch
    from torch import nn

    import rnnvg

    _, B, H = SHAPE.values()
    profile, fused, lstm, x = profile_and_fused()
    cell = nn.LSTMCell(H, H)

    def unrolled() -> None:
        cell.zero_grad()
        h, c = torch.zeros(B, H), torch.zeros(B, H)
        states = []
        for x_t in x:
            h, c = cell(x_t, (h, c))
            h.retain_grad()
            c.retain_grad()
            states.append((h, c))
        h.sum().backward()
        [(a.grad.norm(), b.grad.norm()) for a, b in states]

    names = iter(BUDGETS)
    found = {}
    found[next(names)] = pairs(profile, fused, repeats)
    found[next(names)] = pairs(profile, unrolled, repeats)
    torch.set_flush_denormal(False)
    found[next(names)] = pairs(profile, fused, repeats)

    def flushed() -> None:
        torch.set_flush_denormal(True)
        fused()
        torch.set_flush_denormal(False)

    found[SLOWED_ROW] = pairs(fused, flushed, repeats)
    torch.set_flush_denormal(True)

    gru, y = nn.GRU(ALL["H"], ALL["H"]), torch.randn(ALL["T"], ALL["B"], ALL["H"])
    gru_cell = nn.GRUCell(ALL["H"], ALL["H"])

    def all_sources() -> None:
        rnnvg.gradient_profile(gru, y, sources="all")

    states = [torch.zeros(ALL["B"], ALL["H"], requires_grad=True)]
    for y_t in y:
        states.append(gru_cell(y_t, states[-1]))
        states[-1].retain_grad()

    def retained() -> None:
        for i in range(RETAINED):
            for state in states:
                state.grad = None
            states[(2 * i + 1) * ALL["T"] // (2 * RETAINED)].sum().backward(retain_graph=True)

    found[next(names)] = pairs(all_sources, retained, max(2, repeats // 2), ALL["T"] / RETAINED)

    def watched() -> None:
        with rnnvg.watch(lstm):
            fused()

    found[next(names)] = pairs(watched, fused, 2 * repeats)

    weights = [parameter.detach() for parameter in cell.parameters()]

    def one(state: torch.Tensor, x_t: torch.Tensor) -> torch.Tensor:
        h, c = state.split(H)
        z = weights[0] @ x_t + weights[1] @ h + weights[2] + weights[3]
        i, f, g, o = z.split(H)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        return torch.cat([torch.sigmoid(o) * torch.tanh(c), c])

    jacobian = torch.func.vmap(torch.func.jacrev(one))
    zeros = torch.zeros(B, 2 * H)

    def dense() -> None:
        for t in range(10):
            jacobian(zeros, x[t])

    def tenth() -> None:
        rnnvg.gradient_profile(lstm, x[:10])

    found["profile / dense Jacobians by torch.func.jacrev, 10 steps"] = pairs(tenth, dense, max(2, repeats // 2))
    return found


def measure_busy(repeats: int) -> dict[str, float]:
    """Median seconds of the profile and of PyTorch's own passes, alone and beside as many busy processes as cores."""
    profile, fused, _, _ = profile_and_fused()
    found: dict[str, float] = {}
    works = {"profile": profile, "fused forward+backward": fused}
    with ExitStack() as stack:
        for beside in ("alone", "beside busy processes"):
            if beside != "alone":
                for _ in range(os.cpu_count() or 1):
                    busy = stack.enter_context(subprocess.Popen([sys.executable, "-c", "while True: pass"]))
                    stack.callback(busy.kill)
            times: dict[str, list[float]] = {name: [] for name in works}
            for _ in range(repeats):
                for name, work in works.items():
                    times[name].append(taken(work)[0])
            found |= {f"{name}, {beside}": statistics.median(each) for name, each in times.items()}
    return found


def table(found: dict[str, Any]) -> str:
    lines = [f"{found['versions']['instructions']}; {found['allocator']}"]
    for threads, rows in found["ratios"].items():
        lines.append(f"\n{_threads(threads)}{'':66s}ratio  (low to high)      of processor time")
        slowed = rows[SLOWED_ROW]["ratio"]
        for name, row in rows.items():
            budget = f"at most {BUDGETS[name]:.3f}" if name in BUDGETS else ""
            if name == DENORMAL_ROW and slowed < SLOWED:
                budget = f"does not exist here: denormal numbers slow PyTorch {slowed:.2f} times"
            lines.append(_row(name, row) + budget)
    for threads, rows in found["busy"].items():
        lines.append(f"\n{_threads(threads)}, beside as many busy processes as cores / alone")
        for name, budget in BUSY.items():
            ratio = rows[f"{name}, beside busy processes"] / rows[f"{name}, alone"]
            lines.append(f"  {name:72s} {ratio:7.2f}  {'' if budget is None else f'at most {budget:g}'}")
    for threads, rows in found["against"].items():
        lines.append(f"\n{_threads(threads)}, this checkout / the other one, at most {LOST:g}")
        lines.extend(_row(name, row) for name, row in rows.items())
    for row in found["growth"]:
        sizes = f"T={row['T']} H={row['H']} sources={row['sources']}"
        lines.append(f"  {sizes:40s} {row['seconds'] * 1e3:10.1f} ms  {row['peak_mib']:8.1f} MiB")
    return "\n".join(lines)


def _threads(count: str) -> str:
    return f"{count} thread{'s' if count != '1' else ' '}"


def _row(name: str, row: dict[str, float]) -> str:
    return f"  {name:72s} {row['ratio']:7.3f}  ({row['low']:.3f} to {row['high']:.3f})  {row['processor_ratio']:7.3f}  "


@click.command(help=__doc__)
@click.option("--threads", default="1,2", show_default=True, help="Thread counts, comma-separated.")
@click.option("--repeats", default=7, show_default=True, help="Measurements behind each median.")
@click.option("--only", type=click.Choice(["ratios", "busy", "growth"]), help="Leave the other parts out.")
@click.option(
    "--against", help="Another checkout, whose sweep this one's is measured against; nothing else is measured."
)
@click.option(
    "--allocator", type=click.Choice(["fixed", "default"]), default="fixed", show_default=True, help="Memory."
)
@click.option("--out", default="engine.json", show_default=True, help="Where the JSON goes.")
@click.option("--figure", help="Also draw how the cost grows, to this file.")
@click.option("--inner", type=click.Choice(["ratios", "busy"]), hidden=True)
def main(
    threads: str,
    repeats: int,
    only: str | None,
    against: str | None,
    allocator: str,
    out: str,
    figure: str | None,
    inner: str | None,
) -> None:
    if inner:
        click.echo(json.dumps((measure_ratios if inner == "ratios" else measure_busy)(repeats)))
        return
    import torch

    memory = "glibc as it is"
    if allocator == "fixed":
        memory = (
            f"freed memory kept for the next call ({', '.join(f'{name}={value}' for name, value in ALLOCATOR.items())})"
        )
    found: dict[str, Any] = {
        "versions": {
            "torch": torch.__version__,
            "python": platform.python_version(),
            "instructions": torch.backends.cpu.get_cpu_capability(),
        },
        "allocator": memory,
        **{part: {} for part in ("ratios", "busy", "against")},
        "growth": [],
    }
    for count in threads.split(","):
        environment = os.environ | (ALLOCATOR if allocator == "fixed" else {})
        environment |= {"OMP_NUM_THREADS": count, "MKL_NUM_THREADS": count}
        if against:
            from measure_engine_against import measure_against

            found["against"][count] = measure_against(against, repeats, environment)
            continue
        for part in ("ratios", "busy"):
            if only in (None, part):
                command = [sys.executable, __file__, "--inner", part, "--repeats", str(repeats)]
                done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
                found[part][count] = json.loads(done.stdout)
    if only in (None, "growth") and not against:
        from measure_engine_growth import draw_growth, measure_growth

        found["growth"] = measure_growth(max(1, repeats // 2))
        if figure:
            draw_growth(found["growth"], figure)
    from rnnvg.files import write_ours

    write_ours(out, json.dumps(found, indent=1), "--out")
    click.echo(table(found))


if __name__ == "__main__":
    main()
