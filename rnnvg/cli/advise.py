"""rnnvg advise: why a gradient does not reach back, and what changes it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rnnvg.advise.remedies import NAMES as REMEDIES
from rnnvg.advise.settings import WRT
from rnnvg.bench import defaults
from rnnvg.cli import options, output
from rnnvg.errors import InputError
from rnnvg.models.names import INITS, OFFERED

if TYPE_CHECKING:
    from rnnvg.advise import Advice

ROOT = "runs/advise"
QUICK = {"seeds": 3, "steps": 250, "lr": 0.01}
QUICK_LENGTH = 20  # of adding
FULL = {"seeds": 5, "steps": 600, "lr": 0.005}


@click.command()
@options.which_task
@click.option(
    "--cell",
    type=options.name(OFFERED, paths=True),
    default="rnn",
    help=f"The network as it is: {', '.join(OFFERED)}, or your own as package.module:Core.",
)
@click.option("--hidden", type=options.whole(2), default=32, help="Hidden units.")
@click.option("--init", type=options.name(INITS), default="default", help="How its weights start.")
@click.option(
    "--seeds", type=options.whole(2), help="Networks for each remedy, paired by seed.  [default: 5; --quick 3]"
)
@click.option("--steps", type=options.whole(1), help="Training steps at most.  [default: 600; --quick 250]")
@click.option("--batch", type=options.whole(1), default=50, help="Sequences a step.")
@click.option(
    "--lr", type=options.real(0), help="Learning rate, of Adam without clipping.  [default: 0.005; --quick 0.01]"
)
@click.option(
    "--remedies",
    type=options.name(REMEDIES, several=True),
    help=f"Which to apply: {', '.join(REMEDIES)}.  [default: all that fit the cell]",
)
@click.option("--wrt", type=options.name(WRT), default="state", help="Gradient by what: state, or input.")
@click.option("--threshold", type=options.real(0, 1), help="Share of the gradient, of the horizon.  [default: 1/e]")
@options.device
@click.option("--quick", is_flag=True, help="A smaller look, within a minute: 3 seeds, 250 steps, adding of length 20.")
@options.jobs
@click.option(
    "--out",
    metavar="DIR",
    type=options.FOLDER,
    help="Directory for the results; made where missing.  [default: one for each setting, under runs/advise]",
)
@options.quiet
@options.as_json
def command(
    task: str | None,
    text: str | None,
    settings: dict[str, Any],
    quick: bool,
    seeds: int | None,
    steps: int | None,
    lr: float | None,
    threshold: float | None,
    remedies: tuple[str, ...] | None,
    jobs: int,
    out: Path | None,
    **rest: Any,
) -> None:
    """Apply the known remedies to a network and measure again.

    Says why the network's gradient does not reach back, then applies each remedy, trains, and measures: the rate of decay
    that theory predicts and the measured one, the change of the memory horizon with its range over seeds, and the
    steps to solve the task. What a remedy leaves alone is the same in both networks of a pair: weights and sequences.

    A remedy that does not fit the cell is refused before anything is trained. DIR gets advice.csv (a row a remedy),
    trials.csv (a row a network), advice.html, figures/advise-remedies.svg and .png, and in DIR/runs every network with its
    curves, as rnnvg bench leaves them: interrupted or killed, the same command goes on. Other settings go to a directory of
    their own.

    \b
    rnnvg advise --quick
    rnnvg advise --task copy --cell lstm --remedies forget-bias,chrono,clipping
    """
    from rnnvg.advise import advise
    from rnnvg.advise.settings import settings as checked

    name = defaults.task_name(task, text)
    if name == defaults.TEXT_TASK:
        raise InputError(
            "`--task` next-word is a text without a known distance. Pass a task that has one, such as adding or copy."
        )
    if quick and name == defaults.DEFAULT_TASK:
        settings = {"length": QUICK_LENGTH} | settings
    budget = QUICK if quick else FULL
    own = {"name": name, **defaults.task_settings(text, settings)}
    if threshold is not None:
        rest["threshold"] = threshold
    rest |= {"steps": int(budget["steps"]) if steps is None else steps, "lr": budget["lr"] if lr is None else lr}
    folder = Path(ROOT, checked(own, **rest).name) if out is None else out
    with output.StepBar("network") as bar:
        advice = advise(
            own,
            seeds=int(budget["seeds"]) if seeds is None else seeds,
            remedies=remedies,
            jobs=jobs,
            directory=folder,
            on_progress=bar,
            **rest,
        )
    files = _written(advice, folder)
    output.result(
        _as_json(advice, files) if output.as_json() else f"{advice}\n\n{_table(advice)}\n\nReport: {files['report']}"
    )


def _written(advice: Advice, folder: Path) -> dict[str, str]:
    from rnnvg.report import advise_page
    from rnnvg.report.page import save

    save(
        advise_page.page(advice),
        folder,
        "advice.html",
        {"advice.csv": advice.to_frame(), "trials.csv": advice.trial_frame()},
    )
    figure = "figures/advise-remedies.svg"
    files = {"advice": "advice.csv", "trials": "trials.csv", "figure": figure, "report": "advice.html"}
    return {name: str(folder / file) for name, file in files.items()}


def _as_json(advice: Advice, files: dict[str, str]) -> dict[str, Any]:
    from dataclasses import asdict

    first = advice.first()
    causes = [each["cause"] for each in advice.of("none")]
    return {
        "settings": asdict(advice.settings),
        "seeds": advice.seeds,
        "cause": advice.cause,
        "causes": causes,
        "remedies": output.rows(advice.to_frame()),
        "clipping": [each["equal_weights"] for each in advice.of("clipping")],
        "exploding": {name: [each["value"] for each in trials] for name, trials in advice.exploding().items()},
        "first": None if first is None else first.remedy,
        "files": files,
    }


def _table(advice: Advice) -> str:
    """The effects, narrow enough for a terminal."""
    import math

    import pandas as pd

    from rnnvg.advise.words import ratio
    from rnnvg.report.terminal import as_text

    rows = []
    for each in advice.effects():
        start, end = (
            "-" if each.remedy == "none" or (change := each.log_change(when)) is None else ratio(change)
            for when in ("start", "end")
        )
        rows.append(
            {
                "remedy": each.remedy,
                "predicted": "-" if each.predicted is None else f"{each.predicted:.3f}",
                "measured": "-" if each.measured is None else f"{each.measured:.3f}",
                "horizon": f"{each.horizon['start']}, {each.horizon['end']}",
                "at the start": start,
                "after training": end,
                "solved": f"{each.solved}/{each.seeds}",
                "steps": f"{each.median_steps:.0f}" if math.isfinite(each.median_steps) else "-",
            }
        )
    legend = (
        "Rates in nats a step at the start. Horizons in steps, at the start and after training; behind them by what factor "
        "they are longer than those of the network as it is, median [range] over paired seeds."
    )
    left = [f"Left out: {name} {why}." for name, why in advice.left_out.items()]
    return "\n".join([legend, as_text(pd.DataFrame(rows), output.width()), *left])
