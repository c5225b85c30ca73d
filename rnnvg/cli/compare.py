"""rnnvg compare: the main job."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from rnnvg.bench import defaults
from rnnvg.cli import options, output
from rnnvg.cli.groups import FAILED
from rnnvg.cli.report import rendered
from rnnvg.faults import WITH_WORKERS, check_memory_limit
from rnnvg.models.names import OFFERED


@click.command()
@click.option(
    "--tasks",
    type=options.name(options.TASKS, several=True, paths=True),
    help=f"Which tasks: {', '.join(options.TASKS)}, or your own as package.module:task.  [default: copy,adding,next-word]",
)
@click.option(
    "--cells",
    type=options.name(OFFERED, several=True, paths=True),
    help=f"Which cells: {', '.join(OFFERED)}, or your own as package.module:Core.  [default: rnn,lstm,gru]",
)
@click.option("--seeds", type=options.whole(1), help="How many networks of each kind, trained apart.  [default: 3]")
@options.task_settings
@options.out("runs/compare")
@options.jobs
@click.option(
    "--max-steps",
    type=options.whole(1),
    help="No run gets more training steps than this.  [default: 2000; next-word 700]",
)
@options.retry_failed
@options.give_up
@options.longest_silence
@options.device
@options.quiet
@options.as_json
def command(
    tasks: tuple[str, ...] | None,
    cells: tuple[str, ...] | None,
    seeds: int | None,
    text: str | None,
    settings: dict[str, Any],
    out: Path,
    jobs: int,
    max_steps: int | None,
    retry_failed: bool,
    give_up: bool,
    longest_silence: float,
    device: str,
) -> None:
    """Train RNN, LSTM and GRU, follow their gradients, write the report.

    Each network is measured from its initialisation to the end of its training: how much of the gradient is left at
    each distance in time. Memory horizons and scores are printed; DIR/report.html shows all of it.

    A setting goes to every task that has it: --length 100 changes adding and leaves copy as it is.

    Interrupted or killed, the same command goes on where it was. More tasks, cells or seeds extend a directory. Runs that
    --give-up ends (by loss and horizon) count as unsolved, and are done again without it.

    \b
    rnnvg compare
    rnnvg compare --tasks adding --cells lstm,gru --seeds 5 --out runs/gated
    rnnvg compare --tasks adding,copy --length 100 --delay 40 --out runs/longer
    """
    check_memory_limit(WITH_WORKERS)
    from rnnvg.bench.estimate import spent
    from rnnvg.bench.given_up import saving
    from rnnvg.report import comparison

    tell = output.tell
    grid = defaults.comparison(tasks, cells, seeds, text, max_steps, tell, settings, device)
    grid = grid.change(give_up=True) if give_up else grid
    tell(f"Preparing {len(grid.runs())} runs in {out} ...")
    results = comparison.run(
        grid, out, jobs=jobs, retry_failed=retry_failed, longest_silence=longest_silence, quiet=output.quiet()
    )
    tell("Drawing the figures ...")
    start = time.perf_counter()
    output.result(rendered(out))
    if saved := saving(results):
        tell(f"{saved}.")
    if time_spent := spent(results):
        tell(f"{time_spent}; the report took {time.perf_counter() - start:.0f} s.")
    if any(result["status"] == "failed" for result in results):
        raise click.exceptions.Exit(FAILED)
