"""What holds of all commands alike: one way to name a run, settings for every task, completion of names."""

import os
import subprocess
import sys

import pytest

from rnnvg.bench import defaults

LOOK = ["train", "--length", "6", "--hidden", "4", "--steps", "2", "-q"]


def test_python_m_rnnvg_is_rnnvg():
    done = subprocess.run([sys.executable, "-m", "rnnvg", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("rnnvg ")


def test_tasks_list_is_tasks(rnnvg):
    assert rnnvg("tasks", "list").stdout == rnnvg("tasks").stdout
    assert rnnvg("tasks", "list", "--json").stdout == rnnvg("tasks", "--json").stdout


@pytest.mark.parametrize("command", ["profile", "lyapunov"])
def test_a_run_is_taken_wherever_weights_are(rnnvg, tmp_path, command):
    assert rnnvg(*LOOK, "--out", "runs/look").exit_code == 0
    (weights,) = (tmp_path / "runs/look").glob("runs/*/weights.safetensors")
    shown = [rnnvg(command, "--weights", each, "-q") for each in ("runs/look", weights.parent, weights)]
    assert [each.exit_code for each in shown] == [0, 0, 0]
    assert len({each.stdout.replace(str(weights), "W") for each in shown}) >= 1
    tables = [each.stdout.split("\n\n")[1:] for each in shown]
    assert tables[0] == tables[1] == tables[2]


def test_a_directory_of_several_runs_names_one_of_them(rnnvg):
    for seed in (0, 1):
        assert rnnvg(*LOOK, "--out", "runs/look", "--seed", seed).exit_code == 0
    refused = rnnvg("profile", "--weights", "runs/look")
    assert refused.exit_code == 2
    assert "'runs/look' holds 2 runs with weights; pass one of them, such as 'runs/look/runs/" in refused.stderr


def test_a_setting_of_compare_goes_to_every_task_that_has_it():
    grid = defaults.comparison(["adding", "copy"], ["rnn"], 1, None, None, print, {"length": 30, "delay": 12})
    tasks = {spec.task["name"]: spec.task for spec in grid.runs()}
    assert tasks["adding"]["length"] == 30
    assert tasks["copy"]["delay"] == 12
    assert "length" not in tasks["copy"]


@pytest.mark.parametrize(
    ("words", "first"),
    [
        ("rnnvg bench run tcn-copy-", "tcn-copy-small"),
        ("rnnvg text corpora sh", "shakespeare"),
        ("rnnvg train --text ag", "agreement"),
        ("rnnvg profile --task add", "adding"),
    ],
)
def test_names_are_completed(words, first):
    environment = {"_RNNVG_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1)}
    done = subprocess.run(
        [sys.executable, "-m", "rnnvg"], capture_output=True, text=True, env={**os.environ, **environment}, check=False
    )
    assert done.stdout.split() == [f"plain,{first}"]


@pytest.mark.parametrize(("columns", "most"), [("60", 60), ("", 100), ("wide", 100), ("0", 100)])
def test_tables_in_a_pipe_are_as_wide_as_columns_says(rnnvg, monkeypatch, columns, most):
    monkeypatch.setenv("COLUMNS", columns)
    table = rnnvg("tasks").stdout.splitlines()
    assert most - 25 < max(map(len, table)) <= most
