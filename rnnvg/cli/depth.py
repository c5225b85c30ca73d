"""rnnvg depth: the vanishing gradient across layers."""

from __future__ import annotations

import math
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from rnnvg.cli import options, output
from rnnvg.depth.names import ACTIVATIONS, CHAIN_ACTIVATIONS, INITS, NORMS, OPTIMIZERS, RESIDUALS
from rnnvg.errors import InputError

if TYPE_CHECKING:
    from rnnvg.tasks.images import Images

ROWS = 12  # of a long chain, as many layers are printed


# What --report and --remedies leave open; the rest is the story's own.
_REPORT = ("weight", "depth", "width", "steps", "data", "images", "out", "device", "seed", "quiet", "as_json", "report")
_REMEDIES = ("depth", "width", "steps", "lr", "data", "images", "device", "seed", "quiet", "as_json", "remedies")
_TRAINING = ("lr", "optimizer", "clip")


@click.command()
@click.option("--layers", type=options.whole(1), default=20, help="Neurons of the chain.")
@click.option("--weight", type=options.real(-math.inf), default=0.17, help="Their weight.")
@click.option(
    "--activation",
    type=options.name(ACTIVATIONS),
    default="sigmoid",
    help=f"Of chain and network: {', '.join(ACTIVATIONS)}.",
)
@click.option("--depth", type=options.whole(1), default=10, help="Hidden layers of the network, or residual blocks.")
@click.option("--width", type=options.whole(1), default=64, help="Units of each.")
@click.option("--init", type=options.name(INITS), default="gaussian", help=f"How weights start: {', '.join(INITS)}.")
@click.option("--norm", type=options.name(NORMS), default="none", help=f"Before the activations: {', '.join(NORMS)}.")
@click.option(
    "--residual", type=options.name(RESIDUALS), default="none", help="none, skip (around a layer), block (around two)."
)
@click.option("--zero-last", is_flag=True, help="Start the last norm's gain of every residual block at 0.")
@click.option("--pretrain", is_flag=True, help="Train the layers one by one first, without labels.")
@click.option(
    "--steps", type=options.whole(0), help="Train for so many steps.  [default: 0; 400 for the tables and report]"
)
@click.option("--lr", type=options.real(0), default=0.02, help="Learning rate.")
@click.option("--optimizer", type=options.name(OPTIMIZERS), default="sgd", help="sgd (momentum 0.9) or adam.")
@click.option("--clip", type=options.real(0), help="Clip the gradient to this norm in training.  [default: none]")
@click.option(
    "--data", metavar="digits|DIR", default="digits", help="scikit-learn's digits, or a folder with MNIST's IDX files."
)
@click.option("--images", type=options.whole(1), help="Use the first so many images of a folder.  [default: all]")
@click.option("--remedies", is_flag=True, help="Apply every remedy to the sick network and print the table.")
@click.option("--report", is_flag=True, help="Measure the whole story and write one self-contained page.")
@options.out("runs/depth")
@options.device
@options.seed
@options.quiet
@options.as_json
@click.pass_context
def command(context: click.Context, layers: int, weight: float, data: str, images: int | None, **rest: Any) -> None:
    """Follow gradients through layers: chains, networks, remedies.

    Without --remedies and --report: the gradient by every weight of a chain, and by every layer of a network at the start
    (and after --steps of training), with what theory predicts and what a checker says.

    \b
    rnnvg depth
    rnnvg depth --depth 20 --activation relu --init he --residual block
    rnnvg depth --remedies
    rnnvg depth --report --out runs/depth

    --report takes about half a minute of one core, says which part of how many is measured, and keeps in DIR/parts what is
    done until the page is written: interrupted or killed, the same command goes on.
    """
    _check(context, rest)
    on = rest["device"]
    from rnnvg.training import device as devices

    with devices.deterministic(on):
        shown = _images(data, images).to(on)
        if rest["report"]:
            _report(shown, weight, rest, devices.named(on))
        elif rest["remedies"]:
            _remedies(shown, rest, devices.named(on))
        else:
            from rnnvg.bptt.threads import OneThread

            chain = _chain(layers, weight, rest["activation"])
            with OneThread():
                network = _network(shown, rest)
            network |= devices.named(on)
            output.result({"chain": chain, "network": network} if output.as_json() else _as_text(chain, network))


