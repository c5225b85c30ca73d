"""Advice from trials made by hand: paired changes, censoring, what to try first, words, frames and the figure."""

import math

import numpy as np
import pytest
from hand_made_advice import horizon, made, trial

from rnnvg.report import advise_page, style
from rnnvg.report.page import render


def test_changes_are_paired_by_seed():
    effects = {each.remedy: each for each in made().effects()}
    low, middle, high = np.log(np.sort([3 / 1, 7 / 3, 31 / 7]))
    np.testing.assert_allclose(effects["orthogonal"].log_change("start"), [middle, low, high])
    assert effects["orthogonal"].log_change("end") is None
    assert effects["orthogonal"].horizon["end"] == "none"
    assert effects["clipping"].log_change("start") == (0, 0, 0)
    middle, low, high = effects["identity-relu"].log_change("start")
    assert (middle, high) == (math.inf, math.inf)
    assert low == pytest.approx(math.log(40 / 7))
    assert effects["identity-relu"].horizon["start"] == "> 40"
    assert effects["orthogonal"].aims_at_cause
    assert not effects["clipping"].aims_at_cause


def test_what_to_try_first():
    assert made().first().remedy == "gated-cell"
    unsolved = [trial("gated-cell", s, horizon(2), horizon(1), None, 0.1) for s in range(3)]
    assert made(**{"gated-cell": unsolved}).first().remedy == "identity-relu"
    nothing = {
        name: [trial(name, s, horizon(1), horizon(1)) for s in range(3)]
        for name in ("orthogonal", "identity-relu", "gated-cell")
    }
    assert made(**nothing).first() is None
    assert str(made(**nothing)).endswith("None of these helped here.")


def test_words_are_of_the_numbers():
    lines = str(made()).splitlines()
    assert lines[0] == "Cause: the recurrent matrix takes most of the gradient (seed 0, over 40 steps: ...)."
    assert lines[1] == (
        "As it is: a horizon of 3 (steps) at the start and 3 after training; solved in 0 of 3 seeds, median score 0.16."
    )
    assert (
        "Identity matrix and ReLU: more than 5.7 times as far at the start, more than 5.7 times as far after"
        in lines[3]
    )
    assert "as far as without it at the start, as far as without it after training" in lines[4]
    assert lines[5].endswith("solved in 3 of 3 seeds at steps 50 to 150.")
    assert "cosine 1.000000, and no distance changes by more than 1e-15 nats" in lines[6]
    assert "3 of 3 seeds diverged and no score is finite without clipping" in lines[7]
    assert "0 of 3 seeds diverged and the median mse is 0.2 with it" in lines[7]
    assert lines[8] == "Try first: GRU in place of the cell (--remedies gated-cell)."


def test_frames_have_a_row_for_everything():
    frame = made().to_frame().set_index("remedy")
    assert frame.index.tolist() == ["none", "orthogonal", "identity-relu", "clipping", "gated-cell", "chrono"]
    assert frame.loc["chrono", "note"] == "left out: needs gates: take an LSTM or a GRU first"
    assert frame.loc["gated-cell", "median_steps"] == 100
    assert math.isinf(frame.loc["none", "median_steps"])
    assert math.isnan(frame.loc["orthogonal", "coverage_start"])  # three seeds: a range
    trials = made().trial_frame()
    assert len(trials) == 21
    assert trials[trials["remedy"] == "exploding"]["status"].tolist() == ["diverged"] * 3


def test_the_page_begins_with_the_cause_and_what_to_try_first():
    page = advise_page.page(made())
    assert page.first is not None
    assert page.first.paragraphs == [
        "The recurrent matrix takes most of the gradient; try first: GRU in place of the cell, which solved the task in 3 of "
        "3 seeds."
    ]
    (best,) = page.first.tables
    assert [row[0] for row in best.rows[:2]] == ["as it is", "GRU in place of the cell *"]
    (table,) = page.sections[0].tables
    rows = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
    assert [row["change"].removesuffix(" *") for row in rows] == [each.change for each in made().effects()]
    assert rows[1]["times as far, before"] == "3 [2.3, 4.4]"
    assert "chrono needs gates: take an LSTM or a GRU first." in render(page)
    nothing = {
        name: [trial(name, s, horizon(1), horizon(1)) for s in range(3)]
        for name in ("orthogonal", "identity-relu", "gated-cell")
    }
    assert advise_page.finding(made(**nothing)) == (
        "The recurrent matrix takes most of the gradient; none of the remedies helped here."
    )


def test_the_figure_shows_the_numbers():
    advice = made()
    with style.applied():
        figure = advise_page.draw(advice)
    rates, horizons, steps = figure.axes
    labels = [tick.get_text() for tick in rates.get_yticklabels()]
    assert labels[0] == "as it is"
    assert labels[1] == "orthogonal recurrent matrix *"
    middle = advice.effects()[1].log_change("start")[0]
    drawn = [(line.get_xdata()[0], line.get_marker()) for line in horizons.lines]
    assert any(x == pytest.approx(middle) and marker == "o" for x, marker in drawn)
    assert sum(marker == ">" for _, marker in drawn) == 2
    solved = [line for line in steps.lines if line.get_marker() == "D"]
    assert sorted(x for line in solved for x in line.get_xdata()) == [50, 100, 150]
    assert [text.get_text().strip() for text in horizons.texts] == ["no gradient left in 3 of 3"]
    assert all(ax.get_xlabel() for ax in figure.axes)
