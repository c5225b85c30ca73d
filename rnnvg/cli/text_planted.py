"""rnnvg text planted: how far back each cell remembers a planted word, beside what there is to remember."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from rnnvg import bench, tasks
from rnnvg.cli import network, options, output
from rnnvg.cli.groups import FAILED
from rnnvg.models.names import OFFERED_TORCH

# Of the distances in the text to learn from: mostly short, as in natural text.
TAIL = 1.0
# Words that verbs are asked for in.
QUESTION_WORDS = 40_000


@click.command()
@click.option(
    "--cells",
    type=options.name(OFFERED_TORCH, several=True),
    default="rnn,lstm,gru",
    help=f"Which cells: {', '.join(OFFERED_TORCH)}.",
)
@click.option("--seeds", type=options.whole(1), default=1, help="How many networks of each kind, trained apart.")
@click.option("--longest", type=options.whole(2), default=200, help="The longest distance from noun to verb, words.")
@click.option("--words", type=options.whole(1), default=400_000, help="Words to train on.")
@click.option("--steps", type=options.whole(1), default=600, help="Training steps.")
@click.option("--hidden", type=options.whole(1), default=64, help="Hidden units.")
@click.option("--bptt", type=options.whole(1), default=50, help="Words between two truncations.")
@options.device
@options.out("runs/planted")
@options.jobs
@options.quiet
@options.as_json
def planted(
    cells: tuple[str, ...],
    seeds: int,
    longest: int,
    words: int,
    steps: int,
    hidden: int,
    bptt: int,
    device: str,
    out: Path,
    jobs: int,
) -> None:
    """Measure how far back each cell remembers a planted word.

    Trains next-word models on a generated language whose verbs are decided by a noun 2 to 200 words earlier, distances
    with a power law's tail as natural text has. Reports each network's functional horizon (the distance up to which half
    of the verbs are predicted) and its loss beside the least possible one, and draws both beside the text's mutual
    information and the networks' gradients. Interrupted, the same command goes on where it was.

    \b
    rnnvg text planted
    rnnvg text planted --cells lstm,gru --seeds 3 --steps 2000
    """
    from rnnvg.report import style, text_figures
    from rnnvg.text.agreement import heavy_tailed
    from rnnvg.text.statistics import power_law

    task = {"name": "next-word", "text": "agreement", "distance": heavy_tailed(longest), "n_words": words, "tail": TAIL}
    specs = [
        bench.run_spec(
            {**task, "bptt": bptt},
            cell,
            hidden=hidden,
            seed=seed,
            training={
                "steps": steps,
                "batch": 32,
                "lr": 0.005,
                "eval_every": max(1, steps // 4),
                "checkpoints": (steps,),
                "stop_when_solved": False,
                **({} if device == "cpu" else {"device": device}),
            },
            measure={"sequences": 4, "wrt": ("input",)},
        )
        for cell in cells
        for seed in range(seeds)
    ]
    names = {spec.id: f"{spec.cell} s{spec.seed}" for spec in specs}
    with bench.ProgressBar(output.quiet(), names=names) as bar:
        results = bench.run_all(specs, out, jobs=jobs, observer=bar)
    trained = [(spec, result) for spec, result in zip(specs, results, strict=True) if result["status"] == "ok"]
    broken = [result for result in results if result["status"] != "ok"]
    facts: dict[str, Any] = {"best_loss": None, "networks": [], "broken": [result["id"] for result in broken]}
    if trained:
        output.tell("Asking for verbs ...")
        by_distance, summary, information, reaches, best = _measured([spec for spec, _ in trained], out)
        with style.applied():
            law = power_law(information)
            figure = text_figures.draw_planted(by_distance, summary, information, law, reaches, best)
            tables = {"planted": by_distance, "planted_networks": summary, "planted_information": information}
            files = text_figures.write(out, "planted", figure, tables)
        facts["best_loss"] = best
        facts["networks"] = output.rows(summary)
        facts["by_distance"] = output.rows(by_distance)
        facts["files"] = files
    output.result(facts if output.as_json() else _as_text(facts, broken))
    if broken:
        raise click.exceptions.Exit(FAILED)


def _measured(specs: list[Any], out: Path) -> tuple[Any, Any, Any, list[Any], float]:
    """What every network remembers, by distance and in a row; the text's own statistics; gradients; the best loss."""
    import pandas as pd

    from rnnvg.bench import trained
    from rnnvg.functional import agreement_by_distance, reach, remembered
    from rnnvg.report.style import cell_label
    from rnnvg.report.text_figures import Reach
    from rnnvg.text.statistics import mutual_information, spread_distances

    store = bench.Store(out)
    first = dict(specs[0].task)
    task: Any = tasks.make(first.pop("name"), **first)
    # Long distances are rare in the text that was learned from; here all are asked for equally often.
    questions: Any = tasks.make(
        task.name, **{**task.settings, "tail": 0.0, "n_words": max(QUESTION_WORDS, task.settings["n_words"])}
    )
    parts, rows, reaches = [], [], []
    for spec in specs:
        model = trained.language_model(store.folder(spec.id)).model.to(spec.training.device)
        with network.computing(model):
            agreement = agreement_by_distance(model, questions, split="train", max_words=QUESTION_WORDS)
            reached = reach(model, task, seed=spec.seed)
        horizon, censored = remembered(agreement)
        loss = (store.result(spec.id) or {})["score"]["loss"]
        parts.append(agreement.assign(cell=spec.cell, seed=spec.seed))
        rows.append((spec.cell, spec.seed, horizon, censored, loss, task.best_loss, task.baseline_loss))
        reaches.append(Reach(cell_label(spec.cell), spec.cell, reached))
    columns = ["cell", "seed", "horizon", "censored", "loss", "best_loss", "unigram_loss"]
    longest = int(max(task.corpus.planted))
    information = mutual_information(task.corpus.train, spread_distances(2 * longest), most_words=task.n_inputs)
    by_distance = pd.concat(parts)[["cell", "seed", "distance", "accuracy", "loss", "n"]]
    return by_distance, pd.DataFrame(rows, columns=columns), information, reaches, task.best_loss


def _as_text(facts: dict[str, Any], broken: list[dict[str, Any]]) -> str:
    import pandas as pd

    from rnnvg.report import terminal
    from rnnvg.report.style import cell_label

    lines = []
    if facts["networks"]:
        table = pd.DataFrame(
            {
                "network": [f"{cell_label(row['cell'])} {row['seed']}" for row in facts["networks"]],
                "remembers (words)": [f"{'> ' * row['censored']}{row['horizon']}" for row in facts["networks"]],
                "loss (nats)": [f"{row['loss']:.3f}" for row in facts["networks"]],
                "best possible": [f"{row['best_loss']:.3f}" for row in facts["networks"]],
                "word frequencies": [f"{row['unigram_loss']:.3f}" for row in facts["networks"]],
            }
        )
        lines += [
            "How far back a planted word is remembered: up to this distance at least half of the verbs are predicted",
            terminal.as_text(table, output.width()),
            "",
            f"Figure: {facts['files']['planted.svg']}",
        ]
    lines += [f"{result['id']} {result['status']}: {result['reason']}" for result in broken]
    return "\n".join(lines)
