"""What takes the place of slow parts in tests that look at something else."""

from contextlib import contextmanager

import pytest


@contextmanager
def one_figure():
    """Reports have their first screen alone: drawing all of their figures takes seconds."""
    from rnnvg.report import sections

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sections, "COMPARISON", sections.COMPARISON[:1])
        yield


@contextmanager
def client_here():
    """A client of one worker, in a thread of this process: one of its own takes seconds to start and to load torch."""
    from distributed import Client, LocalCluster

    options = {"dashboard_address": None, "scheduler_kwargs": {"dashboard_address": "127.0.0.1:0"}}
    with LocalCluster(n_workers=1, threads_per_worker=1, processes=False, **options) as cluster:
        with Client(cluster, set_as_default=False) as client:
            yield client


@contextmanager
def worker_here():
    """Sweeps on this machine have one worker, in a thread of this process."""
    from rnnvg.bench import runner

    elsewhere = runner._workers

    def workers(jobs, scheduler, security):
        return client_here() if scheduler is None else elsewhere(jobs, scheduler, security)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "_workers", workers)
        yield
