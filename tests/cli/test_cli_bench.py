"""rnnvg bench: what each command prints, refuses and leaves; runs are stand-ins that are done in this process."""

import json
import os
import random
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pandas as pd
import pytest

from rnnvg.bench import grid
from rnnvg.bench.record import record, write_off
from rnnvg.bench.store import Store
from rnnvg.bench.tables import to_frame

sys.path.insert(0, str(Path(__file__).parent.parent / "bench"))
from fake_runs import outcome_of

RNNVG = Path(sys.executable).with_name("rnnvg")
SPEC = """title = "Short sums"
cells = ["rnn", "gru"]
seeds = 2
[task]
name = "adding"
length = [10, 20]
[model]
hidden = 8
[training]
steps = 5
[[published]]
cell = "gru"
metric = "mse"
value = 0.25
source = "a paper, table 1"
where = { length = 10 }
settings = { hidden = 130, lr = 0.005 }
"""
LADDER = SPEC.split("[[published]]")[0].replace(
    "length = [10, 20]", 'ladder = { setting = "length", least = 10, most = 40 }'
)


def done(spec, directory, solved=None, seconds=0.5):
    """The result of a stand-in."""
    outcome, files = outcome_of(spec)
    outcome |= {"seconds": seconds, "training_seconds": seconds / 2, "training_steps": spec.task.get("length", 10)}
    outcome |= {"solved": outcome["solved"] if solved is None else solved}
    return Store(directory).publish(record(spec, outcome), files)


@pytest.fixture
def in_this_process(monkeypatch, no_drawing):
    """`run_all` without workers; what it was called with."""
    calls = []

    def run_all(specs, directory, *, follow=None, **rest):
        specs = list(specs)
        calls.append({"specs": specs, "directory": Path(directory), **rest})
        store, todo = Store(directory), specs
        while todo:
            for spec in todo:
                # Of a ladder, GRUs solve everything and RNNs nothing.
                if store.result(spec.id) is None:
                    done(spec, directory, spec.cell == "gru" if follow else None)
            results = {result["id"]: result for result in store.results()}
            todo = list(follow(results)) if follow else []
        store.merge()
        return store.results()

    monkeypatch.setattr("rnnvg.bench.runner.run_all", run_all)
    monkeypatch.setattr("rnnvg.bench.run_all", run_all)  # a name that was asked for once is kept there
    return calls


@pytest.fixture
def spec(tmp_path):
    path = tmp_path / "short.toml"
    path.write_text(SPEC)
    return path


def ids(shown):
    return [line.split()[0] for line in shown.splitlines() if line.startswith("adding-")]


def test_list_has_every_benchmark(rnnvg):
    shown = rnnvg("bench", "list")
    assert (shown.exit_code, shown.stderr) == (0, "")
    names = [line.split()[0] for line in shown.stdout.splitlines() if not line.startswith(" ")]
    assert names == grid.names()
    assert {"tcn-adding", "tcn-adding-small", "chrono-copy-small", "adding-ladder"} <= set(names)
    listed = {each["name"]: each for each in json.loads(rnnvg("bench", "list", "--json").stdout)}
    assert listed["small-lstm-small"]["missing"]["next-word"].startswith("There is no 'data/ptb'. Put ptb.train.txt")
    assert listed["tcn-adding"]["published"] == 3


def figures(name):
    return {(each["cell"], each["metric"]) for each in tomllib.loads(grid.find(name).read_text())["published"]}


# Minutes at the paper's own settings, so there is no small one; or the large setting of a benchmark that is here twice.
AS_PUBLISHED = {
    "adding-8-units",
    "adding-8-units-rnn",
    "associative-recall",
    "embedded-reber",
    "long-lag-50",
    "temporal-order-4-units",
}
LARGE = {"associative-recall-8192", "lem-adding-2000"}


