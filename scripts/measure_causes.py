"""What it costs to ask why: spectrum, singular values, temporal contributions and attribution against one training step.

    .venv/bin/python scripts/measure_causes.py                    # a table, and causes.json
    .venv/bin/python scripts/measure_causes.py --steps 200        # a shorter sequence

One LSTM with H = 128 and one sequence. The peer is one forward and backward pass over the same sequence with denormals
flushed; ratios are medians over repeats, measured in turn in one process.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import time
from collections.abc import Callable
from typing import Any

import click

HIDDEN, INPUTS = 128, 16


def seconds(run: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    found = run()
    return time.perf_counter() - start, found


@click.command()
@click.option("--steps", default=2000, show_default=True, help="Length of the sequence.")
@click.option("--threads", default=1, show_default=True, help="Threads that torch may use.")
@click.option("--repeats", default=1, show_default=True, help="Repeats; the spectrum takes minutes each.")
@click.option("--out", default="causes.json", show_default=True, help="Where to write the numbers.")
def main(steps: int, threads: int, repeats: int, out: str) -> None:
    """Measure what spectrum, singular values, contributions and attribution cost."""
    os.environ.update(OMP_NUM_THREADS=str(threads), MKL_NUM_THREADS=str(threads))
    import torch

    from rnnvg import attribute_decay, jacobian_singular_values, lyapunov_spectrum, temporal_contributions

    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    torch.manual_seed(0)
    module = torch.nn.LSTM(INPUTS, HIDDEN)
    inputs, grad = torch.randn(steps, 1, INPUTS), torch.randn(steps, 1, HIDDEN)

    def train() -> None:
        module.zero_grad()
        (module(inputs)[0] * grad).sum().backward()

    questions: dict[str, Callable[[], Any]] = {
        "temporal contributions": lambda: temporal_contributions(module, inputs, output_grad=grad),
        "attribution of decay": lambda: attribute_decay(module, inputs),
        "Lyapunov spectrum, 10 exponents": lambda: lyapunov_spectrum(module, inputs, n_exponents=10),
        "Lyapunov spectrum, all 256": lambda: lyapunov_spectrum(module, inputs),
        "singular values of the whole product": lambda: jacobian_singular_values(module, inputs),
    }
    train()
    rows: dict[str, dict[str, Any]] = {}
    for name, ask in questions.items():
        pairs = [(seconds(train)[0], seconds(ask)) for _ in range(repeats)]
        rows[name] = {
            "seconds": statistics.median(taken for _, (taken, _) in pairs),
            "training_steps": statistics.median(taken / step for step, (taken, _) in pairs),
            "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            "said": str(pairs[-1][1][1]),
        }
        row = rows[name]
        click.echo(f"{name:38s}{row['seconds']:9.2f} s{row['training_steps']:9.1f} training steps   {row['said']}")
        residual = getattr(pairs[-1][1][1], "log_det_residual", None)
        if residual is not None:
            row["log_det_residual"] = float(abs(residual).max())
            click.echo(f"{'':38s}residual against ln|det J|: {row['log_det_residual']:.1e}")
    report = {"steps": steps, "hidden": HIDDEN, "threads": threads, "torch": torch.__version__, "rows": rows}
    from rnnvg.files import write_ours

    write_ours(out, json.dumps(report, indent=1), "--out")


if __name__ == "__main__":
    main()
