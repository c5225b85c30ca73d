"""Paragraphs from runs whose numbers are known: each says what is so, and nothing that is not."""

import dataclasses

import pytest
from synthetic_results import in_memory

from rnnvg.report.words import certificate, curves, horizons, losses, opening, overview


def seeds(cell, values, **more):
    """A run a value: horizon 2 before training, the value after it."""
    return [{"cell": cell, "seed": seed, "horizons": {0: 2, 9: value}, **more} for seed, value in enumerate(values)]


def test_the_farthest_is_named_with_factor_and_interval():
    said = horizons.paragraphs(in_memory(*seeds("lstm", [50, 52, 51]), *seeds("rnn", [4, 5, 4])))
    assert said[0] == (
        "Adding problem: LSTM reaches farthest, 51 time steps (interval 49 to 54), from 2 before training, beyond the "
        "training length of 50. Clear of it, without overlap of intervals, is RNN (tanh) (4.3, 3.1 to 5.9; shorter by a "
        "factor of 12)."
    )


def test_overlapping_intervals_settle_nothing():
    said = horizons.paragraphs(in_memory(*seeds("lstm", [20, 40, 90]), *seeds("gru", [30, 30, 80])))
    assert "The interval of LSTM" in said[0] or "The interval of GRU" in said[0]
    assert "overlaps with its own: these runs do not settle that order." in said[0]
    assert "Clear of it" not in said[0]


def test_equal_horizons_are_called_equal():
    said = horizons.paragraphs(in_memory(*seeds("lstm", [20, 30]), *seeds("gru", [20, 30])))
    assert said[0].startswith("Adding problem: LSTM and GRU reach equally far, 25 time steps")
    assert "farthest" not in said[0]


def test_one_seed_has_no_interval_and_says_so():
    said = horizons.paragraphs(in_memory(*seeds("lstm", [60]), *seeds("rnn", [4])))
    assert said[0] == (
        "Adding problem: LSTM reaches farthest, 60 time steps, from 2 before training, beyond the training length of 50. "
        "Behind it is RNN (tanh) (4; shorter by a factor of 15)."
    )
    assert said[-1] == (
        "One seed a network: there is no interval over seeds, and a difference may be that of two models rather than of "
        "two networks."
    )


def test_one_network_alone_is_compared_with_nobody():
    said = horizons.paragraphs(in_memory(*seeds("gru", [40])))
    assert said == [
        "Adding problem: GRU's horizon is 40 time steps, from 2 before training, within the training length of 50.",
        "One seed a network: there is no interval over seeds.",
    ]


def test_all_censored_is_never_a_number():
    said = horizons.paragraphs(in_memory(*seeds("lstm", [(200, 1)] * 3), *seeds("gru", [(200, 1)] * 3)))
    assert said[0] == (
        "Adding problem: LSTM and GRU reach farther than could be measured, more than 200 time steps (interval from 200 "
        "up), beyond the training length of 50."
    )
    assert said[2] == (
        'Marked ">", LSTM (adding problem, after training, 3 of 3) and GRU (adding problem, after training, 3 of 3): at '
        "the end of the measured sequence the gradient is still above 1/e, so the horizon is only known to be larger. "
        "Such an interval is made of order statistics; it covers 88 % at least."
    )


def test_a_lower_bound_below_another_horizon_settles_nothing():
    said = horizons.paragraphs(in_memory(*seeds("lstm", [1, (88, 1)]), *seeds("gru", [87, 87])))
    assert said[0] == (
        "Adding problem: GRU is known to reach farthest, 87 time steps (interval 87 to 87), from 2 before training, beyond "
        "the training length of 50. What LSTM (more than 44.5, 1 or more) would reach is not known, so it may be farther."
    )


def test_a_censored_best_makes_the_factor_a_lower_bound():
    said = horizons.paragraphs(in_memory(*seeds("lstm", [(200, 1)] * 3), *seeds("rnn", [4, 4, 4])))
    assert "RNN (tanh) (4, 4 to 4; shorter by a factor of at least 50)" in said[0]


def test_a_horizon_of_zero_has_no_factor():
    said = horizons.paragraphs(in_memory(*seeds("lstm", [10, 12]), *seeds("rnn", [0, 0])))
    assert "RNN (tanh) (0, 0 to 0)" in said[0]
    assert "factor" not in said[0]


