"""Sentences from runs whose numbers are known: each says what is so, and nothing that is not."""

import dataclasses
import math

import pytest
from synthetic_results import in_memory

from rnnvg.report.sections import finding, gradient, horizons, learned, opening, settings


def seeds(cell, values, **more):
    """A run a value: horizon 2 before training, the value after it."""
    return [{"cell": cell, "seed": seed, "horizons": {0: 2, 9: value}, **more} for seed, value in enumerate(values)]


def said(section, *runs):
    return section.sentences(section.frame(in_memory(*runs)))


# The finding ------------------------------------------------------------------------------------------------------------


def test_the_finding_counts_the_runs_whose_gradient_came_to_reach_farther():
    runs = [*seeds("gru", [50, 52, 51]), *seeds("lstm", [50, 4, 51]), *seeds("rnn", [1, 2, 4])]
    assert said(finding, *runs) == [
        "After training the gradient reaches more than twice as far back as before: with GRU in every run, with LSTM in 2 "
        "of 3 runs on the adding problem, with RNN (tanh) in none."
    ]


def test_the_finding_over_several_tasks():
    runs = [
        *seeds("gru", [50, 52], task="adding"),
        *seeds("gru", [50, 52], task="copy"),
        *seeds("lstm", [50, 52], task="adding"),
        *seeds("lstm", [5, 2], task="copy"),
    ]
    assert said(finding, *runs) == [
        "After training the gradient reaches more than twice as far back as before: with GRU in every run on both tasks, "
        "with LSTM in every run on the adding problem and in 1 of 2 runs on copy memory."
    ]


def test_a_finding_of_nothing_and_of_everything():
    assert said(finding, *seeds("rnn", [1, 2])) == [
        "After training the gradient reaches more than twice as far back as before in no run."
    ]
    assert said(finding, *seeds("rnn", [9, 9]), *seeds("lstm", [9, 9])) == [
        "After training the gradient reaches more than twice as far back as before: with RNN (tanh) and LSTM in every run."
    ]
    many = [
        {"cell": cell, "seed": seed, "horizons": {0: 2, 9: last}}
        for cell in ("rnn", "rnn-relu", "lstm")
        for seed, last in enumerate((2, 50))
    ]
    assert said(finding, *many)[0].endswith("with RNN (tanh), RNN (ReLU) and LSTM in some runs.")


def test_a_finding_names_nothing_that_was_not_measured():
    nothing = ["No memory horizon was measured both before and after training."]
    assert said(finding, {"status": "failed", "reason": "ValueError: too long"}) == nothing
    assert said(finding, {"horizons": {0: 2}}) == nothing


def table_of(*runs):
    (table,) = finding.tables(finding.frame(in_memory(*runs)))
    return table, [dict(zip(table.columns, row, strict=True)) for row in table.rows]


def test_the_table_of_the_first_screen():
    runs = [*seeds("lstm", [50, (200, 1), 51], loss=0.01, solved=True), {"cell": "rnn", "status": "diverged"}]
    table, (rnn, lstm) = table_of(*runs)
    assert lstm == {
        "task": "Adding problem",
        "network": "LSTM",
        "horizon before": "2 (2, 2, 2)",
        "after": "51 (50, > 200, 51)",
        "score": "MSE 0.01 (0.01, 0.01, 0.01)",
        "baseline": "0.167",
        "solved": "3 of 3",
    }
    assert (rnn["after"], rnn["solved"]) == ("none", "0 of 1; 1 diverged")
    assert table.caption.startswith("Median (each seed). Memory horizon: the last distance")


def test_text_is_never_called_solved(comparison):
    (table,) = finding.tables(finding.frame(comparison))
    text = [row for row in table.rows if row[0] == "Next word"]
    assert [row[-1] for row in text] == ["–; 1 diverged", "–; 1 failed", "–"]
    assert all(row[4].startswith("perplexity ") and row[5] == "209" for row in text)
    values = comparison.runs.query("metric == 'perplexity' and status == 'ok'")["value"]
    assert [row[6] for row in text] == [f"{values.min():.3g} (here)"] * 3
    assert {row[6] for row in table.rows if row not in text} == {""}
    assert "Text is never solved" in table.caption


