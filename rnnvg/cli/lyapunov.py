"""rnnvg lyapunov: at what rates a network's perturbations grow or die, direction by direction."""

from __future__ import annotations

import math
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rnnvg import models
from rnnvg.cli import network, options, output
from rnnvg.errors import InputError, check_int

if TYPE_CHECKING:
    from rnnvg.bptt import LyapunovSpectrum

# Rows of the table; --csv has every exponent.
_LEADS = (1, 2, 3, 5)


@click.command()
@options.which_task
@options.network
@network.weights
@click.option("--n-exponents", type=options.whole(1), help="How many exponents, the largest first.  [default: all]")
@click.option("--burn-in", type=options.whole(0), help="Steps to discard before averaging.  [default: a tenth]")
@click.option("--steps", type=options.whole(1), help="Steps to average over after them.  [default: all that are left]")
@click.option("--sequences", type=options.whole(1), default=4, help="Held-out sequences to average over.")
@options.device
@options.seed
@options.csv("every exponent")
@options.figure("the spectrum", "--out")
@options.quiet
@options.as_json
def command(
    weights: Path | None,
    n_exponents: int | None,
    burn_in: int | None,
    steps: int | None,
    sequences: int,
    seed: int,
    csv: Path | None,
    figure: Path | None,
    **rest: Any,
) -> None:
    """One network's Lyapunov exponents: rates of growth and decay.

    The network runs over held-out sequences four times as long as those of training. The largest exponent is the rate
    at which its gradient shrinks or grows in the long run: below 0 it vanishes, above 0 it explodes. All exponents
    together must add up to the mean log determinant of the step Jacobians, which is computed apart.

    \b
    rnnvg lyapunov --cell gru --length 50
    rnnvg lyapunov --cell rnn --init orthogonal --figure spectrum.png
    rnnvg lyapunov --weights runs/train
    """
    import torch

    from rnnvg.bptt import lyapunov_spectrum
    from rnnvg.cli import curve
    from rnnvg.files import write_ours

    model, task, spec = network.from_options(weights, rest, seed, output.tell)
    probe = task.probe(sequences, torch.Generator().manual_seed(spec.subseed("probe")))
    burn_in, steps = _window(burn_in, steps, int(probe.inputs.shape[0]))
    if n_exponents is not None:
        size = model.core.num_layers * model.core.hidden_size * (2 if model.spec["cell"] == "lstm" else 1)
        check_int("--n-exponents", n_exponents, least=1, most=size)
    with network.computing(model), output.StepBar() as bar:
        inputs = models.encoded(model, probe.inputs)[: burn_in + steps]
        core, state = models.recurrence(model.core, inputs)
        spectrum = lyapunov_spectrum(core, inputs, state, n_exponents=n_exponents, burn_in=burn_in, on_progress=bar)
    facts = {**network.facts(model, task, weights), "sequences": sequences, "steps": steps, "burn_in": burn_in}
    facts |= {"seed": seed, "n_exponents": spectrum.exponents.shape[1]}
    if csv is not None:
        write_ours(csv, spectrum.to_frame().to_csv(index=False, lineterminator="\n"), "--csv")
    if figure is not None:
        title = f"{curve.heading(facts)}\n{textwrap.fill(str(spectrum), 66)}"
        write_ours(figure, curve.drawn([spectrum], title, figure.suffix.lower(), fontsize="small"), "--figure")
    output.result(_as_json(facts, spectrum) if output.as_json() else _as_text(facts, spectrum))


