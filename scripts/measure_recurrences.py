"""Measures the closed forms of recurrences against the step-function route: median CPU seconds and ratios, as JSON.

Both take turns on one thread, so that whatever else the machine does meets both; a ratio is the median over the turns, with
the least and the most beside it.
python scripts/measure_recurrences.py [--steps 1000] [--hidden 64] [--batch 8] [--repeat 7] [--cells LRUCell,LEMCell]
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from rnnvg import gradient_profile
from rnnvg.bptt.cells import read_cells
from rnnvg.bptt.cells.linear_attention import DeltaNetCell, GLACell
from rnnvg.bptt.cells.min_rnn import MinGRUCell, MinLSTMCell
from rnnvg.bptt.cells.oscillators import CoRNNCell, LEMCell
from rnnvg.bptt.cells.selective import S6Cell
from rnnvg.bptt.cells.state_space import LRUCell, S4DCell, S5Cell
from rnnvg.bptt.cells.xlstm import MLSTMCell, SLSTMCell


def cells(hidden: int) -> list[torch.nn.Module]:
    """One of each, with about `hidden` state coordinates (four times as many for the matrices)."""
    root = round((4 * hidden) ** 0.5)
    return [
        MinGRUCell(hidden, hidden),
        MinLSTMCell(hidden, hidden),
        LRUCell(hidden, hidden),
        S5Cell(hidden, hidden),
        S4DCell(hidden, 4),
        S6Cell(hidden, 4),
        GLACell(hidden, root, root),
        DeltaNetCell(hidden, root, root),
        MLSTMCell(hidden, root, root),
        SLSTMCell(hidden, hidden),
        LEMCell(hidden, hidden),
        CoRNNCell(hidden, hidden),
    ]


def cpu_seconds(calls: dict[str, Callable[[], Any]], repeat: int) -> dict[str, list[float]]:
    """CPU seconds of each call, one after the other in turn, after one of each that does not count."""
    found: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeat + 1):
        for name, call in calls.items():
            start = time.process_time()
            call()
            found[name].append(time.process_time() - start)
    return {name: each[1:] for name, each in found.items()}


def real(cell: torch.nn.Module) -> Callable[..., Any]:
    """The cell as a step function; a complex state as its real and imaginary parts, side by side."""
    if not read_cells(cell)[0].state_dtype.is_complex:
        return lambda x, s: cell(x, s)

    def step(x: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
        after = cell(x, torch.complex(*s.chunk(2, -1)))
        return torch.cat([after.real, after.imag], -1)

    return step


def main() -> None:
    parser = argparse.ArgumentParser()
    for name, value in (("steps", 1000), ("hidden", 64), ("batch", 8), ("repeat", 7)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--cells", default="", help="class names, with commas between them; all by default")
    options = parser.parse_args()
    wanted = options.cells.split(",") if options.cells else None
    torch.set_num_threads(1)
    torch.manual_seed(0)
    rows = []
    for cell in cells(options.hidden):
        if wanted and type(cell).__name__ not in wanted:
            continue
        x = torch.randn(options.steps, options.batch, options.hidden)
        (layer,) = read_cells(cell)
        parts = [torch.zeros(options.batch, part.width, dtype=layer.state_dtype) for part in layer.parts]
        parts = [torch.ones_like(part) if part.is_floating_point() else part for part in parts]
        state = tuple(parts) if len(parts) > 1 else parts[0]
        plain = torch.cat([parts[0].real, parts[0].imag], -1) if parts[0].is_complex() else state
        row: dict[str, Any] = {"cell": type(cell).__name__, "state": sum(part.shape[1] for part in parts)}
        for wrt in ("state", "input"):
            calls = {
                "closed": lambda: gradient_profile(cell, x, state, wrt=wrt),  # noqa: B023
                "steps": lambda: gradient_profile(real(cell), x, plain, wrt=wrt),  # noqa: B023
            }
            spent = cpu_seconds(calls, options.repeat)
            ratios = sorted(steps / closed for steps, closed in zip(spent["steps"], spent["closed"], strict=True))
            row |= {f"{name}_{wrt}_s": round(statistics.median(each), 4) for name, each in spent.items()}
            row[f"ratio_{wrt}"] = round(statistics.median(ratios), 2)
            row[f"ratios_{wrt}"] = [round(each, 2) for each in (ratios[0], ratios[-1])]
        rows.append(row)
    print(json.dumps({"torch": torch.__version__, "options": vars(options), "cells": rows}, indent=2))


if __name__ == "__main__":
    main()
