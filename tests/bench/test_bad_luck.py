"""What happens to a sweep and is nobody's fault: clocks that jump, other versions, files that were cut or changed places."""

import json
import os
import re
import shutil
import signal
import sys
import time
import warnings

import fake_runs
import lighter
import pytest
import torch
from fake_runs import quick, spec

from rnnvg import InputError, bench, models
from rnnvg.bench import parts, run, sweep
from rnnvg.bench.record import record, version
from rnnvg.bench.run import execute
from rnnvg.bench.runner import run_all
from rnnvg.bench.store import WEIGHTS, Store
from rnnvg.bench.sweep import WorkersLostError
from rnnvg.bench.tables import MERGED
from rnnvg.models.tensorfile import read_tensors, write_tensors
from rnnvg.text.vocabulary import Vocabulary

FAKE = [spec(seed) for seed in range(4)]
TRAINING = {"steps": 4, "eval_every": 2, "eval_size": 10, "batch": 3, "checkpoints": [0, 2, 4]}
# How much of a file is left of it.
CUTS = {
    "nothing": lambda size: 0,
    "a byte": lambda size: 1,
    "a quarter": lambda size: size // 4,
    "half": lambda size: size // 2,
    "all but two bytes": lambda size: size - 2,  # the last is the end of its line
}


def merged(directory):
    return {name: (directory / name).read_bytes() for name in MERGED.values()}


def texts(told):
    return [event.text for event in told if event.kind == "note"]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    directory = tmp_path_factory.mktemp("uninterrupted")
    for each in FAKE:
        quick(each, directory)
    Store(directory).merge()
    return directory


def test_a_clock_that_jumps_back_and_forward_changes_nothing_and_is_said(uninterrupted, tmp_path, monkeypatch):
    """By years, twice in each direction; in the driver, its scheduler, its claims and the records of its runs.

    While no message is on its way: one that Dask has just put together waits until its time of day comes again.
    """
    jumps, offset, now, told = iter([1e9, -1e9, 3e7, 0.0]), [0.0], time.time, []

    def jumping():
        return now() + offset[0]

    monkeypatch.setattr(time, "time", jumping)
    for module in [each for name, each in sys.modules.items() if name.startswith("distributed.")]:
        if getattr(module, "time", None) is now:
            monkeypatch.setattr(module, "time", jumping)

    def jump(event):
        told.append(event)
        if event.kind == "beat" and told[-2].kind == "start":
            time.sleep(0.3)
            offset[0] = next(jumps)
            for claim in tmp_path.rglob("claim.json"):
                os.utime(claim, (max(0.0, jumping()), max(0.0, jumping())))

    results = run_all(FAKE, tmp_path, jobs=1, observer=jump, execute=fake_runs.quiet, longest_silence=60)
    assert next(jumps, None) is None
    assert [result["status"] for result in results] == ["ok"] * 4
    assert [text.partition(".")[0] for text in texts(told)] == [
        "The clock of this machine went back by 2000000000 seconds",
        "The clock of this machine went back by 30000000 seconds",
    ]
    assert merged(tmp_path) == merged(uninterrupted)
    assert not list(tmp_path.rglob("claim.json"))


def lost_and_taken_up(address, observer, out, uninterrupted):
    """A sweep that loses its scheduler says so, leaves no claim, and is done by the next call."""
    with pytest.raises(WorkersLostError, match=r"The scheduler does not answer .* What is done is kept\."):
        run_all(FAKE, out, scheduler=address, observer=observer, execute=fake_runs.steady)
    assert 0 < len(Store(out).results()) < len(FAKE)
    assert not list(out.rglob("claim.json"))
    with lighter.worker_here():
        assert len(run_all(FAKE, out, jobs=1, execute=quick)) == len(FAKE)
    assert merged(out) == merged(uninterrupted)


