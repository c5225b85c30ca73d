"""A training that was interrupted, as one file: weights, optimiser, random generators, place in the text, history.

No pickle: tensors lie in a safetensors file, everything else in its JSON header (where floats survive exactly).
"""

from __future__ import annotations

import warnings
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, Field
from torch import Tensor

from rnnvg.errors import InputError
from rnnvg.files import check_ours, has_mark, move_aside, refusal, remove_ours
from rnnvg.models import SequenceModel
from rnnvg.models.tensorfile import read_tensors, tensor_mark, write_tensors
from rnnvg.models.weights import own_tensors, put_tensors
from rnnvg.stored import Damaged, fit
from rnnvg.training.feed import DrawnFeed, StreamedFeed
from rnnvg.training.give_up import Verdict

FORMAT = "rnnvg training 1"
MARK = tensor_mark("rnnvg training")
Generators = tuple[Tensor, Tensor]


@dataclass
class Progress:
    """Everything of a training that is neither tensor nor setting.

    Attributes:
        step: optimiser steps done.
        evaluated, measured: the last step that was scored on held-out data, and the last that was handed to
            on_checkpoint; -1 for none.
        best: the lowest held-out loss so far.
        rows: the history: step, split, metric, value.
        pending: training losses since the last row of them.
        seconds: time spent, over all sittings, without on_checkpoint.
        verdict: what the stopping rule saw and said; None before its look, or where it was not asked for.
    """

    step: int = 0
    evaluated: int = -1
    measured: int = -1
    solved_at: int | None = None
    reason: str = ""
    best: float = float("inf")
    rows: list[tuple[int, str, str, float]] = field(default_factory=list[tuple[int, str, str, float]])
    pending: list[float] = field(default_factory=list[float])
    seconds: float = 0.0
    verdict: Verdict | None = None

    @property
    def given_up(self) -> bool:
        """Whether the stopping rule has ended the training."""
        return self.verdict is not None and self.verdict.given_up


class Position(BaseModel):
    """Where a text was, of trainings that read one."""

    passes: int = Field(default=0, ge=0)
    index: int = Field(default=0, ge=0)
    is_tuple: bool = False


class Header(BaseModel):
    """Everything of a resume file that is no tensor, as it is read back."""

    settings: dict[str, Any]
    progress: Progress
    position: Position
    lr: list[float]


@dataclass
class Parts:
    """The objects whose numbers a training changes."""

    model: SequenceModel
    optimizer: torch.optim.Optimizer
    feed: DrawnFeed | StreamedFeed
    generator: torch.Generator
    progress: Progress

    def generators(self) -> Generators:
        """The states of the given generator and of torch's global one, from which dropout draws."""
        return self.generator.get_state(), torch.get_rng_state()


def write(path: Path, settings: dict[str, Any], parts: Parts, generators: Generators) -> None:
    """Writes the file in one move.

    Args:
        settings: what the training's numbers depend on; `restore` wants the same again.
        generators: their states at the step that is to be done next.

    Raises:
        OSError: the folder is missing or read-only, or the disk is full; an older file is then untouched.
    """
    tensors = {f"model.{name}": tensor for name, tensor in own_tensors(parts.model).items()}
    kept = parts.optimizer.state_dict()
    for index, state in kept["state"].items():
        for name, each in state.items():
            # PyTorch 2.3's RMSprop counts its steps in a number, all others in a float32 tensor; SGD's state is None.
            if each is not None:
                number = each if isinstance(each, Tensor) else torch.tensor(float(each))
                tensors[f"optimizer.{index}.{name}"] = number
    carried, position = parts.feed.position()
    tensors |= {f"feed.{name}": each for name, each in carried.items()}
    tensors |= {"generator": generators[0], "global_generator": generators[1]}
    header = {
        "format": FORMAT,
        "settings": settings,
        "progress": asdict(parts.progress),
        "position": position,
        "lr": [group["lr"] for group in kept["param_groups"]],
    }
    write_tensors(path, tensors, header, "resume")


def check_path(path: Path) -> None:
    """Nothing where `path` may be a resume file: nothing is there, or a resume file, damaged or not.

    Raises:
        InputError: anything else, an empty file too, is there; or its folder does not exist.
    """
    if not path.parent.is_dir():
        raise InputError(f"`resume` {path} is in a folder that does not exist. Make it, or pass another path.")
    check_ours(path, MARK, "resume")
    if path.exists() and not has_mark(path, MARK):
        raise refusal(path, "resume")


def remove(path: Path) -> None:
    """Deletes a resume file, and nothing that is not one."""
    remove_ours(path, MARK)


