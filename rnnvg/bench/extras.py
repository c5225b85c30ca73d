"""What a benchmark file may hold beside its runs: published figures, a ladder of lengths, and what a task reads.

`Check` goes through them with the rest of the file.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field


class Published(BaseModel):
    """A figure from a paper to compare with: for one cell, and where it is from.

    Attributes:
        cell, metric, value: the figure, in units of the metric; None where the paper shows a curve alone.
        claim: what the paper says in words.
        source: where.
        task: None where the file has one.
        where: settings that the runs to compare must have.
        settings: the paper's own settings; those that a run does not have are named beside the figure.
        note: what the paper did otherwise, where no setting says it.
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
