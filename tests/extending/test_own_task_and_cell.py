"""A task and a cell, each one file: by a line in a list, and by import path from elsewhere."""

import json
import sys
from pathlib import Path

import first_symbol
import numpy as np
import pytest
import torch
from click.testing import CliRunner

from rnnvg import bench, models, tasks
from rnnvg.advise import advise
from rnnvg.bench import execute, grid, run_spec
from rnnvg.cli import main
from rnnvg.errors import InputError

TASK, CELL = "first_symbol:make", "damped_cell:Damped"
SMALL = {"steps": 60, "batch": 32, "lr": 0.02, "eval_every": 30, "eval_size": 200, "checkpoints": (0, 60)}


def seeded():
    return torch.Generator().manual_seed(0)


def read_slowly(batch, sequence):
    """What is due at the last step: the symbol of the first."""
    return batch.inputs[0, sequence].item()


@pytest.fixture(params=["by a line in the list", "by import path"])
def name(request, monkeypatch):
    if request.param == "by import path":
        return TASK
    monkeypatch.setitem(sys.modules, "rnnvg.tasks.first_symbol", first_symbol)
    monkeypatch.setitem(tasks._MODULES, "first-symbol", "first_symbol")
    monkeypatch.setattr(tasks, "NAMES", (*tasks.NAMES, "first-symbol"))
    return "first-symbol"


def test_a_task_of_one_file_is_drawn_scored_and_described(name):
    task = tasks.make(name, length=6)
    assert (task.name, task.settings, task.streamed) == (name, {"length": 6}, False)
    assert tasks.settings(name) == {"length": (8, "steps of a sequence")}
    assert tasks.describe(name).startswith(f"{name}\n\nFirst symbol: one of three symbols")
    batch, probe = task.batch(5, seeded()), task.probe(2, seeded())
    assert batch.inputs.shape == (6, 5)
    assert probe.inputs.shape == (24, 2)
    assert batch.targets[-1].tolist() == [read_slowly(batch, each) for each in range(5)]
    assert "target" in task.example()

    class Guess(torch.nn.Module):
        def forward(self, inputs):
            return torch.zeros(*inputs.shape, 3), None

    score = task.score(Guess(), seeded(), 900)
    assert score["loss"] == pytest.approx(task.baseline_loss)
    assert score["accuracy"] == pytest.approx(task.baseline, abs=4 * (2 / 9 / 900) ** 0.5)
    assert task.solved({"accuracy": 0.95})
    assert not task.solved({"accuracy": 0.94})
    with pytest.raises(InputError, match=r"has no setting 'lenght'\. Did you mean 'length'\?"):
        tasks.make(name, lenght=5)


def test_a_task_and_a_cell_from_elsewhere_go_through_a_benchmark(tmp_path):
    made = grid.from_dict(
        {
            "cells": ["gru", CELL, "damped_cell:Mean"],
            "seeds": 1,
            "task": {"name": TASK, "length": 5},
            "model": {"hidden": 8, "match": "gru"},
            "training": {**SMALL, "checkpoints": [0, 60]},
            "measure": {"sequences": 4},
        },
        "mine",
    )
    results = {spec.cell: (spec, execute(spec, tmp_path)) for spec in made.runs()}
    assert {result["status"] for _, result in results.values()} == {"ok"}
    spec, result = results[CELL]
    assert spec.id.startswith("first-symbol-make-T5-damped-cell-Damped-h")
    assert set(spec.sources) == {"task", "cell"}
    assert result["spec"]["sources"] == spec.sources
    assert result["recurrence"]
    assert result["task"] == {"label": "First symbol", "unit": "nats per sequence"}
    store = bench.Store(tmp_path)
    store.merge()
    curves = store.frame("curves.csv")
    assert set(curves[curves["id"] == spec.id]["wrt"]) == {"state", "input"}
    whole, whole_result = results["damped_cell:Mean"]
    assert not whole_result["recurrence"]
    assert set(curves[curves["id"] == whole.id]["wrt"]) == {"input"}
    # A mean of the inputs weighs all of them alike: the gradient is the same at every distance.
    of_mean = curves[(curves["id"] == whole.id) & (curves["step"] == 0) & (curves["distance"] >= 1)]
    np.testing.assert_allclose(of_mean["log10_gain"].dropna(), 0, atol=1e-6)
    assert len(of_mean) == 20