def test_every_published_benchmark_has_a_small_one():
    published = {name for name in grid.names() if grid.overview(name)["published"] and not name.endswith("-small")}
    assert published > AS_PUBLISHED | LARGE
    long = published - AS_PUBLISHED - LARGE
    assert len(long) == 8
    for name in long:
        assert figures(name) == figures(f"{name}-small")


@pytest.mark.parametrize("name", [each for each in grid.names() if each.startswith(("tcn", "chrono", "irnn", "lem"))])
def test_benchmarks_are_sound(name):
    made = grid.read(name)
    assert made.missing or made.runs()


def test_dry_run_says_what_and_how_long_and_does_nothing(rnnvg, spec, tmp_path):
    shown = rnnvg("bench", "run", spec, "--dry-run")
    assert (shown.exit_code, shown.stderr) == (0, "")
    assert len(ids(shown.stdout)) == 8
    assert "how long they take is unknown" in shown.stdout
    assert not (tmp_path / "runs").exists()
    # The seed alone differs: its own time. Twice the length: in proportion.
    first = grid.read(spec).select(seeds=1).runs()
    for each in first[:2]:
        done(each, tmp_path / "runs" / "earlier", seconds=60)
    facts = json.loads(rnnvg("bench", "run", spec, "--dry-run", "--json", "--jobs", 4).stdout)
    seconds = {row["run"].rpartition("-")[0]: row["seconds"] for row in facts["runs"]}
    assert seconds["adding-T10-rnn-h8-s1"] == 60
    assert seconds["adding-T20-gru-h8-s1"] == pytest.approx(120)
    assert facts["seconds"] == pytest.approx((4 * 60 + 4 * 120) / 4)
    shown = rnnvg("bench", "run", spec, "--dry-run", "--out", "runs/earlier")
    assert "6 of 8 runs would be done in runs/earlier; about 5 min with --jobs 2, judged by 2 earlier runs." in (
        " ".join(shown.stdout.split())
    )


@pytest.mark.parametrize(
    ("only", "count"), [("gru", 4), ("s0", 4), ("T10,T20", 8), ("*-rnn-*-s1-*", 2), ("T20-gru", 2)]
)
def test_only(rnnvg, spec, only, count):
    assert len(ids(rnnvg("bench", "run", spec, "--dry-run", "--only", only).stdout)) == count


def test_shards_are_disjoint_and_complete(rnnvg, spec):
    every = ids(rnnvg("bench", "run", spec, "--dry-run").stdout)
    shares = [ids(rnnvg("bench", "run", spec, "--dry-run", "--shard", f"{i}/3").stdout) for i in (1, 2, 3)]
    assert sorted(run for share in shares for run in share) == sorted(every)
    assert [len(share) for share in shares] == [3, 3, 2]


def test_run_prints_our_figure_beside_the_published_one(rnnvg, spec, in_this_process, tmp_path):
    shown = rnnvg("bench", "run", spec, "--out", "out", "--jobs", 3)
    assert shown.exit_code == 0
    assert in_this_process[0]["jobs"] == 3
    assert "Beside what was published" in shown.stdout
    assert "Report: out/report.html" in shown.stdout
    table = pd.read_csv(tmp_path / "out" / "published.csv")
    runs = [each for each in Store("out").results() if "-T10-gru-" in each["id"]]
    assert table.loc[0, "ours"] == pytest.approx(sum(each["score"]["mse"] for each in runs) / 2)
    assert table.loc[0, "published"] == 0.25
    ended = "; training ends when the task counts as solved" if any(each["solved"] for each in runs) else ""
    assert table.loc[0, "difference"] == f"hidden 8 (paper: 130); trained for 5 steps at most{ended}"
    again = json.loads(rnnvg("bench", "run", spec, "--out", "out", "--json", "-q").stdout)
    assert again["published"][0]["ours"] == pytest.approx(table.loc[0, "ours"])


