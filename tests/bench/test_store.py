"""The results directory: whole files only, what is damaged is found and kept, tables merge byte for byte."""

import errno
import json
import math
import os

import fake_runs
import pandas as pd
import pytest
from fake_runs import quick, spec

from rnnvg import files
from rnnvg.bench import tables
from rnnvg.bench.record import record, write_off
from rnnvg.bench.spec import RunSpec
from rnnvg.bench.store import Store, load_results
from rnnvg.errors import InputError
from rnnvg.faults import StorageError
from rnnvg.files import check_room, write_whole


def merged(directory):
    return {name: (directory / name).read_bytes() for name in tables.MERGED.values()}


def edit(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_what_is_published_is_read_back(tmp_path):
    one, other = quick(spec(1), tmp_path), quick(spec(0), tmp_path)
    store = Store(tmp_path)
    assert store.results() == sorted([one, other], key=lambda result: result["id"])
    assert store.read().damaged == {}
    assert store.result(one["id"]) == one
    assert one["spec"] == spec(1).to_dict()
    assert {"rnnvg", "torch", "numpy", "python"} <= set(one["versions"])
    assert not [path for path in tmp_path.rglob("*") if path.name.startswith(".")]


def test_merging_does_not_depend_on_the_order_of_the_runs(tmp_path):
    for name, order in (("a", (0, 1, 2)), ("b", (2, 0, 1))):
        for seed in order:
            quick(spec(seed), tmp_path / name)
        Store(tmp_path / name).merge()
    assert merged(tmp_path / "a") == merged(tmp_path / "b")
    frame = pd.read_csv(tmp_path / "a" / "curves.csv")
    assert list(frame.columns) == [*tables.NAMED, *tables.CURVE]
    assert list(frame["id"]) == sorted(frame["id"])
    assert len(frame) == 3 * 16


def test_merged_numbers_are_the_run_s_own_digits(tmp_path):
    result = quick(spec(0), tmp_path)
    value = spec(0).subseed("value") / 2**63
    frame = Store(tmp_path).frame("curves.csv")
    assert frame.loc[frame["distance"] == 3, "log10_gain"].unique().tolist() == [-value * 3 / 7]
    assert result["score"]["mse"] == value


def test_the_first_result_of_a_run_stands(tmp_path):
    first = quick(spec(0), tmp_path)
    outcome, texts = fake_runs.outcome_of(spec(0))
    again = Store(tmp_path).publish(record(spec(0), outcome | {"seconds": 99.0}), texts)
    assert again == first


def test_numbers_that_json_does_not_have_become_null(tmp_path):
    outcome, texts = fake_runs.outcome_of(spec(0))
    outcome |= {"status": "diverged", "score": {"mse": math.nan, "loss": math.inf}}
    Store(tmp_path).publish(record(spec(0), outcome), texts)
    content = (tmp_path / "runs" / spec(0).id / "result.json").read_text()
    assert json.loads(content, parse_constant=pytest.fail)["score"] == {"mse": None, "loss": None}
    assert math.isnan(load_results(tmp_path).loc[0, "value"])


@pytest.mark.parametrize(
    ("damage", "what"),
    [
        (lambda folder: (folder / "result.json").write_text('{"schema": 1, "id"'), "result.json is not whole"),
        (lambda folder: (folder / "result.json").write_text(""), "result.json is not whole"),
        (lambda folder: (folder / "result.json").write_text("[]"), "result.json is not whole"),
        (lambda folder: edit(folder / "result.json", score={"mse": 0.0}), "result.json was changed after it was written"),
        (lambda folder: (folder / "curve.csv").write_text("step\n"), "curve.csv was changed after it was written"),
        (lambda folder: (folder / "horizons.csv").unlink(), "horizons.csv is missing"),
        (lambda folder: folder.rename(folder.with_name("adding-T10-s9-00000000")), "result.json belongs to another run"),
    ],
)  # fmt: skip
def test_what_is_damaged_is_named_and_set_aside(tmp_path, damage, what):
    store, run = Store(tmp_path), spec(0).id
    quick(spec(0), tmp_path)
    quick(spec(1), tmp_path)
    damage(store.folder(run))
    ((damaged, found),) = store.read().damaged.items()
    assert found == what
    assert store.results() == [store.result(spec(1).id)]
    before = {path.name: path.read_bytes() for path in store.folder(damaged).iterdir()}
    aside = store.set_aside(damaged)
    assert {path.name: path.read_bytes() for path in aside.iterdir()} == before
    assert not store.folder(damaged).exists()
    quick(spec(0), tmp_path)
    assert len(store.results()) == 2


def test_setting_aside_twice_keeps_both(tmp_path):
    store, run = Store(tmp_path), spec(0).id
    for _ in range(2):
        quick(spec(0), tmp_path)
        store.set_aside(run)
    assert sorted(path.name for path in (tmp_path / "set-aside").iterdir()) == [f"{run}-1", f"{run}-2"]


def test_another_layout_is_refused_by_name(tmp_path):
    quick(spec(0), tmp_path)
    edit(tmp_path / "runs" / spec(0).id / "result.json", schema=2, versions={"rnnvg": "7.0"})
    with pytest.raises(InputError) as caught:
        Store(tmp_path).results()
    assert str(caught.value) == (
        f"`out` {str(tmp_path)!r} holds results in layout 2, written by rnnvg 7.0; this version reads layout 1. "
        "Pass another --out, or use the rnnvg that wrote them."
    )


def test_more_seeds_cells_tasks_and_lengths_extend_a_directory(tmp_path):
    quick(spec(0), tmp_path)
    store = Store(tmp_path)
    store.check_settings([spec(1), spec(0, cell="gru")])
    copy = RunSpec.model_validate({"task": {"name": "copy", "delay": 3}, "cell": "lstm", "hidden": 99})
    store.check_settings([copy])
    store.check_settings([spec(0, length=10), spec(0, length=20)])
    store.check_settings([spec(0, length=20)], axes=["task.length"])
    quick(spec(0, length=20), tmp_path)
    store.check_settings([spec(0, length=30)])


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        (spec(0, lr=0.004), "training.lr = 0.005, and now 0.004"),
        (spec(3, cell="gru", lr=0.004), "training.lr = 0.005, and now 0.004"),
        (spec(0, length=20), "task.length = 10, and now 20"),
        (spec(0, hidden=9), "hidden = 8, and now 9"),
        (spec(0, hidden=9, lr=0.004), "hidden = 8, and now 9; training.lr = 0.005, and now 0.004"),
    ],
)
def test_other_settings_are_refused_with_the_two_ways_out(tmp_path, changed, what):
    quick(spec(0), tmp_path)
    with pytest.raises(InputError) as caught:
        Store(tmp_path).check_settings([changed])
    assert str(caught.value) == (
        f"`out` {str(tmp_path)!r} holds results of adding with {what}. Pass another --out, or the settings that it holds."
    )


