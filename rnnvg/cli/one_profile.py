"""rnnvg profile: one network, one curve."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from rnnvg.cli import network, options, output
from rnnvg.errors import InputError

WRT = ("state", "hidden", "cell", "input", "covariance")


@click.command()
@options.which_task
@options.network
@network.weights
@click.option(
    "--wrt",
    type=options.name(WRT),
    default="state",
    help=f"By what the gradient is taken: {', '.join(WRT)} (of the state: its effect in units of the state's spread).",
)
@click.option(
    "--sources",
    type=options.SOURCES,
    help="Steps at which the loss is applied: last, all, a number of steps evenly spread, or a list such as 10,-1.  "
    "[default: last; next-word 8]",
)
@click.option("--sequences", type=options.whole(1), default=32, help="Held-out sequences to average over.")
@options.device
@options.seed
@options.csv("the whole curve")
@options.figure("the curve")
@click.option(
    "--why", is_flag=True, help="Say what makes it decay: matrix and saturation, or the paths through the gates."
)
@click.option(
    "--theory",
    is_flag=True,
    help="Set what theory says of untrained networks beside it, with a z-score over five networks.",
)
@options.quiet
@options.as_json
def command(
    weights: Path | None,
    wrt: str,
    sources: Any,
    sequences: int,
    seed: int,
    csv: Path | None,
    figure: Path | None,
    why: bool,
    theory: bool,
    **rest: Any,
) -> None:
    """One network, one curve: the gradient left at each distance.

    The loss is applied at the end of held-out sequences four times as long as those of training, and its gradient
    followed back in log space. Gains are relative to one step back.

    \b
    rnnvg profile --cell rnn --length 100
    rnnvg profile --task copy --cell lstm --init forget-bias --figure curve.png
    rnnvg profile --weights runs/train
    rnnvg profile --cell gru --why --theory --figure why.png
    """
    model, task, spec = network.from_options(weights, rest, seed, output.tell)
    import torch

    from rnnvg.bench import measure
    from rnnvg.cli import causes, curve
    from rnnvg.files import write_ours
    from rnnvg.models import CELLS

    for wanted, flag in ((why, "--why"), (theory, "--theory")):
        if wanted and model.spec["cell"] not in CELLS:
            raise InputError(
                f"`{flag}` knows the gates and equations of PyTorch's cells; got cell {model.spec['cell']!r}. Leave it out."
            )
    probe = task.probe(sequences, torch.Generator().manual_seed(spec.subseed("probe")))
    with network.computing(model):
        predicted = causes.theory(rest, seed, sequences, weights is not None) if theory else None
        profile = measure.profile(
            model, task, probe, "state" if wrt == "covariance" else wrt, spec.subseed("covectors"), sources
        )
        if wrt == "covariance":
            from rnnvg.bptt.invariant import covariance_weighted

            profile = covariance_weighted(profile)
        reasons = causes.why(model, task, probe) if why else None
    facts = {
        **network.facts(model, task, weights),
        "wrt": wrt,
        "sequences": sequences,
        "n_steps": int(probe.inputs.shape[0]),
        "training_steps": task.steps,
        "sources": profile.sources,
        "seed": seed,
    }
    if csv is not None:
        write_ours(csv, profile.curve().to_csv(index=False, lineterminator="\n"), "--csv")
    if figure is not None and curve.observed(profile):
        panels = [profile, *([reasons.attribution] if reasons else []), *([predicted.overlay] if predicted else [])]
        write_ours(figure, curve.drawn(panels, curve.heading(facts), figure.suffix.lower()), "--figure")
    if output.as_json():
        added = {} if reasons is None else {"why": causes.why_as_json(reasons)}
        added |= {} if predicted is None else {"theory": causes.theory_as_json(predicted)}
        output.result({**curve.as_json(facts, profile), **added})
        return
    parts = [curve.as_text(facts, profile)]
    parts += [] if reasons is None else [causes.why_as_text(reasons)]
    parts += [] if predicted is None else [causes.theory_as_text(predicted)]
    output.result("\n\n".join(parts))