def test_a_ladder_climbs(rnnvg, spec, in_this_process, tmp_path):
    spec.write_text(LADDER)
    shown = rnnvg("bench", "run", spec, "--out", "out")
    assert shown.exit_code == 0
    table = pd.read_csv(tmp_path / "out" / "ladder.csv").set_index("cell")
    assert table["bound"].to_dict() == {"rnn": "<", "gru": ">="}
    assert table.loc["gru", "solved_length"] == 40
    assert len(Store("out").results()) == 2 + 3 * 2
    assert "10: 2/2, 20: 2/2, 40: 2/2" in shown.stdout
    assert "8 of 8 runs are done" in rnnvg("bench", "status", "out").stdout


def test_resume_goes_on_with_what_was_asked_for(rnnvg, spec, in_this_process, monkeypatch):
    from rnnvg.bench import runner

    whole = runner.run_all

    def interrupted(specs, directory, **rest):
        done(next(iter(specs)), directory)
        raise KeyboardInterrupt

    monkeypatch.setattr("rnnvg.bench.runner.run_all", interrupted)
    monkeypatch.setattr("rnnvg.bench.run_all", interrupted)  # a name that was asked for once is kept there
    told = rnnvg("bench", "run", spec, "--out", "out", "--only", "gru", "--seeds", 3)
    assert told.exit_code == 130
    assert told.stderr.splitlines()[-1] == (
        f"Interrupted; what is done is kept. To go on: rnnvg bench run {spec} --out out --only gru --seeds 3"
    )
    assert "1 of 6 runs are done (1 ok)" in rnnvg("bench", "status", "out").stdout
    monkeypatch.setattr("rnnvg.bench.runner.run_all", whole)
    monkeypatch.setattr("rnnvg.bench.run_all", whole)  # a name that was asked for once is kept there
    assert rnnvg("bench", "resume", "out").exit_code == 0
    assert {each["spec"]["cell"] for each in Store("out").results()} == {"gru"}
    assert len(Store("out").results()) == 6
    # All of it, once that was asked for.
    assert rnnvg("bench", "run", spec, "--out", "out").exit_code == 0
    assert "8 of 8 runs" in rnnvg("bench", "status", "out").stdout


def test_what_is_missing_is_a_row_that_says_how_to_get_it(rnnvg, in_this_process, tmp_path):
    told = rnnvg("bench", "run", "small-lstm-small", "--out", "out")
    assert told.exit_code == 1
    assert "next-word is not run. There is no 'data/ptb'. Put ptb.train.txt" in told.stderr
    table = pd.read_csv(tmp_path / "out" / "published.csv")
    assert table.loc[0, "status"].startswith("not run: There is no 'data/ptb'. Put ptb.train.txt")
    assert "next-word is not run." in rnnvg("bench", "status", "out").stdout


def test_status_names_what_is_failed_damaged_and_left(rnnvg, spec, in_this_process, tmp_path):
    assert rnnvg("bench", "run", spec, "--out", "out").exit_code == 0
    first, second, third, *_ = grid.read(spec).runs()
    store = Store("out")
    (store.folder(first.id) / "result.json").write_text("{")
    store.set_aside(second.id)
    write_off(second, "out", "bad luck")
    (store.folder(third.id) / "result.json").unlink()
    (store.folder(third.id) / "claim.json").write_text(json.dumps({"pid": 7, "place": "elsewhere boot"}))
    lines = rnnvg("bench", "status", "out").stdout.splitlines()
    assert lines[0] == "short: 6 of 8 runs are done (5 ok, 1 failed)."
    assert f"  {third.id}: process 7 on elsewhere" in lines
    assert f"{second.id} came to nothing: bad luck" in lines
    assert f"{first.id} is damaged: result.json is not whole. The next run sets it aside and does it again." in lines
    assert f"Set aside, in set-aside/: {second.id}-1" in lines
    facts = json.loads(rnnvg("bench", "status", "out", "--json").stdout)
    assert facts["left"] == [first.id]


