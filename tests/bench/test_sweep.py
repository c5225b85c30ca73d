"""Real worker processes: killed, told to stop, shared, and what is left behind each time."""

import csv
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import fake_runs
import lighter
import psutil
import pytest
from fake_runs import quick, spec

from rnnvg.bench import sweep
from rnnvg.bench.cluster import local_workers
from rnnvg.bench.events import Event
from rnnvg.bench.record import record, version, write_off
from rnnvg.bench.runner import run_all
from rnnvg.bench.spec import run_spec
from rnnvg.bench.store import Store
from rnnvg.bench.sweep import Sweep, WorkersLostError
from rnnvg.bench.tables import MERGED
from rnnvg.errors import InputError
from rnnvg.faults import StorageError

# What another process needs to import rnnvg and the stand-ins.
PATH = os.pathsep.join(map(str, (Path(__file__).parent.parent.parent, Path(__file__).parent)))


@pytest.fixture(scope="module")
def client():
    """Two workers, for every test here that does not need its own."""
    with local_workers(2) as client:
        yield client


def go(client, directory, specs, execute=quick):
    """The results of a sweep, and what was told on the way."""
    told = []
    Sweep(client, Store(directory), specs, told.append, execute).run()
    return {result["id"]: result for result in Store(directory).results()}, told


def of_kind(told, kind):
    return [event for event in told if event.kind == kind]


def merged(directory):
    return {name: (directory / name).read_bytes() for name in MERGED.values()}


def test_every_run_is_done_once_and_told_of(client, tmp_path):
    specs = [spec(seed) for seed in range(6)]
    results, told = go(client, tmp_path, specs)
    assert set(results) == {each.id for each in specs}
    for kind in ("start", "done"):
        assert sorted(event.run for event in of_kind(told, kind)) == sorted(results)
    assert Event("progress", specs[0].id, 5, 5, 0.2) in told
    assert not list(tmp_path.rglob("claim.json"))


def test_workers_have_one_thread(client, tmp_path):
    specs = [spec(seed) for seed in range(4)]
    go(client, tmp_path, specs, fake_runs.threads)
    notes = [(Store(tmp_path).folder(each.id) / "threads").read_text().split() for each in specs]
    assert {(torch_threads, omp) for torch_threads, omp, _ in notes} == {("1", "1")}
    # Long-lived: four runs, two processes.
    assert len({pid for *_, pid in notes}) == 2


def test_a_killed_worker_s_run_is_tried_again(client, tmp_path):
    specs = [spec(seed) for seed in range(2)]
    results, told = go(client, tmp_path, specs, fake_runs.dies_once)
    assert {result["status"] for result in results.values()} == {"ok"}
    assert sorted(event.run for event in of_kind(told, "again")) == sorted(results)


def test_a_run_that_always_kills_its_worker_is_a_failed_row_and_the_rest_goes_on(client, tmp_path):
    specs = [spec(seed) for seed in range(4)]
    results, told = go(client, tmp_path, specs, fake_runs.seed_one_dies)
    lost = results.pop(spec(1).id)
    assert (lost["status"], lost["reason"]) == ("failed", "Its worker process was killed 3 times.")
    assert {result["status"] for result in results.values()} == {"ok"}
    assert len(results) == 3
    assert (Store(tmp_path).folder(spec(1).id) / "deaths").read_text() == "xxx"
    assert [event.status for event in of_kind(told, "done") if event.run == spec(1).id] == ["failed"]


def test_what_is_raised_in_a_worker_is_a_failed_row(client, tmp_path):
    results, _ = go(client, tmp_path, [spec(0), spec(1)], fake_runs.seed_one_raises)
    assert results[spec(1).id]["reason"] == "RuntimeError: out of luck"
    assert results[spec(0).id]["status"] == "ok"


def test_a_full_disk_in_a_worker_ends_the_sweep_with_its_sentence(client, tmp_path):
    with pytest.raises(StorageError, match=r"has no space left\."):
        go(client, tmp_path, [spec(0), spec(1)], fake_runs.disk_is_full)
    assert not list(tmp_path.rglob("claim.json"))


def test_told_to_stop_a_run_leaves_what_it_goes_on_from(client, tmp_path):
    def stop_at_start(event):
        if event.kind == "progress":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Sweep(client, Store(tmp_path), [spec(0)], stop_at_start, fake_runs.dawdles).run()
    assert (Store(tmp_path).folder(spec(0).id) / "note").read_text() == "stopped"
    results, _ = go(client, tmp_path, [spec(0)], fake_runs.dawdles)
    assert results[spec(0).id]["status"] == "ok"


