"""How the profile's time and memory grow: the last part of measure_engine.py's table, each size in a process of its own."""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
from typing import Any

from measure_engine import taken


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
    times = [taken(lambda: rnnvg.gradient_profile(module, x, sources=sources))[0] for _ in range(repeats)]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return {"seconds": statistics.median(times), "peak_mib": peak / 1024}


def draw_growth(rows: list[dict[str, Any]], path: str) -> None:
    """Seconds and memory against T, H and the number of sources, on log axes."""
    from matplotlib.figure import Figure

    from rnnvg.files import write_ours
    from rnnvg.report.picture import to_bytes

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


if __name__ == "__main__":
    print(json.dumps(measure_one(**json.loads(sys.argv[1]))))
