"""Tables against numbers worked out by hand, and what a terminal shows of them."""

import math
import textwrap

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_results import in_memory

from rnnvg.report import tables, terminal
from rnnvg.report.sections import horizons, learned
from rnnvg.report.sections import settings as settings_section
from rnnvg.report.style import AFTER


def seeds(number, **run):
    return [{**run, "seed": seed} for seed in range(number)]


def test_horizon_table_takes_a_directory_or_results(directory, comparison):
    pd.testing.assert_frame_equal(tables.horizon_table(directory), tables.horizon_table(comparison))
    pd.testing.assert_frame_equal(tables.score_table(directory), tables.score_table(comparison))


def test_horizon_table_writes_every_seed_and_censoring_out():
    runs = [
        *seeds(3, horizons={9: 51}),
        *seeds(3, cell="gru", horizons={9: (88, 1)}),
        *seeds(1, cell="rnn", horizons={9: 4}),
    ]
    table = tables.horizon_table(in_memory(*runs))
    assert table.loc[table["when"] == AFTER, "horizon"].to_list() == ["4", "51 (51, 51, 51)", "> 88 (> 88, > 88, > 88)"]


def test_horizons_shown_has_a_column_a_threshold_and_counts_the_runs(comparison):
    shown = horizons.horizon_tables(horizons.frame(comparison))[0]
    assert list(shown.columns) == ["task", "network", "before, 1/e", "after, 1/e", "after, 0.1", "after, 0.01", "runs"]
    assert [row[-1] for row in shown.rows] == ["3"] * 6 + ["2 of 3", "2 of 3", "3"]


@pytest.mark.parametrize(("solved", "low", "high"), [(0, 0.0, 1 - 0.025 ** (1 / 3)), (3, 0.025 ** (1 / 3), 1.0)])
def test_the_solved_fraction_has_its_exact_interval(solved, low, high):
    row = tables.score_table(in_memory(*seeds(3, solved=solved == 3))).iloc[0]
    assert (row["solved"], row["solved_fraction"]) == (solved, solved / 3)
    assert (row["solved_low"], row["solved_high"]) == pytest.approx((low, high))


def test_scores_are_of_runs_that_ended_and_fractions_of_all():
    runs = [
        {"loss": 0.1, "solved": True},
        {"seed": 1, "loss": 0.3, "solved": True},
        {"seed": 2, "status": "diverged"},
        {"seed": 3, "status": "failed"},
    ]
    row = tables.score_table(in_memory(*runs)).iloc[0]
    assert row[["runs", "ok", "diverged", "failed", "solved"]].to_list() == [4, 2, 1, 1, 2]
    assert row[["value", "least", "most"]].to_list() == pytest.approx([0.2, 0.1, 0.3])
    assert row["solved_fraction"] == 0.5
    assert (row["solved_low"], row["solved_high"]) == pytest.approx((0.0676, 0.9324), abs=1e-4)  # 2 of 4


def test_a_network_whose_runs_all_failed_is_a_row():
    table = tables.score_table(in_memory({"loss": 0.1}, {"cell": "rnn", "status": "failed"}))
    failed = table[table["network"] == "RNN (tanh)"].iloc[0]
    assert math.isnan(failed["value"])
    assert failed["baseline"] == pytest.approx(1 / 6)  # the task's, known from the other network
    rows = learned.frame(in_memory({"loss": 0.1}, {"cell": "rnn", "status": "failed"}))
    shown = learned.scores_shown(learned.scores(learned.runs_of(rows))).iloc[0]
    assert shown[["score", "solved", "broken off"]].to_list() == ["none", "0 of 1 [0–98\u00a0%]", "1 failed"]


def test_every_run_is_shown_with_what_became_of_it(comparison):
    _, shown = settings_section.all_tables(settings_section.frame(comparison))
    assert len(shown.rows) == 27
    assert [status for _, status, *_ in shown.rows if status != "ok"] == [
        "diverged: the loss was nan at step 412",
        "failed: the worker process died 3 times while running it",
    ]


def test_settings_are_listed_where_they_differ(comparison):
    table = tables.settings_table(comparison).set_index(["group", "setting"])
    assert table.loc[("network", "seeds"), "Copy memory"] == "0, 1, 2"
    assert table.loc[("network", "cell"), "Next word"] == "rnn, lstm, gru"
    assert table.loc[("training", "lr")].to_list() == ["0.003", "0.005", "0.003"]
    assert table.loc[("task", "training length (time steps)")].to_list() == ["22", "50", "35"]
    assert table.loc[("versions", "torch"), "Copy memory"].startswith("2.")


def test_the_summary_fits_100_columns_in_ascii_and_names_what_broke(comparison):
    text = terminal.summary(comparison)
    assert max(map(len, text.splitlines())) <= 100
    assert text.isascii()
    assert text.startswith("After training the gradient reaches more than twice as far back as before: with ")
    assert "> 88 (> 88," in text
    unwrapped = " ".join(text.split())
    assert "diverged: the loss was nan at step 412" in unwrapped
    assert "failed: the worker process died 3 times while running it" in unwrapped


def test_the_summary_of_nothing_is_still_a_table():
    text = terminal.summary(in_memory({"status": "failed", "reason": "MemoryError: none left"}))
    assert text.startswith("No memory horizon was measured")
    assert "run-00 failed: MemoryError: none left" in text


def test_as_text_aligns_and_wraps_the_column_that_costs_least():
    frame = pd.DataFrame({"name": ["a", "bb"], "words": ["one two three", "four"], "n": [1, 200]})
    assert terminal.as_text(frame, width=18) == textwrap.dedent(
        """\
        name  words    n
        ----  -------  ---
        a     one two  1
              three
        bb    four     200"""
    )
    assert terminal.as_text(frame, width=40) == textwrap.dedent(
        """\
        name  words          n
        ----  -------------  ---
        a     one two three  1
        bb    four           200"""
    )


def test_as_text_breaks_no_word_at_its_hyphen():
    frame = pd.DataFrame({"network": ["LSTM forget-bias"]})
    assert terminal.as_text(frame, width=12).splitlines()[2:] == ["LSTM", "forget-bias"]


def test_as_text_of_no_rows():
    assert terminal.as_text(pd.DataFrame({"a": []})) == "(no rows)"


CELLS = st.lists(st.text("ab cd-–∞", max_size=30), min_size=3, max_size=3)


@settings(max_examples=60, deadline=None)
@given(st.lists(CELLS, min_size=1, max_size=4), st.integers(24, 90))
def test_as_text_keeps_every_letter_within_the_width(columns, width):
    frame = pd.DataFrame({f"c{place}": cells for place, cells in enumerate(columns)})
    lines = terminal.as_text(frame, width).splitlines()
    assert max(map(len, lines)) <= width

    def letters(text):
        return sorted(letter for letter in text if letter in "abcd")

    names = "".join(frame)
    assert letters("".join(lines)) == letters(names + "".join(cell for cells in columns for cell in cells))
