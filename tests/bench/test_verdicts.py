"""Verdicts on published figures: by the ranges in the benchmark's file, never by what was measured."""

import json
from types import SimpleNamespace

import pandas as pd
import pytest
from fake_runs import outcome_of

from rnnvg import InputError
from rnnvg.bench import Plan, Store, grid
from rnnvg.bench.published import verdicts
from rnnvg.bench.record import record

FIGURE = {"cell": "gru", "metric": "mse", "value": 0.01, "source": "a paper", "settings": {"length": 10}}
BOUNDS = {"reproduced": {"most": 0.02}, "partly": {"most": 0.1}}


def benchmark(tmp_path, errors=(), name="one", **figure):
    """A directory with a run of each error."""
    data = {
        "title": name,
        "cells": ["gru"],
        "seeds": max(len(errors), 1),
        "task": {"name": "adding", "length": 10},
        "model": {"hidden": 8},
        "published": [FIGURE | figure],
    }
    made = grid.from_dict(data, name)
    directory = tmp_path / name
    Plan.of(made).keep(directory)
    for spec, error in zip(made.runs(), errors, strict=False):
        outcome, files = outcome_of(spec)
        outcome |= {"score": {"mse": error, "loss": error}, "seconds": 1800.0}
        Store(directory).publish(record(spec, outcome), files)
    return directory


@pytest.mark.parametrize(
    ("errors", "figure", "verdict", "because"),
    [
        ([0.019, 0.001, 0.9], BOUNDS, "reproduced", ""),
        ([0.05, 0.06, 0.001], BOUNDS, "partly", "inside at most 0.1, not at most 0.02"),
        ([0.2, 0.3, 0.001], BOUNDS | {"analysis": "The gradient is gone."}, "not", "The gradient is gone."),
        ([0.019], BOUNDS | {"settings": {"hidden": 130}}, "not comparable", "hidden 8 (paper: 130)"),
        ([0.019], {}, "not comparable", "no tolerance was written down before the runs"),
        ([], BOUNDS, "not run", "rnnvg bench run one --only gru"),
        ([], BOUNDS | {"hours": 1.5}, "not run", "about 1.5 CPU-hours, rnnvg bench run one --only gru"),
        ([0.01, 0.02], {"reproduced": {"least": 0.005, "most": 0.02}}, "reproduced", ""),
        ([0.001], {"reproduced": {"least": 0.005, "most": 0.02}}, "not", ""),
    ],
)
def test_the_median_decides(tmp_path, errors, figure, verdict, because):
    (row,) = verdicts([benchmark(tmp_path, errors, **figure)]).itertuples()
    assert (row.verdict, row.because) == (verdict, because)
    assert row.hours == 0.5 * len(errors)


@pytest.mark.parametrize(
    ("metric", "bounds", "ours", "verdict"),
    [
        ("solved", {"reproduced": {"least": 0.6}}, 2 / 3, "reproduced"),
        ("solved", {"reproduced": {"least": 1.0}, "partly": {"least": 0.5}}, 2 / 3, "partly"),
        ("solved_at", {"reproduced": {"most": 600}}, 600.0, "reproduced"),
        ("solved_at", {"reproduced": {"most": 599}}, 600.0, "not"),
    ],
)
def test_whether_and_when_a_task_is_solved_are_figures_too(tmp_path, monkeypatch, metric, bounds, ours, verdict):
    directory = benchmark(tmp_path, [0.5, 0.001, 0.002], metric=metric, **bounds)
    changed = {0: (False, None), 1: (True, 600), 2: (True, 100)}
    found = {result["id"]: result for result in Store(directory).results()}
    for result in found.values():
        solved, at = changed[result["spec"]["seed"]]
        result |= {"solved": solved, "solved_at": at}
    monkeypatch.setattr(Store, "read", lambda self: SimpleNamespace(results=found))
    (row,) = verdicts([directory]).itertuples()
    assert (row.ours, row.verdict) == (pytest.approx(ours), verdict)


def test_several_directories_and_the_command(tmp_path, monkeypatch):
    from click.testing import CliRunner

    from rnnvg.cli import main

    places = [benchmark(tmp_path, [0.01], "one", **BOUNDS), benchmark(tmp_path, [0.5], "two", **BOUNDS)]
    shown = CliRunner().invoke(main, ["bench", "verdicts", *map(str, places)])
    assert shown.exit_code == 0
    assert shown.stdout.startswith("2 published figures: 1 reproduced, 1 not.\n")
    as_json = CliRunner().invoke(main, ["bench", "verdicts", *map(str, places), "--json"])
    assert [row["verdict"] for row in json.loads(as_json.stdout)] == ["reproduced", "not"]


def test_published_tables_give_the_verdicts_of_their_runs(tmp_path):
    directory = benchmark(tmp_path, [0.2, 0.3, 0.1], **BOUNDS, analysis='The gradient is gone, "all" of it.')
    other = benchmark(tmp_path, [], "two", **BOUNDS)
    found = verdicts([directory, other])
    for name in ("one", "two"):
        (tmp_path / "tables" / name).mkdir(parents=True)
    verdicts([directory]).to_csv(tmp_path / "tables" / "one" / "published.csv", index=False)
    verdicts([other]).to_csv(tmp_path / "tables" / "two" / "published.csv", index=False)
    pd.testing.assert_frame_equal(verdicts([tmp_path / "tables"]), found, check_dtype=False)
    pd.testing.assert_frame_equal(verdicts([tmp_path / "tables" / "one"]), verdicts([directory]), check_dtype=False)
    old = tmp_path / "tables" / "two" / "published.csv"
    old.write_text("benchmark,verdict\n")
    with pytest.raises(InputError, match="is not a table of published figures as this version writes it"):
        verdicts([tmp_path / "tables"])


def test_a_benchmark_by_its_name_is_not_run(tmp_path):
    found = verdicts(["lem-adding-2000"])
    assert set(found["verdict"]) == {"not run"}
    assert found["because"].str.fullmatch("about .* CPU-hours, rnnvg bench run lem-adding-2000 --only lem").all()
    with pytest.raises(InputError, match="'lem-adding-20' does not exist"):
        verdicts(["lem-adding-20"])


def test_no_published_figure_is_said(tmp_path):
    made = grid.from_dict({"cells": ["gru"], "task": {"name": "adding"}, "model": {"hidden": 8}}, "none")
    Plan.of(made).keep(tmp_path)
    with pytest.raises(InputError, match="names a published figure"):
        verdicts([tmp_path])


def test_a_range_needs_an_end():
    data = {"cells": ["gru"], "task": {"name": "adding"}, "model": {"hidden": 8}}
    with pytest.raises(InputError, match="needs `least`, `most` or both"):
        grid.from_dict(data | {"published": [FIGURE | {"reproduced": {}}]}, "none")
