"""A benchmark: a few lines of TOML that stand for many runs.

    title = "Adding, longer and longer"
    cells = ["rnn", "lstm", "gru"]
    seeds = 5                       # a count, or a list
    [task]
    name = "adding"
    length = [50, 100, 200]         # a list is an axis of the grid
    [model]
    hidden = 64
    [training]
    lr = 0.005

Several tasks are `[[task]]` tables; `model`, `training` and `measure` inside one of them go before those of the file.
`model.match = "lstm"` gives every other cell the hidden size that brings its parameters nearest to the LSTM's.
Where `init` is an axis, combinations of initialiser and cell that have no meaning are left out.

`ladder = { setting = "length", least = 10, most = 640 }` in a task's table climbs to the largest length that is solved.
`needs = { setting = "text", how = "..." }` names what the task reads and the package does not bring.
`[[published]]` tables hold figures to compare with.
"""

from __future__ import annotations

import copy
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rnnvg import tasks
from rnnvg.bench.check import PARTS, Check, Entry
from rnnvg.bench.extras import Needs, Published
from rnnvg.bench.faults import refusal
from rnnvg.bench.spec import NETWORK, RunSpec, by_id
from rnnvg.errors import InputError, bounded, check_name, nearest, shown
from rnnvg.files import read_regular

# Longer files and deeper keys are no benchmark; a parser would take gigabytes for them.
MOST_BYTES, MOST_DOTS = 1 << 20, 16
_WORD = r"[\w\"'-]"
_DEEP_KEY = re.compile(rf"(?<!{_WORD}){_WORD}++(?:\s*\.\s*{_WORD}++){{{MOST_DOTS}}}")
_PACKAGE = Path(__file__).parent.parent
# In a wheel the specs are inside the package, in a checkout beside it.
SPECS = _PACKAGE / "specs" if (_PACKAGE / "specs").is_dir() else _PACKAGE.parent / "tasks"


