"""Every combination of the values in one task's table, each made once: runs for the first seed, or why one cannot be."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rnnvg import models, tasks
from rnnvg.bench.spec import RunSpec, settings_of
from rnnvg.errors import InputError

if TYPE_CHECKING:
    from rnnvg.tasks import Task

Values = Mapping[str, tuple[Any, ...]]

# A run that needs more is refused before it starts.
MOST_BYTES = 128 << 30


def expand(
    name: str, settings: Values, parts: Mapping[str, Values] | None, cells: Sequence[str]
) -> tuple[list[RunSpec], list[str]]:
    """The runs of a table, in the order of its values, cells last; and one sentence for each combination that cannot be.

    Combinations of initialiser and cell that have no meaning are left out where another initialiser is given.

    Args:
        name, settings: the task, and every value of its settings.
        parts: every value of every setting of "model", "training" and "measure"; None where the task alone is to be tried.
        cells: for each of them.
    """
    specs, faults = [], []
    inits = parts["model"].get("init", ("default",)) if parts else ()
    for cell in cells if parts else ():
        if not any(_init_fits(init, cell) for init in inits):
            faults.append(f"no initialiser among {', '.join(inits)} fits cell {cell!r}.")
    for chosen in _product(settings):
        try:
            task = tasks.make(name, **chosen)
        except InputError as error:
            faults.append(str(error))
            continue
        for model, training, measure in _combinations(parts) if parts else ():
            for cell in [cell for cell in cells if _init_fits(model.get("init", "default"), cell)]:
                try:
                    fields = {"cell": cell, "training": training, "measure": measure} | _network(task, cell, model)
                    fields["sources"] = tasks.imported.sources(name, cell)
                    spec = RunSpec.model_validate({"task": settings_of(task), **fields})
                    _check_runnable(spec, task)
                    specs.append(spec)
                except InputError as error:
                    faults.append(str(error))
    return specs, faults


def _combinations(parts: Mapping[str, Values]) -> Iterator[tuple[dict[str, Any], dict[str, Any], dict[str, Any]]]:
    model, training, measure = (list(_product(parts[part])) for part in ("model", "training", "measure"))
    yield from itertools.product(model, training, measure)


def _product(settings: Values) -> Iterator[dict[str, Any]]:
    return (dict(zip(settings, values, strict=True)) for values in itertools.product(*settings.values()))


def _init_fits(init: str, cell: str) -> bool:
    from rnnvg.models import CELLS
    from rnnvg.models.initialisers import check_init

    if cell not in CELLS:
        return init == "default"
    try:
        return bool(check_init(init, cell))
    except InputError:
        return False


def _network(task: Task, cell: str, model: Mapping[str, Any]) -> dict[str, Any]:
    """The network's settings; with `match` a hidden size that gives `cell` as many parameters as that cell has."""
    network = {key: value for key, value in model.items() if key != "match"}
    if model.get("match", cell) != cell:
        shape = {key: value for key, value in network.items() if key in ("layers", "embed", "tied")}
        other = models.blueprint(task, model["match"], hidden=network["hidden"], **shape)
        wanted = models.count_parameters(other)
        network["hidden"] = models.matched_hidden(task, cell, wanted, **shape)
    return network


def _check_runnable(spec: RunSpec, task: Task) -> None:
    """What values that are each right can still get wrong together."""
    from rnnvg.models.initialisers import CONSTRAINED
    from rnnvg.training import penalties
    from rnnvg.training.penalties import check_fits

    models.blueprint(task, spec.cell, **{**spec.network, "init": "default", "constraint": None})
    training = spec.training
    _check_size(spec, task)
    if "cell" in spec.measure.wrt and spec.cell in ("rnn", "rnn-relu", "gru"):
        raise InputError(f"`measure.wrt` has 'cell', and a {spec.cell} has no cell state. Pass 'state' or 'hidden'.")
    if spec.constraint is not None:
        check_fits(spec.cell, "constraint", CONSTRAINED)
    for name, fits in (("omega", penalties.FITS), ("flossing", penalties.FLOSSES)):
        if getattr(training, name) is not None:
            check_fits(spec.cell, name, fits)
    if spec.init == "chrono" and spec.t_max is None and task.distances is None:
        raise InputError("`init` 'chrono' needs the longest dependency, which this task does not know. Pass `t_max`.")
    if training.bptt is not None and not task.streamed:
        raise InputError(f"`training.bptt` cuts a text into windows; task {task.name!r} is not a text. Leave it out.")
    late = [step for step in training.checkpoints or () if step > training.steps]
    if late:
        raise InputError(
            f"`training.checkpoints` has {late[0]}, after the last of {training.steps} steps. Pass earlier ones."
        )


def _check_size(spec: RunSpec, task: Task) -> None:
    """Nothing where a step's activations and the weights may be held in memory: counted from the sizes alone."""
    gates = {"lstm": 4, "gru": 3}.get(spec.cell, 1)
    weights = spec.layers * gates * spec.hidden**2
    batch = max(spec.training.batch, spec.measure.sequences)
    steps = spec.training.bptt or task.steps
    activations = steps * batch * (spec.hidden * spec.layers * gates + task.n_inputs)
    # Adam holds two more of each weight, and the gradient a third.
    needed = 4 * (4 * weights + activations)
    if needed > MOST_BYTES:
        raise InputError(
            f"{steps} steps of {batch} sequences with {spec.layers} layers of {spec.hidden} units need {needed / 2**30:.3g} "
            f"GiB, and a run may need {MOST_BYTES >> 30} GiB. Pass smaller sizes."
        )