def test_the_least_perplexity_of_a_generated_text_is_the_best_known(comparison):
    rows = finding.frame(comparison)
    rows.loc[rows["metric"] == "perplexity", "best_loss"] = math.log(5.0)
    (table,) = finding.tables(rows)
    assert {row[6] for row in table.rows if row[0] == "Next word"} == {"5"}
    assert table.caption.endswith("that of word frequencies alone and the best known.")


def test_one_seed_has_no_brackets_and_six_an_interval():
    assert table_of(*seeds("gru", [40]))[1][0]["after"] == "40"
    table, (row,) = table_of(*seeds("gru", [3, 5, 8, 13, 21, 34]))
    assert row["after"] == "10.5 [3, 34]"
    assert table.caption.startswith("Median [interval over seeds].")


# The other sections -----------------------------------------------------------------------------------------------------


def test_who_keeps_most_one_training_length_back():
    runs = [
        {"training_steps": 3, "curves": {0: [0.0, -2.0, -4.0, -6.0], 9: [0.0, -0.1, -0.2, -0.3]}},
        {"training_steps": 3, "cell": "rnn", "curves": {0: [0.0, -1.0, -2.0, -3.0], 9: [0.0, -1.0, -2.0, -3.0]}},
    ]
    assert said(gradient, *runs) == [
        "After training, one training length back, at least ten times as much of the gradient is left with LSTM on the "
        "adding problem as with any other network."
    ]
    (table,) = gradient.tables(gradient.frame(in_memory(*runs)))
    assert [row[2:5] for row in table.rows] == [["3", "0.01", "0.01"], ["3", "10⁻⁴", "0.63"]]


def test_growth_is_a_sentence_and_an_exact_zero_a_cell():
    runs = [
        {"training_steps": 2, "curves": {0: [0.0, 1.0, 2.0]}},
        {"training_steps": 2, "cell": "rnn", "curves": {0: [0.0, -1.0, -float("inf")]}},
    ]
    assert said(gradient, *runs) == [
        "LSTM's gradient grows (the adding problem, before training): it is 100 times its size one step back at distance 3."
    ]
    (table,) = gradient.tables(gradient.frame(in_memory(*runs)))
    assert dict(zip(table.columns, table.rows[0], strict=True))["exactly zero from"] == "3"


def test_a_ranking_that_flips_at_the_inputs_is_flagged():
    runs = [
        {"cell": "lstm", "horizons": {9: 50}, "inputs": {9: 20}},
        {"cell": "gru", "horizons": {9: 40}, "inputs": {9: 30}},
    ]
    assert said(horizons, *runs) == [
        "An order of networks depends on the measure: measured at the inputs, which all networks share, that of LSTM and "
        "GRU on the adding problem is reversed."
    ]
    runs[1]["inputs"] = {9: 10}
    assert said(horizons, *runs) == [
        "No order of networks depends on whether the gradient is taken by the state or by what networks share."
    ]


def test_a_lower_bound_does_not_reverse_an_order():
    runs = [
        {"cell": "lstm", "horizons": {9: 50}, "inputs": {9: (20, 1)}},
        {"cell": "gru", "horizons": {9: 40}, "inputs": {9: 30}},
    ]
    assert said(horizons, *runs)[0].startswith("No order of networks depends")


def test_three_seeds_are_said_to_settle_nothing():
    sentences = said(horizons, *seeds("lstm", [50, 52, 51]), *seeds("rnn", [4, 5, 4]))
    assert sentences[0].startswith("Three seeds cannot settle which of two networks reaches farther")


def test_runs_without_a_horizon_after_training_are_counted():
    rows = horizons.frame(in_memory(*seeds("lstm", [50, 51]), {"seed": 2, "status": "failed"}))
    (table,) = horizons.horizon_tables(rows)
    assert dict(zip(table.columns, table.rows[0], strict=True)) == {
        "task": "Adding problem",
        "network": "LSTM",
        "before, 1/e": "2 (2, 2)",
        "after, 1/e": "50.5 (50, 51)",
        "runs": "2 of 3",
    }


