"""advise(): every trial of every remedy, in this process or in workers; what is done is kept and not done again."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from rnnvg.advise.advice import Advice
from rnnvg.advise.remedies import NONE, chosen
from rnnvg.advise.settings import Settings, settings
from rnnvg.advise.trial import EXPLODING, run_trial
from rnnvg.bench.files import disk_faults_named, write_whole
from rnnvg.errors import InputError, check_int

OnProgress = Callable[[int, int, str], object]
Job = tuple[str, int]  # remedy and seed
TRIALS = "trials"


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
        remedies: names of rnnvg.advise.NAMES; None: all of them. Those that do not fit the cell are left out, with a reason.
        jobs: worker processes; 1 is this process. The numbers are the same for any number. More than one needs a script's
            call to stand under `if __name__ == "__main__":`.
        directory: where trials are kept as they end (DIR/trials/<id>.json), so that the same call goes on; None: nowhere.
        on_progress: called as on_progress(done, of, name of the trial) at the start and after each trial.

    Raises:
        InputError: an argument that is unknown or out of its range; a directory that cannot be written.
        WorkersLostError: a worker process died; what is done is kept.
        KeyboardInterrupt: passed on.
    """
    from rnnvg import models

    if isinstance(seeds, int) and seeds == 1:
        raise InputError(
            "`seeds` must be at least 2 for an interval; got 1. Of one network rnnvg.gradient_profile reports the horizon."
        )
    seeds, jobs = check_int("seeds", seeds, least=2), check_int("jobs", jobs, least=1)
    shared = settings(task, cell, **options)
    fitting, left_out = chosen(shared.cell, None if remedies is None else tuple(remedies))
    names = [NONE, *(each.name for each in fitting)]
    if "clipping" in names:
        names += EXPLODING
    slow = {each.name for each in fitting if each.network.get("cell") in models.OWN_CELLS}
    # The long ones first, so that no worker is left alone with one at the end.
    wanted = [(name, seed) for name in sorted(names, key=lambda name: name not in slow) for seed in range(seeds)]
    folder = None if directory is None else Path(directory) / TRIALS
    found = _kept(shared, folder, wanted)
    tell = on_progress or (lambda done, of, name: None)
    tell(len(found), len(wanted), "")
    for job, trial in _done(shared, [each for each in wanted if each not in found], jobs):
        found[job] = trial
        if folder is not None:
            with disk_faults_named(folder):
                write_whole(folder / f"{shared.trial_id(*job)}.json", json.dumps(trial, indent=1))
        tell(len(found), len(wanted), f"{job[0]} s{job[1]}")
    ordered = tuple(found[name, seed] for name in names for seed in range(seeds))
    return Advice(settings=shared, seeds=seeds, trials=ordered, left_out=left_out)


def _kept(shared: Settings, folder: Path | None, wanted: Sequence[Job]) -> dict[Job, dict[str, Any]]:
    """Trials that are done already; a file that cannot be read is done again."""
    found: dict[Job, dict[str, Any]] = {}
    if folder is None:
        return found
    with disk_faults_named(folder):
        folder.mkdir(parents=True, exist_ok=True)
    for job in wanted:
        try:
            trial = json.loads((folder / f"{shared.trial_id(*job)}.json").read_text(encoding="utf-8"))
        except (FileNotFoundError, json.JSONDecodeError, UnicodeDecodeError):
            continue
        if isinstance(trial, dict) and (trial.get("remedy"), trial.get("seed")) == job:
            found[job] = trial
    return found


def _done(shared: Settings, todo: Sequence[Job], jobs: int) -> Iterator[tuple[Job, dict[str, Any]]]:
    """Every trial of `todo` as it ends."""
    jobs = min(jobs, len(todo))
    if jobs <= 1:
        for job in todo:
            yield job, run_trial(shared, *job)
        return
    from distributed import KilledWorker, as_completed

    from rnnvg.bench.cluster import WorkersLostError, local_workers

    with local_workers(jobs) as client:
        futures = {
            client.submit(run_trial, shared, *job, pure=False, priority=-place): job for place, job in enumerate(todo)
        }
        try:
            for future in as_completed(futures, loop=client.loop):
                yield futures[future], future.result()
        except KilledWorker:
            raise WorkersLostError("A worker process died; what is done is kept, and the same call goes on.") from None
