"""The files of a results directory that are read back: what each holds, and the one place where they are read.

What does not fit is damaged: what and where, as a sentence. A file may have been edited, cut off, or written by anybody.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from rnnvg.errors import InputError, shown
from rnnvg.files import read_regular

# No file of ours that is read whole is larger.
MOST_BYTES = 1 << 26
Model = TypeVar("Model", bound=BaseModel)
_Count = Annotated[int, Field(ge=0, le=2**63 - 1)]
_Number = Annotated[float, Field(ge=-1e308, le=1e308)]
# What a run writes beside its result: names in its own folder and nowhere else.
_Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.\-]*$")]


class Damaged(InputError):
    """A file does not hold what was written to it."""


class _Stored(BaseModel):
    # Later versions may add facts; those that are read must be there, with their types.
    model_config = ConfigDict(extra="allow", strict=True)


class Baseline(_Stored):
    """What guessing comes to."""

    metric: str
    value: _Number | None
    better: Literal["lower", "higher"] | None = None
    text: str | None = None
    loss: _Number | None = None
    best_loss: _Number | None = None


class Machine(_Stored):
    """Where a run was done."""

    process: str
    system: str | None = None
    processor: str | None = None
    cpus: _Count | None = None
    peak_bytes: _Count | None = None


class Result(_Stored):
    """runs/<id>/result.json."""

    layout: int = Field(alias="schema")
    id: str
    spec: dict[str, Any]
    status: Literal["ok", "diverged", "failed"]
    reason: str
    solved: bool
    score: dict[str, _Number | None] | None
    solved_at: _Count | None
    steps: _Count | None
    seconds: _Number | None
    training_seconds: _Number | None
    measuring_seconds: _Number | None
    floor_seconds: _Number | None = None
    parameters: _Count | None
    recurrence: bool | None = None
    training_steps: _Count | None
    n_probe_steps: _Count | None
    task: dict[str, str] | None = None
    baseline: Baseline | None
    verify: dict[str, Any] | None
    versions: dict[str, str]
    machine: Machine
    files: dict[_Name, str]
    checksum: str


class Timed(_Stored):
    """What an estimate needs of a result.json, whatever else is in it."""

    spec: dict[str, Any]
    status: str
    seconds: _Number | None
    steps: _Count | None
    training_seconds: _Number | None = None
    training_steps: _Count | None = None


class Benchmark(_Stored):
    """benchmarks/<name>.json."""

    layout: int = Field(alias="schema")
    name: str
    source: dict[str, Any]
    only: list[str]


class Claim(_Stored):
    """runs/<id>/claim.json."""

    token: str = ""
    pid: Annotated[int, Field(ge=1, le=2**31 - 1)]
    place: str


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        Damaged: it is not a regular file, cannot be read, or is not JSON.
    """
    try:
        return json.loads(read_regular(path, most=MOST_BYTES))
    except InputError as error:
        raise Damaged(str(error)) from None
    except RecursionError:
        raise Damaged(f"{path.name} is nested too deeply") from None
    except ValueError:  # not JSON, not UTF-8, or a number of thousands of digits
        raise Damaged(f"{path.name} is not whole") from None


def fit(model: type[Model], content: Any, name: str) -> Model:
    """What a file holds, checked.

    Raises:
        Damaged: a key is missing or has another type: which.
    """
    try:
        return model.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise Damaged(f"{name} is damaged at {shown(where)}: {first['msg']}"[:300]) from None
    except RecursionError:
        raise Damaged(f"{name} is nested too deeply") from None
