"""The report's sections on why the gradient vanishes, and networks paired by seed: frames, figures and words."""

import math
from typing import Any

import pandas as pd
import pytest
from synthetic_results import AFTER as RATES
from synthetic_results import in_memory, write_results

from rnnvg.report import cause_figures, cause_sections, causes, comparison, pairs, results, style, wording
from rnnvg.report.words import causes as words


def test_the_split_is_the_mean_over_seeds(comparison):
    frame = causes.split(comparison, "nats")
    own = frame[
        (frame["problem"] == "Adding problem") & (frame["when"] == "after training") & (frame["distance"] == 200)
    ]
    values = own.set_index("part")["value"]
    assert values["saturation"] == pytest.approx(-20)
    assert values.sum() == pytest.approx(-math.log(10) * RATES["adding", "rnn"][0] * 200)
    assert set(causes.split(comparison, "share")["network"]) == {"LSTM", "GRU"}


def test_the_sentence_of_a_vanilla_network_and_of_a_gated_one(comparison):
    said = next(each for each in words.attribution(comparison) if each.startswith("Adding problem: RNN"))
    assert (
        "RNN (tanh) after training, over 200 steps: -20.0 nats saturation, -30.7 nats recurrent matrix; before" in said
    )
    assert (
        "LSTM after training, over 200 steps: -2.8 nats, arriving 90 % by the cell and 10 % by the forget gate (the "
        in said
    )
    assert "(the same trajectory with update gate open would give -2.0); before training" in said
    recent = [each for each in words.attribution(comparison) if "last 10 steps" in each]
    assert len(recent) == 3
    assert recent[1].endswith("make 50 % in RNN (tanh), 50 % in LSTM and 50 % in GRU.")


def test_exponents_before_and_after(comparison):
    said = words.exponents(comparison)
    assert said[0].startswith(
        "Copy memory, largest exponent in nats a step before and after training: RNN (tanh) from -0.37 to -0.37"
    )
    assert "above zero at" not in " ".join(said)


def test_an_exploding_network_is_said_to_cross_zero(tmp_path):
    directory = write_results(tmp_path, tasks=("adding",), cells=("rnn",), seeds=2, gain=lambda cell, after: -0.02)
    assert "and above zero at some checkpoint in 2 of 2 runs" in words.exponents(results.read(directory))[0]


def test_theory_rates_and_their_z_scores(comparison):
    rates = causes.theory_rates(comparison)
    row = rates[(rates["problem"] == "Adding problem") & (rates["network"] == "GRU")].iloc[0]
    assert (row["n"], row["predicted"]) == (3, pytest.approx(-0.6))
    assert row["z"] == pytest.approx((row["measured"] - row["predicted"]) / row["stderr"])
    assert causes.theory(comparison)["distance"].max() <= 64  # the width
    assert any("z = " in each for each in words.theory(comparison))


def test_gates_show_implied_beside_measured_time_constants(comparison):
    shown = words.gates_shown(comparison)
    row = shown[(shown["network"] == "LSTM") & (shown["task"] == "Adding problem") & (shown["when"] == "after")].iloc[0]
    assert (row["gate"], row["mean"], row["above 0.9"], row["implied time constant"]) == (
        "forget gate",
        "0.80",
        "30 %",
        "4.5",
    )
    assert row["measured e-fold"] == wording.steps(1 / (math.log(10) * RATES["adding", "lstm"][0]))


def test_a_source_map_has_every_source_and_nothing_after_the_loss(comparison):
    found = causes.source_map(comparison, "Adding problem", "GRU")
    assert found is not None
    assert list(found.index) == list(range(9, 200, 20))
    assert all(row.dropna().index.max() <= source for source, row in found.iterrows())
    assert causes.source_map(in_memory({"cell": "gru"}), "Adding problem", "GRU") is None


@pytest.mark.parametrize("name", cause_sections.FIGURES)
def test_figures_have_a_panel_a_problem_and_say_their_units(comparison, name):
    with style.applied():
        figure = cause_sections.FIGURES[name](comparison)
    axes = [ax for ax in figure.axes if ax.get_label() != "<colorbar>"]
    assert {ax.get_title() for ax in axes} - {""} == {"Copy memory", "Adding problem", "Next word"}
    labels = {ax.get_xlabel() for ax in axes} - {""}
    assert labels <= {"distance (time steps back)", "time step reached", "training step"}
    assert all(ax.collections or ax.lines for ax in axes)


def test_areas_reach_the_gain(comparison):
    with style.applied():
        figure = cause_figures.areas(comparison)
    panel: Any = figure.axes[0]
    corners: list[Any] = [path.vertices for each in panel.collections for path in each.get_paths()]
    bottom = min(each[:, 1].min() for each in corners)
    assert bottom == pytest.approx(panel.lines[0].get_ydata()[-1], rel=1e-6)


def test_results_without_causes_have_no_such_sections():
    assert cause_sections.sections(in_memory({"cell": "rnn"}), "", comparison.picture) == []


# Pairs ------------------------------------------------------------------------------------------------------------------


def runs(rnn, lstm):
    made = [{"cell": "rnn", "seed": seed, "horizons": {10: last}} for seed, last in enumerate(rnn)]
    return [*made, *({"cell": "lstm", "seed": seed, "horizons": {10: last}} for seed, last in enumerate(lstm))]


def test_networks_are_paired_by_their_seed():
    found = in_memory(*runs([1, 3, 7], [8, 15, 49]))
    (row,) = pairs.table(found).itertuples()
    assert (row.first, row.second, row.n) == ("LSTM", "RNN (tanh)", 3)
    assert (row.ratio, row.low, row.high) == (pytest.approx(7), pytest.approx(5), pytest.approx(8))
    assert pairs.sentences(found) == [
        "Three seeds cannot settle which of two networks reaches farther: all of them the same way has a probability of "
        "0.25 by chance. Six are the fewest that can."
    ]
    assert pairs.shown(found).iloc[0].to_dict() == {
        "task": "Adding problem",
        "networks": "LSTM against RNN (tanh)",
        "times as far": "7.0 (8.0, 5.0, 7.0)",
        "longer in": "3 of 3",
        "sign-flip test": "p = 0.25 (no less possible with 3)",
    }


def test_ties_and_open_ratios_are_named():
    censored = in_memory(*runs([1, 2], [(200, "censored"), (200, "censored")]))
    assert pairs.shown(censored).iloc[0]["times as far"] == "> 140 (> 200, > 100)"
    tied = pairs.shown(in_memory(*runs([5, 5, 5], [5, 5, 5]))).iloc[0]
    assert (tied["longer in"], tied["sign-flip test"]) == ("0 of 3, 3 tied", "identical")
    assert pairs.sentences(in_memory(*runs([1], [5]))) == []


def test_six_seeds_can_settle_it():
    found = in_memory(*runs([1] * 6, [10, 12, 11, 13, 14, 10]))
    assert pairs.sentences(found) == ["1 of 1 pairs of networks differ by the exact sign-flip test at 5 %."]
    assert pairs.shown(found).iloc[0]["sign-flip test"] == "p = 0.031"


def test_an_absurdly_wide_interval_is_not_printed_to_the_last_step():
    row = pd.Series({"n": 2, "center": 8.2, "low": 0.0, "high": 1_716_310_334.0, "median": 8.0, "bound": 8.0})
    assert wording.horizon(row) == "8.2 [0, > 1e6]"
    assert wording.horizon(pd.concat([row.drop("high"), pd.Series({"high": 344_655.0})])) == "8.2 [0, 340,000]"
