"""The memory-horizon ladder: the largest length that a network solves, found without running hopeless ones.

A climb doubles the length while enough seeds solve it, then bisects between the largest solved and the smallest
unsolved one. What comes next is a function of the results alone, so that a climb that was killed goes on where it was,
and several processes climb the same one. It takes for granted that who fails a length fails every larger one; the
fractions of all lengths that were run are told beside the result.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from typing import Any

import pandas as pd

from rnnvg import tasks
from rnnvg.bench.extras import Ladder
from rnnvg.bench.spec import GIVEN_UP, RunSpec, settings_of
from rnnvg.horizon.intervals import fraction_interval


@dataclass(frozen=True)
class Rung:
    """One length: how many of its runs there are, have a result, are solved, and were given up (and not solved)."""

    length: int
    runs: int
    done: int
    solved: int
    given_up: int


@dataclass(frozen=True)
class Climb:
    """One network's way up.

    Attributes:
        spec: the run at the first length, of seed 0.
        ladder: the lengths.
        seeds: run at every length.
    """

    spec: RunSpec
    ladder: Ladder
    seeds: tuple[int, ...]

    def runs(self, length: int) -> list[RunSpec]:
        """The runs at one length, a seed each."""
        fields = self.spec.to_dict() | {"task": settings_of(tasks.make(**self._task(length)))}
        return [RunSpec.model_validate(fields | {"seed": seed}) for seed in self.seeds]

    def rungs(self, results: Mapping[str, Mapping[str, Any]]) -> list[Rung]:
        """The lengths of the climb as far as `results` (by id) tell, in the order in which they come.

        The last one may not be done yet; every other one is. A run that diverged, failed or was given up has not solved its
        length.
        """
        found: list[Rung] = []
        while (length := self._next(found)) is not None:
            runs = self.runs(length)
            done = [results[spec.id] for spec in runs if spec.is_done_by(results.get(spec.id))]
            solved = sum(result["status"] == "ok" and bool(result["solved"]) for result in done)
            given_up = sum(result["status"] == GIVEN_UP for result in done)
            found.append(Rung(length, len(runs), len(done), solved, given_up))
            if len(done) < len(runs):
                break
        return found

    def to_do(self, results: Mapping[str, Mapping[str, Any]]) -> list[RunSpec]:
        """The runs of the length that is to be tried now; none at the end of the climb."""
        rungs = self.rungs(results)
        return self.runs(rungs[-1].length) if rungs[-1].done < rungs[-1].runs else []

    def _next(self, rungs: Sequence[Rung]) -> int | None:
        if not rungs:
            return self.ladder.least
        solved = max((rung.length for rung in rungs if self._solves(rung)), default=None)
        failed = min((rung.length for rung in rungs if not self._solves(rung)), default=None)
        if solved is None or solved == self.ladder.most:
            return None
        if failed is None:
            return min(2 * solved, self.ladder.most)
        if failed - solved <= max(1, self.ladder.within * solved):
            return None
        return (solved + failed) // 2

    def _solves(self, rung: Rung) -> bool:
        return rung.solved >= self.ladder.success * rung.runs

    def _task(self, length: int) -> dict[str, Any]:
        return self.spec.task | {self.ladder.setting: length}


_NAMED = ("task", "setting", "cell", "init", "hidden")
RUNGS = (*_NAMED, *(each.name for each in fields(Rung)), "fraction", "low", "high")
CLIMBED = (*_NAMED, "solved_length", "failed_length", "bound", "finished")


def rungs_frame(climbs: Sequence[Climb], results: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """Every length that was tried: RUNGS; fraction is solved of done, low and high its exact 95 % interval."""
    rows = []
    for climb in climbs:
        for rung in sorted(climb.rungs(results), key=lambda rung: rung.length):
            if not rung.done:
                continue
            low, high = fraction_interval(rung.solved, rung.done)
            rows.append((*_named(climb), *astuple(rung), rung.solved / rung.done, low, high))
    return pd.DataFrame(rows, columns=list(RUNGS))


def climbed_frame(climbs: Sequence[Climb], results: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """What each climb came to: CLIMBED.

    `solved_length` is the largest length solved (nan: none), `failed_length` the smallest one not solved (nan: none),
    `bound` is "" where the first lies between the two, ">=" where the ladder ended before the network did, "<" where not
    even the first length was solved; `finished` is whether the climb is at its end.
    """
    rows = []
    for climb in climbs:
        rungs = climb.rungs(results)
        ended = [rung for rung in rungs if rung.done == rung.runs]
        solved = max((rung.length for rung in ended if climb._solves(rung)), default=math.nan)
        failed = min((rung.length for rung in ended if not climb._solves(rung)), default=math.nan)
        finished = len(ended) == len(rungs)
        bound = "<" if math.isnan(solved) else ">=" if math.isnan(failed) else ""
        rows.append((*_named(climb), solved, failed, bound, finished))
    return pd.DataFrame(rows, columns=list(CLIMBED))


def _named(climb: Climb) -> tuple[Any, ...]:
    spec = climb.spec
    return spec.task["name"], climb.ladder.setting, spec.cell, spec.init, spec.hidden