def _window(burn_in: int | None, steps: int | None, length: int) -> tuple[int, int]:
    """Steps of burn-in and steps averaged over, of sequences of `length` steps.

    Raises:
        InputError: the sequences are too short for what is asked.
    """
    longer = "ask for fewer, or for longer sequences by --length, --delay or --set"
    if burn_in is None:
        burn_in = min(length // 10, length - (steps or 1))
    if burn_in >= length:
        raise InputError(f"`--burn-in` is {burn_in} and the sequences have {length} steps; {longer}.")
    if steps is None:
        steps = length - burn_in
    if burn_in < 0 or burn_in + steps > length:
        before = f" after {burn_in} of burn-in" if burn_in > 0 else ""
        raise InputError(f"`--steps` is {steps}{before} and the sequences have {length} steps; {longer}.")
    return burn_in, steps


def mean_spectrum(spectrum: LyapunovSpectrum) -> Any:
    """Means over sequences: a row per exponent; columns index (1 the largest), exponent, stderr (nats a step), half_life
    (steps; inf where nothing decays)."""
    import numpy as np
    import pandas as pd

    from rnnvg.horizon import half_life

    many = len(spectrum.exponents)
    return pd.DataFrame(
        {
            "index": np.arange(1, spectrum.exponents.shape[1] + 1),
            "exponent": spectrum.exponents.mean(0),
            "stderr": np.sqrt((spectrum.stderr**2).sum(0)) / many,
            "half_life": [half_life(each) for each in spectrum.exponents.mean(0).tolist()],
        }
    )


def _as_json(facts: dict[str, Any], spectrum: LyapunovSpectrum) -> dict[str, Any]:
    residual = spectrum.log_det_residual
    return {
        **facts,
        "spectrum": output.rows(mean_spectrum(spectrum)),
        "by_sequence": spectrum.exponents,
        "log_det_residual": residual,
        "kaplan_yorke_dimension": spectrum.kaplan_yorke_dimension,
        "entropy_rate": spectrum.entropy_rate,
    }


def _as_text(facts: dict[str, Any], spectrum: LyapunovSpectrum) -> str:
    from rnnvg.cli import curve
    from rnnvg.report import terminal

    lines = [
        curve.heading(facts),
        *([f"Weights: {facts['weights']}"] if facts["weights"] else []),
        f"Lyapunov exponents, mean over {facts['sequences']} sequences of {facts['steps']} steps after "
        f"{facts['burn_in']} of burn-in",
        "",
        terminal.as_text(_few_rows(mean_spectrum(spectrum)), output.width()),
        "",
        *(textwrap.fill(sentence, output.width()) for sentence in _sentences(spectrum)),
    ]
    return "\n".join(lines)


def _few_rows(spectrum: Any) -> Any:
    import pandas as pd

    from rnnvg.cli import curve

    few = spectrum[spectrum["index"].isin(curve.few(len(spectrum), _LEADS))]
    return pd.DataFrame(
        {
            "exponent": few["index"],
            "nats a step": few["exponent"].map(lambda value: f"{value:+.4f}"),
            "standard error": few["stderr"].map(lambda value: "" if math.isnan(value) else f"{value:.4f}"),
            "factor a step": few["exponent"].map(lambda value: f"{math.exp(min(value, 700.0)):.4g}"),
            "half-life": few["half_life"].map(lambda value: "" if math.isnan(value) else f"{value:.3g}"),
        }
    )


def _sentences(spectrum: LyapunovSpectrum) -> list[str]:
    """What the largest exponent says of the gradient, how many directions grow, and the certificate."""
    import numpy as np

    first = float(spectrum.exponents[:, 0].mean())
    if math.isnan(first):
        return ["No exponent: the state is not finite."]
    if first == -math.inf:
        fate = "vanishes exactly: every direction is lost within the sequence"
    elif abs(first) * spectrum.n_steps < 1:
        fate = "neither vanishes nor explodes over these steps"
    else:
        fate = f"{'vanishes' if first < 0 else 'explodes'}, by a factor of e every {1 / abs(first):.3g} steps"
    growing = (spectrum.exponents > 0).sum(1)
    statements = [f"In the long run the gradient {fate}."]
    least, most, n = int(growing.min()), int(growing.max()), spectrum.exponents.shape[1]
    many = str(least) if least == most else f"{least} to {most}"
    statements.append(f"Directions that grow: {many} of the {n} measured.")
    dimension, entropy = float(spectrum.kaplan_yorke_dimension.mean()), float(spectrum.entropy_rate.mean())
    if most and not math.isnan(dimension) and not math.isnan(entropy):
        statements.append(f"Kaplan-Yorke dimension {dimension:.3g}; entropy rate {entropy:.3g} nats a step at most.")
    if spectrum.log_det_residual is None:
        statements.append("The certificate (sum of all exponents against the log determinants) needs every exponent.")
    else:
        worst = float(np.abs(spectrum.log_det_residual).max())
        statements.append(
            f"Certificate: their sum differs from the mean log determinant by {worst:.1e} nats a step at most."
        )
    return statements
