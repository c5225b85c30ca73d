"""What scripts/publish_results.py keeps of benchmarks: tables, today's analyses, and what they were made with."""

import importlib
import sys
from pathlib import Path

import pandas as pd
import pytest

from rnnvg import bench
from rnnvg.bench import grid
from rnnvg.bench.plan import Plan
from rnnvg.errors import InputError

SPEC = """
title = "Small"
about = "Two steps."
cells = ["gru"]
seeds = 1
[task]
name = "adding"
length = 5
[model]
hidden = 4
[training]
steps = 2
batch = 4
eval_size = 10
[measure]
why = false
[[published]]
cell = "gru"
metric = "mse"
value = 0.001
source = "nobody"
reproduced = { most = 0.001 }
analysis = "before"
"""


@pytest.fixture
def publish(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "scripts"))
    yield importlib.import_module("publish_results")
    sys.modules.pop("publish_results", None)


@pytest.fixture
def made(tmp_path, monkeypatch):
    """Two benchmarks that were run, one that was not, and what other scripts wrote."""
    specs = tmp_path / "specs"
    specs.mkdir()
    monkeypatch.setattr(grid, "SPECS", specs)
    for name in ("one", "two", "three"):
        (specs / f"{name}.toml").write_text(SPEC)
    for name in ("one", "two"):
        Plan.of(grid.read(name)).keep(tmp_path / name)
        for spec in grid.read(name).runs():
            bench.execute(spec, tmp_path / name)
    (tmp_path / "others" / "early-signs").mkdir(parents=True)
    (tmp_path / "others" / "exact_results.json").write_text("{}\n")
    (tmp_path / "others" / "early-signs" / "answer.json").write_text('{"answer": "yes"}\n')
    (tmp_path / "others" / "commit").write_text("abc\n")
    (tmp_path / "src").mkdir()
    return tmp_path


def facts(out, what="commit"):
    frame = pd.read_csv(out / "made_with.csv", dtype=str)
    return {row.benchmark: row.value for row in frame[frame["what"] == what].itertuples()}


def test_everything_from_one_commit_says_one_commit(publish, made, capsys):
    out = made / "results"
    publish.main([made / "one"], "old", out)
    assert facts(out) == {"one": "old"}
    publish.main([made / name for name in ("one", "two", "others", "src")] + [Path("three")], "abc", out)
    assert set(facts(out).values()) == {"abc"}
    assert set(facts(out)) == {"one", "two", "exact_results", "early-signs"}
    assert set(facts(out, "date")) == set(facts(out))
    assert f"{made / 'src'} holds no results and is no benchmark: passed over." in capsys.readouterr().err
    assert (out / "exact_results.json").read_text() == "{}\n"
    assert (out / "early-signs" / "answer.json").read_text() == '{"answer": "yes"}\n'
    verdicts = pd.read_csv(out / "verdicts.csv")
    assert dict(zip(verdicts["benchmark"], verdicts["verdict"], strict=True)) == {
        "one": "not",
        "two": "not",
        "three": "not run",
    }
    assert "- commit: abc\n" in (out / "README.md").read_text()


def test_facts_of_nobody_in_particular_go_when_everybody_has_facts(publish, made):
    out = made / "results"
    publish.main([made / "one", made / "two"], "old", out)
    (out / "made_with.csv").write_text("what,value\ncommit,older\n")
    publish.main([made / "one"], "new", out)
    assert facts(out) == {"(all)": "older", "one": "new"}
    publish.main([made / "two"], "new", out)
    assert facts(out) == {"one": "new", "two": "new"}


def test_an_analysis_may_be_written_after_the_runs_and_a_tolerance_may_not(publish, made):
    out, file = made / "results", made / "specs" / "one.toml"
    file.write_text(SPEC.replace('"before"', '"after"'))
    publish.main([made / "one"], "abc", out)
    assert pd.read_csv(out / "one" / "published.csv")["because"].tolist() == ["after"]
    file.write_text(SPEC.replace("most = 0.001", "most = 100.0"))
    with pytest.raises(InputError) as caught:
        publish.main([made / "one"], "abc", out)
    assert str(caught.value) == "The file of one was changed after its runs in more than analyses. Run it again."


def test_what_another_commit_made_is_not_published_as_this_one_s(publish, made):
    with pytest.raises(InputError, match=r"was made by commit abc, and --commit is abd"):
        publish.main([made / "others"], "abd", made / "results")