def test_the_weights_of_a_cell_from_elsewhere_come_back(tmp_path):
    task = tasks.make(TASK)
    torch.manual_seed(0)
    model = models.build(task, CELL, hidden=6)
    models.save(model, tmp_path / "weights.safetensors")
    again = models.load(tmp_path / "weights.safetensors", task)
    batch = task.batch(3, seeded())
    assert torch.equal(model(batch.inputs)[0], again(batch.inputs)[0])


def test_the_source_is_part_of_a_run(tmp_path, monkeypatch):
    file = tmp_path / "changing_cell.py"
    monkeypatch.syspath_prepend(tmp_path)
    text = Path(__file__).with_name("damped_cell.py").read_text()
    file.write_text(text)
    before = run_spec(TASK, "changing_cell:Damped", hidden=4)
    assert run_spec(TASK, "changing_cell:Damped", hidden=4).id == before.id
    file.write_text(text.replace("3.0", "2.0"))
    after = run_spec(TASK, "changing_cell:Damped", hidden=4)
    assert after.id != before.id
    result = execute(before, tmp_path)
    assert result["status"] == "failed"
    assert "The source code of its cell or task has changed since the run was specified." in result["reason"]


def test_the_command_line_takes_both(tmp_path):
    arguments = [
        "--task",
        TASK,
        "--cell",
        CELL,
        "--hidden",
        "8",
        "--steps",
        "20",
        "--out",
        str(tmp_path),
        "--json",
        "-q",
    ]
    ended = CliRunner().invoke(main, ["train", *arguments])
    assert ended.exit_code == 0, ended.output
    assert json.loads(ended.stdout)["spec"]["cell"] == CELL
    shown = CliRunner().invoke(main, ["profile", "--task", TASK, "--cell", CELL, "--hidden", "8", "--json"])
    assert shown.exit_code == 0, shown.output
    in_words = CliRunner().invoke(main, ["profile", "--task", TASK, "--cell", CELL, "--hidden", "8"])
    assert in_words.exit_code == 0, in_words.output
    assert in_words.stdout.startswith(f"{CELL.partition(':')[2]}, 8 units, on ")
    for bad in (
        "no_such_module:Core",
        "damped_cell:Dampd",
        "damped_cell:Growing",
        "damped_cell:Peeking",
        "damped_cell:Deaf",
    ):
        ended = CliRunner().invoke(main, ["train", "--cell", bad, "--out", str(tmp_path)])
        assert ended.exit_code == 2
        assert ended.stderr.startswith(f"Error: `cell` '{bad}'")
        file = tmp_path / "bad.toml"
        file.write_text(f'cells = ["{bad}"]\nseeds = 1\n[task]\nname = "adding"\n')
        ended = CliRunner().invoke(main, ["bench", "run", str(file), "--out", str(tmp_path / "bench")])
        assert ended.exit_code == 2
        assert f"line 1, `cells[1]` cannot be used: `cell` '{bad}'" in ended.stderr
        assert not (tmp_path / "bench").exists()


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (
            "damped_cell:Dampd",
            "`cell` 'damped_cell:Dampd': module 'damped_cell' has no 'Dampd'. Did you mean 'Damped'?",
        ),
        ("damped_cell:", "`cell` 'damped_cell:' is no import path; pass it as package.module:Name."),
        (
            "damped_cell:NoHidden",
            "`cell` 'damped_cell:NoHidden' must be made as Core(n_inputs, hidden): NoHidden.__init__() takes 2 positional "
            "arguments but 3 were given.",
        ),
        (
            "damped_cell:Neither",
            "`cell` 'damped_cell:Neither' has neither `step(x, state)`, a recurrence, nor `forward(inputs)`, a map of whole "
            "sequences. Write one of the two.",
        ),
        (
            "damped_cell:Growing",
            "`cell` 'damped_cell:Growing': `step` must give a state shaped like the one before; it took [2, 4] and gave "
            "[2, 8].",
        ),
        (
            "damped_cell:Narrow",
            "`cell` 'damped_cell:Narrow' must give outputs [T, B, hidden] = [3, 2, 4]; it gave [3, 2, 1].",
        ),
        (
            "damped_cell:Peeking",
            "`cell` 'damped_cell:Peeking' sees the future: its outputs up to step 0 change with later inputs; mask, shift or "
            "pad it.",
        ),
        (
            "damped_cell:Peeked",
            "`cell` 'damped_cell:Peeked' sees the future: its outputs up to step 0 change with later inputs; mask, shift or "
            "pad it.",
        ),
        (
            "damped_cell:Deaf",
            "`cell` 'damped_cell:Deaf' gives outputs that do not depend on its inputs; let them reach the outputs.",
        ),
        (
            "damped_cell:function",
            "`cell` 'damped_cell:function' must be an nn.Module; Core(n_inputs, hidden) gave a str.",
        ),
    ],
)
def test_a_cell_that_does_not_keep_to_the_protocol_is_told_what_is_missing(path, message):
    with pytest.raises(InputError) as caught:
        models.build(tasks.make("adding"), path, hidden=8)
    assert str(caught.value) == message