def test_what_another_process_claims_is_waited_for(client, tmp_path, monkeypatch):
    """The claim of a live process on this machine; its result comes while we wait."""
    folder = Store(tmp_path).folder(spec(0).id)
    folder.mkdir(parents=True)
    place = sweep.Claims("probe")
    place.take(folder)
    told = []

    def observe(event):
        told.append(event)
        if event.kind == "note":
            quick(spec(0), tmp_path)

    Sweep(client, Store(tmp_path), [spec(0), spec(1)], observe, quick).run()
    assert [event.run for event in of_kind(told, "start")] == [spec(1).id]
    assert [event.text for event in of_kind(told, "note")] == [
        "Waiting for another process, which is doing 1 of the runs."
    ]
    assert sorted(event.run for event in of_kind(told, "done")) == sorted([spec(0).id, spec(1).id])


def test_a_run_that_two_processes_did_is_said(client, tmp_path):
    _, told = go(client, tmp_path, [spec(0)], fake_runs.done_elsewhere)
    assert [event.text for event in of_kind(told, "note")] == [
        f"{spec(0).id} was done by another process too; the first result is kept."
    ]


SMALL = {
    "hidden": 6,
    "training": {"steps": 300, "eval_every": 100, "eval_size": 20, "batch": 5, "checkpoints": [0]},
    "measure": {"sequences": 2},
}
REAL = [run_spec({"name": "adding", "length": 8}, cell, **SMALL) for cell in ("rnn", "gru")]


def killer(pids, killed):
    """An observer that kills the first worker that is in the middle of a run."""

    def observe(event):
        if event.kind == "start":
            pids[event.run] = event.pid
        if event.kind == "progress" and 0.2 < event.step / event.steps < 0.9 and not killed:
            killed.append(event.run)
            os.kill(pids[event.run], signal.SIGKILL)

    return observe


def test_one_worker_and_two_of_which_one_is_killed_give_the_same_bytes(tmp_path):
    one, two, killed = tmp_path / "one", tmp_path / "two", []
    results = run_all(REAL, one, jobs=1)
    assert [result["id"] for result in results] == sorted(each.id for each in REAL)
    again = run_all(REAL, two, jobs=2, observer=killer({}, killed))
    assert killed
    assert [result["reason"] for result in results + again if result["status"] != "ok"] == []
    assert merged(one) == merged(two)


FAKE = [spec(seed) for seed in range(5)]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """What five stand-ins leave, done one after the other in this process."""
    directory = tmp_path_factory.mktemp("uninterrupted")
    for each in FAKE:
        quick(each, directory)
    Store(directory).merge()
    return directory


@pytest.mark.acceptance
def test_a_scheduler_of_one_s_own_with_a_worker_killed_and_then_the_scheduler(dask_cluster, uninterrupted, tmp_path):
    address, (scheduler, *_) = dask_cluster
    out, more, killed = tmp_path / "out", tmp_path / "more", []
    results = run_all(FAKE, out, scheduler=address, observer=killer({}, killed), execute=fake_runs.steady)
    assert killed
    assert {result["status"] for result in results} == {"ok"}
    assert merged(out) == merged(uninterrupted)

    def kill_the_scheduler(event):
        if event.kind == "progress":
            scheduler.kill()

    with pytest.raises(WorkersLostError, match=r"The scheduler does not answer"):
        run_all(FAKE, more, scheduler=address, observer=kill_the_scheduler, execute=fake_runs.steady)
    assert not list(more.rglob("claim.json"))


def test_a_scheduler_that_cannot_be_reached_is_a_sentence(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(InputError, match=rf"`scheduler` '{address}' cannot be reached"):
            run_all(FAKE, tmp_path, scheduler=address, execute=quick)


DRIVER = """
import sys
import fake_runs
from rnnvg.bench.record import write_off, record, version
from rnnvg.bench.runner import run_all

def observer(event):
    print(event.kind, event.pid, flush=True)

if __name__ == "__main__":
    specs = [fake_runs.spec(seed) for seed in range(5)]
    try:
        run_all(specs, sys.argv[1], jobs=2, observer=observer, execute=fake_runs.steady)
    except KeyboardInterrupt:
        sys.exit(130)
"""


@pytest.mark.skipif(not hasattr(os, "setsid"), reason="process groups")
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL])
def test_a_driver_that_is_ended_leaves_no_process_and_is_taken_up_again(uninterrupted, tmp_path, end):
    script, out = tmp_path / "driver.py", tmp_path / "out"
    script.write_text(DRIVER)
    command = [sys.executable, script, out]
    environment = os.environ | {"PYTHONPATH": PATH}
    driver = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True, env=environment
    )
    pids = []
    with driver:
        for line in driver.stdout:
            kind, pid = line.split()
            pids += [int(pid)] if kind == "start" else []
            if kind == "progress":
                break
        # A terminal sends Ctrl-C to every process of the group.
        os.killpg(driver.pid, end) if end == signal.SIGINT else driver.kill()
        said = driver.stderr.read()
    assert driver.returncode == (130 if end == signal.SIGINT else -end)
    # Python's own resource tracker outlives a killed driver, and says what it cleans up.
    if end == signal.SIGINT:
        assert said == ""
    else:
        assert "Traceback" not in said
    _, alive = psutil.wait_procs([psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)], timeout=60)
    assert not alive
    assert len(Store(out).results()) < len(FAKE)
    # Ctrl-C reached the workers too, and yet what they were doing was stopped in order.
    assert bool(list(out.rglob("note"))) == (end == signal.SIGINT)
    with lighter.worker_here():
        results = run_all(FAKE, out, execute=quick)
    assert {result["status"] for result in results} == {"ok"}
    assert merged(out) == merged(uninterrupted)
    assert not list(out.rglob("claim.json"))