@pytest.mark.acceptance
def test_a_scheduler_that_stands_still_in_the_middle_is_said_and_the_same_call_goes_on(
    uninterrupted, dask_cluster, tmp_path, monkeypatch
):
    address, (scheduler, *_) = dask_cluster
    monkeypatch.setattr(sweep, "ANSWERS_WITHIN", 3.0)

    def stop_the_scheduler(event):
        if event.kind == "done":
            scheduler.send_signal(signal.SIGSTOP)

    lost_and_taken_up(address, stop_the_scheduler, tmp_path / "out", uninterrupted)


def test_a_scheduler_that_dies_in_the_middle_is_said_and_the_same_call_goes_on(uninterrupted, dask_cluster, tmp_path):
    address, (scheduler, *_) = dask_cluster

    def kill_the_scheduler(event):
        if event.kind == "done":
            scheduler.kill()

    lost_and_taken_up(address, kill_the_scheduler, tmp_path / "out", uninterrupted)


def of_another_version(directory, of, **changes):
    """A result as another rnnvg would have written it, with a checksum of its own."""
    outcome, files = fake_runs.outcome_of(of)
    whole = record(of, outcome)
    Store(directory).publish(whole | {"versions": whole["versions"] | changes}, files)


def test_results_of_another_rnnvg_are_said_and_neither_done_again_nor_changed(tmp_path, worker_here):
    older, newer, mine = FAKE[:3]
    of_another_version(tmp_path, older, rnnvg="0.0.9")
    of_another_version(tmp_path, newer, rnnvg="99.0")
    before = [(tmp_path / "runs" / each.id / "result.json").read_bytes() for each in (older, newer)]
    told, here = [], version("rnnvg")
    results = run_all(FAKE[:3], tmp_path, jobs=1, observer=told.append, execute=quick)
    assert texts(told) == [
        f"Some results here were written by rnnvg {other}; new ones are by {here}." for other in ("0.0.9", "99.0")
    ]
    versions = {result["id"]: result["versions"]["rnnvg"] for result in results}
    assert versions == {older.id: "0.0.9", newer.id: "99.0", mine.id: here}
    assert [(tmp_path / "runs" / each.id / "result.json").read_bytes() for each in (older, newer)] == before
    # Nothing is mixed where nothing new is done.
    told.clear()
    run_all(FAKE[:3], tmp_path, jobs=1, observer=told.append, execute=quick)
    assert texts(told) == []


@pytest.mark.parametrize("schema", [0, 99])
def test_results_in_another_layout_are_refused_and_left(tmp_path, schema):
    of_another_version(tmp_path, FAKE[0], rnnvg="99.0")
    path = tmp_path / "runs" / FAKE[0].id / "result.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema": schema}))
    before = path.read_bytes()
    with pytest.raises(
        InputError, match=rf"holds results in layout {schema}, written by rnnvg 99\.0; this version reads"
    ):
        run_all(FAKE[:2], tmp_path, jobs=1, execute=quick)
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["runs"]


class Interrupts:
    """Ctrl-C at a step."""

    def __init__(self, at):
        self.at = at

    def __call__(self, step, steps, loss):
        if step >= self.at:
            raise KeyboardInterrupt


