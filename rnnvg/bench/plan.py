"""What a directory of results is for: the benchmarks, or the part of them, asked for in it, kept beside the results.

    OUT/benchmarks/<name>.json      {"schema", "name", "source": the file's content, "only": the patterns asked for}

So that `resume` and `status` need nothing but the directory.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rnnvg.bench.grid import Grid, from_dict
from rnnvg.bench.ladder import Climb
from rnnvg.bench.spec import SCHEMA, RunSpec, by_id, is_cut_off, short_id
from rnnvg.bench.stored import Benchmark
from rnnvg.errors import InputError, shown
from rnnvg.files import named_folder, write_set
from rnnvg.stored import Damaged, fit, read_json

FOLDER = "benchmarks"
Results = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Plan:
    """Benchmarks, or the part of them that is asked for.

    Attributes:
        grids: the benchmarks.
        only: for each of them, patterns of ids; none: all of its runs.
        share: (3, 8): the third of eight equal shares.

    >>> from rnnvg import bench
    >>> plan = bench.Plan.of(bench.read("tcn-adding-small"))
    >>> [grid.name for grid in plan.grids]
    ['tcn-adding-small']
    """

    grids: tuple[Grid, ...]
    only: tuple[tuple[str, ...], ...]
    share: tuple[int, int] = (1, 1)

    @classmethod
    def of(cls, grid: Grid, patterns: Sequence[str] = (), share: tuple[int, int] = (1, 1)) -> Plan:
        """One benchmark, or a part of it.

        Raises:
            InputError: a pattern that matches no run.
        """
        if not isinstance(grid, Grid):
            raise InputError(f"`grid` is {shown(grid)}; pass what `bench.read` gave.")
        only(grid.runs(), patterns)
        return cls((grid,), (tuple(patterns),), share)

    @property
    def axes(self) -> set[str]:
        """Dotted names of the settings that take several values."""
        return set().union(*(grid.axes for grid in self.grids))

    @property
    def missing(self) -> dict[str, str]:
        """Task -> what it reads that is not there, and how to get it."""
        return {task: what for grid in self.grids for task, what in grid.missing.items()}

    def climbs(self) -> list[Climb]:
        """The ladders, a climb for each network; of a share, every n-th climb."""
        found = []
        for grid, patterns in zip(self.grids, self.only, strict=True):
            for entry in grid.entries:
                if entry.ladder is not None:
                    specs = [spec for spec in entry.specs if matches(spec.id, patterns)]
                    found += [Climb(spec, entry.ladder, grid.seeds) for spec in specs]
        return self._shared(found)

    def fixed(self) -> list[RunSpec]:
        """The runs that are known beforehand; of a share, every n-th run."""
        found: dict[str, RunSpec] = {}
        for grid, patterns in zip(self.grids, self.only, strict=True):
            climbed = {spec.id for entry in grid.entries if entry.ladder for spec in entry.specs}
            seedless = by_id(spec for spec in grid.runs() if _of_seed_0(spec).id not in climbed)
            found = by_id([*found.values(), *(spec for run, spec in seedless.items() if matches(run, patterns))])
        return self._shared(list(found.values()))

    def runs(self, results: Results) -> list[RunSpec]:
        """Every run that is known of with these results (by id): fixed ones, and those of every length climbed so far."""
        found = self.fixed()
        for climb in self.climbs():
            found += [spec for rung in climb.rungs(results) for spec in climb.runs(rung.length)]
        return list(by_id(found).values())

    def follow(self) -> Callable[[Results], Iterable[RunSpec]]:
        """For `run_all`: which runs come next, seen from the results."""
        climbs = self.climbs()
        return lambda results: [spec for climb in climbs for spec in climb.to_do(results)]

    def beside(self, directory: str | Path) -> Plan:
        """This plan under names that are free in the directory: a benchmark kept there with other content stays as it is.

        Raises:
            InputError: what is kept in the directory is of another layout, or damaged.
        """
        sources = {grid.name: dict(grid.source) for grid, _ in _kept(Path(directory))}
        grids = []
        for grid in self.grids:
            name, number = grid.name, 1
            while name in sources and sources[name] != dict(grid.source):
                number += 1
                name = f"{grid.name}-{number}"
            grids.append(dataclasses.replace(grid, name=name))
        return dataclasses.replace(self, grids=tuple(grids))

    def keep(self, directory: str | Path) -> None:
        """Writes the benchmarks to the directory; what was asked for before goes on being asked for.

        Raises:
            StorageError: it cannot be written.
        """
        before = {grid.name: patterns for grid, patterns in _kept(Path(directory))}
        contents = {}
        for grid, patterns in zip(self.grids, self.only, strict=True):
            only = list(dict.fromkeys([*before.get(grid.name, ()), *patterns]))
            whole = not patterns or (grid.name in before and not before[grid.name])
            content = {"schema": SCHEMA, "name": grid.name, "source": dict(grid.source), "only": only}
            content |= {"only": []} if whole else {}
            contents[f"{FOLDER}/{grid.name}.json"] = json.dumps(content, indent=1) + "\n"
        write_set(directory, contents)

    def _shared(self, found: list[Any]) -> list[Any]:
        number, of = self.share
        return found[number - 1 :: of]


def kept(directory: str | Path, share: tuple[int, int] = (1, 1)) -> Plan:
    """The benchmarks that were asked for in a directory.

    Raises:
        InputError: there is no such directory, it holds none, or one of another layout.
    """
    directory = named_folder(directory, "directory")
    if not os.path.isdir(directory):
        raise InputError(
            f"`directory` {shown(directory)} does not exist. Pass a directory that `rnnvg bench run` wrote."
        )
    found = _kept(directory)
    if not found:
        raise InputError(
            f"`directory` {str(directory)!r} holds no benchmark. Pass a directory that `rnnvg bench run` wrote, or run "
            "one into it: rnnvg bench run SPEC --out DIR."
        )
    grids, patterns = zip(*found, strict=True)
    return Plan(grids, patterns, share)


def kept_if_any(directory: Path) -> Plan | None:
    """The same; None where no benchmark was asked for in a directory, as in that of `rnnvg train`."""
    return kept(directory) if any((directory / FOLDER).glob("*.json")) else None


def _kept(directory: Path) -> list[tuple[Grid, tuple[str, ...]]]:
    found = []
    for path in sorted((directory / FOLDER).glob("*.json")):
        try:
            content = fit(Benchmark, read_json(path), path.name)
        except Damaged as error:
            what = str(error).removeprefix(path.name).strip().removesuffix(".")
            raise InputError(
                f"{str(path)!r} {what}. Move it away, and run the benchmark into the directory again."
            ) from None
        if content.layout != SCHEMA:
            raise InputError(
                f"{str(path)!r} is in layout {content.layout!r}; this version reads layout {SCHEMA}. Pass another directory, "
                "or use the rnnvg that wrote it."
            )
        found.append((from_dict(content.source, content.name), tuple(content.only)))
    return found


def _of_seed_0(spec: RunSpec) -> RunSpec:
    return RunSpec.model_validate({**spec.to_dict(), "seed": 0})


def matches(run: str, patterns: Sequence[str]) -> bool:
    """Whether an id matches one of `patterns`; none at all match every id.

    A pattern with * or ? is held against the whole id, one without against whole words of it, between hyphens. A whole id
    may be cut off within its digits; the digits alone are 8 of them, as ids once had, or all 12.

    >>> run = "adding-T50-rnn-relu-h64-s1-1a2b3c4d5e6f"
    >>> matches(run, ["s1"]), matches(run, ["s"]), matches(run, ["rnn-relu-h64"]), matches(run, ["adding-*-s2-*", "*T50*"])
    (True, False, True, True)
    >>> matches(run, ["adding-T50-rnn-relu-h64-s1-1a2b"]), matches(run, ["1a2b3c4d"]), matches(run, ["adding-T5"])
    (True, True, False)
    """
    return not patterns or any(_matches(run, each) or _matches(short_id(run), each) for each in patterns)


def _matches(run: str, pattern: str) -> bool:
    if set("*?[") & set(pattern):
        return fnmatch.fnmatchcase(run, pattern)
    return f"-{pattern}-" in f"-{run}-" or is_cut_off(pattern, run)


def only(specs: Sequence[RunSpec], patterns: Sequence[str]) -> list[RunSpec]:
    """The runs whose ids match one of `patterns`.

    Raises:
        InputError: a pattern matches none.
    """
    for pattern in patterns:
        if specs and not any(matches(spec.id, [pattern]) for spec in specs):
            raise InputError(
                f"`--only` {pattern!r} matches none of the {len(specs)} runs. Pass words of their ids or a pattern with *, "
                f"such as lstm or '*-s0-*'; the first id is {specs[0].id}."
            )
    return [spec for spec in specs if matches(spec.id, patterns)]


def share(text: str) -> tuple[int, int]:
    """The share and their number, of a text such as "3/8".

    Raises:
        InputError: it is no share.

    >>> share("3/8")
    (3, 8)
    """
    number, slash, of = text.partition("/")
    if slash and number.strip().isdecimal() and of.strip().isdecimal() and 1 <= int(number) <= int(of):
        return int(number), int(of)
    raise InputError(f"`--shard` takes a share and their number, such as 3/8 (from 1/8 to 8/8); got {text!r}.")