def test_a_module_that_is_not_there_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as caught:
        models.build(tasks.make("adding"), "no_such.module:Core", hidden=8)
    assert str(caught.value) == (
        f"`cell` 'no_such.module:Core': there is no module 'no_such' in {tmp_path} or where Python looks (PYTHONPATH)."
    )
    (tmp_path / "broken_module.py").write_text("raise RuntimeError('not today')")
    with pytest.raises(InputError) as caught:
        tasks.make("broken_module:task")
    assert str(caught.value) == "`task` 'broken_module:task' cannot be imported: RuntimeError: not today."


def test_a_task_that_is_none_is_told_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "odd_tasks.py").write_text(
        "import dataclasses, first_symbol\n"
        "def nothing(): return 3\n"
        "def wrong():\n"
        "    made = first_symbol.make()\n"
        "    return dataclasses.replace(made, steps=9)\n"
    )
    with pytest.raises(InputError) as caught:
        tasks.check("odd_tasks:nothing")
    assert str(caught.value) == (
        "`task` 'odd_tasks:nothing' must be a function from its settings to a rnnvg.tasks.Task; it gave a int."
    )
    with pytest.raises(InputError) as caught:
        tasks.check("odd_tasks:wrong")
    assert str(caught.value) == (
        "`task` 'odd_tasks:wrong': `draw` must give inputs [9, 2] of torch.int64 for 2 sequences; it gave [8, 2] of "
        "torch.int64."
    )


def test_a_cell_from_elsewhere_is_advised_climbed_and_reported(tmp_path, one_figure, worker_here):
    advice = advise(
        {"name": "adding", "length": 6},
        CELL,
        hidden=6,
        seeds=2,
        steps=10,
        batch=8,
        sequences=4,
        remedies=["clipping", "gated-cell"],
    )
    frame = advice.to_frame()
    assert set(frame["remedy"]) == {"none", "clipping", "gated-cell"}
    assert np.isfinite(frame["measured"]).all()
    assert advice.cause in ("", "cell", "explosion")
    with pytest.raises(InputError, match="orthogonal"):
        advise("adding", CELL, hidden=6, seeds=2, remedies=["orthogonal"])
    with pytest.raises(InputError) as caught:
        advise("adding", "damped_cell:Mean", hidden=6, seeds=2)
    assert str(caught.value) == (
        "`cell` 'damped_cell:Mean' has no recurrence whose gradient could vanish from step to step. Pass another."
    )
    path = tmp_path / "mine.toml"
    path.write_text(
        f'cells = ["gru", "{CELL}"]\nseeds = 1\n[task]\nname = "{TASK}"\n'
        'ladder = { setting = "length", least = 3, most = 6 }\n[model]\nhidden = 6\n'
        "[training]\nsteps = 20\nbatch = 8\neval_every = 20\neval_size = 50\n[measure]\nsequences = 2\n"
    )
    ended = CliRunner().invoke(main, ["bench", "run", str(path), "--out", str(tmp_path / "out"), "--jobs", "1", "-q"])
    assert ended.exit_code == 0, ended.output
    assert "Damped" in ended.stdout
    document = (tmp_path / "out" / "report.html").read_text()
    assert "First symbol" in document
    assert "Damped" in document