def test_two_specifications_of_one_id_are_told_apart(tmp_path, monkeypatch):
    monkeypatch.setattr("rnnvg.bench.spec.short_digest", lambda text: "00000000")
    quick(spec(0), tmp_path)
    Store(tmp_path).check_settings([spec(0)], axes=["training.lr"])
    other = spec(0, lr=0.004)
    with pytest.raises(InputError, match=f"holds another run that is named {other.id} too. Pass another --out."):
        Store(tmp_path).check_settings([other], axes=["training.lr"])


def test_hidden_sizes_may_go_with_the_cell(tmp_path):
    quick(spec(0, cell="lstm", hidden=8), tmp_path)
    quick(spec(0, cell="rnn", hidden=17), tmp_path)
    Store(tmp_path).check_settings([spec(1, cell="lstm", hidden=8), spec(1, cell="rnn", hidden=17)])
    with pytest.raises(InputError, match=r"hidden = 17, and now 18"):
        Store(tmp_path).check_settings([spec(1, cell="lstm", hidden=8), spec(1, cell="rnn", hidden=18)])


def test_a_failed_run_is_a_row_in_every_table(tmp_path):
    quick(spec(0), tmp_path)
    result = write_off(spec(1), tmp_path, "Its worker process was killed 3 times.")
    assert (result["status"], result["solved"], result["score"]) == ("failed", False, None)
    horizons = Store(tmp_path).frame("horizons.csv")
    lost = horizons[horizons["id"] == spec(1).id]
    assert len(lost) == 6
    assert set(lost["status"]) == {"failed"}
    assert lost["last"].isna().all()
    runs = load_results(tmp_path).set_index("id")
    assert runs.loc[spec(1).id, "reason"] == "Its worker process was killed 3 times."
    assert runs["status"].tolist() == sorted(["ok", "failed"], key=lambda status: status == (
        "ok" if spec(1).id < spec(0).id else "failed"))  # fmt: skip


def test_load_results_is_one_tidy_frame(tmp_path):
    for seed in (0, 1):
        quick(spec(seed), tmp_path)
    frame = load_results(tmp_path)
    wanted = ["id", "task", "cell", "init", "hidden", "layers", "seed", "status", "reason", "solved", "solved_at"]
    wanted += ["steps", "seconds", "parameters", "metric", "value", "baseline", "score_loss", "score_mse"]
    wanted += ["horizon_0.1", "horizon_0.01", "censored_0.1", "censored_0.01"]
    assert list(frame.columns)[: len(wanted)] == wanted
    assert frame.loc[0, ["set_length", "set_lr", "set_marks", "set_wrt"]].tolist() == [
        10,
        0.005,
        "anywhere",
        "state,input",
    ]
    assert frame["horizon_0.1"].tolist() == [3, 3]
    with pytest.raises(InputError, match=r"does not exist"):
        load_results(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"holds no results"):
        load_results(tmp_path / "empty")


def test_a_file_is_replaced_in_one_move_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_whole(path, "old")
    write_whole(path, iter(["n", "ew"]))
    assert path.read_text() == "new"

    def pieces():
        yield "half"
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_whole(path, pieces())
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def full(*arguments, **keywords):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_is_one_sentence_and_loses_nothing(tmp_path, monkeypatch):
    quick(spec(0), tmp_path)
    Store(tmp_path).merge()
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    monkeypatch.setattr(files.os, "fsync", full)
    sentence = (
        f"`out` {str(tmp_path)!r} has no space left. Free some and run the same command again; what is done is kept."
    )
    for action in (lambda: quick(spec(1), tmp_path), Store(tmp_path).merge, lambda: check_room(tmp_path, 0)):
        with pytest.raises(StorageError) as caught:
            action()
        assert str(caught.value) == sentence
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_room_is_asked_for_before_anything_is_written(tmp_path, monkeypatch):
    target = tmp_path / "a" / "b"
    check_room(target, 1)
    with pytest.raises(StorageError, match=r"has .* MiB free and these runs need about 1099511627776"):
        check_room(target, 2**60)
    monkeypatch.setattr(files.os, "replace", lambda *_: (_ for _ in ()).throw(OSError(errno.EROFS, "read-only")))
    with pytest.raises(StorageError, match=r"is on a read-only disk. Pass another --out; what is done is kept."):
        check_room(target, 1)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=r"is not a folder. Pass another --out"):
        check_room(tmp_path / "file", 1)
    with pytest.raises(StorageError, match=r"is not a folder. Pass another --out"):
        check_room(tmp_path / "file" / "inside", 1)
