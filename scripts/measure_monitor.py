"""What a monitor costs ten ordinary trainings (JSON): CPU and wall time with every=100, and of one step inside `watch`; and
what `metrics()` costs, in training steps of modules of many shapes.

    python scripts/measure_monitor.py --steps 200 --rounds 7 > monitor.json

With and without take turns in one process; ratios are of medians over the rounds.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import ordinary_trainings as trainings
import torch
from torch import nn

import rnnvg

EVERY = 100
SHAPES = (  # module, hidden, steps, sequences, layers
    ("LSTM", 8, 20, 4, 1),
    ("RNN", 32, 100, 16, 1),
    ("LSTM", 32, 100, 16, 1),
    ("GRU", 32, 100, 16, 1),
    ("RNN", 32, 1000, 16, 1),
    ("LSTM", 32, 1000, 16, 1),
    ("GRU", 32, 1000, 16, 1),
    ("RNN", 128, 100, 32, 1),
    ("LSTM", 128, 100, 32, 1),
    ("GRU", 128, 100, 32, 1),
    ("LSTM", 128, 500, 16, 1),
    ("RNN", 128, 500, 32, 1),
    ("GRU", 64, 50, 16, 2),
    ("LSTM", 64, 200, 16, 2),
    ("LSTM", 256, 35, 20, 2),
)


def timed(run: Callable[[], Any]) -> tuple[float, float]:
    """CPU and wall seconds."""
    cpu, wall = time.process_time(), time.perf_counter()
    run()
    return time.process_time() - cpu, time.perf_counter() - wall


def compared(plain: list[tuple[float, float]], other: list[tuple[float, float]], steps: int) -> dict[str, float]:
    """Milliseconds a step, and the ratio of medians."""
    found = {}
    for index, clock in enumerate(("cpu", "wall")):
        without, attached = (statistics.median(each[index] for each in times) for times in (plain, other))
        found |= {f"{clock}_ms": 1e3 * without / steps, f"{clock}_ratio": attached / without}
    return found


def metrics_in_steps(kind: str, hidden: int, steps: int, batch: int, layers: int, rounds: int) -> dict[str, float]:
    """CPU milliseconds of a plain SGD step and of `metrics()` after a watched one, medians, and their ratio."""
    torch.manual_seed(0)
    module: Any = getattr(nn, kind)(8, hidden, layers)
    optimiser, x = torch.optim.SGD(module.parameters(), 1e-3), torch.randn(steps, batch, 8)

    def step() -> None:
        optimiser.zero_grad()
        module(x)[0].square().mean().backward()
        optimiser.step()

    plain, asked = [], []
    for _ in range(rounds + 1):
        plain.append(timed(step)[0])
        monitor = rnnvg.GradientMonitor(module, every=1)
        step()
        asked.append(timed(monitor.metrics)[0])
        monitor.close()
    one, other = (statistics.median(each[1:]) for each in (plain, asked))  # the first of them warms up
    return {"step_ms": 1e3 * one, "metrics_ms": 1e3 * other, "ratio": other / one}


def own_loop(kind: type[nn.Module], steps: int, rounds: int) -> dict[str, Any]:
    loops = {name: trainings.Loop(kind) for name in ("plain", "monitor", "watch")}
    with contextlib.suppress(rnnvg.InputError):
        monitor = rnnvg.GradientMonitor(loops["monitor"].model, every=EVERY)
        times: dict[str, list[tuple[float, float]]] = {"plain": [], "monitor": [], "one plain": [], "watch": []}

        random = dict.fromkeys(loops, torch.get_rng_state())  # dropout draws from one generator for all of them

        def run(name: str, ask: bool) -> None:
            torch.set_rng_state(random[name])
            for _ in range(steps):
                loops[name].step()
                if ask:
                    monitor.metrics()
            random[name] = torch.get_rng_state()

        def one_watched() -> None:
            with rnnvg.watch(loops["watch"].model):
                loops["watch"].step()

        for name in loops:
            torch.set_rng_state(random[name])
            loops[name].step()
            random[name] = torch.get_rng_state()
        for _ in range(rounds):
            times["plain"].append(timed(lambda: run("plain", False)))
            times["monitor"].append(timed(lambda: run("monitor", True)))
            times["one plain"].append(timed(loops["watch"].step))
            times["watch"].append(timed(one_watched))
        same = all(
            torch.equal(one, other)
            for one, other in zip(loops["plain"].weights(), loops["monitor"].weights(), strict=True)
        )
        return {
            "monitor": compared(times["plain"], times["monitor"], steps),
            "watch": compared(times["one plain"], times["watch"], 1),
            "same_bits": same,
        }
    return {"monitor": "refused"}


def library(run: Callable[[int, int | None], Any], steps: int, rounds: int) -> dict[str, Any]:
    run(5, None)
    run(5, EVERY)
    plain, attached = [], []
    for _ in range(rounds):
        plain.append(timed(lambda: run(steps, None)))
        attached.append(timed(lambda: run(steps, EVERY)))
    return {"monitor": compared(plain, attached, steps)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", nargs="*", help="names of trainings")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, Any] = {"torch": torch.__version__, "every": EVERY, "steps": chosen.steps, "rounds": chosen.rounds}
    jobs: dict[str, Callable[[], dict[str, Any]]] = {
        kind.__name__: lambda kind=kind: own_loop(kind, chosen.steps, chosen.rounds) for kind in trainings.OWN_LOOPS
    }
    jobs |= {
        name: lambda run=run: library(run, chosen.steps, chosen.rounds) for name, run in trainings.LIBRARIES.items()
    }
    for shape in SHAPES:
        name = "metrics {} H={} T={} B={} L={}".format(*shape)
        jobs[name] = lambda shape=shape: metrics_in_steps(*shape, rounds=chosen.rounds)
    for name, job in jobs.items():
        if not chosen.only or name in chosen.only:
            with contextlib.redirect_stdout(sys.stderr):  # a library says its own there
                found[name] = job()
            print(name, found[name], file=sys.stderr)
    json.dump(found, sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()
