"""rnnvg train: one network on one task."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rnnvg import bench
from rnnvg.bench import defaults
from rnnvg.cli import options, output
from rnnvg.cli.groups import FAILED
from rnnvg.training.names import OPTIMIZERS

if TYPE_CHECKING:
    from rnnvg.bench import Store

_NETWORK = ("hidden", "layers", "init", "t_max", "embed", "tied", "dropout")
_TRAINING = ("steps", "batch", "lr", "optimizer", "clip", "bptt", "stop_when_solved")


@click.command()
@options.which_task
@options.network
@click.option("--dropout", type=float, metavar="X", help="Share of units dropped, in [0, 1).  [default: 0]")
@click.option("--steps", type=options.whole(1), help="Training steps at most.  [default: 2000; next-word 700]")
@click.option("--batch", type=options.whole(1), help="Sequences a step.  [default: 50; next-word 16]")
@click.option("--lr", type=options.real(0), help="Learning rate.  [default: 0.005; copy and next-word 0.003]")
@click.option("--optimizer", type=options.name(tuple(OPTIMIZERS)), help=f"{', '.join(OPTIMIZERS)}.  [default: adam]")
@click.option("--clip", type=options.real(0), help="Largest norm of the gradient.  [default: 1]")
@click.option(
    "--bptt",
    type=options.whole(1),
    help="Words between two truncations, of next-word.  [default: those of a sequence, 35]",
)
@click.option(
    "--stop-when-solved/--go-on",
    default=None,
    help="End when the task is solved, or not.  [default: end; next-word goes on]",
)
@options.device
@options.seed
@options.out("runs/train")
@options.quiet
@options.as_json
def command(
    task: str | None,
    text: str | None,
    settings: dict[str, Any],
    cell: str | None,
    device: str,
    seed: int,
    out: Path,
    **rest: Any,
) -> None:
    """Train one network on one task.

    Settings left out are those of `rnnvg compare`. DIR/runs/<id> gets weights, curves and scores; a run that is there
    already is not done again, and one that was interrupted goes on.

    \b
    rnnvg train --task copy --cell gru
    rnnvg train --task adding --length 100 --cell lstm --init chrono --seed 1
    """
    from rnnvg.bench.store import WEIGHTS

    spec, _ = defaults.run(
        defaults.task_name(task, text),
        defaults.task_settings(text, settings),
        cell,
        {key: rest[key] for key in _NETWORK},
        seed,
        output.tell,
        {**{key: rest[key] for key in _TRAINING}, "device": device},
    )
    store = bench.Store(out)
    if (store.result(spec.id) or {}).get("status") == "failed":
        store.set_aside(spec.id)
    with output.StepBar() as bar:
        result = bench.execute(spec, out, bar)
    store.merge()
    weights = store.folder(spec.id) / WEIGHTS
    output.result({**result, "weights": str(weights)} if output.as_json() else _as_text(result, store, weights))
    if result["status"] == "failed":
        raise click.exceptions.Exit(FAILED)


def _as_text(result: dict[str, Any], store: Store, weights: Path) -> str:
    """How a run ended, in a few lines."""
    from rnnvg.report import wording

    if result["status"] == "failed":
        return f"{result['id']} failed: {result['reason']}\nDetails: {weights.with_name('error.txt')}"
    baseline = result["baseline"]
    value = result["score"][baseline["metric"]]
    score = "not finite" if value is None else wording.number(value)
    lines = [f"{result['id']}: {baseline['metric']} {score}. {baseline['text']}"]
    if result["status"] == "diverged":
        lines += [f"The training diverged. {result['reason']}"]
    elif result["solved"]:
        lines += [f"Solved at step {result['solved_at']}, in {wording.count(round(result['seconds']), 'second')}."]
    else:
        seconds = wording.count(round(result["seconds"]), "second")
        lines += [f"Not solved after {wording.count(result['steps'], 'step')}, in {seconds}."]
    lines += [*_horizons(result["id"], store), f"Weights: {weights}"]
    return "\n".join(lines)


def _horizons(run: str, store: Store) -> list[str]:
    """The horizon at 1/e before and after training, from the run's own table."""
    table: Any = store.frame("horizons.csv")
    table = table[(table["id"] == run) & table["last"].notna()]
    by = "state" if table["wrt"].eq("state").any() else "input"
    table = table[table["wrt"] == by]
    table = table[table["threshold"] == table["threshold"].max()]
    horizons = [f"{'> ' if row.censored else ''}{row.last:.0f} at step {row.step:.0f}" for row in table.itertuples()]
    name = "Memory horizon" if by == "state" else "Memory horizon by the input"
    return [f"{name} (1/e): {horizons[0]}, {horizons[-1]}."] if len(horizons) > 1 else []
