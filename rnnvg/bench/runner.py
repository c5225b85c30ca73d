"""run_all(): many runs on worker processes; killed and taken up again, they come to the same tables."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rnnvg.bench import given_up
from rnnvg.bench.events import Event, Observer
from rnnvg.bench.record import version
from rnnvg.bench.silence import LONGEST_SILENCE
from rnnvg.bench.spec import RunSpec, by_id, check_spec
from rnnvg.bench.store import Store
from rnnvg.errors import InputError, bounded, check_flag, check_float, check_function, check_int, shown
from rnnvg.faults import WITH_WORKERS, StorageError, check_memory_limit
from rnnvg.files import check_room

if TYPE_CHECKING:
    from distributed import Client

# What a run writes, generously; asked for before the first one starts.
BYTES_A_RUN = 4 * 2**20
# Network file systems may show a file that another machine wrote this much later.
SEEN_WITHIN = 60.0


def run_all(
    specs: Iterable[RunSpec],
    directory: str | Path,
    *,
    jobs: int = 2,
    observer: Observer | None = None,
    scheduler: str | None = None,
    security: Any = None,
    axes: Iterable[str] = (),
    retry_failed: bool = False,
    follow: Callable[[Mapping[str, Mapping[str, Any]]], Iterable[RunSpec]] | None = None,
    execute: Callable[..., dict[str, Any]] | None = None,
    longest_silence: float = LONGEST_SILENCE,
) -> list[dict[str, Any]]:
    """Does every run that `directory` does not hold yet, and writes the merged tables.

    In a script, call it under `if __name__ == "__main__":`, for worker processes import the script that started them.

    Args:
        specs: the runs, in the order in which they are to be started. One that was given up and whose `training.give_up` is
            not set is set aside and done again.
        directory: OUT; made where it is missing. Several processes, on several machines, may share one.
        jobs: worker processes on this machine.
        observer: is called with an Event for everything that happens, in the thread that calls this.
        scheduler: the address of a running Dask scheduler whose workers see `directory` under the same path; `jobs` does
            not matter then. `security`: a distributed.Security, for TLS.
        axes: settings, by dotted name, that may differ from what the directory holds (seed, cell and init always may).
        retry_failed: set runs that failed aside and do them again.
        follow: is handed the results by id when all runs are done, and says which ones are to follow; it is asked again
            until it names none that is not done. Of ladders, where the next length depends on the last.
        execute: what does a run, called as execute(spec, directory, on_progress); None: rnnvg.bench.run.execute.
        longest_silence: seconds without a sign of life (a training step) after which a run is given up: its worker is ended,
            the others go on, and it is left to do. It is named in a note after a minute.

    Returns:
        The content of result.json for each of `specs` and of those that followed, sorted by id.

    Raises:
        InputError: jobs below 1; `longest_silence` not above 0; no specs; a directory that cannot be written or holds other
            settings.
        WorkersLostError: the scheduler went away, or no worker comes up; or runs were given up, when the others are done.
        MachineError: this process may use too little memory (`ulimit -v`) for workers.
        KeyboardInterrupt: passed on when the workers have stopped. What is done is kept, and long runs have left a resume
            file: the same call goes on.

    >>> import tempfile
    >>> from rnnvg import bench
    >>> training = {"steps": 2, "batch": 4, "eval_size": 10}
    >>> specs = [bench.run_spec({"name": "adding", "length": 5}, "rnn", hidden=4, training=training)]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = bench.execute(specs[0], folder)
    ...     [result["status"] for result in bench.run_all(specs, folder, jobs=1)]  # nothing is done twice
    ['ok']
    """
    check_int("jobs", jobs, least=1)
    longest_silence = check_float("longest_silence", longest_silence, above=0)
    check_memory_limit(WITH_WORKERS)
    _check_main_process()
    check_flag("retry_failed", retry_failed)
    for name, function, form in (
        ("observer", observer, "of one Event"),
        ("follow", follow, "of the results by id"),
        ("execute", execute, "of a specification, a directory and on_progress"),
    ):
        if function is not None:
            check_function(name, function, form)
    if isinstance(axes, str):
        raise InputError(f"`axes` is {shown(axes)}; pass a list of settings: [{shown(axes)}].")
    wanted = by_id(check_spec("specs", spec) for spec in bounded("specs", specs))
    if not wanted:
        raise InputError("`specs` is empty. Pass at least one run.")
    store, tell = Store(directory), observer or (lambda event: None)
    store.check_tables()
    store.check_settings(wanted.values(), bounded("axes", axes))
    pending = _to_do(store, wanted, retry_failed, tell) or _followers(store, wanted, follow)
    tell(Event("plan", total=len(wanted), done=len(wanted) - len(pending)))
    for text in given_up.not_applied(pending):
        tell(Event("note", text=text))
    if pending:
        check_room(store.directory, BYTES_A_RUN * len(pending))
        for text in _versions(store):
            tell(Event("note", text=text))
        try:
            with _workers(jobs if follow else min(jobs, len(pending)), scheduler, security) as client:
                from rnnvg.bench.cluster import dashboard
                from rnnvg.bench.sweep import Sweep

                if link := dashboard(client):
                    tell(Event("note", text=f"Dashboard: {link}"))
                while pending:
                    Sweep(client, store, pending, tell, execute, longest_silence).run()
                    if pending := _followers(store, wanted, follow):
                        tell(Event("plan", total=len(wanted), done=len(wanted) - len(pending)))
        except BaseException:
            with suppress(OSError, InputError):
                if store.directory.exists():
                    store.merge()
            raise
    store.merge()
    return _results(store, sorted(wanted))


def _followers(
    store: Store,
    wanted: dict[str, RunSpec],
    follow: Callable[[Mapping[str, Mapping[str, Any]]], Iterable[RunSpec]] | None,
) -> list[RunSpec]:
    """The runs that follow and have no result yet, added to `wanted` with those that have one."""
    if follow is None:
        return []
    results = {result["id"]: result for result in _results(store, sorted(wanted))} | store.read().results
    found = by_id(follow(results))
    wanted |= by_id([*wanted.values(), *found.values()])
    return [spec for run, spec in found.items() if not spec.is_done_by(results.get(run))]


def _to_do(store: Store, wanted: dict[str, RunSpec], retry_failed: bool, tell: Observer) -> list[RunSpec]:
    """The runs without a sound result, in their order. What is damaged is set aside first."""
    reading = store.read()
    for run, what in reading.damaged.items():
        tell(Event("note", text=f"{run}: {what}. It was moved to {store.move_aside(store.runs / run)}."))
    done = dict(reading.results)
    for run in [run for run in wanted if retry_failed and done.get(run, {}).get("status") == "failed"]:
        _set_aside(store, done, run, lambda result: result["status"] == "failed")
    again = [run for run, spec in wanted.items() if run in done and not spec.is_done_by(done[run])]
    if again:
        tell(Event("note", text=given_up.done_again(again)))
    for run in again:
        _set_aside(store, done, run, lambda result, spec=wanted[run]: not spec.is_done_by(result))
    return [spec for run, spec in wanted.items() if run not in done]


def _set_aside(store: Store, done: dict[str, Any], run: str, unwanted: Callable[[dict[str, Any]], bool]) -> None:
    """Sets aside a run's unwanted result, and then the one that its other folder holds, under 8 digits, if that is too."""
    while (result := store.result(run)) is not None and unwanted(result):
        store.set_aside(run)
    if result is None:
        del done[run]
    else:
        done[run] = result


def _versions(store: Store) -> list[str]:
    """What to say where a directory will hold results of several versions: their digits may differ."""
    return [
        f"Some results here were {made} by {package} {other}; new ones are by {version(package)}."
        for package, made in (("rnnvg", "written"), ("torch", "computed"))
        for other in store.other_versions(package, version(package))
    ]


def _workers(jobs: int, scheduler: str | None, security: Any) -> AbstractContextManager[Client]:
    from rnnvg.bench.cluster import local_workers, workers_of

    return local_workers(jobs) if scheduler is None else workers_of(scheduler, security)


def _results(store: Store, runs: list[str]) -> list[dict[str, Any]]:
    until = time.monotonic() + SEEN_WITHIN
    while True:
        results = store.read().results
        missing = [run for run in runs if run not in results]
        if not missing:
            return [results[run] for run in runs]
        if time.monotonic() > until:
            raise StorageError(f"`out` {str(store.directory)!r} has lost the result of {missing[0]}. Run it again.")
        time.sleep(0.5)


def _check_main_process() -> None:
    # Where a script calls this at its top level, each worker that imports the script would start workers of its own.
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise SystemExit(1)
