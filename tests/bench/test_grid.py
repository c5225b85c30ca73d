"""Benchmark files: what they stand for, and every fault of a malformed one at once."""

import tomllib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rnnvg import models, tasks
from rnnvg.bench import grid
from rnnvg.errors import InputError

ELEVEN_LINES = """
title = "Adding, longer and longer"
cells = ["rnn", "lstm"]
seeds = 2
[task]
name = "adding"
length = [10, 20]
[model]
hidden = 8
[training]
lr = 0.004
"""


def read(text, name="bench"):
    return grid.from_dict(tomllib.loads(text), name, text)


def faults(text):
    with pytest.raises(InputError) as caught:
        read(text)
    return str(caught.value)


def test_a_list_is_an_axis_and_seeds_come_outermost():
    made = read(ELEVEN_LINES)
    names = [spec.id.rpartition("-")[0] for spec in made.runs()]
    assert names == [
        f"adding-T{length}-{cell}-h8-s{seed}" for seed in (0, 1) for length in (10, 20) for cell in ("rnn", "lstm")
    ]
    assert made.axes == {"task.length"}
    assert made.runs() == read(ELEVEN_LINES).runs()


def test_the_default_comparison_is_what_the_readme_says():
    made = grid.read("compare")
    assert made.tasks == ("next-word", "adding", "copy")
    assert made.cells == ("rnn", "lstm", "gru")
    runs = {(spec.task["name"], spec.cell, spec.seed): spec for spec in made.runs()}
    assert len(runs) == 27
    adding, copy, text = (runs[name, "gru", 2] for name in ("adding", "copy", "next-word"))
    assert adding.task == {"name": "adding", "length": 50, "marks": "one-in-each-half"}
    assert (adding.hidden, adding.training.lr, adding.training.steps, adding.training.clip) == (64, 0.005, 2000, 1.0)
    assert (copy.task["delay"], copy.task["n_symbols"], copy.task["recall"], copy.task["scored"]) == (20, 8, 1, "all")
    assert copy.training.lr == 0.003
    assert (text.task["text"], text.task["vocabulary"], text.task["bptt"]) == ("shakespeare", 3000, 35)
    assert (text.hidden, text.embed, text.tied) == (128, 128, True)
    assert (text.training.steps, text.training.batch, text.training.lr) == (700, 16, 0.003)


def test_select_and_change():
    made = grid.read("compare").select(tasks=["adding"], cells=["gru"], seeds=[4]).change(length=12, steps=7, hidden=9)
    (spec,) = made.runs()
    assert (spec.task["length"], spec.training.steps, spec.hidden, spec.cell, spec.seed) == (12, 7, 9, "gru", 4)
    # Of one task only, and a list is an axis.
    both = grid.read("compare").select(tasks=["copy", "adding"], seeds=1, cells=["rnn"]).change("adding", lr=[0.1, 0.2])
    assert [(spec.task["name"], spec.training.lr) for spec in both.runs()] == [
        ("copy", 0.003),
        ("adding", 0.1),
        ("adding", 0.2),
    ]
    with pytest.raises(InputError, match=r"`tasks` has no 'ading'. Did you mean 'adding'\?"):
        grid.read("compare").select(tasks=["ading"])
    with pytest.raises(InputError, match=r"`cells\[1\]` has no 'gro'. Did you mean 'gru'\?"):
        grid.read("compare").select(tasks=["adding"], cells=["gro"])
    with pytest.raises(InputError, match=r"`seeds` must be a count of at least 1"):
        grid.read("compare").select(tasks=["adding"], seeds=0)


def test_parameter_counts_are_matched_on_request():
    made = read(ELEVEN_LINES.replace("hidden = 8", 'hidden = 8\nmatch = "lstm"').replace("[10, 20]", "10"))
    sizes = {spec.cell: spec for spec in made.runs()}
    count = {}
    for cell, spec in sizes.items():
        made_task = tasks.make(**spec.task)
        count[cell] = models.count_parameters(models.build(made_task, cell, hidden=spec.hidden))
    assert sizes["lstm"].hidden == 8
    assert abs(count["rnn"] - count["lstm"]) / count["lstm"] < 0.1


