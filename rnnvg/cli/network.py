"""The network that a command looks at: as it starts, or from a file of weights; and the task that it is shown."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rnnvg import models
from rnnvg.bench import defaults
from rnnvg.errors import InputError

if TYPE_CHECKING:
    from rnnvg.bench import RunSpec
    from rnnvg.models import SequenceModel
    from rnnvg.tasks import Task

_NETWORK = ("hidden", "layers", "init", "t_max", "embed", "tied")

weights = click.option(
    "--weights",
    metavar="RUN",
    type=click.Path(path_type=Path),
    help="A trained network: the directory of a run, or its weights file; the task is then its own. Without it the "
    "network is as it starts.",
)


def from_options(
    weights: Path | None, rest: dict[str, Any], seed: int, tell: Any
) -> tuple[SequenceModel, Task, RunSpec]:
    """The network, its task and the run that it belongs to.

    Args:
        weights: a run or a weights file that rnnvg wrote, or None for a network as it starts.
        rest: the options `which_task`, `network` and `device` by name; the network is brought to the device.
        seed: what weights and sequences are drawn from.
        tell: is handed a line for the user.

    Raises:
        InputError: options that contradict each other, or a file, setting or network that cannot be.
    """
    model, task, spec = _fresh(rest, seed, tell) if weights is None else _trained(weights, rest, seed, tell)
    return model.to(rest["device"]), task, spec


@contextmanager
def computing(model: SequenceModel) -> Iterator[dict[str, Any]]:
    """Where the model is on a GPU, the flags under which the same command gives the same numbers; as before at the end.

    Gives the device, and of a GPU which and how.
    """
    from rnnvg.training import device as devices

    on = next(model.parameters()).device.type
    with devices.deterministic(on):
        yield devices.named(on)


def facts(model: SequenceModel, task: Task, weights: Path | None) -> dict[str, Any]:
    """What was looked at: task, settings, cell, hidden, layers, init, weights; device, and of a GPU which and how."""
    from rnnvg.training import device as devices

    kept = {key: model.spec[key] for key in ("cell", "hidden", "layers", "init")}
    computed = devices.named(next(model.parameters()).device.type)
    named = {"task": task.name, "settings": task.settings, **kept, "weights": None if weights is None else str(weights)}
    return {**named, **computed}


def _fresh(rest: dict[str, Any], seed: int, tell: Any) -> tuple[SequenceModel, Task, RunSpec]:
    """A network as it starts: the one that `rnnvg train` starts from with the same options."""
    import torch

    name = defaults.task_name(rest["task"], rest["text"])
    network = {key: rest[key] for key in _NETWORK}
    spec, task = defaults.run(
        name, defaults.task_settings(rest["text"], rest["settings"]), rest["cell"], network, seed, tell
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(spec.subseed("weights"))
        return models.build(task, spec.cell, **spec.network), task, spec


def _trained(weights: Path, rest: dict[str, Any], seed: int, tell: Any) -> tuple[SequenceModel, Task, RunSpec]:
    """A network from its file, and the task that it was trained on, or another one that it fits."""
    from rnnvg.bench.trained import weights_file

    for key in ("cell", *_NETWORK):
        if rest[key] is not None:
            flag = f"--{key.replace('_', '-')}"
            raise InputError(f"`{flag}` describes a new network and --weights brings one. Leave out one of the two.")
    weights = weights_file(weights)
    kept = dict(models.read_header(weights).get("task") or {})
    own = kept.pop("name", defaults.DEFAULT_TASK)
    name = defaults.task_name(rest["task"], rest["text"], own)
    settings = {**(kept if name == own else {}), **defaults.task_settings(rest["text"], rest["settings"])}
    spec, task = defaults.run(name, settings, None, {}, seed, tell)
    return models.load(weights, task), task, spec