def _check(context: click.Context, rest: dict[str, Any]) -> None:
    """Refuses an option that what was asked for would not look at."""
    flags = [name for name in context.params if context.get_parameter_source(name) is ParameterSource.COMMANDLINE]
    for mode, taken in (("report", _REPORT), ("remedies", _REMEDIES)):
        if rest[mode]:
            for name in flags:
                if name not in taken:
                    raise InputError(
                        f"`{_flag(name)}` is for one network; --{mode} has its own. Leave out one of the two."
                    )
            return
    if "out" in flags:
        raise InputError("`--out` is for --report. Pass that too, or leave it out.")
    for name in flags:
        if name in _TRAINING and not rest["steps"]:
            raise InputError(f"`{_flag(name)}` is for training. Pass --steps too, for example --steps 400.")


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _images(data: str, limit: int | None) -> Images:
    from rnnvg.tasks import images

    if data != "digits":
        return images.from_idx(data, limit)
    if limit is not None:
        raise InputError("`--images` is for a folder of IDX files; the digits are few. Leave it out.")
    return images.digits()


def _report(images: Images, weight: float, rest: dict[str, Any], computed: Any) -> None:
    from rnnvg.depth import story
    from rnnvg.faults import disk_faults_named
    from rnnvg.report import depth_page

    folder = Path(rest["out"])
    with disk_faults_named(folder):  # before the minute of measuring, not after it
        folder.mkdir(parents=True, exist_ok=True)
        measured_story = story.measure(
            images, weight=weight, directory=folder, on_progress=output.tell, **_story_settings(rest)
        )
    path = depth_page.write(measured_story, folder)
    story.forget_parts(folder)
    output.tell(f"Measured in {measured_story.seconds:.0f} seconds.")
    facts = {"report": str(path), "seconds": measured_story.seconds, **computed}
    output.result(facts if output.as_json() else "\n".join([f"Report: {path}", *output.gpu_line(computed)]))


def _remedies(images: Images, rest: dict[str, Any], computed: Any) -> None:
    from rnnvg.bptt.threads import OneThread
    from rnnvg.depth.remedies import REMEDIES, compare_remedies, remedy_frame

    places = count(1)

    def count_of(name: str) -> None:
        output.tell(f"{next(places)} of {len(REMEDIES)}: {name}")

    with OneThread():
        frame = remedy_frame(compare_remedies(images, on_progress=count_of, lr=rest["lr"], **_story_settings(rest)))
    if output.as_json():
        output.result(output.rows(frame.assign(**computed)))
        return
    shown = _table(frame.drop(columns=["remedy", "status"]).round(2))
    output.result("\n".join([shown, *output.gpu_line(computed)]))


def _story_settings(rest: dict[str, Any]) -> dict[str, Any]:
    steps = 400 if rest["steps"] is None else rest["steps"]
    return {"depth": rest["depth"], "width": rest["width"], "steps": steps, "seed": rest["seed"]}


def _chain(layers: int, weight: float, activation: str) -> dict[str, Any] | None:
    if activation not in CHAIN_ACTIVATIONS:
        output.tell(f"The chain is drawn for {', '.join(CHAIN_ACTIVATIONS)}; left out for {activation}.")
        return None
    from rnnvg.depth.chain import chain
    from rnnvg.horizon import NATS_PER_DECADE

    line = chain(layers, weight, activation)
    return {
        "activation": activation,
        "weight": weight,
        "log10_ratio": line.log_ratio / NATS_PER_DECADE,
        "residual": line.residual,
        "layers": output.rows(line.to_frame()),
    }