@dataclass(frozen=True)
class Grid:
    """A benchmark: what its file says, checked, and the runs that it stands for.

    Attributes:
        name, title, about: what to call it.
        cells, seeds: run for every entry.
        entries: one for each task of the file.
        published: figures to compare with.
        source: the file's content, with the changes made since.

    >>> from rnnvg import bench
    >>> grid = bench.read("tcn-adding-small")
    >>> grid.title
    'The adding problem of Bai, Kolter and Koltun (2018), small'
    >>> grid.runs()[0].cell
    'lstm'
    """

    name: str
    title: str
    about: str
    cells: tuple[str, ...]
    seeds: tuple[int, ...]
    entries: tuple[Entry, ...]
    published: tuple[Published, ...]
    source: Mapping[str, Any]

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks, each once."""
        return tuple(dict.fromkeys(entry.name for entry in self.entries))

    @property
    def axes(self) -> set[str]:
        """Dotted names of the settings that take several values in this grid."""
        return set().union(*(entry.axes for entry in self.entries))

    @property
    def missing(self) -> dict[str, str]:
        """Task -> what it reads that is not there, and how to get it; it has no runs then."""
        return {entry.name: entry.missing for entry in self.entries if entry.missing}

    def runs(self) -> list[RunSpec]:
        """Every run once, a seed at a time, so that what is done first already covers every task and cell.

        Of a ladder the first length alone: which others there are is seen on the way.
        """
        found = [spec for entry in self.entries for spec in entry.specs]
        seeded = [RunSpec.model_validate({**spec.to_dict(), "seed": seed}) for seed in self.seeds for spec in found]
        return list(by_id(seeded).values())

    def select(
        self,
        *,
        tasks: Sequence[str] | None = None,
        cells: Sequence[str] | None = None,
        seeds: int | Sequence[int] | None = None,
    ) -> Grid:
        """The same grid for fewer (or other) tasks, cells and seeds; None leaves them.

        Raises:
            InputError: a task that the grid does not have, an unknown cell, no seeds.
        """
        data = self._copy()
        if tasks is not None:
            chosen = [check_name("tasks", name, self.tasks) for name in bounded("tasks", tasks)]
            data["task"] = [table for name in dict.fromkeys(chosen) for table in data["task"] if table["name"] == name]
        if cells is not None:
            data["cells"] = list(bounded("cells", cells))
        if seeds is not None:
            data["seeds"] = seeds if isinstance(seeds, int) else list(bounded("seeds", seeds))
        return from_dict(data, self.name)

    def change(self, task: str | None = None, **settings: Any) -> Grid:
        """The same grid with other settings, for one task or (None) for all: `change("adding", length=100, lr=0.001)`.

        The task's own settings go before those of model, training and measure. A list is an axis.

        Raises:
            InputError: a task that the grid does not have, an unknown setting or a value out of its range.
        """
        chosen = self.tasks if task is None else (check_name("task", task, self.tasks),)
        homes = {"model": (*NETWORK, "match")} | {
            part: tuple(PARTS[part].model_fields) for part in ("training", "measure")
        }
        data = self._copy()
        for table in [table for table in data["task"] if table["name"] in chosen]:
            for key, value in settings.items():
                home = next((part for part, names in homes.items() if key in names), None)
                if home is None or key in tasks.settings(table["name"]):
                    table[key] = value
                else:
                    table.setdefault(home, {})[key] = value
        return from_dict(data, self.name)

    def _copy(self) -> dict[str, Any]:
        data = copy.deepcopy(dict(self.source))
        return data | {"task": [data["task"]] if isinstance(data["task"], dict) else data["task"]}


def names() -> list[str]:
    """The benchmarks that come with the package.

    >>> "tcn-adding-small" in names()
    True
    """
    return sorted(path.stem for path in SPECS.glob("*.toml"))


def overview(name: str) -> dict[str, Any]:
    """What a benchmark that comes with the package is about, read without making its runs: nothing heavy is loaded.

    Returns:
        name, title, about, cells, tasks, seeds, published (how many figures), ladder, and missing (task -> what it reads that
        is not there, and how to get it).
    """
    data = tomllib.loads(find(name).read_text(encoding="utf-8"))
    tables = [data["task"]] if isinstance(data["task"], dict) else data["task"]
    missing = {}
    for table in tables:
        needs = Needs.model_validate(table["needs"]) if "needs" in table else None
        if needs and (what := needs.absent([table[needs.setting]] if needs.setting in table else [])):
            missing[table["name"]] = what
    about = {key: data.get(key, "") for key in ("title", "about")}
    about |= {"cells": data["cells"], "tasks": [table["name"] for table in tables], "seeds": data.get("seeds", 3)}
    about |= {"published": len(data.get("published", ())), "ladder": any("ladder" in table for table in tables)}
    return {"name": name, **about, "missing": missing}


def find(name: str | Path) -> Path:
    """The file of a benchmark: one that comes with the package, by name, or any by its path.

    Raises:
        InputError: there is none, with the nearest right name.
    """
    if not isinstance(name, (str, os.PathLike)):
        raise InputError(f"`spec` is {shown(name)}; pass the name of a benchmark, or the path of a .toml file.")
    is_path = Path(name).suffix == ".toml" or len(Path(name).parts) > 1
    path = Path(name) if is_path else SPECS / f"{name}.toml"
    if path.is_file():
        return path
    guess = nearest(name, names())
    hint = f"Did you mean {guess!r}? " if guess else ""
    raise InputError(
        f"No benchmark {str(name)!r}. {hint}Pass the path of a .toml file, or one of: {', '.join(names())}."
    )


def read(name: str | Path) -> Grid:
    """The grid of a benchmark, by name or path.

    Raises:
        InputError: no such file, not TOML, or faults in it: all of them, a line each.

    >>> grid = read("tcn-adding-small")
    >>> grid.cells, len(grid.runs())
    (('lstm', 'gru', 'rnn'), 6)
    """
    path = find(name)
    try:
        # A byte-order mark is not part of the text.
        text = read_regular(path, "spec", most=MOST_BYTES).decode("utf-8-sig")
        if _DEEP_KEY.search(text):
            raise InputError(
                f"{path.name} has a key of more than {MOST_DOTS} parts. Pass a benchmark of tables and values."
            )
        data = tomllib.loads(text)
    except UnicodeDecodeError:
        raise InputError(f"{path.name} is not text in UTF-8. Pass a benchmark in TOML.") from None
    except RecursionError:
        raise InputError(f"{path.name} is nested too deeply. Pass a benchmark of tables, values and lists.") from None
    except InputError:
        raise
    except ValueError as error:  # TOML that is none, or a number of thousands of digits
        raise InputError(f"{path.name} is not valid TOML: {error}.") from None
    return from_dict(data, path.stem, text)


def from_dict(data: Mapping[str, Any], name: str, text: str = "") -> Grid:
    """The grid that a file's content stands for; `text` is the file itself, for line numbers in the faults.

    Raises:
        InputError: every fault of it, a line each.
    """
    check = Check(data)
    if check.faults:
        raise refusal(name, check.faults, text)
    title, about = data.get("title", ""), data.get("about", "")
    return Grid(name, title, about, check.cells, check.seeds, check.entries, check.published, data)
