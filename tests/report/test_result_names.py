"""Reading a directory: what runs are called, which count as trained, and what is said where there is nothing."""

import json

import pytest
from synthetic_results import in_memory, write_results

from rnnvg.errors import InputError
from rnnvg.report import results


def test_problems_and_networks_keep_one_order(comparison):
    assert comparison.problems == ["Copy memory", "Adding problem", "Next word"]
    assert comparison.networks() == ["RNN (tanh)", "LSTM", "GRU"]
    assert comparison.networks("Next word") == ["RNN (tanh)", "LSTM", "GRU"]
    assert comparison.cell_of("LSTM") == "lstm"
    assert comparison.training_length("Adding problem") == 50


def test_every_run_is_a_row(comparison):
    assert len(comparison.runs) == 27
    assert comparison.runs["status"].value_counts().to_dict() == {"ok": 25, "diverged": 1, "failed": 1}


def test_settings_that_differ_are_in_the_names():
    found = in_memory({"length": 200}, {"length": 50}, {"length": 50, "init": "chrono"}, {"length": 50, "task": "mine"})
    assert found.problems == ["Adding problem, length 50", "Adding problem, length 200", "mine"]
    assert found.networks() == ["LSTM", "LSTM/chrono"]


def test_networks_that_differ_in_size_are_told_apart(tmp_path):
    write_results(tmp_path, tasks=("adding",), cells=("gru",), seeds=1, hidden=32)
    write_results(tmp_path, tasks=("adding",), cells=("gru",), seeds=1, hidden=128)
    assert results.read(tmp_path).networks() == ["GRU/hidden 32", "GRU/hidden 128"]


def test_only_runs_that_ended_have_an_after(comparison):
    seen = results.moments(comparison.horizons)
    word = seen[seen["problem"] == "Next word"].groupby(["network", "when"])["seed"].nunique()
    assert word.to_dict() == {
        ("RNN (tanh)", "before training"): 3,  # one of them diverged later
        ("RNN (tanh)", "after training"): 2,
        ("LSTM", "before training"): 2,  # one of them was never measured
        ("LSTM", "after training"): 2,
        ("GRU", "before training"): 3,
        ("GRU", "after training"): 3,
    }


def test_after_is_each_runs_own_last_checkpoint():
    found = in_memory({"horizons": {0: 2, 100: 5, 700: 9}}, {"horizons": {0: 2, 300: 7}, "seed": 1})
    after = results.moments(found.horizons)
    assert after.loc[after["when"] == "after training", "last"].to_list() == [9, 7]


def test_an_untrained_network_has_only_a_before():
    seen = results.moments(in_memory({"horizons": {0: 4}}).horizons)
    assert seen["when"].to_list() == ["before training"]


def test_a_missing_directory_says_what_to_run(tmp_path):
    with pytest.raises(InputError) as error:
        results.read(tmp_path / "nowhere")
    where = tmp_path / "nowhere"
    assert str(error.value) == (
        f"`directory` {str(where)!r} does not exist. Run `rnnvg compare --out {where}` first, or pass a directory that "
        "rnnvg wrote."
    )


def test_an_empty_directory_says_what_to_run(tmp_path):
    with pytest.raises(InputError) as error:
        results.read(tmp_path)
    assert str(error.value) == (
        f"`directory` {str(tmp_path)!r} holds no results. Run `rnnvg compare --out {tmp_path}` first, or pass a "
        "directory that rnnvg wrote."
    )


def test_a_run_whose_files_were_edited_is_left_out_and_named(tmp_path):
    write_results(tmp_path, tasks=("adding",), cells=("gru",), seeds=2)
    first, second = sorted(path.name for path in (tmp_path / "runs").iterdir())
    path = tmp_path / "runs" / first / "result.json"
    content = json.loads(path.read_text())
    content["score"]["mse"] = 0.0
    path.write_text(json.dumps(content))
    found = results.read(tmp_path)
    assert list(found.runs["id"]) == [second]
    assert found.damaged == {first: "result.json was changed after it was written"}
