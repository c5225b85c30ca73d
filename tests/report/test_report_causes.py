"""The report's sections on why the gradient vanishes, and networks paired by seed: frames, figures and words."""

import math
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest
from synthetic_results import AFTER as RATES
from synthetic_results import in_memory, write_results

from rnnvg.report import results, wording
from rnnvg.report.sections import exponents, horizons, sources, theory, why


def test_the_split_is_that_of_the_median_seed(comparison):
    frame = why.split(comparison, "nats")
    own = frame[
        (frame["problem"] == "Adding problem") & (frame["when"] == "after training") & (frame["distance"] == 200)
    ]
    values = own.set_index("part")["value"]
    assert values["saturation"] == pytest.approx(-20)
    assert values.sum() == pytest.approx(-math.log(10) * RATES["adding", "rnn"][0] * 200)
    assert set(why.split(comparison, "share")["network"]) == {"LSTM", "GRU"}


def test_the_parts_of_the_median_seed_add_to_its_gain(tmp_path):
    rates = iter([0.1, 0.3, 0.2])
    directory = write_results(tmp_path, tasks=("adding",), cells=("rnn",), seeds=3)
    found = results.read(directory)
    frame = found.causes
    for run, rate in zip(sorted(set(frame["id"])), rates, strict=True):
        for quantity, part, factor in (("log_gain", None, 1), ("nats", "saturation", 0.25), ("nats", "matrix", 0.75)):
            own = (frame["id"] == run) & (frame["quantity"] == quantity)
            own &= True if part is None else frame["part"] == part
            frame.loc[own, "value"] = -rate * factor * frame.loc[own, "distance"]
    nats, gain = why.split(found, "nats"), why.split(found, "log_gain")
    total = nats.groupby(["when", "distance"])["value"].sum()
    pd.testing.assert_series_equal(total, gain.groupby(["when", "distance"])["value"].sum())
    assert gain["value"].min() == pytest.approx(-0.2 * 200)


def test_what_takes_the_gradient_and_by_which_path_it_arrives(comparison):
    rows = why.frame(comparison)
    assert why.sentences(rows) == [
        "After training the recurrent matrix takes more of the gradient of RNN (tanh) in 3 of 3 cases.",
        "From far away the gradient arrives mostly along one path: that of LSTM by the cell and that of GRU by the carry.",
    ]
    table = why.tables(rows)[0]
    shown = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
    cells = {(row["task"], row["network"], row["when"]): row for row in shown}
    rnn, gru = (cells["Adding problem", network, "after"] for network in ("RNN (tanh)", "GRU"))
    assert rnn["taken by, or arriving by"] == "saturation -20.0, matrix -30.7"
    assert (rnn["distance"], rnn["nats"], rnn["update from last steps"]) == ("200", "-50.7", "50 % from 10")
    assert gru["taken by, or arriving by"] == "carry 90 %, update gate 10 %"
    assert gru["would be, with"] == "-2.0 with update gate open"


def test_exponents_before_and_after(comparison):
    rows = exponents.frame(comparison)
    assert exponents.sentences(rows) == [
        "The largest exponent stays at or below zero at every checkpoint of every run."
    ]
    (table,) = exponents.tables(rows)
    first = dict(zip(table.columns, table.rows[0], strict=True))
    assert (first["network"], first["before"], first["above zero at some time"]) == (
        "RNN (tanh)",
        "-0.368 (-0.368, -0.368, -0.368)",
        "0 of 3",
    )


def test_an_exploding_network_is_said_to_cross_zero(tmp_path):
    directory = write_results(tmp_path, tasks=("adding",), cells=("rnn",), seeds=2, gain=lambda cell, after: -0.02)
    assert exponents.sentences(exponents.frame(results.read(directory))) == [
        "The largest exponent is above zero at some checkpoint in 2 of 2 runs."
    ]


def test_theory_rates_and_their_z_scores(comparison):
    rows = theory.frame(comparison)
    rates = theory.rates(rows)
    row = rates[(rates["problem"] == "Adding problem") & (rates["network"] == "GRU")].iloc[0]
    assert (row["n"], row["predicted"]) == (3, pytest.approx(-0.6))
    assert row["z"] == pytest.approx((row["measured"] - row["predicted"]) / row["stderr"])
    assert theory.frame(comparison)["distance"].max() <= 64  # the width
    (table,) = theory.tables(rows)
    assert table.columns[-3:] == ["z", "seeds", "zero state, a step"]
    at = table.columns.index("z")
    assert table.columns[2:5] == ["measured", "standard error", "half-life"]
    assert all(float(row[at]) == pytest.approx(z, abs=0.05) for row, z in zip(table.rows, rates["z"], strict=True))
    far = int((rates["z"].abs() > 3).sum())
    assert theory.sentences(rows)[0].startswith(f"{far} of 9 rates lie more than three standard errors from theory")


def test_gates_show_implied_beside_measured_time_constants(comparison):
    shown = why.gates_shown(why.frame(comparison))
    row = shown[(shown["network"] == "LSTM") & (shown["task"] == "Adding problem") & (shown["when"] == "after")].iloc[0]
    assert (row["gate"], row["mean"], row["above 0.9"], row["implied time constant"]) == (
        "forget gate",
        "0.80",
        "30 %",
        "4.5",
    )
    assert row["measured e-fold"] == wording.steps(1 / (math.log(10) * RATES["adding", "lstm"][0]))


