"""What a benchmark file may hold beside its runs: published figures, a ladder of lengths, and what a task reads.

`Check` goes through them with the rest of the file.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Bounds(BaseModel):
    """A range of values; an end that is left out is open."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    least: float | None = None
    most: float | None = None

    @model_validator(mode="after")
    def _has_an_end(self) -> Self:
        if self.least is None and self.most is None:
            raise ValueError("needs `least`, `most` or both")
        return self

    def hold(self, value: float) -> bool:
        """Whether `value` lies inside, ends included."""
        return (self.least is None or value >= self.least) and (self.most is None or value <= self.most)

    def __str__(self) -> str:
        if self.least is None:
            return f"at most {self.most:g}"
        return f"at least {self.least:g}" if self.most is None else f"{self.least:g} to {self.most:g}"


class Published(BaseModel):
    """A figure from a paper to compare with: for one cell, and where it is from.

    Attributes:
        cell, metric, value: the figure, in units of the metric; None where the paper shows a curve alone. The metric is a
            score of the runs, "solved" (the share of the seeds that solve the task) or "solved_at" (at which step they do).
        claim: what the paper says in words.
        source: where.
        task: None where the file has one.
        where: settings that the runs to compare must have.
        settings: the paper's own settings; those that a run does not have are named beside the figure.
        note: what the paper did otherwise, where no setting says it.
        reproduced, partly: in which range the median of our runs counts as the paper's figure, and as part of it. Written
            before the runs; without `reproduced` there is no verdict.
        hours: what its runs cost in hours of one CPU core, estimated from some of their steps; said where they are not run.
        analysis: where the verdict is "not": what this package's own measurements say of the cause.

    >>> from rnnvg import bench
    >>> figure = bench.read("tcn-adding-small").published[0]
    >>> figure.cell, figure.metric, figure.value
    ('lstm', 'mse', 0.164)
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    cell: str
    metric: str
    value: float | None = None
    claim: str = ""
    source: Annotated[str, Field(min_length=1)]
    task: str | None = None
    where: dict[str, Any] = {}
    settings: dict[str, Any] = {}
    note: str = ""
    reproduced: Bounds | None = None
    partly: Bounds | None = None
    hours: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    analysis: str = ""


class Ladder(BaseModel):
    """Lengths to be climbed: doubled from `least` while solved, then bisected.

    Attributes:
        setting: the task's setting that grows.
        least, most: the first value, and the last to be tried.
        success: fraction of the seeds that have to solve a length.
        within: bisecting ends when the gap between solved and unsolved is at most this fraction of the solved length.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    setting: str
    least: Annotated[int, Field(strict=True, ge=1)]
    most: Annotated[int, Field(strict=True, ge=1)]
    success: Annotated[float, Field(gt=0, le=1)] = 0.5
    within: Annotated[float, Field(gt=0, le=1)] = 0.1


class Needs(BaseModel):
    """What a task reads that does not come with the package, got as `how` says.

    Attributes:
        setting: the task's setting that holds the path of a file or folder, or
        package: the name by which Python imports an optional package.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    setting: str | None = None
    package: str | None = None
    how: Annotated[str, Field(min_length=1)]

    def absent(self, paths: Iterable[Any]) -> str:
        """What is not there, as a sentence with the way to get it; empty where all of it is.

        Args:
            paths: what `setting` is set to; a path that no table sets is the task's own business.
        """
        if self.package is not None:
            here = importlib.util.find_spec(self.package.partition(".")[0]) is not None
            return "" if here else f"There is no package {self.package!r}. {self.how}"
        missing = [str(path) for path in paths if not Path(str(path)).exists()]
        return f"There is no {missing[0]!r}. {self.how}" if missing else ""