def _network(images: Images, rest: dict[str, Any]) -> dict[str, Any]:
    import torch

    from rnnvg.depth import gradients, networks, planted, theory, training
    from rnnvg.horizon import NATS_PER_DECADE

    settings = ("depth", "width", "activation", "init", "norm", "residual", "zero_last")
    generator = torch.Generator().manual_seed(rest["seed"])
    x, y = images.train_x[:128], images.train_y[:128]
    chosen = {name: rest[name] for name in settings}
    network = networks.build_for(images, generator, **chosen)
    facts: dict[str, Any] = {"data": images.name, **network.spec, "predicted": None}
    if rest["pretrain"]:
        training.pretrain(network, images, generator=generator)
    else:
        predicted = theory.predict_log_ratio(network.spec, float(x.square().mean()), x.shape[1])
        facts["predicted"] = predicted / NATS_PER_DECADE
    start = gradients.network_gradients(network, x, y)
    frame = start.to_frame().merge(networks.slopes_along(network, x), on="layer")
    facts["measured"] = start.log_ratio(network.ends) / NATS_PER_DECADE
    facts["diagnosis"] = str(planted.check(network, images, rest["seed"]))
    if rest["steps"]:
        chosen = {name: rest[name] for name in ("steps", *_TRAINING)}
        trained = training.fit(network, images, generator=generator, **chosen)
        end = gradients.network_gradients(network, x, y)
        frame["log10_weight_after"] = end.to_frame()["log10_weight"]
        facts["after"] = end.log_ratio(network.ends) / NATS_PER_DECADE
        facts |= {"accuracy": trained.accuracy, "steps": trained.steps, "steps_to_90": trained.steps_to(0.9)}
        facts |= {"status": trained.status, "seconds": trained.seconds}
    return {**facts, "layers": output.rows(frame)}


def _as_text(chain: dict[str, Any] | None, network: dict[str, Any]) -> str:
    import pandas as pd

    parts = []
    if chain is not None:
        frame = pd.DataFrame(chain["layers"])
        shown = frame if len(frame) <= 2 * ROWS else pd.concat([frame.head(ROWS), frame.tail(ROWS)])
        columns = ["layer", "value", "slope", "log10_gradient", "log10_slope_bound", "log10_bound", "log10_rule"]
        parts += [
            f"A chain of {len(frame)} {chain['activation']} neurons, w = {chain['weight']:g}: dL/dw of the first is "
            f"{_times(chain['log10_ratio'])} of the last.",
            _table(shown[columns].astype(float).round(4).astype({"layer": int})),
            "",
        ]
    frame = pd.DataFrame(network["layers"])
    theory = "no theory" if network["predicted"] is None else f"{_times(network['predicted'])} predicted"
    parts += [
        f"{network['depth']} {'residual blocks' if network['residual'] == 'block' else 'layers'}, {network['width']} wide "
        f"({network['activation']}, {network['init']}, norm {network['norm']}, residual {network['residual']}) on "
        f"{network['data']}: the first layer's gradient is {_times(network['measured'])} of the last one's ({theory}).",
        _table(frame.astype(float).round(4).astype({"layer": int})),
        "",
    ]
    if "accuracy" in network:
        reached = network["steps_to_90"]
        parts += [
            f"Trained for {network['steps']} steps ({network['status']}): accuracy {network['accuracy']:.1%}, 90 % "
            f"{f'at step {reached}' if reached else 'never'}; the ratio is then {_times(network['after'])}."
        ]
    return "\n".join([*parts, f"Diagnosis: {network['diagnosis']}", *output.gpu_line(network)])


def _times(log10: float | None) -> str:
    """A ratio in decades in plain letters, for any terminal."""
    if log10 is None or math.isnan(log10):
        return "nothing"
    return f"{10**log10:.2g}" if abs(log10) < 300 else f"10^{log10:.1f}"


def _table(frame: Any) -> str:
    from rnnvg.report.terminal import as_text

    return as_text(frame, output.width())