def test_a_source_map_has_every_source_and_nothing_after_the_loss(comparison):
    found = sources.source_map(sources.frame(comparison), "Adding problem", "GRU")
    assert list(found.index) == list(range(9, 200, 20))
    assert all(row.dropna().index.max() <= source for source, row in found.iterrows())
    unmeasured = sources.frame(in_memory({"cell": "gru"}))
    assert sources.source_map(unmeasured, "Adding problem", "GRU").empty


def test_a_network_without_a_recurrence_has_its_map_by_the_input(comparison):
    found = replace(comparison, causes=comparison.causes.copy())
    own = (found.causes["quantity"] == "map") & (found.causes["network"] == "GRU")
    found.causes.loc[own, "quantity"] = "map by input"
    rows = sources.frame(found)
    assert set(rows.loc[rows["network"] == "GRU", "wrt"]) == {"input"}
    assert set(rows.loc[rows["network"] == "LSTM", "wrt"]) == {"state"}
    assert sources.caption(rows).endswith(
        "For GRU it is the gradient by the input: without a recurrence there is no state."
    )
    titles = [ax.get_title() for ax in sources.PART.panels(found).axes.ravel()]
    assert "GRU by input: adding problem" in titles
    assert "LSTM: adding problem" in titles
    assert "by the input" not in sources.caption(sources.frame(comparison))


PARTS = [why.PART, sources.PART, exponents.PART, theory.PART]


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.name)
def test_figures_have_a_panel_a_problem_and_say_their_units(comparison, part):
    panels = part.panels(comparison)
    axes = list(panels.axes.ravel())
    titles = " ".join(ax.get_title().lower() for ax in axes)
    assert all(name in titles for name in ("copy memory", "adding problem", "next word"))
    labels = {ax.get_xlabel() for ax in axes} - {""}
    assert labels <= {"distance (time steps back)", "time step reached", "training step"}
    assert all(ax.collections or ax.lines for ax in axes)


def test_every_row_of_why_has_a_legend_in_which_no_colour_means_two_things(comparison):
    panels = why.PART.panels(comparison)
    legends = [group[0] for group in panels.groups[::4]]
    names = [[text.get_text() for text in each.get_texts()] for each in legends]
    assert names == [["saturation", "matrix"], ["cell", "forget gate"], ["carry", "update gate"]]
    for each in legends:
        colours = [handle.get_facecolor() for handle in each.legend_handles]
        assert len(set(colours)) == len(colours)


def test_areas_reach_the_gain(comparison):
    panel: Any = why.PART.panels(comparison).axes[0, 0]
    corners: list[Any] = [path.vertices for each in panel.collections for path in each.get_paths()]
    bottom = min(each[:, 1].min() for each in corners)
    assert bottom == pytest.approx(panel.lines[0].get_ydata()[-1], rel=1e-6)


def test_results_without_causes_have_no_such_sections():
    assert [part.section(in_memory({"cell": "rnn"})) for part in PARTS] == [None] * 4


# Pairs ------------------------------------------------------------------------------------------------------------------


def runs(rnn, lstm):
    made = [{"cell": "rnn", "seed": seed, "horizons": {10: last}} for seed, last in enumerate(rnn)]
    return [*made, *({"cell": "lstm", "seed": seed, "horizons": {10: last}} for seed, last in enumerate(lstm))]


def test_networks_are_paired_by_their_seed():
    found = in_memory(*runs([1, 3, 7], [8, 15, 49]))
    (row,) = horizons.pairs(horizons.frame(found)).itertuples()
    assert (row.first, row.second, row.n) == ("LSTM", "RNN (tanh)", 3)
    assert (row.ratio, row.low, row.high) == (pytest.approx(7), pytest.approx(5), pytest.approx(8))
    assert horizons.pair_sentences(horizons.frame(found)) == [
        "Three seeds cannot settle which of two networks reaches farther: all of them the same way has a probability of "
        "0.25 by chance. Six are the fewest that can."
    ]
    assert horizons.pairs_shown(horizons.frame(found)).iloc[0].to_dict() == {
        "task": "Adding problem",
        "networks": "LSTM against RNN (tanh)",
        "times as far": "7.0 (8.0, 5.0, 7.0)",
        "longer in": "3 of 3",
        "sign-flip test": "p = 0.25 (no less possible with 3)",
    }


def test_ties_and_open_ratios_are_named():
    censored = in_memory(*runs([1, 2], [(200, "censored"), (200, "censored")]))
    assert horizons.pairs_shown(horizons.frame(censored)).iloc[0]["times as far"] == "> 140 (> 200, > 100)"
    tied = horizons.pairs_shown(horizons.frame(in_memory(*runs([5, 5, 5], [5, 5, 5])))).iloc[0]
    assert (tied["longer in"], tied["sign-flip test"]) == ("0 of 3, 3 tied", "identical")
    assert horizons.pair_sentences(horizons.frame(in_memory(*runs([1], [5])))) == []


def test_six_seeds_can_settle_it():
    found = in_memory(*runs([1] * 6, [10, 12, 11, 13, 14, 10]))
    assert horizons.pair_sentences(horizons.frame(found)) == [
        "1 of 1 pairs of networks differ by the exact sign-flip test at 5 %."
    ]
    assert horizons.pairs_shown(horizons.frame(found)).iloc[0]["sign-flip test"] == "p = 0.031"
