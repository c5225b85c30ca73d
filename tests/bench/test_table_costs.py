"""Tables of many runs are read and written piece by piece: what is kept of them is what is asked for."""

import tracemalloc

import fake_runs
import numpy as np
import pandas as pd
import pytest
import torch

from rnnvg import models, tasks
from rnnvg.bench import Store, export, measure, store, tables
from rnnvg.bench.record import record
from rnnvg.bptt import profile, sweep
from rnnvg.report import results

CHECKPOINTS, DISTANCES = 20, 200


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """Six runs whose curves take some 600 kB each."""
    made = Store(tmp_path_factory.mktemp("runs"))
    for seed in range(6):
        one = fake_runs.spec(seed)
        outcome, files = fake_runs.outcome_of(one)
        rows = [
            (step, wrt, k, -k / 7, None, -k / 6, -k / 8, 32, 0)
            for step in range(CHECKPOINTS)
            for wrt in ("state", "input")
            for k in range(DISTANCES)
        ]
        made.publish(record(one, outcome), files | {"curve.csv": tables.to_csv(rows, tables.CURVE)})
    made.merge()
    return made.directory


def peak_of(work):
    tracemalloc.start()
    try:
        found = work()
        return found, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_exported_tables_are_those_of_the_runs_and_never_whole_in_memory(directory, tmp_path):
    export(directory, tmp_path / "first")
    _, peak = peak_of(lambda: export(directory, tmp_path / "again"))
    size = (directory / "curves.csv").stat().st_size
    for name in ("curves.csv", "training.csv", "horizons.csv"):
        assert (tmp_path / "again" / name).read_bytes() == (directory / name).read_bytes()
    assert peak < size / 2


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_an_export_hashes_every_file_once(directory, tmp_path, monkeypatch, form):
    if form == "parquet":
        pytest.importorskip("pyarrow")
    hashed = []
    monkeypatch.setattr(
        store, "_digest", lambda content, digest=store._digest: hashed.append(len(content)) or digest(content)
    )
    export(directory, tmp_path / "tables", form)
    files = sum(len(result["files"]) for result in Store(directory).results())
    hashed_by_a_reading = files + 6  # and each result.json's own checksum
    assert len(hashed) == 2 * hashed_by_a_reading  # that of the export, and the count's own just now


def test_a_report_reads_the_curves_before_and_after_training_alone(directory):
    found = results.read(directory)
    assert list(found.curves) == ["id", *results.NAMED, *results.CURVES]
    assert len(found.curves) == 6 * 2 * 2 * DISTANCES
    whole = Store(directory).frame("curves.csv")
    wanted = whole[whole["step"].isin([0, CHECKPOINTS - 1])]
    keys = ["id", "step", "wrt", "distance"]
    merged = found.curves.merge(wanted, on=keys, suffixes=("", "_whole"))
    assert len(merged) == len(found.curves)
    assert (merged["log10_gain"] == merged["log10_gain_whole"]).all()


def test_a_table_is_parsed_from_its_lines_as_from_its_file(tmp_path):
    rest = [f"{k},{'' if k % 3 else k / 7}\n" for k in range(5000)]
    lines = ["step,value\n", *rest]
    (tmp_path / "table.csv").write_text("".join(lines))
    pd.testing.assert_frame_equal(tables.to_frame(iter(lines)), tables.to_frame(tmp_path / "table.csv"))
    pieces = tables._Text(iter(lines))
    read = [pieces.read(size) for size in (1, 0, 7, 1000, 5, -1)]
    assert "".join(read) == "".join(lines)
    assert [len(each) for each in read[:5]] == [1, 0, 7, 1000, 5]


def test_a_frame_of_many_runs_is_read_without_their_text(directory):
    store = Store(directory)
    store.read()
    frame, peak = peak_of(lambda: store.frame("curves.csv"))
    size = (directory / "curves.csv").stat().st_size
    kept = int(frame.memory_usage(deep=True).sum())
    assert peak < 3 * kept + size / 2


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru", "leaky", "attention"])
def test_a_checkpoint_is_measured_in_one_pass_and_gives_the_same_numbers(cell, monkeypatch):
    torch.manual_seed(0)
    task = tasks.make("adding", length=10)
    model, probe = models.build(task, cell, hidden=6), task.probe(3, torch.Generator().manual_seed(0))
    wrt = measure.measurable(model, ("input", "state"))
    alone = [measure.profile(model, task, probe, each, 5) for each in wrt]
    passes = []
    adjoints, linearize = sweep.adjoints, profile.linearize
    monkeypatch.setattr(sweep, "adjoints", lambda *given, **more: passes.append("back") or adjoints(*given, **more))
    monkeypatch.setattr(
        profile, "linearize", lambda *given, **more: passes.append("forth") or linearize(*given, **more)
    )
    both = measure.profiles(model, task, probe, wrt, 5)
    assert sorted(passes) == ([] if cell == "attention" else ["back", "forth"])
    for one, other in zip(alone, both, strict=True):
        assert one.wrt == other.wrt
        np.testing.assert_array_equal(one.log_norm, other.log_norm)
