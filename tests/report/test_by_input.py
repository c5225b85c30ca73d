"""A network without a recurrence has no state: reports then take all networks by the input, and say so."""

import numpy as np
import pytest
from synthetic_results import in_memory

from rnnvg.report import style, terminal
from rnnvg.report.page import Section
from rnnvg.report.sections import finding, gradient, horizons, ladder, opening

BY_INPUT = "Gradients of all networks are by the input, for one without a recurrence has no state."
BOTH = {
    "horizons": {0: 2, 9: 30},
    "inputs": {0: 1, 9: 20},
    "curves": {0: [0.0, -1.0], 9: [0.0, -0.1]},
    "input_curves": {0: [0.0, -2.0], 9: [0.0, -0.2]},
    "losses": {0: 0.2, 9: 0.1},
}
INPUT_ALONE = {
    "cell": "attention",
    "inputs": {0: 5, 9: 6},
    "input_curves": {0: [0.0, -3.0], 9: [0.0, -0.3]},
    "losses": {0: 0.2, 9: 0.1},
}
CLASSIC = [{**BOTH, "cell": cell} for cell in ("rnn", "lstm", "gru")]
DRAWN = (finding, gradient, opening)


def section(part, *runs) -> Section:
    found = part.PART.section(in_memory(*runs))
    assert found is not None
    return found


def axes(part, *runs):
    figure = part.PART.panels(in_memory(*runs)).figure
    with style.applied():
        figure.draw_without_rendering()
    return figure.axes


def test_the_input_is_taken_only_where_a_network_has_no_state():
    assert in_memory(*CLASSIC).by == "state"
    assert in_memory(*CLASSIC, INPUT_ALONE).by == "input"
    assert in_memory(INPUT_ALONE).by == "input"
    # A run that broke off before it was measured says nothing of its network.
    assert in_memory(*CLASSIC, {"cell": "attention", "status": "failed"}).by == "state"
    by_state_alone = {**BOTH, "inputs": {}, "input_curves": {}}
    assert in_memory(by_state_alone, INPUT_ALONE).by == "state"  # there is nothing that both have


def test_every_network_of_the_legend_has_its_curve():
    upper, lower = axes(gradient, *CLASSIC, INPUT_ALONE)
    networks = ["RNN (tanh)", "LSTM", "GRU", "attention (no recurrence)"]
    for ax, decades in ((upper, [-2.0, -3.0]), (lower, [-0.2, -0.3])):
        curves = {line.get_label(): line.get_ydata() for line in ax.lines if line.get_linewidth() > 2}
        assert list(curves) == networks
        assert [curves[name][-1] for name in networks] == [decades[0]] * 3 + [decades[1]]
    assert upper.get_ylabel() == "gradient left at input,\nbefore training"


@pytest.mark.parametrize("part", DRAWN)
def test_captions_and_axes_say_that_it_is_the_input(part):
    picture, labels = section(part, *CLASSIC, INPUT_ALONE).picture, []
    assert picture is not None
    assert picture.caption.endswith(BY_INPUT)
    for ax in axes(part, *CLASSIC, INPUT_ALONE):
        labels += [ax.get_xlabel(), ax.get_ylabel()]
    assert any("input" in label for label in labels)


def test_a_network_that_shares_no_curve_with_the_others_is_named_in_the_caption():
    by_state_alone = [{**each, "inputs": {}, "input_curves": {}} for each in CLASSIC]
    picture = section(gradient, *by_state_alone, INPUT_ALONE).picture
    assert picture is not None
    assert picture.caption.endswith(
        "Not in it: attention (no recurrence), measured by the input alone. Measured by the input, all networks share an axis."
    )


@pytest.mark.parametrize("part", DRAWN)
def test_recurrences_alone_are_taken_by_the_state_as_ever(part):
    picture = section(part, *CLASSIC).picture
    assert picture is not None
    assert "input" not in picture.caption
    assert not any("input" in ax.get_xlabel() + ax.get_ylabel() for ax in axes(part, *CLASSIC))


def test_the_lead_asks_of_what_is_drawn():
    end = "further and further back?"
    assert section(gradient, *CLASSIC).lead.endswith(f"is left at the network's state, {end}")
    assert section(gradient, *CLASSIC, INPUT_ALONE).lead.endswith(f"is left at the network's input, {end}")


def test_the_first_screen_has_a_horizon_of_every_network():
    (table,) = section(finding, *CLASSIC, INPUT_ALONE).tables
    shown = {row[1]: (row[2], row[3]) for row in table.rows}
    assert shown == {
        **dict.fromkeys(["RNN (tanh)", "LSTM", "GRU"], ("1", "20")),
        "attention (no recurrence)": ("5", "6"),
    }
    assert table.caption.endswith(BY_INPUT)
    assert BY_INPUT in " ".join(terminal.summary(in_memory(*CLASSIC, INPUT_ALONE)).split())
    (table,) = section(finding, *CLASSIC).tables
    assert {(row[2], row[3]) for row in table.rows} == {("2", "30")}
    assert "input" not in table.caption


def test_names_of_networks_stay_inside_the_figure():
    (ax,) = axes(finding, *CLASSIC, INPUT_ALONE)
    assert ax.get_yticklabels()[0].get_text() == "attention\n(no recurrence)"
    assert all(label.get_window_extent().x0 >= 0 for label in ax.get_yticklabels())


def test_tables_pairs_and_openings_follow():
    runs = [{**run, "seed": seed} for seed in (0, 1) for run in (CLASSIC[1], INPUT_ALONE)]
    found = in_memory(*runs)
    rows = horizons.frame(found)
    first, second = [table for table in horizons.horizon_tables(rows) if table.caption.startswith("Memory horizons by")]
    assert (first.caption[:25], first.folded) == ("Memory horizons by the in", False)
    assert (second.caption[:25], second.folded) == ("Memory horizons by the st", True)
    (pair,) = horizons.pairs(rows).to_dict("records")
    assert pair["ratio"] == pytest.approx(6 / 20)
    orders = opening.frame(found).drop_duplicates("id")["order"].tolist()
    assert orders == [*opening.timing(found, "input")["order"]]


def test_an_order_by_the_state_is_held_against_that_by_the_input():
    runs = [
        {"cell": "lstm", "horizons": {9: 50}, "inputs": {9: 20}},
        {"cell": "gru", "horizons": {9: 40}, "inputs": {9: 30}},
        {"cell": "attention", "inputs": {9: 10}},
    ]
    assert horizons.sentences(horizons.frame(in_memory(*runs))) == [
        "An order of networks depends on the measure: measured at each network's own state, that of LSTM and GRU on the "
        "adding problem is reversed."
    ]


def test_the_length_that_a_network_without_a_recurrence_solves_has_its_horizon():
    import pandas as pd

    found = in_memory(CLASSIC[1], INPUT_ALONE)
    keys = [
        {"task": "adding", "setting": "length", "cell": cell, "init": "default", "hidden": 64}
        for cell in ("lstm", "attention")
    ]
    climbed = pd.DataFrame([{**key, "solved_length": 50, "bound": "", "finished": True} for key in keys])
    rungs = pd.DataFrame([{**key, "length": 50, "solved": 1, "done": 1} for key in keys])
    points = ladder.ladder_points(climbed, rungs, found)
    np.testing.assert_array_equal(points["horizon"], [20, 6])
