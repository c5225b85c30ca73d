"""How far a directory is: what was asked for, what is done, under way, damaged, and about how long the rest takes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rnnvg.bench.claims import claimed
from rnnvg.bench.estimate import Timings
from rnnvg.bench.plan import Plan, kept
from rnnvg.bench.spec import GIVEN_UP, by_id
from rnnvg.bench.store import Store


@dataclass(frozen=True)
class State:
    """The state of a results directory.

    Attributes:
        benchmarks: names of those that were asked for.
        runs: how many runs are asked for; of ladders those that are known by now.
        done: how many have a result, by how they ended ("ok", "diverged", "given-up", "failed").
        solved: how many of them solved their task.
        under_way: ids that a process has claimed, with the process and its machine, as far as is known from here.
        left: ids without a result that nobody claims.
        failed: id -> reason, of runs that diverged or failed.
        given_up: id -> what the stopping rule saw, of runs that it ended.
        damaged: name of a folder in `runs` -> what is wrong with its files; to be set aside and done again by the next run.
        set_aside: folders that were set aside.
        missing: task -> what it reads that is not there, and how to get it.
        climbing: whether a ladder has lengths ahead that are not known yet.
        seconds: about how long what is left and under way takes one worker; None where nothing like it is known.

    >>> import tempfile
    >>> from rnnvg import bench
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     bench.Plan.of(bench.read("tcn-adding-small")).keep(folder)
    ...     bench.State.of(folder).runs
    6
    """

    benchmarks: tuple[str, ...]
    runs: int
    done: Mapping[str, int]
    solved: int
    under_way: Mapping[str, str]
    left: tuple[str, ...]
    failed: Mapping[str, str]
    given_up: Mapping[str, str]
    damaged: Mapping[str, str]
    set_aside: tuple[str, ...]
    missing: Mapping[str, str]
    climbing: bool
    seconds: float | None

    @classmethod
    def of(cls, directory: str | Path, plan: Plan | None = None) -> State:
        """The state of a directory; nothing is changed.

        Args:
            directory: what a benchmark wrote.
            plan: what is asked for; None: what was kept in the directory.

        Raises:
            InputError: there is no such directory, no benchmark was kept in it, or it holds another layout.
        """
        plan = plan or kept(directory)
        store = Store(directory)
        reading = store.read()
        results = reading.results
        specs = by_id(plan.runs(results))
        here = [results[run] for run, spec in specs.items() if spec.is_done_by(results.get(run))]
        open_runs = [spec for run, spec in specs.items() if not spec.is_done_by(results.get(run))]
        claims = {spec.id: who for spec in open_runs if (who := claimed(store.folder(spec.id)))}
        timings = Timings.near(directory) if open_runs else None
        seconds = [timings.seconds(spec) for spec in open_runs] if timings else []
        aside = store.directory / "set-aside"
        return cls(
            benchmarks=tuple(grid.name for grid in plan.grids),
            runs=len(specs),
            done=dict(Counter(result["status"] for result in here)),
            solved=sum(bool(result["solved"]) for result in here),
            under_way=claims,
            left=tuple(spec.id for spec in open_runs if spec.id not in claims),
            failed={each["id"]: each["reason"] for each in here if each["status"] not in ("ok", GIVEN_UP)},
            given_up={each["id"]: each["reason"] for each in here if each["status"] == GIVEN_UP},
            damaged=dict(reading.damaged),
            set_aside=tuple(sorted(path.name for path in aside.iterdir())) if aside.is_dir() else (),
            missing=plan.missing,
            climbing=any(climb.to_do(results) for climb in plan.climbs()),
            seconds=None if None in seconds else float(sum(each for each in seconds if each is not None)),
        )
