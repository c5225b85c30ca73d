"""Worker processes, set up so that results do not depend on them: on this machine, or those of a running Dask cluster.

On this machine: one long-lived process a job, with one thread, and arithmetic on one thread from before torch is
loaded. Everything listens on 127.0.0.1 alone and says nothing on the terminal. Loopback is open to every user of the
machine, and whoever reaches a scheduler can have it run code: both sides of every connection show a certificate that is made
for this sweep and kept in memory (`Security.temporary`), and no web server answers.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import re
import signal
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from typing import Any

import dask.config
from distributed import Client, LocalCluster, Nanny, Security, Status
from distributed.utils import silence_logging_cmgr

from rnnvg.errors import InputError, WorkersLostError, shown
from rnnvg.faults import MachineError, few_open_files

# A scheduler that says nothing for so long is not there.
SECONDS_TO_ANSWER = 5.0
# Closing a cluster of which a process does not answer is left to the end of this one after so many seconds.
SECONDS_TO_CLOSE = 10.0
# Generously, what a driver has open, and what each of its workers adds.
OPEN_FILES, OPEN_FILES_A_JOB = 64, 16
_KILL = getattr(signal, "SIGKILL", signal.SIGTERM)


# All of it 1: threads a process, and the seed of the order of Python's sets.
_ONE: Mapping[str, str] = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "NUMEXPR_NUM_THREADS": "1",
    "VECLIB_MAXIMUM_THREADS": "1",
    "PYTHONHASHSEED": "1",
}
_CONFIG = {
    # Deaths are counted by the sweep, which pins every run to one worker: Dask is to report the first and retry none.
    "distributed.scheduler.allowed-failures": 0,
    # A worker that died is started again under its name; on a busy machine that may take longer than Dask's 15 s, after
    # which it would be given up for good.
    "distributed.deploy.lost-worker-timeout": "1 hour",
    "distributed.scheduler.worker-ttl": None,
    # Dask would also set glibc's trim threshold, which costs training time.
    "distributed.nanny.pre-spawn-environ": dict(_ONE),
    "distributed.diagnostics.nvml": False,
    # The web servers cannot be left out, and would be readable by anybody here: they serve no page.
    "distributed.scheduler.http.routes": [],
    "distributed.worker.http.routes": [],
}


class WorkerProcess(Nanny):
    """A worker process that is started again where it died at work; older Dask starts one that dies at its start for ever."""

    async def _on_worker_exit(self, exitcode: int) -> None:
        if self.status not in (Status.init, Status.starting):
            await super()._on_worker_exit(exitcode)


_OPTIONS: dict[str, Any] = {
    "threads_per_worker": 1,
    "processes": True,
    "worker_class": WorkerProcess,
    "host": "127.0.0.1",
    "dashboard_address": None,
    # The scheduler's web server starts without a dashboard too; any free port, so that two sweeps fit on a machine.
    "scheduler_kwargs": {"dashboard_address": "127.0.0.1:0"},
    # No limit: Dask would end a worker that comes near it in the middle of its run.
    "memory_limit": 0,
    "silence_logs": logging.CRITICAL,
}


@contextmanager
def local_workers(jobs: int) -> Iterator[Client]:
    """A client of `jobs` worker processes on this machine, which end with the context, busy or not.

    Raises:
        WorkersLostError: they do not start.
        MachineError: they do not start, and this process may have few files open.
    """
    # The environment and the configuration are read again whenever a worker is started anew.
    # LocalCluster is silent too, but only until it begins to close, when connections that are cut off would still be logged.
    with _environment(_ONE), dask.config.set(_CONFIG), silence_logging_cmgr(logging.CRITICAL):
        try:
            with _interrupts_not_inherited():
                cluster = LocalCluster(n_workers=jobs, security=Security.temporary(), protocol="tls://", **_OPTIONS)
        except (RuntimeError, OSError) as error:
            if fault := few_open_files(OPEN_FILES + OPEN_FILES_A_JOB * jobs):
                raise MachineError(f"The worker processes did not start: {fault}.") from None
            raise WorkersLostError(
                f"The worker processes did not start ({error}). Is there memory for {jobs} more? A script must call "
                'run_all under `if __name__ == "__main__":`, for its workers import it.'
            ) from None
        try:
            with Client(cluster, set_as_default=False) as client:
                yield client
                _end_processes(cluster)
        except BaseException:
            _end_processes(cluster)
            raise
        finally:
            with suppress(TimeoutError):
                cluster.close(timeout=SECONDS_TO_CLOSE)


@contextmanager
def workers_of(scheduler: str, security: Any = None) -> Iterator[Client]:
    """A client of the workers of a scheduler that others started.

    Args:
        scheduler: its address, as `dask scheduler` prints it.
        security: a distributed.Security, for TLS; None: as Dask's own configuration says.

    Raises:
        InputError: it cannot be reached, or is asked for by TLS without certificates.
    """
    check_address(scheduler, security)
    with silence_logging_cmgr(logging.CRITICAL):
        try:
            client = Client(scheduler, security=security, timeout=10, set_as_default=False)
        except (OSError, ValueError) as error:
            raise InputError(
                f"`scheduler` {scheduler!r} cannot be reached ({type(error).__name__}). Pass the address that "
                "`dask scheduler` printed, such as tcp://host:8786."
            ) from error
        with client:
            yield client


def check_address(scheduler: str, security: Any = None) -> None:
    """Nothing where something listens at an address; Dask would try for ten seconds and more before it says what is wrong."""
    found = re.fullmatch(r"(tcp|tls)://(.+):(\d{1,5})", scheduler) if isinstance(scheduler, str) else None
    if found is None or not 0 < int(found[3]) < 2**16:
        raise InputError(
            f"`scheduler` {shown(scheduler, 80)} is not an address. Pass the one that `dask scheduler` printed, such as "
            "tcp://host:8786."
        )
    if scheduler.startswith("tls://") and (security or Security()).get_connection_args("client")["ssl_context"] is None:
        raise InputError(
            f"`scheduler` {scheduler!r} needs TLS, and Dask knows of no certificates. Set "
            "DASK_DISTRIBUTED__COMM__TLS__CA_FILE, DASK_DISTRIBUTED__COMM__TLS__CLIENT__CERT and "
            "DASK_DISTRIBUTED__COMM__TLS__CLIENT__KEY to their files."
        )
    try:
        socket.create_connection((found[2].strip("[]"), int(found[3])), timeout=SECONDS_TO_ANSWER).close()
    except OSError as error:
        raise InputError(
            f"`scheduler` {scheduler!r} cannot be reached ({type(error).__name__}). Pass the address that `dask scheduler` "
            "printed, such as tcp://host:8786."
        ) from None


def exposure(scheduler: str, security: Any = None) -> str:
    """What it means to use this scheduler without TLS, in one sentence; "" where connections are encrypted."""
    if scheduler.startswith("tls://") or (security is not None and security.require_encryption):
        return ""
    return (
        f"{scheduler} is without TLS: whoever reaches it can run code as you, here and on its workers. Use it on a private "
        "network alone, or start the scheduler with certificates and pass tls://."
    )


def dashboard(client: Client) -> str:
    """The address of the scheduler's dashboard; empty where it has none."""
    if importlib.util.find_spec("bokeh") is None:
        return ""
    with suppress(Exception):
        # A link is made up from the configuration whether there is a dashboard or not; the scheduler knows.
        if "dashboard" in client.scheduler_info().get("services", {}):
            return str(client.dashboard_link or "")
    return ""


