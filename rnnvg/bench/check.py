"""What a benchmark file says, gone through once: what is right is kept, every fault is noted with its place."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from rnnvg import models, tasks
from rnnvg.bench.expand import expand
from rnnvg.bench.extras import Ladder, Needs, Published
from rnnvg.bench.faults import Fault, Place, faults_of, no_such, unknown
from rnnvg.bench.spec import NETWORK, Measure, RunSpec, Training
from rnnvg.errors import InputError, shown
from rnnvg.tasks.imported import is_path

# Tables that a file may have, and a task inside it; each value is checked by the model that a run will hold it in.
PARTS: Mapping[str, type[BaseModel]] = {"model": RunSpec, "training": Training, "measure": Measure}
# Tables of a task that are none of its settings and hold for all of its runs.
EXTRAS = ("ladder", "needs")
# A grid has at most so many runs, unless its file says otherwise: `most_runs = 50000`.
MOST_RUNS = 10_000
MOST_SEEDS = 100_000
# Settings of one value, not an axis: lists by nature, and one that makes no other runs.
_NO_AXES = ("checkpoints", "wrt", "give_up")


class _File(BaseModel):
    """The shape of a file; what stands in its tables is checked value by value."""

    model_config = ConfigDict(extra="forbid")
    title: str = ""
    about: str = ""
    cells: Annotated[list[str], Field(min_length=1)]
    seeds: Any = 3
    most_runs: Annotated[int, Field(strict=True, ge=1, le=10_000_000)] = MOST_RUNS
    task: Any
    model: dict[str, Any] = {}
    training: dict[str, Any] = {}
    measure: dict[str, Any] = {}
    published: list[Published] = []


@dataclass(frozen=True)
class Entry:
    """One task's table.

    Attributes:
        name: of the task.
        axes: dotted names of the settings with more than one value.
        specs: its runs, for seed 0; with a ladder those of its first length.
        ladder: lengths to be climbed, or None.
        missing: what is not there and how to get it; there are no runs then.
    """

    name: str
    axes: frozenset[str]
    specs: tuple[RunSpec, ...]
    ladder: Ladder | None = None
    missing: str = ""


class Check:
    """One pass over a file's content.

    Attributes:
        faults: what is wrong, in the order found.
        cells, seeds, entries, published: what is right; to be used only where there are no faults.
    """

    def __init__(self, data: Mapping[str, Any]) -> None:
        self.data = data
        self.faults: list[Fault] = []
        try:
            _File.model_validate(dict(data))
        except ValidationError as error:
            self.faults += faults_of(error, _File)
        self.cells = self._cells(data.get("cells"))
        self.seeds = self._seeds(data.get("seeds", 3))
        shared = {part: self._part(part, data.get(part, {}), (part,)) for part in PARTS}
        entries = [self._entry(table, place, shared) for table, place in self._task_tables(data.get("task"))]
        self.entries = tuple(entry for entry in entries if entry is not None)
        self.published = () if self.faults else self._published()

    def fault(self, place: Place, text: str) -> None:
        if Fault(place, text) not in self.faults:
            self.faults.append(Fault(place, text))

    def _cells(self, cells: Any) -> tuple[str, ...]:
        if not isinstance(cells, list):
            return ()
        named = [(index, cell) for index, cell in enumerate(cells) if isinstance(cell, str)]
        known = [self._imported(("cells", index), cell, models.EVERY_CELL, models.check_cell) for index, cell in named]
        return self._once(("cells",), cells) if all(known) else ()

    def _seeds(self, seeds: Any) -> tuple[int, ...]:
        values = range(seeds) if type(seeds) is int else seeds if isinstance(seeds, list) else []
        # Counted before any of them is looked at.
        if (type(seeds) is int and seeds > MOST_SEEDS) or (isinstance(seeds, list) and len(seeds) > MOST_SEEDS):
            self.fault(("seeds",), f"may be at most {MOST_SEEDS} of them.")
            return ()
        if values and all(type(each) is int and each >= 0 for each in values):
            return self._once(("seeds",), values)
        self.fault(("seeds",), f"must be a count of at least 1, or a list of whole numbers from 0; got {shown(seeds)}.")
        return ()

    def _published(self) -> tuple[Published, ...]:
        figures = _File.model_validate(dict(self.data)).published
        for index, each in enumerate(figures):
            self._imported(("published", index, "cell"), each.cell, models.EVERY_CELL, models.check_cell)
            if each.task is not None:
                self._named(("published", index, "task"), each.task, [entry.name for entry in self.entries])
            if each.value is None and not each.claim:
                self.fault(("published", index), "needs a `value` or a `claim`.")
            known = self._setting_names(each.task)
            for part in ("where", "settings"):
                for key in [key for key in getattr(each, part) if key not in known]:
                    self.fault(("published", index, part, key), unknown(key, known))
        return tuple(figures)

    def _setting_names(self, task: str | None) -> list[str]:
        """Every setting that a run of `task` (None: of any here) has."""
        own = [key for entry in self.entries if task in (None, entry.name) for key in tasks.settings(entry.name)]
        return list(dict.fromkeys([*own, *NETWORK, *Training.model_fields]))

    def _task_tables(self, tables: Any) -> list[tuple[dict[str, Any], Place]]:
        if isinstance(tables, dict):
            return [(tables, ("task",))]
        if isinstance(tables, list) and tables and all(isinstance(each, dict) for each in tables):
            return [(each, ("task", index)) for index, each in enumerate(tables)]
        if tables is not None:
            self.fault(("task",), f"must be a table [task] or tables [[task]]; got {tables!r}.")
        return []

    def _entry(self, table: dict[str, Any], place: Place, shared: Mapping[str, dict[str, tuple]]) -> Entry | None:
        parts = {part: shared[part] | self._part(part, table.get(part, {}), (*place, part)) for part in PARTS}
        if not any("hidden" in _dict(where.get("model")) for where in (self.data, table)):
            self.fault((*place, "model", "hidden") if "model" in table else ("model", "hidden"), "is missing.")
        if "name" not in table:
            return self.fault((*place, "name"), "is missing.")
        if not self._imported((*place, "name"), table["name"], tasks.NAMES, tasks.check):
            return None
        known, settings = tasks.settings(table["name"]), {}
        for key in [key for key in table if key not in ("name", *PARTS, *EXTRAS)]:
            if key in known:
                settings[key] = self._values((*place, key), table[key])
            else:
                self.fault((*place, key), unknown(key, [*known, *PARTS, *EXTRAS]))
        settings = {key: values for key, values in settings.items() if values}
        if missing := self._missing(table, known, settings, place):
            return Entry(table["name"], frozenset(), (), missing=missing)
        ladder = self._ladder(table, known, settings, place)
        if ladder is not None:
            settings[ladder.setting] = (ladder.least,)
        if self._too_many(place, settings, parts):
            return None
        specs, impossible = expand(table["name"], settings, None if self.faults else parts, self.cells)
        for text in impossible:
            self.fault(place, f"cannot be run: {text}")
        axes = {f"task.{key}" for key, values in settings.items() if len(values) > 1}
        for part, prefix in (("model", ""), ("training", "training."), ("measure", "measure.")):
            axes |= {f"{prefix}{key}" for key, values in parts[part].items() if len(values) > 1}
        axes |= {f"task.{ladder.setting}"} if ladder else set()
        return Entry(table["name"], frozenset(axes), tuple(specs), ladder)

    def _too_many(self, place: Place, settings: Mapping[str, tuple], parts: Mapping[str, Mapping[str, tuple]]) -> bool:
        """Whether a task's table stands for more runs than a grid may have: counted, before any is made."""
        lengths = [
            len(values) for values in (*settings.values(), *(each for part in parts.values() for each in part.values()))
        ]
        count = math.prod(lengths) * max(1, len(self.cells)) * max(1, len(self.seeds))
        most = self.data.get("most_runs", MOST_RUNS)
        if type(most) is int and count > most:
            self.fault(
                place,
                f"stands for {count} runs, and a grid has at most {most}. Pass fewer values, or raise `most_runs`.",
            )
            return True
        return False

    def _extra(
        self, table: dict[str, Any], key: str, model: type[BaseModel], place: Place, known: Iterable[str]
    ) -> Any:
        """The table `key` of a task as `model`, whose `setting` is one of the task's; None where it has none, or faults."""
        if key not in table:
            return None
        try:
            found: Any = model.model_validate(table[key])
        except ValidationError as error:
            self.faults += faults_of(error, model, (*place, key))
            return None
        right = found.setting is None or self._named((*place, key, "setting"), found.setting, known)
        return found if right else None

    def _ladder(
        self, table: dict[str, Any], known: Mapping[str, Any], settings: Mapping[str, tuple], place: Place
    ) -> Ladder | None:
        ladder = self._extra(table, "ladder", Ladder, place, known)
        if ladder is None:
            return None
        if ladder.setting in settings:
            self.fault((*place, ladder.setting), "is climbed by the ladder. Leave it out here.")
            return None
        if ladder.most < ladder.least:
            self.fault((*place, "ladder", "most"), f"must be at least {ladder.least}; got {ladder.most}.")
            return None
        others = {key: values[0] for key, values in settings.items()}
        for key in ("least", "most"):
            try:
                tasks.make(table["name"], **others, **{ladder.setting: getattr(ladder, key)})
            except InputError as error:
                self.fault((*place, "ladder", key), f"cannot be run: {error}")
                return None
        return ladder

    def _missing(
        self, table: dict[str, Any], known: Mapping[str, Any], settings: Mapping[str, tuple], place: Place
    ) -> str:
        """What the task reads that is not there, as a sentence with the way to get it; empty where all of it is."""
        needs = self._extra(table, "needs", Needs, place, known)
        if needs is None:
            return ""
        if (needs.setting is None) == (needs.package is None):
            self.fault((*place, "needs"), "must have either a `setting` or a `package`.")
            return ""
        return needs.absent(settings.get(needs.setting, ()))

    def _part(self, part: str, table: Any, place: Place) -> dict[str, tuple]:
        """Every value of every setting in a model, training or measure table."""
        if not isinstance(table, dict):
            if len(place) > 1:  # at the top of the file the shape has been checked
                self.fault(place, f"must be a table; got {table!r}.")
            return {}
        found = {key: self._part_values(part, key, value, (*place, key)) for key, value in table.items()}
        return {key: values for key, values in found.items() if values}

    def _part_values(self, part: str, key: str, value: Any, place: Place) -> tuple[Any, ...]:
        model = PARTS[part]
        known = (*NETWORK, "match") if part == "model" else tuple(model.model_fields)
        if key not in known:
            self.fault(place, unknown(key, known))
            return ()
        values = (value,) if key in _NO_AXES else self._values(place, value)
        if key in ("init", "match"):
            options = models.INITS if key == "init" else models.EVERY_CELL
            known = [self._named(place, each, options) for each in values]
            return values if all(known) else ()
        # TOML has no null: `clip = false` is how a file says that gradients are not clipped.
        values = tuple(None if key == "clip" and each is False else each for each in values)
        before = len(self.faults)
        for each in values:
            required = {"task": {}, "cell": "", "hidden": 1} if part == "model" else {}
            try:
                model.model_validate(required | {key: each})
            except ValidationError as error:
                self.faults += faults_of(error, model, place[:-1])
        return values if len(self.faults) == before else ()

    def _values(self, place: Place, value: Any) -> tuple[Any, ...]:
        values = value if isinstance(value, list) else [value]
        if not values:
            self.fault(place, "must have at least one value; got an empty list.")
        for each in values:
            # A list inside a list is one value of a setting that takes lists.
            if not all(
                isinstance(part, (bool, int, float, str)) for part in (each if isinstance(each, list) else [each])
            ):
                self.fault(place, f"must be a number, text in quotes, true or false, or a list of these; got {each!r}.")
                return ()
        return self._once(place, values)

    def _once(self, place: Place, values: Sequence[Any]) -> tuple[Any, ...]:
        seen: set[str] = set()
        for each in values:
            if (key := f"{type(each).__name__} {each!r}") in seen:
                self.fault(place, f"lists {shown(each)} twice.")
                break
            seen.add(key)
        return tuple(values)

    def _imported(self, place: Place, name: Any, options: Iterable[str], check: Callable[[str], object]) -> bool:
        """As `_named`, where an import path is right too if `check` takes it."""
        if not is_path(name):
            return self._named(place, name, options)
        try:
            check(name)
        except InputError as error:
            self.fault(place, f"cannot be used: {error}")
            return False
        return True

    def _named(self, place: Place, name: Any, options: Iterable[str]) -> bool:
        if name in (known := list(options)):
            return True
        self.fault(place, no_such(name, known))
        return False


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
