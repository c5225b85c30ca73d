"""What came first, the opening or the fall, on runs where it is known."""

import math

import pytest
from synthetic_results import in_memory

from rnnvg.report.sections.opening import timing

OPENS_BY_400 = {0: 2, 200: 2, 400: 30, 600: 31}
STAYS = {0: 2, 200: 3, 400: 4, 600: 4}


def falls(at):
    return {step: 1 / 6 if step < at else 0.001 for step in range(0, 1000, 100)}


@pytest.mark.parametrize(
    ("horizons", "losses", "order"),
    [
        (OPENS_BY_400, falls(900), "before"),
        (OPENS_BY_400, falls(500), "before"),  # opened by 400, not fallen at 400
        (OPENS_BY_400, falls(400), "together"),  # in 200..400 and in 300..400
        (OPENS_BY_400, falls(300), "together"),  # in 200..400 and in 200..300
        (OPENS_BY_400, falls(200), "after"),  # fallen by 200, not open at 200
        (OPENS_BY_400, dict.fromkeys(range(0, 1000, 100), 0.163), "never fell"),
        (OPENS_BY_400, {}, "never fell"),
        (STAYS, falls(300), "never opened"),
        ({0: 2, 200: 90, 400: 3}, falls(300), "closed again"),
    ],
)
def test_the_order(horizons, losses, order):
    assert timing(in_memory({"horizons": horizons, "losses": losses}))["order"].to_list() == [order]


def test_the_steps_between_which_it_happened():
    row = timing(in_memory({"horizons": OPENS_BY_400, "losses": falls(500)})).iloc[0]
    assert (row["opened_after"], row["opened_at"], row["fell_after"], row["fell_at"]) == (200, 400, 400, 500)


def test_an_opening_is_the_one_that_lasts():
    ups = {0: 2, 100: 88, 200: 1, 300: 88, 400: 60}
    row = timing(in_memory({"horizons": ups, "losses": falls(900)})).iloc[0]
    assert (row["opened_after"], row["opened_at"]) == (200, 300)


def test_a_loss_that_starts_below_the_baseline_is_compared_with_its_start():
    losses = {0: 0.02, 100: 0.0199, 200: 0.0001}
    row = timing(in_memory({"horizons": OPENS_BY_400, "losses": losses})).iloc[0]
    assert (row["fell_after"], row["fell_at"]) == (100, 200)


def test_without_a_baseline_the_loss_falls_from_its_start():
    run = {"horizons": OPENS_BY_400, "losses": {0: 8.0, 100: 7.0, 200: 4.0}, "baseline_loss": None}
    assert timing(in_memory(run)).iloc[0]["fell_at"] == 200


def test_a_loss_that_became_nan_is_left_out():
    losses = {0: 0.2, 100: 0.01, 200: math.nan}
    assert timing(in_memory({"horizons": OPENS_BY_400, "losses": losses})).iloc[0]["fell_at"] == 100


def test_runs_that_broke_off_or_were_looked_at_once_are_not_judged():
    found = timing(
        in_memory(
            {"horizons": OPENS_BY_400, "status": "diverged"}, {"horizons": {0: 2}, "seed": 1}, {"status": "failed"}
        )
    )
    assert found.empty
