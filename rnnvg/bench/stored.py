"""The files of a results directory that are read back: what each holds. `rnnvg.stored` reads them."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from rnnvg.bench.spec import GIVEN_UP

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


# How a run can end that did not come to the end of its training.
BROKEN_OFF = ("diverged", "failed", GIVEN_UP)


class GiveUp(_Stored):
    """What the stopping rule saw and said, as rnnvg.training.give_up has it."""

    applied: bool
    given_up: bool
    because: str
    step: _Count | None
    share: _Number | None
    horizon: _Count | None
    distance: _Count | None
    loss: _Number | None
    score: _Number | None
    threshold: _Number | None
    horizon_needed: _Count | None

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        numbers = (self.step, self.share, self.horizon, self.distance, self.loss, self.score, self.threshold)
        if self.applied and None in numbers:
            raise ValueError("`give_up` was applied and lacks what it saw")
        if self.given_up and (self.score is None or self.threshold is None or self.score >= self.threshold):
            raise ValueError("`give_up` ended a run that its own numbers keep")
        return self


class Result(_Stored):
    """runs/<id>/result.json."""

    layout: int = Field(alias="schema")
    id: str
    spec: dict[str, Any]
    status: Literal["ok", "diverged", "failed", "given-up"]
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
    give_up: GiveUp | None = None
    started: str | None = None
    finished: str | None = None
    versions: dict[str, str]
    machine: Machine
    notes: list[str] = []
    files: dict[_Name, str]
    checksum: str

    @model_validator(mode="after")
    def _has_evidence(self) -> Self:
        if (self.status == GIVEN_UP) != (self.give_up is not None and self.give_up.given_up):
            raise ValueError("`status` and `give_up` say different things")
        return self


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
