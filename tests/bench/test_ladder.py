"""The ladder: which lengths are run, what they come to, and that it goes on from what is there."""

import fake_runs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnnvg.bench import grid
from rnnvg.bench.extras import Ladder
from rnnvg.bench.ladder import Climb, climbed_frame, rungs_frame
from rnnvg.errors import InputError
from rnnvg.horizon.intervals import fraction_interval


def climb(least=10, most=640, seeds=2, **ladder):
    ladder = Ladder(setting="length", least=least, most=most, **ladder)
    return Climb(fake_runs.spec(length=least), ladder, tuple(range(seeds)))


def result(spec, solved, status="ok"):
    return {"id": spec.id, "spec": spec.to_dict(), "status": status, "solved": solved}


def climbed(climb, solves, results=None):
    """Runs a climb for a network whose seed s solves lengths up to solves[s]; the results, and the lengths in order."""
    results = {} if results is None else results
    lengths = []
    while runs := climb.to_do(results):
        lengths.append(runs[0].task["length"])
        results |= {spec.id: result(spec, spec.task["length"] <= solves[spec.seed]) for spec in runs}
        assert len(lengths) < 50
    return results, lengths


def test_lengths_double_and_then_bisect():
    results, lengths = climbed(climb(), solves=[50, 50])
    assert lengths == [10, 20, 40, 80, 60, 50, 55]
    frame = climbed_frame([climb()], results)
    (row,) = frame.itertuples()
    assert (row.solved_length, row.failed_length, row.bound, row.finished) == (50, 55, "", True)


def test_hopeless_lengths_are_not_run():
    results, lengths = climbed(climb(), solves=[5, 5])
    assert lengths == [10]
    (row,) = climbed_frame([climb()], results).itertuples()
    assert (row.bound, row.failed_length) == ("<", 10)
    _, lengths = climbed(climb(most=50), solves=[1000, 1000])
    assert lengths == [10, 20, 40, 50]


@given(st.integers(1, 700), st.sampled_from([0.02, 0.1, 0.5]))
def test_the_largest_length_is_found_to_within_what_is_asked(reach, within):
    way = climb(within=within, seeds=1)
    results, lengths = climbed(way, solves=[reach])
    (row,) = climbed_frame([way], results).itertuples()
    assert len(lengths) == len(set(lengths))
    if row.bound == "<":
        assert reach < 10
    elif row.bound == ">=":
        assert reach >= 640
    else:
        assert row.solved_length <= reach < row.failed_length
        assert row.failed_length - row.solved_length <= max(1, within * row.solved_length)


def test_success_is_a_fraction_of_the_seeds_and_what_failed_has_not_solved():
    way = climb(seeds=4, success=0.5, most=20)
    results = {spec.id: result(spec, spec.seed < 2) for spec in way.runs(10)}
    assert way.to_do(results)[0].task["length"] == 20
    lost = {spec.id: result(spec, spec.seed < 2, "failed" if spec.seed == 0 else "ok") for spec in way.runs(10)}
    assert way.to_do(lost) == []
    (row,) = rungs_frame([way], results).itertuples()
    assert (row.length, row.done, row.solved, row.fraction) == (10, 4, 2, 0.5)
    assert (row.low, row.high) == pytest.approx((0.0676, 0.9324), abs=1e-4)


def test_a_climb_goes_on_from_what_is_there():
    way = climb()
    whole, lengths = climbed(way, solves=[50, 30])
    part = {spec.id: whole[spec.id] for length in lengths[:2] for spec in way.runs(length)}
    half = way.runs(lengths[2])[0]
    assert [spec.id for spec in way.to_do(part | {half.id: whole[half.id]})] == [s.id for s in way.runs(lengths[2])]
    again, _ = climbed(way, solves=[50, 30], results=part)
    assert again == whole


def test_exact_intervals():
    # Clopper and Pearson: k of k has the lower end (a/2)^(1/k).
    assert fraction_interval(3, 3) == pytest.approx((0.025 ** (1 / 3), 1.0))
    assert fraction_interval(0, 5) == pytest.approx((0.0, 1 - 0.025 ** (1 / 5)))


LADDER = {
    "cells": ["rnn", "gru"],
    "seeds": 2,
    "task": {"name": "adding", "ladder": {"setting": "length", "least": 4, "most": 64}},
    "model": {"hidden": 8},
}


def changed(**ladder):
    return LADDER | {"task": {"name": "adding", "ladder": LADDER["task"]["ladder"] | ladder}}


def test_a_file_has_a_ladder():
    made = grid.from_dict(LADDER, "bench")
    assert made.axes == {"task.length"}
    assert [spec.task["length"] for spec in made.runs()] == [4, 4, 4, 4]


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (changed(setting="lenght"), "`task.ladder.setting` has no 'lenght'. Did you mean 'length'?"),
        (changed(most=3), "`task.ladder.most` must be at least 4; got 3."),
        (changed(least=1), "`task.ladder.least` cannot be run: `length` must be a whole number of at least 2; got 1."),
        (changed(stop=1), "`task.ladder.stop` is not known."),
        (changed(success=0), "`task.ladder.success` must be above 0; got 0."),
        (
            LADDER | {"task": LADDER["task"] | {"length": 9}},
            "`task.length` is climbed by the ladder. Leave it out here.",
        ),
    ],
)
def test_faults_of_a_ladder(data, fault):
    with pytest.raises(InputError) as caught:
        grid.from_dict(data, "bench")
    assert fault in str(caught.value)
