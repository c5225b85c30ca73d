import json

import pytest
import torch

from rnnvg import tasks
from rnnvg.bench import defaults


def test_the_list_has_every_task_with_its_settings(rnnvg):
    told = rnnvg("tasks")
    assert told.exit_code == 0
    assert told.stderr == ""
    for name in tasks.NAMES:
        assert f"\n{name} " in f"\n{told.stdout}"
        for setting in tasks.settings(name):
            assert setting in told.stdout


def test_the_list_as_json(rnnvg):
    told = json.loads(rnnvg("tasks", "--json").stdout)
    assert [each["task"] for each in told] == list(tasks.NAMES)
    assert told[1]["settings"]["length"]["default"] == 50


@pytest.mark.parametrize("name", tasks.NAMES)
def test_a_worked_example_is_the_tasks_own(rnnvg, name):
    told = rnnvg("tasks", "show", name, "--seed", 3)
    wanted = tasks.make(name).example(torch.Generator().manual_seed(3))
    assert told.exit_code == 0
    assert told.stdout.split() == wanted.split()
    assert len({rnnvg("tasks", "show", name, "--seed", seed).stdout for seed in range(3, 8)}) > 1


def test_a_worked_example_with_settings(rnnvg):
    told = rnnvg("tasks", "show", "copy", "--delay", 5, "--set", "n-symbols=3", "--set", "recall=2")
    wanted = tasks.make("copy", delay=5, n_symbols=3, recall=2).example(torch.Generator().manual_seed(0))
    assert told.stdout.split() == wanted.split()


@pytest.mark.parametrize("name", tasks.NAMES)
def test_a_description_says_all_that_the_library_says(rnnvg, name):
    told = rnnvg("tasks", "describe", name)
    assert told.stdout.split() == tasks.describe(name).split()
    assert max(map(len, told.stdout.splitlines())) <= 100


@pytest.mark.parametrize("name", tasks.NAMES)
def test_every_task_can_be_compared_and_trained(name):
    """Those that the default comparison has no settings for have their own."""
    grid = defaults.comparison([name], ["gru"], 1, "agreement" if name == "next-word" else None, 7, print)
    (spec,) = grid.runs()
    assert spec.task["name"] == name
    assert spec.training.steps == 7
    again, task = defaults.run(name, {}, "gru", {}, 0, print)
    assert again.task["name"] == task.name == name
    assert tasks.make(**spec.task).settings.keys() == task.settings.keys()