def test_initialisers_without_meaning_for_a_cell_are_left_out():
    made = read(ELEVEN_LINES.replace("hidden = 8", 'hidden = 8\ninit = ["default", "forget-bias"]'))
    assert {(spec.cell, spec.init) for spec in made.runs()} == {
        ("rnn", "default"),
        ("lstm", "default"),
        ("lstm", "forget-bias"),
    }
    text = ELEVEN_LINES.replace("hidden = 8", 'hidden = 8\ninit = "forget-bias"')
    assert "`task` cannot be run: no initialiser among forget-bias fits cell 'rnn'." in faults(text)


def test_clip_false_is_no_clipping_and_lists_in_lists_are_values():
    text = ELEVEN_LINES.replace("lr = 0.004", "clip = [false, 1]\ncheckpoints = [0, 5]")
    made = read(text)
    assert {spec.training.clip for spec in made.runs()} == {None, 1.0}
    assert {spec.training.checkpoints for spec in made.runs()} == {(0, 5)}
    assert made.axes == {"task.length", "training.clip"}


def test_published_figures():
    text = ELEVEN_LINES + (
        '[[published]]\ncell = "lstm"\nmetric = "mse"\nvalue = 0.164\nsource = "arXiv 1803.01271, table 1"\n'
        "where = { length = 600 }\n"
    )
    (figure,) = read(text).published
    assert (figure.cell, figure.value, figure.where) == ("lstm", 0.164, {"length": 600})
    assert "`published[1].cell` has no 'lsmt'" in faults(text.replace('cell = "lstm"\n', 'cell = "lsmt"\n'))


def test_every_fault_is_listed_with_its_line():
    text = """title = 3
cells = ["rnn", "lsmt"]
seeds = 0
sedes = 3
[training]
steps = -5
lr = "fast"
clp = 1
[model]
hidden = [64, 64]
[[task]]
name = "adding"
length = 1
mraks = "x"
[[task]]
name = "coppy"
training.batch = 0
"""
    assert faults(text).splitlines() == [
        "bench has 12 faults:",
        "  line 1, `title` must be text in quotes; got 3.",
        "  line 2, `cells[2]` has no 'lsmt'. Did you mean 'lstm'? Pass one of: rnn, rnn-relu, lstm, gru, leaky, "
        "residual, layer-norm, mingru, lru, lem, attention, tcn.",
        "  line 3, `seeds` must be a count of at least 1, or a list of whole numbers from 0; got 0.",
        "  line 4, `sedes` is not known. Did you mean 'seeds'? Known here: title, about, cells, seeds, most_runs, task, "
        "model, training, measure, published.",
        "  line 6, `training.steps` must be at least 1; got -5.",
        "  line 7, `training.lr` must be a number; got 'fast'.",
        "  line 8, `training.clp` is not known. Did you mean 'clip'? Known here: steps, batch, lr, optimizer, clip, "
        "bptt, eval_every, eval_size, checkpoints, stop_when_solved, decay, decay_every, warmup, omega, flossing, "
        "give_up, device.",
        "  line 10, `model.hidden` lists 64 twice.",
        "  line 11, `task[1]` cannot be run: `length` must be a whole number of at least 2; got 1.",
        "  line 14, `task[1].mraks` is not known. Did you mean 'marks'? Known here: length, marks, values, model, training, "
        "measure, ladder, needs.",
        "  line 16, `task[2].name` has no 'coppy'. Did you mean 'copy'? Pass one of: " + ", ".join(tasks.NAMES) + ".",
        "  line 17, `task[2].training.batch` must be at least 1; got 0.",
    ]


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ('name = "adding"\n', "", "line 5, `task.name` is missing."),
        ("hidden = 8\n", "", "line 8, `model.hidden` is missing."),
        ("hidden = 8", "hidden = true", "line 9, `model.hidden` must be a whole number; got True."),
        ("lr = 0.004", "lr = inf", "line 11, `training.lr` must be a finite number; got inf."),
        ("lr = 0.004", "lr = []", "line 11, `training.lr` must have at least one value; got an empty list."),
        ("lr = 0.004", "bptt = 3", "line 5, `task` cannot be run: `training.bptt` cuts a text into windows; task "
         "'adding' is not a text. Leave it out."),
        ("lr = 0.004", "steps = 9\ncheckpoints = [10]",
         "line 5, `task` cannot be run: `training.checkpoints` has 10, after the last of 9 steps. Pass earlier ones."),
        ("lr = 0.004", "when = 1979-05-27", "line 11, `training.when` is not known."),
        ("lr = 0.004", "lr = 1979-05-27", "line 11, `training.lr` must be a number, text in quotes, true or false, or "
         "a list of these; got datetime.date(1979, 5, 27)."),
        ("length = [10, 20]", "length = {a = 1}", "line 7, `task.length` must be a number, text in quotes"),
        ("seeds = 2", "seeds = [1, 1]", "line 4, `seeds` lists 1 twice."),
        ("seeds = 2", "seeds = 2.0", "line 4, `seeds` must be a count of at least 1"),
        ('cells = ["rnn", "lstm"]', "cells = []", "line 3, `cells` must have at least 1 value; got []."),
        ('cells = ["rnn", "lstm"]', 'cells = "rnn"', "line 3, `cells` must be a list; got 'rnn'."),
        ("[model]\n", "[model]\ntied = true\n", "line 5, `task` cannot be run: `tied` shares an embedding"),
        ("[model]\n", "[modle]\n", "line 8, `modle` is not known. Did you mean 'model'?"),
    ],
)  # fmt: skip
def test_one_fault(old, new, fault):
    assert old in ELEVEN_LINES
    assert fault in faults(ELEVEN_LINES.replace(old, new))


