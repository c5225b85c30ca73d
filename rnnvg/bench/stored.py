"""The files of a results directory that are read back: what each holds. `rnnvg.stored` reads them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

_Count = Annotated[int, Field(ge=0, le=2**63 - 1)]
_Number = Annotated[float, Field(ge=-1e308, le=1e308)]
# What a run writes beside its result: names in its own folder and nowhere else.
_Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.\-]*$")]


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
    notes: list[str] = []
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
