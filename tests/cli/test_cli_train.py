import errno
import json

import pandas as pd
import pytest

from rnnvg import bench, load_results
from rnnvg.cli.output import StepBar

SMALL = ["train", "--length", 6, "--hidden", 4, "--steps", 3, "--batch", 5]


def test_a_training_leaves_a_directory_that_profile_and_report_read(rnnvg, tmp_path):
    told = rnnvg(*SMALL, "--cell", "gru", "--seed", 2)
    assert told.exit_code == 0
    assert told.stderr == ""
    folder = next((tmp_path / "runs/train/runs").iterdir())
    first, second, third, last = told.stdout.splitlines()
    assert first.startswith(f"{folder.name}: mse ")
    assert first.endswith(". Always predicting 1, the mean of the sum, has a mean squared error of 1/6.")
    assert second.startswith("Not solved after 3 steps, in ")
    assert third.startswith("Memory horizon (1/e): ")
    assert third.endswith(" at step 3.")
    weights = tmp_path / last.removeprefix("Weights: ")
    assert weights.parent == folder

    profiled = json.loads(rnnvg("profile", "--weights", weights, "--json").stdout)
    assert (profiled["cell"], profiled["hidden"], profiled["settings"]["length"]) == ("gru", 4, 6)
    frame = load_results(tmp_path / "runs/train")
    assert frame[["cell", "hidden", "seed", "set_length", "steps"]].to_numpy().tolist() == [["gru", 4, 2, 6, 3]]
    assert len(pd.read_csv(tmp_path / "runs/train/horizons.csv")) > 0


@pytest.fixture
def interrupted_at(monkeypatch):
    """Ctrl-C at the first sign of progress after a step."""

    def at(after):
        def press(self, step, steps, loss):
            if step >= after:
                raise KeyboardInterrupt

        monkeypatch.setattr(StepBar, "__call__", press)

    return at


def test_it_starts_from_the_network_that_profile_shows(rnnvg, tmp_path, interrupted_at):
    options = ["--length", 6, "--hidden", 4, "--cell", "rnn", "--seed", 1]
    interrupted_at(1)
    assert rnnvg("train", *options).exit_code == 130
    part = next((tmp_path / "runs/train/runs").glob("*/part-000000000.csv"))
    curve = pd.read_csv(part)
    profiled = json.loads(rnnvg("profile", *options, "--json").stdout)
    at_start = curve.loc[curve["wrt"] == "state", "log10_gain"].to_list()
    assert [row["log10_gain"] for row in profiled["curve"][1:]] == pytest.approx(at_start[1:], rel=1e-5)


def test_interrupted_it_goes_on_to_the_same_numbers(rnnvg, tmp_path, interrupted_at, monkeypatch):
    command = [*SMALL, "--steps", 60, "--json", "--out"]
    whole = json.loads(rnnvg(*command, "whole").stdout)
    with monkeypatch.context():
        interrupted_at(20)
        told = rnnvg(*command, "apart")
        assert told.exit_code == 130
        assert told.stdout == ""
        assert told.stderr == (
            "Interrupted; what is done is kept. To go on: "
            f"rnnvg {' '.join(map(str, SMALL))} --steps 60 --json --out apart\n"
        )
        assert len(list((tmp_path / "apart/runs").glob("*/resume.safetensors"))) == 1
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    apart = json.loads(rnnvg(*command, "apart").stdout)
    assert apart["score"] == whole["score"]
    assert (tmp_path / "apart/curves.csv").read_bytes() == (tmp_path / "whole/curves.csv").read_bytes()


def test_what_is_done_is_not_done_again(rnnvg, monkeypatch):
    first = rnnvg(*SMALL)
    monkeypatch.setattr("rnnvg.training.fit", None)
    assert rnnvg(*SMALL).stdout == first.stdout


def test_a_failed_run_says_where_the_details_are_and_is_done_again(rnnvg, tmp_path, monkeypatch):
    with monkeypatch.context() as broken:

        def fail(*arguments, **options):
            raise ValueError("no good")

        broken.setattr("rnnvg.training.fit", fail)
        told = rnnvg(*SMALL)
    folder = next((tmp_path / "runs/train/runs").iterdir())
    assert told.exit_code == 1
    assert told.stdout == (
        f"{folder.name} failed: ValueError: no good\nDetails: runs/train/runs/{folder.name}/error.txt\n"
    )
    assert "no good" in (folder / "error.txt").read_text()
    assert rnnvg(*SMALL).exit_code == 0


def test_a_training_that_diverges_is_a_result(rnnvg):
    told = rnnvg(*SMALL, "--steps", 40, "--cell", "rnn-relu", "--lr", 1e30, "--optimizer", "sgd", "--clip", 1e30)
    assert told.exit_code == 0
    assert "The training diverged. The " in told.stdout


def test_training_settings_reach_the_run(rnnvg):
    result = json.loads(
        rnnvg(
            *SMALL,
            "--lr",
            0.1,
            "--clip",
            2,
            "--optimizer",
            "sgd",
            "--layers",
            2,
            "--init",
            "forget-bias",
            "--go-on",
            "--json",
        ).stdout
    )
    spec = result["spec"]
    assert (spec["training"]["lr"], spec["training"]["clip"], spec["training"]["optimizer"]) == (0.1, 2.0, "sgd")
    assert (spec["layers"], spec["init"], spec["training"]["stop_when_solved"]) == (2, "forget-bias", False)
    assert bench.RunSpec.model_validate(spec).id == result["id"]


def test_a_text_with_shorter_windows(rnnvg):
    result = json.loads(
        rnnvg(
            "train",
            "--text",
            "agreement",
            "--set",
            "n_words=2000",
            "--set",
            "bptt=5",
            "--hidden",
            4,
            "--steps",
            2,
            "--json",
        ).stdout
    )
    spec = result["spec"]
    assert (spec["task"]["bptt"], spec["training"]["bptt"], spec["embed"], spec["tied"]) == (5, None, 4, True)
    assert result["baseline"]["metric"] == "perplexity"


FULL = "has no space left. Free some and run the same command again; what is done is kept.\n"


def test_a_disk_that_fills_up(rnnvg, tiny_disk):
    told = rnnvg("train", "--length", 6, "--hidden", 256, "--steps", 2, "--out", tiny_disk / "out", "--quiet")
    assert (told.exit_code, told.stdout) == (2, "")
    assert told.stderr == f"Error: `out` {str(tiny_disk / 'out')!r} {FULL}"
    assert not list(tiny_disk.rglob("result.json"))


def test_a_disk_that_says_it_is_full(rnnvg, tmp_path, monkeypatch):
    def full(model, path, **header):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr("rnnvg.models.save", full)
    told = rnnvg(*SMALL, "--out", "out")
    assert (told.exit_code, told.stdout) == (2, "")
    assert told.stderr == f"Error: `out` 'out' {FULL}"
    assert not list(tmp_path.rglob("result.json"))