def test_files_that_are_no_benchmark(tmp_path):
    with pytest.raises(InputError, match=r"No benchmark 'compar'. Did you mean 'compare'\?"):
        grid.read("compar")
    with pytest.raises(InputError, match=r"No benchmark '.*none.toml'. Pass the path of a .toml file, or one of: "):
        grid.read(tmp_path / "none.toml")
    (tmp_path / "broken.toml").write_text("cells = [")
    with pytest.raises(InputError, match=r"broken.toml is not valid TOML: Invalid value"):
        grid.read(tmp_path / "broken.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"binary.toml is not text in UTF-8. Pass a benchmark in TOML."):
        grid.read(tmp_path / "binary.toml")
    (tmp_path / "empty.toml").write_text("")
    with pytest.raises(InputError, match=r"(?s)empty has 2 faults:.*`cells` is missing.*`task` is missing."):
        grid.read(tmp_path / "empty.toml")


_KEYS = st.sampled_from(
    ["name", "length", "cells", "seeds", "hidden", "steps", "lr", "task", "model", "training", "measure", "wrt",
     "published", "title", "checkpoints", "init", "match", "clip", "lenght"]
)  # fmt: skip
_SCALARS = st.one_of(
    st.booleans(), st.integers(-3, 3), st.floats(-2, 2), st.sampled_from(["rnn", "adding", "", "x"]), st.none()
)
_VALUES = st.recursive(
    _SCALARS.filter(lambda value: value is not None),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(_KEYS, inner, max_size=3)),
    max_leaves=6,
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(_KEYS, _VALUES, max_size=4), st.sampled_from([(), ("task",), ("model",), ("training",)]))
def test_malformed_files_are_refused_and_never_crash(noise, place):
    data = tomllib.loads(ELEVEN_LINES)
    target = data
    for key in place:
        target = target[key]
    target.update(noise)
    try:
        assert grid.from_dict(data, "bench").runs()
    except InputError as error:
        first, *rest = str(error).splitlines()
        assert first.startswith("bench has ")
        assert all(line.startswith("  `") for line in rest)
