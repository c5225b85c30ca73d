"""Workers that stand still: named after a while, given up after a longer one, their runs left to do."""

import os
import signal
import time

import fake_runs
import lighter
import psutil
import pytest
from fake_runs import quick, spec

from rnnvg import InputError
from rnnvg.bench import silence
from rnnvg.bench.cluster import WorkersLostError
from rnnvg.bench.runner import run_all
from rnnvg.bench.silence import Silence
from rnnvg.bench.store import Store


def test_a_silent_run_is_named_once_and_again_at_twice_the_time():
    still, said = Silence(longest_silence=300), []
    for second in range(299):
        assert not still.passes(1)
        if text := still.sentence("a-run", 0):
            said.append((second + 1, text))
    assert said == [
        (60, "a-run: no sign of life for 60 seconds. It is given up after 300 (--longest-silence)."),
        (120, "a-run: no sign of life for 120 seconds. It is given up after 300 (--longest-silence)."),
        (240, "a-run: no sign of life for 240 seconds. It is given up after 300 (--longest-silence)."),
    ]
    assert still.passes(1)
    still.broken()
    assert not still.passes(1)


def test_a_driver_that_was_suspended_itself_has_not_waited_for_anybody():
    still = Silence(longest_silence=10)
    assert not still.passes(100_000)
    assert not still.passes(-50)
    assert still.seconds == silence._MOST


@pytest.mark.parametrize("stopped", [True, pytest.param(False, marks=pytest.mark.acceptance)])
def test_a_worker_that_stands_still_is_named_and_given_up_and_the_rest_is_done(tmp_path, monkeypatch, stopped):
    """Stopped from outside (SIGSTOP), or in a task that never returns; one of two workers."""
    monkeypatch.setattr(silence, "NAMED", 1.0)
    told = []

    def observe(event):
        told.append(event)
        if stopped and event.kind == "start" and event.run == spec(1).id:
            os.kill(event.pid, signal.SIGSTOP)

    specs, start = [spec(seed) for seed in range(4)], time.monotonic()
    execute = fake_runs.steady if stopped else fake_runs.seed_one_hangs
    with pytest.raises(WorkersLostError) as raised:
        run_all(specs, tmp_path, jobs=2, observer=observe, execute=execute, longest_silence=12)
    assert time.monotonic() - start < 100
    assert str(raised.value) == (
        f"{spec(1).id} showed no sign of life for 12 seconds and was given up. What is done is kept, and the same command "
        "does the rest."
    )
    notes = [event.text for event in told if event.kind == "note"]
    assert any(text.startswith(f"{spec(1).id}: no sign of life for 1 seconds from process ") for text in notes)
    assert any("was stopped (`kill -CONT " in text for text in notes) == stopped
    assert [event.run for event in told if event.kind == "left"] == [spec(1).id]
    assert sorted(result["spec"]["seed"] for result in Store(tmp_path).results()) == [0, 2, 3]
    assert not list(tmp_path.rglob("claim.json"))
    pids = [event.pid for event in told if event.kind == "start"]
    assert not any(_runs(pid) for pid in pids)
    # The same call does the rest.
    with lighter.worker_here():
        assert {result["status"] for result in run_all(specs, tmp_path, jobs=1, execute=quick)} == {"ok"}


def _runs(pid):
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), "soon", None])
def test_the_time_is_a_number_above_zero(tmp_path, seconds):
    with pytest.raises(InputError, match="`longest_silence` must be a finite number above 0"):
        run_all([spec(0)], tmp_path, longest_silence=seconds, execute=quick)