def test_a_horizon_of_one_is_one_time_step():
    assert "is 1 time step," in horizons.paragraphs(in_memory(*seeds("rnn", [1])))[0]


def test_runs_without_a_horizon_after_training_are_counted():
    said = horizons.paragraphs(in_memory(*seeds("lstm", [50, 51]), {"seed": 2, "status": "failed"}))
    assert "Without a horizon after training: 1 of 3 runs of LSTM (adding problem)." in said


def test_an_untrained_network_is_described_before_training():
    said = horizons.paragraphs(in_memory({"horizons": {0: 2}}))
    assert said[0] == (
        "Adding problem: no horizon was measured after training; before training it was, in time steps, 2 for LSTM."
    )


def test_a_ranking_that_flips_at_the_inputs_is_flagged():
    runs = [
        {"cell": "lstm", "horizons": {9: 50}, "inputs": {9: 20}},
        {"cell": "gru", "horizons": {9: 40}, "inputs": {9: 30}},
    ]
    assert "instead of the state, the order of LSTM and GRU (adding problem) is reversed." in " ".join(
        horizons.paragraphs(in_memory(*runs))
    )
    runs[1]["inputs"] = {9: 10}
    assert "no order of networks is reversed." in " ".join(horizons.paragraphs(in_memory(*runs)))


def test_nothing_measured_is_said():
    failed = in_memory({"status": "failed", "reason": "ValueError: too long"})
    assert horizons.paragraphs(failed) == ["No memory horizon was measured."]
    assert curves.paragraphs(failed) == ["No gradient was measured: no run came as far as its first checkpoint."]
    assert "nothing can be said about when its horizon opened" in opening.paragraphs(failed)[0]
    assert losses.paragraphs(failed) == [
        "Adding problem: no run of LSTM came to its end.",
        "Broke off: LSTM on adding problem, seed 0, failed (ValueError: too long).",
    ]
    assert overview.paragraphs(failed) == [
        "1 run: 1 task, 1 network, 1 seed each; 1 failed. Memory horizons after training, in time steps, and how many "
        "runs solved their task:",
        "Adding problem: LSTM no horizon (0 of 1 solved).",
    ]


def test_what_is_left_one_training_length_back():
    found = in_memory(
        {"training_steps": 3, "curves": {0: [0.0, -2.0, -4.0, -6.0], 9: [0.0, -0.1, -0.2, -0.3]}},
        {"training_steps": 3, "cell": "rnn", "curves": {0: [0.0, -1.0, -2.0, -3.0], 9: [0.0, -1.0, -2.0, -3.0]}},
    )
    assert curves.paragraphs(found) == [
        "Adding problem, what is left one training length (3 time steps) back: before training 0.01 in RNN (tanh) and "
        "10⁻⁴ in LSTM; after training 0.63 in LSTM and 0.01 in RNN (tanh)."
    ]


def test_what_leaves_the_frame_is_told():
    found = in_memory({"training_steps": 2, "curves": {0: [0.0, -10.0, -20.0]}})
    assert curves.paragraphs(found)[1] == (
        "The axis ends at 10⁻¹²; what leaves it goes on down, lowest of all LSTM (adding problem, before training) with "
        "10⁻²⁰ at distance 3."
    )


def test_growth_and_exact_zeros_are_told():
    found = in_memory(
        {"training_steps": 2, "curves": {0: [0.0, 1.0, 2.0]}},
        {"training_steps": 2, "cell": "rnn", "curves": {0: [0.0, -1.0, -float("inf")]}},
    )
    said = curves.paragraphs(found)
    assert (
        "LSTM's gradient (adding problem, before training) grows: it is 100 times its size one step back at distance 3."
        in said
    )
    assert (
        "RNN (tanh)'s gradient (adding problem, before training) is exactly zero at 1 distance from 3 on; a log axis "
        "cannot show it." in said
    )


OPENS = {0: 2, 200: 2, 400: 30}


@pytest.mark.parametrize(
    ("at", "words"),
    [
        (900, "before its loss falls"),
        (400, "together with the fall of its loss"),
        (200, "after its loss has fallen"),
        (None, "without a fall of its loss"),
    ],
)
def test_the_opening_is_placed_relative_to_the_fall(at, words):
    losses = {step: 0.16 if at is None or step < at else 0.001 for step in range(0, 1000, 100)}
    said = opening.paragraphs(in_memory({"horizons": OPENS, "losses": losses}))
    assert said[0] == f"Adding problem: the horizon of LSTM opens, by step 400, {words}."


