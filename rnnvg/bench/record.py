"""What result.json says of a run, however it ended. No torch: the process that only hands out work writes one too."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import socket
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

from rnnvg.bench import tables
from rnnvg.bench.spec import SCHEMA, RunSpec
from rnnvg.bench.store import Store
from rnnvg.bench.stored import Result
from rnnvg.horizon import THRESHOLDS

# Everything that is known of a run that came to nothing.
_NOTHING = {name: None for name, field in Result.model_fields.items() if type(None) in get_args(field.annotation)}


def record(spec: RunSpec, outcome: Mapping[str, Any]) -> dict[str, Any]:
    """Everything for result.json: the specification, how it ended, and where it was run."""
    return {
        "schema": SCHEMA,
        "id": spec.id,
        "spec": spec.to_dict(),
        "solved": False,
        **_NOTHING,
        **outcome,
        "versions": {package: version(package) for package in ("rnnvg", "torch", "numpy")}
        | {"python": platform.python_version()},
        "machine": {
            "process": process(),
            "system": platform.platform(),
            "processor": processor(),
            "cpus": os.cpu_count(),
            **outcome.get("machine", {}),
        },
    }


def failure(spec: RunSpec, reason: str, details: str = "") -> tuple[dict[str, Any], dict[str, str]]:
    """The outcome and files of a run that came to nothing: rows without numbers, so that it is seen in the tables."""
    rows = [(None, wrt, each, *[None] * 5, "failed") for wrt in spec.measure.wrt for each in THRESHOLDS]
    files = {
        "curve.csv": tables.to_csv([], tables.CURVE),
        "training.csv": tables.to_csv([], tables.TRAINING),
        "horizons.csv": tables.to_csv(rows, tables.HORIZON),
        "error.txt": details or f"{reason}\n",
    }
    return {"status": "failed", "reason": reason}, files


def write_off(spec: RunSpec, directory: str | Path, reason: str) -> dict[str, Any]:
    """Writes a run off as "failed" from outside, where it took its process with it; the content of its result.json."""
    outcome, files = failure(spec, reason)
    return Store(directory).publish(record(spec, outcome | {"finished": stamp()}), files)


def version(package: str) -> str:
    """The installed version of a package, without its build's local part ("2.13.0", not "2.13.0+cpu")."""
    return importlib.metadata.version(package).split("+")[0]


def process() -> str:
    """This process's number and machine: who wrote a result."""
    return f"{os.getpid()}@{socket.gethostname()}"


def stamp(moment: datetime | None = None) -> str:
    """A moment (None: now) as text, in UTC."""
    return (moment or datetime.now(UTC)).isoformat(timespec="seconds")


def processor() -> str:
    """The name of this machine's processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor()
