"""Tasks by name: what the list promises holds for every one of them."""

import json
import math
import subprocess
import sys

import numpy as np
import pytest
import torch

from rnnvg import tasks
from rnnvg.errors import InputError

SMALL = {"next-word": {"n_words": 4000}}


@pytest.mark.parametrize("name", tasks.NAMES)
def test_every_task_keeps_the_interface(name):
    task = tasks.make(name, **SMALL.get(name, {}))
    assert task.name == name
    assert json.loads(json.dumps(task.settings)) == task.settings
    assert tasks.make(name, **task.settings).settings == task.settings
    assert set(task.settings) == set(tasks.settings(name))
    generator = torch.Generator().manual_seed(0)
    for batch in (task.batch(3, generator), task.probe(3, generator)):
        shape = batch.targets.shape
        assert shape[1] == 3
        assert batch.inputs.shape[:2] == shape
        if task.kind == "numbers":
            assert batch.inputs.shape[2:] == (task.n_inputs,)
            assert batch.inputs.dtype == torch.float32
        else:
            assert batch.inputs.dtype == torch.int64
            assert int(batch.inputs.max()) < task.n_inputs
        assert batch.weight is None or batch.weight.shape == shape
        outputs = torch.zeros(*shape, task.n_outputs, requires_grad=True)
        loss = task.loss(outputs, batch)
        loss.backward()
        assert loss.shape == ()
        assert outputs.grad is not None
        if batch.weight is not None:
            assert (outputs.grad[batch.weight == 0] == 0).all()
    assert task.batch(3, generator).targets.shape[0] == task.steps
    assert task.probe(3, generator).targets.shape[0] >= 4 * task.steps
    assert task.better in ("lower", "higher")
    assert math.isfinite(task.baseline)
    assert task.best_loss is None or task.best_loss < task.baseline_loss
    assert task.distances is None or isinstance(task.distances, np.ndarray)
    assert task.baseline_text.endswith(".")
    assert task.example() == task.example()


@pytest.mark.parametrize("name", tasks.NAMES)
def test_every_setting_is_described(name):
    text = tasks.describe(name)
    assert text.startswith(f"{name}\n\n")
    for setting, (default, about) in tasks.settings(name).items():
        assert about
        assert not about.endswith(".")
        assert f"  {setting} " in text
        assert f"(default: {default})" in text


def test_unknown_names_are_met_with_the_nearest():
    for call in (tasks.make, tasks.settings, tasks.describe):
        with pytest.raises(InputError) as caught:
            call("nextword")
        assert str(caught.value) == (
            f"`task` has no 'nextword'. Did you mean 'next-word'? Pass one of: {', '.join(tasks.NAMES)}."
        )
    for wrong, right in {
        "Copy": "copy",
        "variable_copy": "variable-copy",
        "temporal": "temporal-order",
        "asociative": "associative-recall",
        "dick": "dyck",
        "permuted-mnist": "permuted-digits",
    }.items():
        with pytest.raises(InputError, match=rf"Did you mean '{right}'\?"):
            tasks.make(wrong)


def test_names_are_listed_without_torch():
    code = "import sys; from rnnvg import tasks, text; assert tasks.NAMES and text.NAMES; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