def test_seeds_that_differ_in_the_order_are_counted():
    falls = {step: 0.16 if step < 900 else 0.001 for step in range(0, 1000, 100)}
    early = {0: 0.16, 100: 0.001, 200: 0.001}
    runs = [{"seed": seed, "horizons": OPENS, "losses": loss} for seed, loss in enumerate([falls, falls, early])]
    said = opening.paragraphs(in_memory(*runs, {"seed": 3, "horizons": {0: 2, 400: 3}, "losses": falls}))
    assert said[0] == (
        "Adding problem: the horizon of LSTM opens in 3 of 4 runs, by step 400, 2 before its loss falls and 1 after its "
        "loss has fallen."
    )


def test_a_horizon_that_stays_shut_is_said_to():
    said = opening.paragraphs(in_memory({"cell": "rnn", "horizons": {0: 2, 400: 4}}))
    assert said[0] == "Adding problem: the horizon of RNN (tanh) does not open (at most 4 time steps)."


def test_a_horizon_that_closes_again_has_not_opened():
    up_and_down = {0: 2, 200: 60, 400: 60, 600: 3}
    said = opening.paragraphs(in_memory({"horizons": up_and_down}))
    assert said[0] == "Adding problem: the horizon of LSTM opens and closes again."
    said = opening.paragraphs(in_memory({"horizons": up_and_down}, {"seed": 1, "horizons": OPENS}))
    assert said[0] == (
        "Adding problem: the horizon of LSTM opens in 1 of 2 runs, by step 400, without a fall of its loss (in 1 more it "
        "opens and closes again)."
    )


def test_who_solved_it_and_who_stayed_at_the_baseline():
    solved = [{"cell": "gru", "seed": seed, "solved": True, "loss": 0.001} for seed in range(2)]
    stuck = [{"cell": "rnn", "seed": seed, "loss": 0.163} for seed in range(2)]
    assert losses.paragraphs(in_memory(*solved, *stuck)) == [
        "Adding problem: RNN (tanh) solves it in none of 2 runs (median mean squared error 0.163, its loss not even 5 % "
        "below the baseline's); GRU solves it in 2 of 2 runs by step 500 (median mean squared error 0.001). Baseline: always "
        "answers 1."
    ]


def test_diverged_runs_count_as_unsolved():
    runs = [{"solved": True, "loss": 0.001}, {"seed": 1, "status": "diverged", "reason": "the loss was nan at step 7."}]
    said = losses.paragraphs(in_memory(*runs))
    assert "LSTM solves it in 1 of 2 runs" in said[0]
    assert said[1] == "Broke off: LSTM on adding problem, seed 1, diverged (the loss was nan at step 7)."


def test_the_overview_of_the_whole_comparison(comparison):
    said = overview.paragraphs(comparison)
    assert said[0].startswith("27 runs: 3 tasks, 3 networks, 3 seeds each; 1 diverged, 1 failed.")
    assert (
        said[1] == "Copy memory: RNN (tanh) 2.9 (0 of 3 solved), LSTM 37 (3 of 3 solved) and GRU > 88 (3 of 3 solved)."
    )


def test_the_certificate_is_the_worst_of_all_runs():
    results = in_memory(*seeds("lstm", [50, 52, 51]))
    checks = [
        {"residual": 2e-7, "compared": 40, "skipped": 3, "weights": 5e-6, "dtype": "float32"},
        {"residual": 6e-7, "compared": 50, "skipped": 0, "weights": 1e-6, "dtype": "float32"},
        None,
    ]
    records = [record | {"verify": check} for record, check in zip(results.records, checks, strict=True)]
    assert certificate.paragraphs(dataclasses.replace(results, records=records)) == [
        "Certificate: 90 norms of the profiles (float32) of 2 runs were computed again by float64 autograd and differ by "
        "at most 6.0e-07 of their size; what the time steps add to each weight's gradient sums to autograd's gradient "
        "within 5.0e-06 of it. 3 more norms could not be compared: there float64 autograd reads 0 or loses digits."
    ]
    assert certificate.paragraphs(results) == []
