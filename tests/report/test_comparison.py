"""The whole comparison in one call from Python gives what the command gives."""

import filecmp

import lighter
import pandas as pd
import pytest
from click.testing import CliRunner

import rnnvg
from rnnvg.bench.events import _kind
from rnnvg.cli import main
from rnnvg.errors import InputError

TINY = {"tasks": ["adding"], "cells": "rnn,gru", "seeds": 2, "max_steps": 2, "length": 20, "jobs": 1, "quiet": True}

pytestmark = pytest.mark.xdist_group("both")  # one process runs the two comparisons


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """The call and the command, each in a directory of its own; only the first figure is drawn."""
    where = tmp_path_factory.mktemp("both")
    command = ["compare", "--tasks", "adding", "--cells", "rnn,gru", "--seeds", "2", "--max-steps", "2", "--jobs", "1"]
    command += ["--length", "20", "--out", str(where / "command"), "--quiet"]
    with lighter.one_figure(), lighter.worker_here():
        found = rnnvg.compare(**TINY, out=where / "python")
        finished = CliRunner().invoke(main, command)
    assert finished.exit_code == 0, finished.output
    return found, where / "command", finished.stdout


def test_it_gives_the_same_files_as_the_command(both):
    found, directory, _ = both
    same = ["horizons.csv", "curves.csv", "training.csv", "tables/horizons.csv", "tables/paired.csv"]
    for name in same:
        assert filecmp.cmp(found.directory / name, directory / name, shallow=False), name
    assert found.report == found.directory / "report.html"
    assert found.report.is_file()


def test_its_sentence_and_table_are_those_of_the_command(both):
    found, _, printed = both
    assert str(found) in " ".join(printed.split())
    table = found.to_frame()
    assert table["network"].tolist() == ["RNN (tanh)", "GRU"]
    assert found.horizons()["n"].tolist().count(2) == len(found.horizons())
    assert isinstance(found.scores(), pd.DataFrame)


def test_it_shows_itself(both):
    found = both[0]
    assert repr(found).startswith(
        "Comparison(After training the gradient reaches more than twice as far back as before"
    )
    shown = found._repr_html_()
    assert shown.count("<img") == shown.count("<table") == 1


def test_mistakes_name_the_argument():
    with pytest.raises(InputError, match=r"^`tasks` .*'ading'"):
        rnnvg.compare("ading")
    with pytest.raises(InputError, match=r"^None of the tasks adding has a setting 'lenght'\. Did you mean 'length'"):
        rnnvg.compare("adding", lenght=3)
    with pytest.raises(InputError, match=r"^`text` is what next-word reads, which is not among tasks\. Leave it out"):
        rnnvg.compare("adding", text="shakespeare")


def test_the_bar_is_a_widget_in_a_notebook_alone(monkeypatch):
    import tqdm.auto
    import tqdm.notebook

    assert _kind(False) == (tqdm.tqdm, False)
    assert _kind(True)[1] is False
    monkeypatch.setattr(tqdm.auto, "tqdm", tqdm.notebook.tqdm_notebook)  # as it is in a notebook
    assert _kind(True) == (tqdm.notebook.tqdm_notebook, True)


def test_giving_up_is_true_or_false(tmp_path):
    with pytest.raises(InputError, match=r"`give_up` is 'yes'; pass True or False\."):
        rnnvg.compare(give_up="yes", out=tmp_path / "none")
    assert not (tmp_path / "none").exists()