def small(cell="rnn", hidden=3, **training):
    task = {"name": "adding", "length": 5}
    return bench.run_spec(task, cell, hidden=hidden, training=TRAINING | training, measure={"sequences": 2})


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A directory in which a run is done, and one in which it was interrupted; the same run."""
    done, left = tmp_path_factory.mktemp("done"), tmp_path_factory.mktemp("left")
    execute(small(), done)
    with pytest.raises(KeyboardInterrupt):
        execute(small(), left, Interrupts(3))
    return done, left


def whole(directory, of):
    folder = Store(directory).folder(of.id)
    return {name: (folder / name).read_bytes() for name in ("curve.csv", "causes.csv", "horizons.csv", "training.csv")}


def taken_up(left, tmp_path, change):
    """An interrupted run whose folder `change` has changed, taken up again: its directory and its result."""
    place = tmp_path / "out"
    shutil.copytree(left, place)
    change(Store(place).folder(small().id))
    return place, execute(small(), place)


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("name", ["part-000000000.csv", "part-000000002.csv", "cause-000000002.csv"])
def test_a_part_that_was_cut_is_measured_again_and_never_a_gap(runs, tmp_path, name, cut):
    done, left = runs

    def change(folder):
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: CUTS[cut](len(content))])

    place, result = taken_up(left, tmp_path, change)
    assert whole(place, small()) == whole(done, small())
    (note,) = result["notes"]
    assert note == (
        f"{small().id} was started again. It had no way to go on: {name} was changed after it was written. "
        f"The file is kept as {run.RESUME}.unusable."
    )
    assert (Store(place).folder(small().id) / f"{name}.unusable").exists()


def test_a_part_that_is_missing_is_measured_again(runs, tmp_path):
    done, left = runs
    place, result = taken_up(left, tmp_path, lambda folder: (folder / "part-000000002.csv").unlink())
    assert whole(place, small()) == whole(done, small())
    assert "part-000000002.csv is missing" in result["notes"][0]


def test_a_part_without_its_last_line_end_is_whole(runs, tmp_path):
    done, left = runs

    def change(folder):
        content = (folder / "part-000000002.csv").read_bytes()
        (folder / "part-000000002.csv").write_bytes(content[:-1])

    place, result = taken_up(left, tmp_path, change)
    assert whole(place, small()) == whole(done, small())
    assert "notes" not in result


def test_parts_that_vanish_under_a_run_leave_it_to_do(tmp_path):
    def vanish(step, steps, loss):
        for path in tmp_path.rglob("part-*.csv"):
            path.unlink()

    with pytest.raises(bench.StorageError, match=r"was changed while its run was under way \(part-000000002\.csv"):
        # The last checkpoint is measured after the last sign of progress, and is there.
        original = parts.tables
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(parts, "tables", lambda *_: (vanish(0, 0, 0), spoil(tmp_path), original(*_))[-1])
            execute(small(), tmp_path)
    assert Store(tmp_path).result(small().id) is None
    assert execute(small(), tmp_path)["status"] == "ok"


def spoil(directory):
    (Store(directory).folder(small().id) / "part-000000002.csv").write_text("step\n")


@pytest.mark.parametrize("cut", CUTS)
def test_a_vocabulary_that_was_cut_is_refused_in_words(tmp_path, cut):
    path = tmp_path / "vocabulary.json"
    Vocabulary(["<unk>", "to", "be", "été"], tokens="words").save(path)
    content = path.read_bytes()
    path.write_bytes(content[: CUTS[cut](len(content))])
    with pytest.raises(InputError, match=r"vocabulary\.json' "):
        Vocabulary.load(path)


@pytest.mark.parametrize("cut", CUTS)
def test_a_run_s_vocabulary_that_was_cut_is_damage_and_the_run_is_done_again(tmp_path, cut, monkeypatch):
    each = bench.run_spec(
        {"name": "next-word", "text": "agreement", "n_words": 300, "bptt": 5},
        "rnn",
        hidden=3,
        training=TRAINING | {"eval_size": 40},
        measure={"sequences": 2, "why": False},
    )
    execute(each, tmp_path)
    path = Store(tmp_path).folder(each.id) / "vocabulary.json"
    content = path.read_bytes()
    path.write_bytes(content[: CUTS[cut](len(content))])
    assert Store(tmp_path).read().damaged == {each.id: "vocabulary.json was changed after it was written"}
    assert execute(each, tmp_path)["status"] == "ok"
    assert path.read_bytes() == content
    assert (tmp_path / "set-aside" / f"{each.id}-1" / "vocabulary.json").stat().st_size == CUTS[cut](len(content))


def test_weights_of_another_network_in_a_run_s_place_are_damage(runs, tmp_path):
    done, _ = runs
    place, other = tmp_path / "out", small("lstm", hidden=5)
    shutil.copytree(done, place)
    execute(other, tmp_path / "other")
    shutil.copy(Store(tmp_path / "other").folder(other.id) / WEIGHTS, Store(place).folder(small().id) / WEIGHTS)
    assert Store(place).read().damaged == {small().id: f"{WEIGHTS} was changed after it was written"}
    assert execute(small(), place)["status"] == "ok"
    assert whole(place, small()) == whole(done, small())
    assert models.load(Store(place).folder(small().id) / WEIGHTS).core.hidden_size == 3


def test_a_resume_file_of_another_network_is_kept_and_the_run_starts_again(runs, tmp_path):
    done, left = runs
    other = small(hidden=4)
    with pytest.raises(KeyboardInterrupt):
        execute(other, tmp_path / "other", Interrupts(3))
    foreign = Store(tmp_path / "other").folder(other.id) / run.RESUME

    place, result = taken_up(left, tmp_path, lambda folder: shutil.copy(foreign, folder / run.RESUME))
    assert whole(place, small()) == whole(done, small())
    assert (Store(place).folder(small().id) / f"{run.RESUME}.unusable").read_bytes() == foreign.read_bytes()
    assert "belongs to a training with model=" in result["notes"][0]


SPOILED = {
    "weights": (
        {"model.core.weight_hh_l0": torch.zeros(7, 3)},
        {},
        r"model\.core\.weight_hh_l0 is of the shape \(7, 3\)",
    ),
    "no weights": ({"model.core.weight_hh_l0": None}, {}, r"weight_hh_l0 is missing instead of of the shape"),
    "another tensor": ({"model.more": torch.zeros(2)}, {}, r"model\.more is of the shape \(2,\) instead of missing"),
    "optimiser": ({"optimizer.0.exp_avg": torch.zeros(2)}, {}, r"optimizer\.0\.exp_avg is of the shape \(2,\)"),
    "a generator": ({"generator": torch.zeros(3, dtype=torch.uint8)}, {}, r"generator is of the shape \(3,\)"),
    "progress": ({}, {"progress": {"step": "three"}}, r"damaged at 'progress\.step'"),
    "no progress": ({}, {"progress": None}, r"damaged at 'progress'"),
    "rows": ({}, {"progress": {"rows": [[1, 2]]}}, r"damaged at 'progress\.rows\.0"),
    "rate": ({}, {"lr": "fast"}, r"damaged at 'lr'"),
}


@pytest.mark.parametrize("kind", SPOILED)
def test_a_resume_file_with_numbers_of_another_shape_is_kept_and_the_run_starts_again(runs, tmp_path, kind):
    """The checksum of each is right: whoever wrote it knew how."""
    done, left = runs
    tensors, header, fault = SPOILED[kind]

    def change(folder):
        path = folder / run.RESUME
        held, content = read_tensors(path)
        held = {name: each for name, each in (held | tensors).items() if each is not None}
        path.unlink()
        write_tensors(path, held, content | header)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        place, result = taken_up(left, tmp_path, change)
    (said,) = [*result.get("notes", []), *(str(each.message) for each in caught)]
    assert re.search(fault, said)
    assert result["status"] == "ok"
    assert whole(place, small()) == whole(done, small())
    assert any(path.name.startswith(f"{run.RESUME}.") for path in Store(place).folder(small().id).iterdir())


def test_what_a_run_went_through_is_said_to_whoever_looks_on(runs, tmp_path):
    """From the worker to the driver: files that were set aside, and what is warned of on the way."""
    _, left = runs
    place, told = tmp_path / "out", []
    shutil.copytree(left, place)
    (Store(place).folder(small().id) / "part-000000002.csv").write_text("step\n")
    run_all([small()], place, jobs=1, observer=told.append)
    assert len(texts(told)) == 1
    assert texts(told)[0].startswith(f"{small().id} was started again. It had no way to go on: part-000000002.csv")