def test_a_failed_run_is_exit_1(rnnvg, spec, monkeypatch, no_drawing):
    def run_all(specs, directory, **rest):
        found = [write_off(each, directory, "bad luck") for each in specs]
        Store(directory).merge()
        return found

    monkeypatch.setattr("rnnvg.bench.runner.run_all", run_all)
    monkeypatch.setattr("rnnvg.bench.run_all", run_all)  # a name that was asked for once is kept there
    told = rnnvg("bench", "run", spec, "--out", "out")
    assert told.exit_code == 1
    assert pd.read_csv("out/published.csv").loc[0, "status"] == "not run: every run ended as failed. bad luck"


def test_compare_and_export(rnnvg, spec, in_this_process, tmp_path):
    for out in ("a", "b"):
        assert rnnvg("bench", "run", spec, "--out", out).exit_code == 0
    shown = rnnvg("bench", "compare", "a", "b")
    assert shown.exit_code == 0
    assert "0 differ beyond noise" in " ".join(shown.stdout.split())
    rows = json.loads(rnnvg("bench", "compare", "a", "b", "--json").stdout)["rows"]
    assert {row["verdict"] for row in rows} == {"identical"}
    assert "b against a" in " ".join(shown.stdout.split("\n")[:3])
    assert json.loads(rnnvg("bench", "compare", "a", "b", "--json").stdout)["directories"] == {"A": "a", "B": "b"}
    shown = rnnvg("bench", "export", "a", "--out", "tables")
    assert sorted(path.name for path in (tmp_path / "tables").iterdir()) == [
        "curves.csv", "horizons.csv", "runs.csv", "training.csv"]  # fmt: skip
    assert (tmp_path / "tables" / "curves.csv").read_bytes() == (tmp_path / "a" / "curves.csv").read_bytes()
    assert rnnvg("bench", "export", "a", "--format", "parquet").exit_code == 0
    frame = pd.read_parquet(tmp_path / "a" / "export" / "runs.parquet")
    assert list(frame["id"]) == [each["id"] for each in Store("a").results()]
    # Rows of runs.csv come back with every digit.
    values = to_frame(tmp_path / "tables" / "runs.csv")["value"]
    assert values.tolist() == frame["value"].tolist()


BAD = {
    "bench run nowhere": "No benchmark 'nowhere'. ",
    "bench run tcn-ading": "No benchmark 'tcn-ading'. Did you mean 'tcn-adding'? ",
    "bench run SPEC --shard 9/8": "`--shard` takes a share and their number, such as 3/8 (from 1/8 to 8/8); got '9/8'.",
    "bench run SPEC --shard 9/9": "This share has no runs: there are more shares than runs. Pass a smaller N",
    "bench run SPEC --only lsmt": "`--only` 'lsmt' matches none of the 8 runs. ",
    "bench run SPEC --jobs 0": "`--jobs` must be a whole number of at least 1; got 0.",
    "bench run SPEC --set lenght=5": "short has 1 fault:\n  `task[1].lenght` is not known. Did you mean 'length'?",
    "bench run SPEC --scheduler tcp://127.0.0.1:1": "`scheduler` 'tcp://127.0.0.1:1' cannot be reached",
    "bench run SPEC --scheduler tls://127.0.0.1:1": "`scheduler` 'tls://127.0.0.1:1' needs TLS, and Dask knows of "
    "no certificates. Set DASK_DISTRIBUTED__COMM__TLS__CA_FILE, ",
    "bench resume nowhere": "`directory` 'nowhere' does not exist. Pass a directory that `rnnvg bench run` wrote.",
    "bench status empty": "`directory` 'empty' holds no benchmark. ",
    "bench compare empty empty": "`directory` 'empty' holds no results. ",
    "bench export empty": "`directory` 'empty' holds no results. ",
    "bench export empty --format xlsx": "`--format` has no 'xlsx'. Pass one of: csv, parquet.",
    "bench rnu": "rnnvg bench has no command 'rnu'. Did you mean 'run'?",
}