def end_worker(client: Client, address: str) -> None:
    """Ends the process of a worker that stands still, without waiting; its nanny starts another one."""

    def end() -> None:
        with suppress(Exception):
            if isinstance(client.cluster, LocalCluster):
                # A process that is stopped does not hear what a nanny asks of it; nobody can ignore this.
                for nanny in [each for each in client.cluster.workers.values() if each.worker_address == address]:
                    os.kill(nanny.pid, _KILL)
            else:
                client.restart_workers([address], timeout=30, raise_for_error=False)

    with suppress(RuntimeError):  # no more threads
        threading.Thread(target=end, daemon=True).start()


def _end_processes(cluster: LocalCluster) -> None:
    """Kills the workers without waiting: nothing in them is worth keeping, for what is done is on the disk."""
    for nanny in list(cluster.workers.values()):
        with suppress(Exception):
            pid = nanny.pid
            nanny.close_gracefully()
            os.kill(pid, _KILL)


@contextmanager
def _interrupts_not_inherited() -> Iterator[None]:
    """Threads and processes started inside never see Ctrl-C and hang-ups, which go to all of a terminal; the caller does.

    Blocking is inherited, by the thread that starts workers anew too, where a handler would not be.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    # Starting it unblocks the signal in the thread that does: before, so that no worker is spawned after that.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
