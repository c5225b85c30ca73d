"""A benchmark's own parts of the page: the ladder's figure, by its artists, and figures beside published ones."""

import numpy as np
import pandas as pd
import pytest
from synthetic_results import in_memory

from rnnvg.bench.ladder import CLIMBED, RUNGS
from rnnvg.bench.published import COLUMNS
from rnnvg.report import style
from rnnvg.report.sections import ladder, published

CLIMBS = pd.DataFrame(
    [
        ("adding", "length", "rnn", "default", 64, np.nan, 10.0, "<", True),
        ("adding", "length", "lstm", "chrono", 64, 40.0, 50.0, "", True),
        ("adding", "length", "gru", "default", 64, 80.0, np.nan, ">=", False),
    ],
    columns=list(CLIMBED),
)
TRIED = pd.DataFrame(
    [
        ("adding", "length", "rnn", "default", 64, 10, 3, 3, 0, 0, 0.0, 0.0, 0.708),
        ("adding", "length", "lstm", "chrono", 64, 40, 3, 3, 3, 0, 1.0, 0.292, 1.0),
        ("adding", "length", "lstm", "chrono", 64, 50, 3, 3, 1, 0, 0.33, 0.01, 0.9),
        ("adding", "length", "gru", "default", 64, 80, 3, 3, 2, 0, 0.67, 0.09, 0.99),
    ],
    columns=list(RUNGS),
)
POINTS = pd.DataFrame(
    [
        ("RNN (tanh)", "rnn", "default", 10.0, "<", 2.0, False),
        ("LSTM/chrono", "lstm", "chrono", 40.0, "", 57.0, False),
        ("GRU", "gru", "default", 80.0, ">=", 300.0, True),
    ],
    columns=["network", "cell", "init", "length", "bound", "horizon", "censored"],
)


def test_the_ladder_for_readers():
    shown = ladder.ladder_shown(CLIMBS, TRIED)
    assert shown["length"].tolist() == ["< 10", "40", ">= 80 so far"]
    assert shown["network"].tolist() == ["RNN (tanh)", "LSTM/chrono", "GRU"]
    assert shown["solved there"].tolist() == ["", "3/3 [29–100 %]", "2/3 [9–99 %]"]
    assert shown["every length tried"].tolist() == ["10: 0/3", "40: 3/3, 50: 1/3", "80: 2/3"]


def test_length_solved_against_gradient_horizon():
    points = POINTS.assign(setting="length", problem="Adding problem")
    (ax,) = ladder.PART.panels(in_memory({}), points).figure.axes
    drawn = {line.get_label(): line for line in ax.lines[1:]}
    assert {name: tuple(np.ravel(line.get_data())) for name, line in drawn.items()} == {
        "RNN (tanh)": (2, 10),
        "LSTM/chrono": (57, 40),
        "GRU": (300, 80),
    }
    assert {name: line.get_color() for name, line in drawn.items()} == {
        "RNN (tanh)": style.CELL_COLOURS["rnn"],
        "LSTM/chrono": style.CELL_COLOURS["lstm"],
        "GRU": style.CELL_COLOURS["gru"],
    }
    # Down: not even the first length. Up: the ladder ended first. Right: the horizon is only known to be larger.
    arrows = {(note.xy, note.xyann) for note in ax.texts if not note.get_text()}
    assert arrows == {((2, 10), (0, -14)), ((300, 80), (0, 14)), ((300, 80), (14, 0))}
    assert "time steps" in ax.get_xlabel()
    assert ax.get_ylabel() == "largest length solved (time steps)"


@pytest.mark.parametrize(
    ("status", "here"),
    [
        ("run", "0.25 (0.2–0.3) (without memory 0.167), 1 of 2 solved"),
        ("not run: There is no 'data/ptb'.", "not run: There is no 'data/ptb'."),
    ],
)
def test_published_figures_for_readers(status, here):
    numbers = (0.164, "", 0.25, 0.2, 0.3, 1 / 6, 2, 1)
    row = ("b", "adding", "lstm", "length 600", "mse", *numbers, status, "hidden 8 (paper: 130)", "a paper")
    row += ("", "not comparable", "hidden 8 (paper: 130)", 0.1)
    (shown,) = published.published_shown(pd.DataFrame([row], columns=list(COLUMNS))).to_dict("records")
    assert shown == {
        "task": "Adding problem, mse",
        "network": "LSTM (length 600)",
        "published": "0.164",
        "here": here,
        "what differs": "hidden 8 (paper: 130)",
        "source": "a paper",
    }


VERDICTS = pd.DataFrame(
    [
        {
            "benchmark": "b",
            "cell": cell,
            "metric": "mse",
            "published": 0.01,
            "claim": "",
            "ours": ours,
            "verdict": verdict,
            "because": why,
        }
        for cell, ours, verdict, why in (
            ("lstm", 0.011, "reproduced", ""),
            ("gru", 0.02, "partly", ""),
            ("rnn", 0.2, "not", "the analysis"),
            ("rnn-relu", np.nan, "not run", "There is no data."),
        )
    ]
)


def test_the_verdicts_for_readers():
    shown = published.verdicts_shown(VERDICTS)
    assert shown["verdict"].tolist() == ["reproduced", "partly", "not reproduced", "untested"]
    assert shown["published claim"].unique().tolist() == ["MSE 0.01"]
    assert shown["here"].tolist() == ["0.011", "0.02", "0.2", ""]
    assert published.sentences(VERDICTS) == [
        "Published figures: 1 reproduced, 1 partly, 1 not reproduced and 1 untested."
    ]