@pytest.mark.parametrize(("line", "sentence"), BAD.items(), ids=list(BAD))
def test_bad_input_is_a_sentence_and_exit_2(rnnvg, spec, line, sentence, tmp_path):
    (tmp_path / "empty").mkdir()
    told = rnnvg(*line.replace("SPEC", str(spec)).split())
    assert told.exit_code == 2
    assert told.stderr.startswith(f"Error: {sentence}")
    assert told.stdout == ""


def test_an_old_layout_is_refused_by_name(rnnvg, spec, in_this_process, tmp_path):
    rnnvg("bench", "run", spec, "--out", "out")
    path = tmp_path / "out" / "benchmarks" / "short.json"
    path.write_text(path.read_text().replace('"schema": 1', '"schema": 0'))
    told = rnnvg("bench", "resume", "out")
    assert told.exit_code == 2
    assert "is in layout 0; this version reads layout 1." in told.stderr
    path.write_text("{")
    assert "short.json' is not whole. Move it away" in rnnvg("bench", "resume", "out").stderr


JUNK = [
    "-1",
    "0",
    "3.7",
    "true",
    '"x"',
    "[]",
    "[[1]]",
    "{}",
    "nan",
    "inf",
    "1979-05-27",
    '"rnn"',
    "1e999",
    "[1, 1]",
    "''",
]
WORDS = ["leng", "coppy", "sedes", "task", "training", "cells", "name", "wrt"]


def malformed(number):
    """The benchmark with one to three lines broken: cut off, doubled, renamed, with another value, or taken out."""
    choose = random.Random(number)
    lines = (SPEC if number % 2 else LADDER).splitlines()
    for _ in range(choose.randint(1, 3)):
        place = choose.randrange(len(lines))
        key, equals, value = lines[place].partition(" = ")
        lines[place] = choose.choice(
            [
                f"{key}{equals}{choose.choice(JUNK)}",
                f"{choose.choice(WORDS)}{equals}{value}",
                lines[place][: choose.randrange(len(lines[place]) + 1)],
                lines[place] * 2,
                f"{key}x{equals}{value}",
                f"{lines[place]}\n[{choose.choice(WORDS)}]",
            ]
        )
    return "\n".join(lines)


def test_200_malformed_files_are_in_one_sentence(rnnvg, tmp_path):
    path, refused, number = tmp_path / "bad.toml", 0, 0
    while refused < 200:
        path.write_text(malformed(number))
        number += 1
        told = rnnvg("bench", "run", path, "--dry-run", "--out", tmp_path / "out")
        if told.exit_code == 0:
            assert ids(told.stdout), path.read_text()
            continue
        refused += 1
        assert told.exit_code == 2, f"{path.read_text()}\n{told.exception!r}"
        assert told.stdout == ""
        first, *rest = told.stderr.removesuffix("\n").split("\n")
        assert first.startswith(("Error: bad has ", "Error: bad.toml is not valid TOML: ")), told.stderr
        assert all(line.startswith("  ") and "`" in line for line in rest), told.stderr
        assert "Traceback" not in told.stderr
    assert number < 400


@pytest.mark.acceptance
def test_a_real_benchmark_is_interrupted_and_resumed(rnnvg, spec, tmp_path):
    spec.write_text(SPEC.replace("steps = 5", "steps = 400\neval_size = 20"))
    command = [RNNVG, "bench", "run", spec, "--out", "out", "--jobs", "2"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=tmp_path, start_new_session=True)
    while not list(tmp_path.glob("out/runs/*/result.json")):
        assert process.poll() is None
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=100)
    assert process.returncode == 130
    assert "To go on: " in said.splitlines()[-1]
    one = subprocess.run([RNNVG, "bench", "resume", "out", "--jobs", "1"], cwd=tmp_path, capture_output=True, text=True)
    assert (one.returncode, "Report: out/report.html" in one.stdout) == (0, True)
    whole = [*command[:5], "whole", "--jobs", "1"]
    assert subprocess.run(whole, cwd=tmp_path, capture_output=True, check=True).returncode == 0
    for name in ("curves.csv", "training.csv", "horizons.csv"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
