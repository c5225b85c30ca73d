"""Weight files: a model's numbers as safetensors, with what is needed to build it again in a JSON header."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from rnnvg.errors import InputError, shown
from rnnvg.models.build import check_fits
from rnnvg.models.sequence_model import SequenceModel
from rnnvg.models.tensorfile import read_tensors, write_tensors
from rnnvg.pytorch import fork_rng

if TYPE_CHECKING:
    from rnnvg.tasks import Task

FORMAT = "rnnvg weights 1"


def save(model: SequenceModel, path: str | Path, **header: Any) -> None:
    """Writes a model's weights, in one move, with its spec and whatever else is named.

    Args:
        path: the file; a weight file that is there is replaced.
        header: JSON-able facts to keep with the weights, such as task=..., seed=...

    Raises:
        InputError: something else than a weight file is there.
        OSError: the folder is missing or read-only, or the disk is full; an existing file is then untouched.

    >>> import tempfile
    >>> from rnnvg import models, tasks
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     models.save(models.build(tasks.make("adding", length=5), "gru", hidden=4), f"{folder}/weights", note="small")
    ...     models.read_header(f"{folder}/weights")["note"]
    'small'
    """
    _check_model(model)
    _check_path(path)
    write_tensors(Path(path), own_tensors(model), {"format": FORMAT, "spec": model.spec, "header": header})


def _check_model(model: object) -> None:
    if not isinstance(model, SequenceModel):
        raise InputError(f"`model` is {shown(model)}; pass what `models.build` made.")


def load(path: str | Path, task: Task | None = None) -> SequenceModel:
    """The model of a weight file, on the CPU; torch's global generator is left as it was.

    Args:
        task: where given, the model must fit its inputs and outputs.

    Raises:
        InputError: no such file, not a weight file, damaged, weights of another shape than its spec or than the task.

    >>> import tempfile
    >>> from rnnvg import models, tasks
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     models.save(models.build(tasks.make("adding", length=5), "gru", hidden=4), f"{folder}/weights")
    ...     models.load(f"{folder}/weights").core
    GRU(2, 4)
    """
    tensors, contents = _read(path)
    spec = contents["spec"]
    if task is not None:
        check_fits(spec, task, what=str(path))
    try:
        with fork_rng(devices=[]):
            model = SequenceModel(**spec)
        put_tensors(model, tensors)
    except (TypeError, KeyError, ValueError, RuntimeError) as error:
        raise InputError(f"{path} holds weights of another shape than its own header says ({error}).") from error
    return model


def read_header(path: str | Path) -> dict[str, Any]:
    """What `save` was given beside the weights, and the model's "spec".

    Raises:
        InputError: no such file, not a weight file, damaged.

    >>> import tempfile
    >>> from rnnvg import models, tasks
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     models.save(models.build(tasks.make("adding", length=5), "gru", hidden=4), f"{folder}/weights")
    ...     models.read_header(f"{folder}/weights")["spec"]["hidden"]
    4
    """
    contents = _read(path)[1]
    return {**contents["header"], "spec": contents["spec"]}


def own_tensors(model: SequenceModel) -> dict[str, Tensor]:
    """The model's tensors by name, a tied one once."""
    tensors = dict(model.state_dict())
    if model.spec["tied"]:
        del tensors["readout.weight"]
    return tensors


def put_tensors(model: SequenceModel, tensors: dict[str, Tensor]) -> None:
    """The inverse of `own_tensors`. ValueError where names or shapes differ; the model is then unchanged."""
    mine = own_tensors(model)
    shapes = {name: tuple(tensor.shape) for name, tensor in mine.items()}
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    for name in sorted(shapes.keys() | found.keys()):
        if shapes.get(name) != found.get(name):
            raise ValueError(f"{name} is {found.get(name, 'missing')} and should be {shapes.get(name, 'absent')}")
    with torch.no_grad():
        for name, tensor in tensors.items():
            mine[name].copy_(tensor)


def _check_path(path: object) -> None:
    if not isinstance(path, (str, os.PathLike)):
        raise InputError(f"`path` is {shown(path)}; pass the path of a weight file.")


def _read(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    _check_path(path)
    tensors, contents = read_tensors(Path(path))
    if contents.get("format") != FORMAT:
        raise InputError(
            f"{path} is {contents.get('format', 'of no known format')!r} and not a weight file. "
            "Pass a file that rnnvg.models.save wrote."
        )
    return tensors, contents