def test_two_drivers_at_once_share_the_work(uninterrupted, tmp_path):
    script, out = tmp_path / "driver.py", tmp_path / "out"
    script.write_text(DRIVER)
    drivers = [
        subprocess.Popen(
            [sys.executable, script, out],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": PATH},
        )
        for _ in range(2)
    ]
    said = [driver.communicate(timeout=240) for driver in drivers]
    assert [(driver.returncode, errors) for driver, (_, errors) in zip(drivers, said, strict=True)] == [(0, "")] * 2
    assert "".join(told for told, _ in said).count("start") == len(FAKE)
    assert merged(out) == merged(uninterrupted)


def test_a_directory_that_is_done_starts_nothing(uninterrupted, monkeypatch):
    monkeypatch.setattr("rnnvg.bench.runner._workers", lambda *_: pytest.fail("workers were started"))
    told = []
    assert len(run_all(FAKE, uninterrupted, observer=told.append)) == 5
    assert told == [Event("plan", total=5, done=5)]


def test_a_damaged_result_is_named_kept_and_done_again(tmp_path, worker_here):
    specs = [spec(seed) for seed in range(2)]
    for each in specs:
        quick(each, tmp_path)
    path = tmp_path / "runs" / specs[0].id / "result.json"
    path.write_text(path.read_text()[:-20])
    told = []
    results = run_all(specs, tmp_path, jobs=1, observer=told.append, execute=quick)
    assert [result["status"] for result in results] == ["ok", "ok"]
    aside = tmp_path / "set-aside" / f"{specs[0].id}-1"
    assert [event.text for event in of_kind(told, "note")] == [
        f"{specs[0].id}: result.json is not whole. It was moved to {aside}."
    ]
    assert (aside / "result.json").exists()
    with open(tmp_path / "curves.csv") as file:
        assert {row["id"] for row in csv.DictReader(file)} == {each.id for each in specs}


def test_failed_runs_are_done_again_on_request_and_other_versions_are_said(tmp_path, worker_here):
    outcome, texts = fake_runs.outcome_of(spec(0))
    older = record(spec(0), outcome)
    Store(tmp_path).publish(older | {"versions": older["versions"] | {"torch": "1.0"}}, texts)
    write_off(spec(1), tmp_path, "bad luck")
    told = []
    assert [result["status"] for result in run_all([spec(1)], tmp_path, observer=told.append)] == ["failed"]
    results = run_all([spec(0), spec(1)], tmp_path, jobs=1, observer=told.append, execute=quick, retry_failed=True)
    assert {result["status"] for result in results} == {"ok"}
    assert (tmp_path / "set-aside" / f"{spec(1).id}-1" / "error.txt").read_text() == "bad luck\n"
    torch = version("torch")
    assert [event.text for event in of_kind(told, "note")] == [
        f"Some results here were computed by torch 1.0; new ones are by {torch}."
    ]


def test_a_script_without_a_guard_is_told_so(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(f"""
import fake_runs
from rnnvg import bench
bench.run_all([fake_runs.spec(0)], {str(tmp_path / "out")!r}, jobs=1, execute=fake_runs.quick)
""")
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, env=os.environ | {"PYTHONPATH": PATH}, timeout=240
    )
    assert done.returncode == 1
    assert 'A script must call run_all under `if __name__ == "__main__":`' in done.stderr.splitlines()[-1]
    assert not (tmp_path / "out").exists()


def test_nothing_is_started_or_written_for_what_is_wrong(tmp_path, monkeypatch):
    monkeypatch.setattr("rnnvg.bench.runner._workers", lambda *_: pytest.fail("workers were started"))
    out = tmp_path / "out"
    with pytest.raises(InputError, match="`jobs` must be a whole number of at least 1; got 0"):
        run_all([spec(0)], out, jobs=0)
    with pytest.raises(InputError, match="`specs` is empty"):
        run_all([], out)
    monkeypatch.setattr("rnnvg.bench.runner.BYTES_A_RUN", 2**70)
    with pytest.raises(StorageError, match="MiB free"):
        run_all([spec(0)], out)
    assert not out.exists()
    quick(spec(0), out)
    before = sorted(out.rglob("*"))
    with pytest.raises(InputError, match=r"training\.lr = 0\.005, and now 0\.1"):
        run_all([spec(0, lr=0.1)], out)
    assert sorted(out.rglob("*")) == before