def test_nothing_measured_leaves_sections_out_or_says_so():
    failed = in_memory({"status": "failed", "reason": "ValueError: too long"})
    assert horizons.PART.section(failed) is None
    assert gradient.PART.section(failed) is None
    assert "nothing can be said about when its horizon opened" in opening.sentences(opening.frame(failed))[0]
    assert learned.sentences(learned.frame(failed)) == ["1 run broke off; the table of every run says why."]


OPENS = {0: 2, 200: 2, 400: 30}


@pytest.mark.parametrize(
    ("at", "words"),
    [
        (900, "before the loss fell"),
        (400, "together with it"),
        (200, "after it"),
        (None, "without a fall of the loss"),
    ],
)
def test_the_opening_is_placed_relative_to_the_fall(at, words):
    losses = {step: 0.16 if at is None or step < at else 0.001 for step in range(0, 1000, 100)}
    assert said(opening, {"horizons": OPENS, "losses": losses}) == [f"The horizon opened in 1 of 1 run, {words}."]


def test_seeds_that_differ_in_the_order_are_counted():
    falls = {step: 0.16 if step < 900 else 0.001 for step in range(0, 1000, 100)}
    early = {0: 0.16, 100: 0.001, 200: 0.001}
    runs = [{"seed": seed, "horizons": OPENS, "losses": loss} for seed, loss in enumerate([falls, falls, early])]
    runs.append({"seed": 3, "horizons": {0: 2, 400: 3}, "losses": falls})
    assert said(opening, *runs) == [
        "The horizon opened in 3 of 4 runs.",
        "In 2 before the loss fell and in 1 after it.",
    ]
    (table,) = opening.tables(opening.frame(in_memory(*runs)))
    assert [row[3:] for row in table.rows] == [
        ["200 to 400", "800 to 900", "before the loss fell"],
        ["200 to 400", "800 to 900", "before the loss fell"],
        ["200 to 400", "0 to 100", "after it"],
        ["", "800 to 900", "never opened"],
    ]


def test_a_horizon_that_stays_shut_or_closes_again_has_not_opened():
    shut = {"cell": "rnn", "horizons": {0: 2, 400: 4}}
    up_and_down = {"cell": "rnn", "seed": 1, "horizons": {0: 2, 200: 60, 400: 60, 600: 3}}
    assert said(opening, shut, up_and_down) == ["The horizon did not open and stay open in any of 2 runs."]
    (table,) = opening.tables(opening.frame(in_memory(shut, up_and_down)))
    assert [row[-1] for row in table.rows] == ["never opened", "closed again"]


def test_who_stayed_at_the_baseline_and_what_broke_off():
    good = [{"cell": "gru", "seed": seed, "solved": True, "loss": 0.001} for seed in range(2)]
    stuck = [{"cell": "rnn", "seed": seed, "loss": 0.163} for seed in range(2)]
    assert said(learned, *good, *stuck) == [
        "In 2 of 4 runs the loss ends less than 5 % below the baseline's: RNN (tanh)."
    ]
    assert said(learned, *good) == ["In every run that came to its end the loss falls clearly below the baseline's."]
    broken = [
        {"solved": True, "loss": 0.001},
        {"seed": 1, "status": "diverged", "reason": "the loss was nan at step 7."},
    ]
    assert said(learned, *broken)[1] == "1 run broke off; the table of every run says why."


def test_the_certificate_is_the_worst_of_all_runs():
    results = in_memory(*seeds("lstm", [50, 52, 51]))
    checks = [
        {"residual": 2e-7, "compared": 40, "skipped": 3, "weights": 5e-6, "dtype": "float32"},
        {"residual": 6e-7, "compared": 50, "skipped": 0, "weights": 1e-6, "dtype": "float32"},
        None,
    ]
    records = [record | {"verify": check} for record, check in zip(results.records, checks, strict=True)]
    rows = settings.frame(dataclasses.replace(results, records=records))
    assert settings.sentences(rows) == [
        "Float64 autograd computed 90 norms of the profiles (float32) again; they differ by at most 6.0e-07 of their size."
    ]
    _, runs = settings.all_tables(rows)
    shown = [dict(zip(runs.columns, row, strict=True)) for row in runs.rows]
    assert [row["weights off"] for row in shown] == ["5.0e-06", "1.0e-06", ""]
    assert [row["not compared"] for row in shown] == ["3", "0", ""]
    assert settings.sentences(settings.frame(results)) == []
