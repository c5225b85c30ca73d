"""Pooling over seeds, against the same thing done by hand."""

import math

import numpy as np
import pandas as pd
from synthetic_results import in_memory

from rnnvg.horizon import MemoryHorizon, pool_horizons
from rnnvg.report import pooled
from rnnvg.report.style import AFTER, BEFORE


def test_horizons_are_pooled_as_the_contract_says(directory, comparison):
    frame = pd.read_csv(directory / "horizons.csv")
    frame = frame[(frame["task"] == "adding") & (frame["cell"] == "gru") & (frame["wrt"] == "state")]
    frame = frame[np.isclose(frame["threshold"], math.exp(-1))]
    last = frame.loc[frame.groupby("id")["step"].idxmax(), "last"]
    expected = pool_horizons([MemoryHorizon(math.exp(-1), int(value), None, False, -0.1, None) for value in last])

    table = pooled.horizons(comparison)
    chosen = (table["problem"] == "Adding problem") & (table["network"] == "GRU") & (table["wrt"] == "state")
    row = table[chosen & np.isclose(table["threshold"], math.exp(-1)) & (table["when"] == AFTER)].iloc[0]
    assert expected.spread is not None
    assert (row["median"], row["low"], row["high"]) == (expected.median, last.min(), last.max())
    assert (row["n"], row["spread"].values) == (3, expected.spread.values)
    assert math.isnan(row["coverage"])  # a range claims none


def test_every_network_has_a_row_at_every_moment(comparison):
    table = pooled.horizons(comparison)
    assert len(table) == 9 * 2 * 2 * 3  # networks, moments, wrt, thresholds
    assert table["runs"].unique().tolist() == [3]


def test_a_censored_majority_is_a_lower_bound():
    runs = [{"seed": seed, "horizons": {0: 2, 9: last}} for seed, last in enumerate([40, (200, True), (200, True)])]
    row = next(row for row in pooled.horizons(in_memory(*runs)).itertuples() if row.when == AFTER)
    assert (row.median, row.bound, row.n_censored, row.high) == (math.inf, 200.0, 2, math.inf)


def test_without_a_measurement_the_row_is_there_and_empty():
    found = in_memory({"horizons": {0: 2, 9: 30}}, {"cell": "rnn", "status": "failed"})
    table = pooled.horizons(found).set_index(["network", "when"])
    assert table.loc[("RNN (tanh)", BEFORE), "n"] == table.loc[("RNN (tanh)", AFTER), "n"] == 0
    assert table.loc[("LSTM", AFTER), "median"] == 30


def test_nothing_at_all_gives_an_empty_table():
    table = pooled.horizons(in_memory({"status": "failed"}))
    assert table.empty
    assert list(table) == pooled.COLUMNS


def test_the_middle_curve_is_the_median():
    gains = [[0.0, -1.0, -2.0], [0.0, -3.0, -5.0], [0.0, -2.5, -9.0]]
    found = in_memory(*({"seed": seed, "curves": {0: gain}} for seed, gain in enumerate(gains)))
    middle = pooled.median_curves(pooled.curves(found))
    assert middle["log10_gain"].to_list() == [0.0, -2.5, -5.0]
    assert middle["n"].to_list() == [3, 3, 3]


def test_an_exact_zero_in_one_of_three_seeds_is_the_lowest():
    gains = [[0.0, -1.0], [0.0, -2.0], [0.0, -math.inf]]
    found = in_memory(*({"seed": seed, "curves": {0: gain}} for seed, gain in enumerate(gains)))
    assert pooled.median_curves(pooled.curves(found))["log10_gain"].to_list() == [0.0, -2.0]


def test_the_median_ends_where_the_first_seed_ends():
    found = in_memory({"curves": {0: [0.0, -1.0, -2.0]}}, {"seed": 1, "curves": {0: [0.0, -3.0]}})
    assert pooled.median_curves(pooled.curves(found))["distance"].to_list() == [1, 2]


def test_the_bound_of_a_median_counts_what_is_censored_at_its_last_distance():
    runs = [{"seed": seed, "horizons": {9: last}} for seed, last in enumerate([1, (88, True)])]
    row = next(row for row in pooled.horizons(in_memory(*runs)).itertuples() if row.when == AFTER)
    assert (row.median, row.bound) == (math.inf, 44.5)