def measured_until(path: Path) -> int:
    """The last step that was handed to on_checkpoint before the training of a file was interrupted; -1 for none.

    Raises:
        InputError: it is damaged, or of another kind.
    """
    return _read(path)[1].progress.measured


def restore(path: Path, settings: dict[str, Any], parts: Parts, give_up: bool = False) -> bool:
    """Puts a file's numbers into `parts`; False, and nothing changed, where there is no file to go on from.

    A damaged resume file is renamed to end in .corrupt (.corrupt-2 where that is taken), with a warning.

    Raises:
        InputError: the file belongs to a training with other settings, or to one that was given up where that is not asked
            for; or is no resume file of rnnvg: it is left.
    """
    check_path(path)
    if not path.exists():
        return False
    other: list[str] = []
    try:
        tensors, header = _read(path)
        other = [name for name in settings if header.settings.get(name) != settings[name]]
        if not other:
            _check_tensors(path, tensors, parts)
    except InputError as error:
        aside = move_aside(path, ending=".corrupt")
        warnings.warn(f"{error} It was renamed to {aside.name}; training starts again.", RuntimeWarning, stacklevel=3)
        return False
    if other:
        was = ", ".join(f"{name}={header.settings.get(name)!r}" for name in other)
        now = ", ".join(f"{name}={settings[name]!r}" for name in other)
        raise InputError(
            f"`resume` {path} belongs to a training with {was}, and this one has {now}. "
            "Pass another path, or delete the file to start again."
        )
    if header.progress.given_up and not give_up:
        raise InputError(
            f"`resume` {path} belongs to a training that was given up. Pass give_up=True, another path, or delete the file to "
            "start again."
        )
    put_tensors(parts.model, _under("model", tensors))
    _put_optimizer(parts.optimizer, _under("optimizer", tensors), header.lr)
    device = next(parts.model.parameters()).device
    carried = {name: each.to(device) for name, each in _under("feed", tensors).items()}
    parts.feed.restore(carried, header.position.model_dump())
    parts.generator.set_state(tensors["generator"])
    torch.set_rng_state(tensors["global_generator"])
    for name, value in vars(header.progress).items():
        setattr(parts.progress, name, value)
    return True


def _read(path: Path) -> tuple[dict[str, Tensor], Header]:
    """The tensors of a resume file and everything else in it.

    Raises:
        InputError: it is damaged, or of another kind.
    """
    tensors, content = read_tensors(path)
    if content.get("format") != FORMAT:
        raise InputError(f"{path} is {content.get('format', 'of no known format')!r} and not a resume file.")
    try:
        return tensors, fit(Header, content, str(path))
    except Damaged as error:
        raise InputError(f"{error}.") from None


def _check_tensors(path: Path, tensors: dict[str, Tensor], parts: Parts) -> None:
    """Nothing where every tensor has the shape of what it is put in the place of, before anything is changed."""
    model = {f"model.{name}": each.shape for name, each in own_tensors(parts.model).items()}
    weights = [each.shape for group in parts.optimizer.param_groups for each in group["params"]]
    generators = {"generator": parts.generator.get_state(), "global_generator": torch.get_rng_state()}
    wanted: dict[str, torch.Size | None] = {name: each.shape for name, each in generators.items()}
    wanted |= model
    for name, tensor in tensors.items():
        kind, _, rest = name.partition(".")
        index = rest.partition(".")[0]
        if kind == "optimizer" and tensor.ndim:  # a count of steps has no dimension
            wanted[name] = weights[int(index)] if index.isdigit() and int(index) < len(weights) else None
        elif kind in ("optimizer", "feed"):
            wanted[name] = tensor.shape
    for name in sorted(wanted.keys() | tensors.keys()):
        found = tensors[name].shape if name in tensors else None
        if found != wanted.get(name):
            was, right = (
                "missing" if each is None else f"of the shape {tuple(each)}" for each in (found, wanted.get(name))
            )
            raise InputError(f"{path} is damaged: {name} is {was} instead of {right}.")
    if any(tensors[name].dtype != torch.uint8 for name in generators):
        raise InputError(f"{path} is damaged: the state of a generator is not one of bytes.")


def _put_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor], lr: list[float]) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        index, key = name.split(".", 1)
        state.setdefault(int(index), {})[key] = tensor
    groups = optimizer.state_dict()["param_groups"]
    for group, rate in zip(groups, lr, strict=True):
        group["lr"] = rate
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(f"{prefix}."): each for name, each in tensors.items() if name.startswith(f"{prefix}.")}
