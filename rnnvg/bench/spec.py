"""What one run depends on, all of it, and the readable id that follows from it.

No torch, no files. Two runs with the same specification are the same run, on any machine.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from rnnvg.bench.faults import in_plain_words
from rnnvg.errors import InputError, check_name, shown
from rnnvg.seeds import seed_of, short_digest

if TYPE_CHECKING:
    from rnnvg.tasks import Task

NETWORK = ("hidden", "layers", "init", "embed", "tied", "dropout", "t_max", "gain", "constraint")
# Settings that came later: left out of a specification where they have this value, so that older runs keep their ids.
_LATER = {"gain": None, "constraint": None, "paired": False, "sources": None}
_LATER_IN_MEASURE = {"why": True}
_LATER_IN_TRAINING = {
    "warmup": None,
    "omega": None,
    "flossing": None,
    "device": "cpu",
    "decay_every": None,
    "give_up": False,
}
_LATER_IN_TASKS = {"adding": {"values": "0 to 1"}}
# Version of the layout of results; part of every id, so that results of another layout are never taken for this one's.
SCHEMA = 1
GIVEN_UP = "given-up"

# A count is a whole number and nothing that merely looks like one: no "5", no 5.0, no true.
_Count = Annotated[int, Field(strict=True, ge=1, le=10**9)]
_Layers = Annotated[int, Field(strict=True, ge=1, le=1000)]
_Positive = Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)]
_Flag = Annotated[bool, Field(strict=True)]
# The task setting that a reader knows a run by, and its letter in the id.
_SIZES = {"length": "T", "delay": "D", "text": ""}


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Training(_Part):
    """What `training.fit` is told: budget in steps, batch, optimiser and when to look.

    >>> Training(steps=100, lr=0.01).optimizer
    'adam'
    """

    steps: _Count = 2000
    batch: _Count = 50
    lr: _Positive = 0.005
    optimizer: Literal["adam", "rmsprop", "sgd"] = "adam"
    # None: gradients are not clipped.
    clip: _Positive | None = 1.0
    # Words between two truncations; None where the task's own sequence length is used.
    bptt: _Count | None = None
    eval_every: _Count = 100
    eval_size: _Count = 1000
    # Training steps at which the gradient is measured; None: spread so that the opening of the horizon is seen.
    checkpoints: tuple[Annotated[int, Field(strict=True, ge=0)], ...] | None = None
    stop_when_solved: _Flag = True
    # Factor on the learning rate after each held-out loss that is not the lowest so far; None: it stays.
    decay: Annotated[float, Field(strict=True, gt=0, lt=1)] | None = None
    # Steps after which `decay` comes instead, again and again, whatever the held-out loss.
    decay_every: _Count | None = None
    # Steps over which the learning rate rises to `lr`; None: it starts there.
    warmup: _Count | None = None
    # Weight of Pascanu's regulariser (rnnvg.training.omega); None: none.
    omega: _Positive | None = None
    # Updates that bring the leading Lyapunov exponents to 0 before training (rnnvg.training.flossing); None: none.
    flossing: _Count | None = None
    # End at a tenth of the budget where the rule of rnnvg.training.give_up says so. No part of the id: the run is the same.
    give_up: _Flag = False
    # Where it is computed: another device's numbers differ in their last digits.
    device: Literal["cpu", "cuda"] = "cpu"


class Measure(_Part):
    """What is measured at each checkpoint: gradient against distance on fixed held-out sequences.

    >>> Measure().sequences, Measure().wrt
    (32, ('state', 'input'))
    """

    sequences: _Count = 32
    wrt: Annotated[tuple[Literal["state", "hidden", "cell", "input"], ...], Field(min_length=1)] = ("state", "input")
    # Why the gradient vanishes (rnnvg.bench.causes), and the certificate: about a second a run.
    why: _Flag = True


class RunSpec(_Part):
    """One run: everything that its result depends on.

    Make one with `run_spec`, which fills in the task's default settings, or read many from a file with `grid.read`.

    Attributes:
        task: {"name": ..., and every setting of the task}.
        cell, hidden, layers, init, embed, tied, dropout, t_max, gain, constraint: the network, as in `models.build`.
        training: what `training.fit` is told.
        measure: what is measured at each checkpoint.
        seed: the replication: runs that differ in it alone are independently trained models.
        paired: weights, batches and probe sequences are drawn from the seed alone, so that all paired runs of one seed draw
            the same ones: what two of them do differently is then what their specifications do. False: every run draws its
            own.
        sources: hashes of the files that hold a task ("task") and a cell ("cell") named by import path; None: neither is.

    >>> from rnnvg import bench
    >>> spec = bench.run_spec({"name": "copy", "delay": 20}, "lstm", hidden=8, init="chrono")
    >>> spec.cell, spec.init, spec.training.steps
    ('lstm', 'chrono', 2000)
    """

    version: Literal[1] = Field(default=SCHEMA, alias="schema")
    task: dict[str, Any]
    cell: str
    hidden: _Count
    layers: _Layers = 1
    init: str = "default"
    embed: _Count | None = None
    tied: _Flag = False
    dropout: Annotated[float, Field(strict=True, ge=0, lt=1)] = 0.0
    t_max: Annotated[int, Field(strict=True, ge=2)] | None = None
    gain: _Positive | None = None
    constraint: Literal["orthogonal"] | None = None
    training: Training = Training()
    measure: Measure = Measure()
    seed: Annotated[int, Field(strict=True, ge=0, lt=2**63)] = 0
    paired: _Flag = False
    sources: dict[str, str] | None = None

    @model_validator(mode="after")
    def _has_a_factor(self) -> Self:
        if self.training.decay_every is not None and self.training.decay is None:
            raise ValueError("`decay_every` says when `decay` comes; pass `decay` too, such as 0.5")
        return self

    def to_dict(self) -> dict[str, Any]:
        """The specification as plain JSON values; `RunSpec.model_validate` gives the same one back."""
        found = _without(self.model_dump(mode="json", by_alias=True), _LATER)
        parts = {"training": _LATER_IN_TRAINING, "measure": _LATER_IN_MEASURE}
        return found | {part: _without(found[part], later) for part, later in parts.items()}

    @property
    def canonical(self) -> str:
        """One text for one specification, whether or not it may be given up: JSON with sorted keys."""
        found = self.to_dict()
        # A run that is not given up is the same run, whether or not it might have been.
        found["training"].pop("give_up", None)
        return json.dumps(found, sort_keys=True, separators=(",", ":"), allow_nan=False)

    def is_same_as(self, stored: Mapping[str, Any]) -> bool:
        """Whether a specification that was stored, as `to_dict` gives it, is of this run. The ids alone do not say so."""
        return stored == self.to_dict() or RunSpec.model_validate(stored).canonical == self.canonical

    def is_done_by(self, result: Mapping[str, Any] | None) -> bool:
        """Whether the content of a result.json (None: there is none) is what this run comes to.

        A run that was given up is done where it may be given up; otherwise it is to be done again.

        Raises:
            InputError: the result is of another run that has the same id.
        """
        if result is None:
            return False
        if not self.is_same_as(result["spec"]):
            raise InputError(_two_named(self.id))
        return self.training.give_up or result["status"] != GIVEN_UP

    @property
    def id(self) -> str:
        """Readable name and 12 hex digits of the SHA-256 of `canonical`, e.g. adding-T50-lstm-h64-s0-1a2b3c4d5e6f."""
        parts = [_word(self.task["name"])]
        parts += [f"{letter}{_word(self.task[key])}" for key, letter in _SIZES.items() if key in self.task]
        parts += [_word(self.cell), f"h{self.hidden}"]
        parts += [f"l{self.layers}"] if self.layers > 1 else []
        parts += [self.init] if self.init != "default" else []
        return "-".join([*parts, f"s{self.seed}", short_digest(self.canonical)])

    @property
    def network(self) -> dict[str, Any]:
        """The keyword arguments of `models.build` beside task and cell."""
        return {name: getattr(self, name) for name in NETWORK}

    def subseed(self, purpose: str) -> int:
        """A seed for one purpose of this run: a function of the id (where `paired`, of the seed) and the purpose's name,
        in [0, 2^63)."""
        # Of 8 digits, for ids had no more when the first results were published: the same weights and batches are drawn.
        of = f"paired/{self.seed}" if self.paired else short_id(self.id)
        return seed_of(f"{of}/{purpose}")

    def settings(self) -> dict[str, Any]:
        """Every setting by its dotted name ("task.length", "training.lr", "cell", ...), as JSON values."""
        return dotted(self.to_dict())


def run_spec(task: str | Mapping[str, Any], cell: str, *, hidden: int, **fields: Any) -> RunSpec:
    """One run, checked, with the task's default settings filled in.

    Args:
        task: a task's name, or {"name": ..., and the settings that differ from the default}.
        cell, hidden: the network.
        fields: the other attributes of `RunSpec`; `training` and `measure` may be dicts.

    Raises:
        InputError: no such task, setting, cell or initialiser, or a value that cannot be; one line for each fault.

    >>> run_spec({"name": "adding", "length": 50}, "gru", hidden=64, seed=1).id
    'adding-T50-gru-h64-s1-deacd6f53484'
    """
    # torch is imported by the rooms that know the names, not by this module.
    from rnnvg import models, tasks

    if not isinstance(task, str | Mapping):
        raise InputError(f"`task` is {shown(task)}; pass a name, or a dict with the name and its settings.")
    given = {"name": task} if isinstance(task, str) else dict(task)
    made = tasks.make(tasks.check(given.pop("name", None)), **given)
    models.check_cell(cell)
    check_name("init", fields.get("init", "default"), models.INITS)
    try:
        fields |= {"sources": tasks.imported.sources(made.name, cell)}
        return RunSpec.model_validate({"task": settings_of(made), "cell": cell, "hidden": hidden, **fields})
    except ValidationError as error:
        raise InputError("\n".join(in_plain_words(error, RunSpec))) from None


def by_id(specs: Iterable[RunSpec]) -> dict[str, RunSpec]:
    """Specifications by id, each run once.

    Raises:
        InputError: two different ones have one id.
    """
    found: dict[str, RunSpec] = {}
    for spec in specs:
        if (other := found.get(run := spec.id)) is not None and other.canonical != spec.canonical:
            raise InputError(_two_named(run))
        found[run] = spec
    return found


def short_id(run: str) -> str:
    """An id as ids were before they had 12 digits, with 8; what is none stays as it is.

    >>> short_id("adding-T50-lstm-h64-s0-1a2b3c4d5e6f")
    'adding-T50-lstm-h64-s0-1a2b3c4d'
    """
    return re.sub(r"(-[0-9a-f]{8})[0-9a-f]{4}\Z", r"\1", run)


def is_cut_off(text: str, run: str) -> bool:
    """Whether a text is the beginning of an id that reaches into its digits, or all of it.

    >>> run = "adding-T50-lstm-h64-s0-1a2b3c4d5e6f"
    >>> is_cut_off("adding-T50-lstm-h64-s0-1a2b", run), is_cut_off("adding-T5", run)
    (True, False)
    """
    digits = re.search(r"-[0-9a-f]{8,12}\Z", run)
    return digits is not None and len(text) > digits.start() + 1 and run.startswith(text)


def _two_named(run: str) -> str:
    return f"Two runs with different settings are named {run} by chance. Change a setting of one of them, such as its seed."


def check_spec(argument: str, value: object) -> RunSpec:
    """`value` where it is a specification, or an InputError."""
    if not isinstance(value, RunSpec):
        raise InputError(f"`{argument}` has {shown(value)}; pass what `bench.run_spec` made.")
    return value


def settings_of(task: Task) -> dict[str, Any]:
    """{"name": ..., and every setting of a task}: the same for two that are the same, however they were asked for."""
    settings = _without(json.loads(json.dumps(dict(task.settings))), _LATER_IN_TASKS.get(task.name, {}))
    return {"name": task.name, **settings}


def _without(found: dict[str, Any], later: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in found.items() if name not in later or value != later[name]}


def _word(value: Any) -> str:
    """`value` in letters that every file system takes; of a path its last part."""
    return re.sub(r"[^A-Za-z0-9]+", "-", str(value).replace("\\", "/").rstrip("/").rsplit("/", 1)[-1]).strip("-")[:32]


def dotted(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings in one level, by dotted name.

    >>> dotted({"task": {"name": "adding"}, "cell": "lstm"})
    {'task.name': 'adding', 'cell': 'lstm'}
    """
    found: dict[str, Any] = {}
    for key, each in value.items():
        found |= dotted(each, f"{prefix}{key}.") if isinstance(each, Mapping) else {f"{prefix}{key}": each}
    return found
