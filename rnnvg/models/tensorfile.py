"""Tensors and a JSON header in one safetensors file, written whole or not at all, never pickled."""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from rnnvg.errors import InputError
from rnnvg.files import Mark, check_ours, check_regular, write_whole


def tensor_mark(kind: str) -> Mark:
    """How a file begins that `write_tensors` wrote for one purpose: "rnnvg weights", "rnnvg training"."""
    # The length of the header, then the header as safetensors writes it: metadata first.
    return re.compile(rb'\A.{8}\{"__metadata__":\{"rnnvg":"\{\\"format\\": \\"' + kind.encode() + rb" \d", re.DOTALL)


def write_tensors(path: Path, tensors: dict[str, Tensor], header: dict[str, Any], argument: str = "path") -> None:
    """Replaces the file at `path` in one move: a reader finds the old file or the new one, never half of one.

    Args:
        header: JSON-able; its first entry is "format", a kind and its version: "rnnvg weights 1".
        argument: where the path comes from.

    Raises:
        InputError: another kind of file is there.
        OSError: the folder is missing or read-only, or the disk is full; the old file is then untouched.
    """
    tensors = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
    # One key alone: safetensors keeps several in no fixed order, and equal contents should be equal bytes.
    metadata = {"rnnvg": json.dumps({**header, "sha256": _digest(tensors, header)})}
    check_ours(path, tensor_mark(header["format"].rpartition(" ")[0]), argument)
    write_whole(Path(os.path.realpath(path)), safetensors.torch.save(tensors, metadata))


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the header of a file that `write_tensors` wrote.

    Raises:
        InputError: there is no such file, it is not one of these, or its contents have changed since.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"There is no file {path}. Pass a .safetensors file that rnnvg wrote.")
    check_regular(path)
    try:
        opened: Any = safetensors.safe_open(path, framework="pt")  # which has no types
        with opened as file:
            metadata: dict[str, str] = file.metadata() or {}
            header = json.loads(metadata["rnnvg"])
            tensors: dict[str, Tensor] = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
        whole = header.pop("sha256") == _digest(tensors, header)
    except (safetensors.SafetensorError, KeyError, AttributeError, TypeError, ValueError) as error:
        raise InputError(
            f"{path} is not a .safetensors file that rnnvg wrote, or is damaged ({type(error).__name__}: {error})."
        ) from error
    if not whole:
        raise InputError(f"{path} is damaged: its contents do not have the checksum that was written with them.")
    return tensors, header


def _digest(tensors: dict[str, Tensor], header: dict[str, Any]) -> str:
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for name in sorted(tensors):
        digest.update(f"{name} {tuple(tensors[name].shape)} {tensors[name].dtype}".encode())
        digest.update(tensors[name].cpu().numpy().tobytes())
    return digest.hexdigest()
