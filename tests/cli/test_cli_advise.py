"""rnnvg advise from end to end: tables, figure, JSON, taking up again, worker processes, bad input."""

import json

import pandas as pd
import pytest

from rnnvg import advise, load_results, models, tasks
from rnnvg.cli import advise as command

TINY = ["--length", 6, "--hidden", 4, "--seeds", 2, "--steps", 2, "--jobs", 1]


def test_names_are_those_of_the_library():
    from rnnvg.advise.settings import WRT

    assert command.REMEDIES == advise.NAMES
    assert command.WRT == WRT
    assert set(command.OFFERED) == set(models.EVERY_CELL)


def test_it_is_taken_up_again_and_ends_in_tables_and_a_figure(rnnvg, tmp_path, monkeypatch):
    from rnnvg.advise import run

    real, done = run.execute, []

    def interrupted(spec, directory):
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(spec.id)
        return real(spec, directory)

    monkeypatch.setattr(run, "execute", interrupted)
    arguments = ["advise", *TINY, "--remedies", "leaky,clipping", "--out", "made"]
    told = rnnvg(*arguments)
    assert told.exit_code == 130
    results = list((tmp_path / "made/runs").glob("*/result.json"))
    assert len(results) == 3
    results[0].write_text("{")
    monkeypatch.setattr(run, "execute", lambda spec, directory: done.append(spec.id) or real(spec, directory))
    told = rnnvg(*arguments)
    assert told.exit_code == 0, told.stderr
    assert len(done) == 3 + 8  # 10 runs, one of them again
    assert told.stdout.startswith("Cause: ")
    assert told.stdout.isascii()
    table = pd.read_csv(tmp_path / "made/advice.csv")
    assert table["remedy"].tolist() == ["none", "leaky", "clipping"]
    assert len(pd.read_csv(tmp_path / "made/trials.csv")) == 10
    for ending in ("svg", "png"):
        assert (tmp_path / f"made/figures/advise-remedies.{ending}").stat().st_size > 10_000
    done.clear()
    again = rnnvg(*arguments, "--json")
    assert not done
    found = json.loads(again.stdout)
    assert [row["remedy"] for row in found["remedies"]] == ["none", "leaky", "clipping"]
    assert found["remedies"][2]["log_change_start"] == 0
    assert found["clipping"][0]["cosine"] == pytest.approx(1)
    assert found["settings"]["t_max"] == 5
    # What is there is a directory of results like any other.
    frame = load_results(tmp_path / "made")
    assert len(frame) == 10
    assert set(frame["cell"]) == {"rnn", "leaky", "rnn-relu"}


def test_what_does_not_fit_is_left_out_or_refused(rnnvg, tmp_path):
    told = rnnvg("advise", *TINY, "--cell", "rnn", "--remedies", "chrono")
    assert told.exit_code == 2
    assert told.stderr == (
        "Error: `remedies` 'chrono' needs gates: take an LSTM or a GRU first; got cell 'rnn'. It fits: lstm, gru. Leave it "
        "out, or pass another cell.\n"
    )
    assert not list(tmp_path.iterdir())
    told = rnnvg("advise", *TINY, "--cell", "gru", "--steps", 1)
    assert told.exit_code == 0, told.stderr
    assert "Left out: forget-bias needs a forget gate: take an LSTM first." in told.stdout


def test_every_setting_has_a_directory_of_its_own(rnnvg, tmp_path):
    for steps in (1, 2, 1):
        told = rnnvg("advise", *TINY, "--steps", steps, "--remedies", "smaller-lr")
        assert told.exit_code == 0, told.stderr
    made = sorted(each.name for each in (tmp_path / "runs/advise").iterdir())
    assert len(made) == 2
    assert all(name.startswith("adding-T6-rnn-h4-") for name in made)


@pytest.mark.acceptance
def test_worker_processes_come_to_the_same_numbers(rnnvg, tmp_path):
    for jobs in (1, 2):
        told = rnnvg("advise", *TINY[:-1], jobs, "--remedies", "leaky,gated-cell", "--out", f"with{jobs}")
        assert told.exit_code == 0, told.stderr
    one, two = ((tmp_path / f"with{jobs}/advice.csv").read_text() for jobs in (1, 2))
    assert one == two


@pytest.mark.acceptance
def test_a_gated_cell_helps_and_clipping_does_not(rnnvg, tmp_path):
    told = rnnvg("advise", "--quick", "--remedies", "clipping,gated-cell,leaky", "--json", "--out", "quick")
    found = json.loads(told.stdout)
    rows = {row["remedy"]: row for row in found["remedies"]}
    assert found["cause"] == "recurrent matrix"
    assert found["first"] == "gated-cell"
    assert rows["gated-cell"]["solved"] >= 2
    assert rows["clipping"]["log_change_start"] == 0
    assert rows["leaky"]["log_change_start_low"] > 0
    assert all(each is None or each > 10 for each in found["exploding"]["exploding"])
    assert all(each < 1 for each in found["exploding"]["exploding-clipped"])


NAMES = ", ".join(command.REMEDIES)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--remedies", "orthogonl"],
            f"`--remedies` has no 'orthogonl'. Did you mean 'orthogonal'? Pass one of: {NAMES}.",
        ),
        (["--seeds", 1], "`--seeds` must be a whole number of at least 2; got 1."),
        (["--hidden", 0], "`--hidden` must be a whole number of at least 2; got 0."),
        (["--steps", 0], "`--steps` must be a whole number of at least 1; got 0."),
        (["--threshold", 2], "`--threshold` must be a number strictly between 0 and 1; got 2."),
        (
            ["--cell", "lsmt"],
            "`--cell` has no 'lsmt'. Did you mean 'lstm'? Pass one of: rnn, lstm, gru, rnn-relu, "
            "leaky, residual, layer-norm, mingru, lru, lem, attention, tcn.",
        ),
        (
            ["--task", "ading"],
            f"`--task` has no 'ading'. Did you mean 'adding'? Pass one of: {', '.join(tasks.NAMES)}.",
        ),
        (["--wrt", "cell"], "`--wrt` has no 'cell'. Pass one of: state, input."),
        (["--length", 1], "`length` must be a whole number of at least 2; got 1."),
        (
            ["--task", "next-word"],
            "`--task` next-word is a text without a known distance. Pass a task that has one, such as adding or copy.",
        ),
        (
            ["--cell", "rnn", "--init", "chrono"],
            "`init` 'chrono' sets the biases of gates and does not fit cell 'rnn'. It fits: lstm, gru.",
        ),
    ],
)
def test_bad_input_is_one_sentence(rnnvg, arguments, message, tmp_path):
    told = rnnvg("advise", *arguments)
    assert told.exit_code == 2
    assert told.stdout == ""
    assert told.stderr == f"Error: {message}\n"
    assert not list(tmp_path.iterdir())


def test_one_seed_has_no_interval():
    with pytest.raises(ValueError, match=r"`seeds` must be at least 2 for an interval; got 1\. Of one network"):
        advise.advise(seeds=1)
