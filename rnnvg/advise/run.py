"""advise(): a run for every remedy and seed, in one directory of results; what is done is kept and not done again."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from rnnvg import models
from rnnvg.advise.advice import Advice
from rnnvg.advise.remedies import NONE, chosen
from rnnvg.advise.settings import Settings, settings
from rnnvg.advise.trial import EXPLODING, read_trial, spec_of
from rnnvg.bench import Event, RunSpec, Store, execute, run_all
from rnnvg.bench.spec import by_id
from rnnvg.errors import InputError, bounded, check_int

OnProgress = Callable[[int, int, str], object]
Job = tuple[str, int]  # remedy and seed


def advise(
    task: Any = "adding",
    cell: str = "rnn",
    *,
    seeds: int = 5,
    remedies: Sequence[str] | None = None,
    jobs: int = 1,
    directory: str | Path | None = None,
    on_progress: OnProgress | None = None,
    **options: Any,
) -> Advice:
    """Measure a network on a task, name what keeps its gradient from reaching back, apply every remedy and measure again.

    Args:
        task, cell, options: as rnnvg.advise.settings.settings takes them.
        seeds: independently drawn networks for each remedy, at least 2; those of one seed are a pair.
        remedies: names of rnnvg.advise.NAMES; None: all that fit the cell, with a reason for those that do not.
        jobs: worker processes; 1 is this process. The numbers are the same for any number. More than one needs a script's
            call to stand under `if __name__ == "__main__":`.
        directory: of results, as rnnvg.bench fills one: runs are kept as they end, so that the same call goes on; None:
            nowhere.
        on_progress: called as on_progress(done, of, name of the run) at the start and after each run.

    Raises:
        InputError: an argument that is unknown or out of its range; a remedy that does not fit the cell; a directory that
            cannot be written or holds other settings.
        WorkersLostError: no worker comes up; what is done is kept.
        KeyboardInterrupt: passed on.

    >>> from rnnvg.advise import advise
    >>> task = {"name": "adding", "length": 6}
    >>> found = advise(task, "lstm", seeds=2, remedies=["forget-bias"], hidden=4, steps=2)
    >>> [effect.remedy for effect in found.effects()]
    ['none', 'forget-bias']
    """
    if isinstance(seeds, int) and seeds == 1:
        raise InputError(
            "`seeds` must be at least 2 for an interval; got 1. Of one network rnnvg.gradient_profile reports the horizon."
        )
    seeds, jobs = check_int("seeds", seeds, least=2), check_int("jobs", jobs, least=1)
    shared = settings(task, cell, **options)
    fitting, left_out = chosen(shared.cell, None if remedies is None else tuple(bounded("remedies", remedies)))
    names = [NONE, *(each.name for each in fitting)]
    if "clipping" in names:
        names += EXPLODING
    specs = {(name, seed): spec_of(shared, name, seed) for name in names for seed in range(seeds)}
    # The long ones first, so that no worker is left alone with one at the end.
    ordered = sorted(specs.items(), key=lambda job: job[1].cell in models.CELLS)
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory()) if directory is None else directory
        _do(dict(ordered), Path(folder), jobs, on_progress or (lambda done, of, name: None))
        store = Store(folder)
        trials = tuple(read_trial(shared, *job, store) for job in specs)
    return Advice(settings=shared, seeds=seeds, trials=trials, left_out=left_out)


def _do(specs: dict[Job, RunSpec], folder: Path, jobs: int, tell: OnProgress) -> None:
    """Every run that the folder does not hold yet, in this process or in workers."""
    names = {spec.id: f"{remedy} s{seed}" for (remedy, seed), spec in specs.items()}
    # A remedy that changes nothing of some network would be the same run twice.
    wanted = list(by_id(specs.values()).values())
    store = Store(folder)
    if jobs == 1:
        store.check_settings(wanted)
        done = len(store.read().results.keys() & names.keys())
        tell(done, len(wanted), "")
        for spec in wanted:
            if store.result(spec.id) is None:
                execute(spec, folder)
                done += 1
                tell(done, len(wanted), names[spec.id])
        return
    done = 0

    def observe(event: Event) -> None:
        nonlocal done
        if event.kind == "plan":
            done = event.done
            tell(done, len(wanted), "")
        elif event.kind == "done":
            done += 1
            tell(done, len(wanted), names[event.run])

    run_all(wanted, folder, jobs=jobs, observer=observe)


__all__ = ["Settings", "advise"]
