"""Where a training computes, and what makes a GPU give the same numbers again."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import torch

from rnnvg.errors import InputError, check_name

DEVICES = ("cpu", "cuda")
# cuBLAS gives the same bits again only with a workspace of its own for each stream (CUDA 10.2 and later).
_WORKSPACE = {"CUBLAS_WORKSPACE_CONFIG": ":4096:8"}


def check_device(device: str, argument: str = "device") -> str:
    """`device` where it is one of DEVICES and this machine has it; otherwise an InputError."""
    check_name(argument, device, DEVICES)
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError(f"`{argument}` is 'cuda', and PyTorch finds no GPU here. Pass 'cpu'.")
    return device


def chosen(device: str, tell: Callable[[str], object] | None = None) -> str:
    """ "cpu" or "cuda"; "auto" is a GPU where there is one, and tells in a line where there is none."""
    if device != "auto":
        return check_device(device, "--device")
    if torch.cuda.is_available():
        return "cuda"
    if tell is not None:
        tell("PyTorch finds no GPU here: `--device` auto computes on the CPU.")
    return "cpu"


@contextmanager
def deterministic(device: str) -> Generator[None]:
    """On a GPU the flags of PyTorch, cuDNN and cuBLAS under which the same run gives the same numbers; as before at the end.

    Matrix products are in float32 proper, without TF32. On a CPU nothing is changed: it needs none of them.
    """
    if device == "cpu":
        yield
        return
    backends = ((torch.backends.cudnn, "deterministic", True), (torch.backends.cudnn, "benchmark", False))
    backends += ((torch.backends.cudnn, "allow_tf32", False), (torch.backends.cuda.matmul, "allow_tf32", False))
    before = [(home, name, getattr(home, name)) for home, name, _ in backends]
    strict, warn = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    for name, value in _WORKSPACE.items():
        os.environ.setdefault(name, value)
    try:
        for home, name, value in backends:
            setattr(home, name, value)
        torch.use_deterministic_algorithms(True)
        yield
    finally:
        torch.use_deterministic_algorithms(strict, warn_only=warn)
        for home, name, value in before:
            setattr(home, name, value)


def named(device: str) -> dict[str, Any]:
    """Where something was computed, for whoever reads it: `device`, and of a GPU its facts too."""
    return {"device": device, **facts(device)}


def facts(device: str) -> dict[str, Any]:
    """What a run's record says of where it was computed: nothing of a CPU, whose name it has already."""
    if device == "cpu":
        return {}
    return {
        "gpu": torch.cuda.get_device_name(),
        "cuda": torch.version.cuda,
        "deterministic": True,
        "tf32": False,
        "cublas_workspace": os.environ.get("CUBLAS_WORKSPACE_CONFIG"),
    }
