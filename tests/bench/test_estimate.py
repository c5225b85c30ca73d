"""How long runs will take: from runs of their kind, training and fixed costs apart, and else unknown."""

import json

import pytest

from rnnvg.bench import Timings, run_spec


def spec(cell="lstm", task="adding", hidden=16, seed=0, steps=100, batch=50, **settings):
    return run_spec(
        {"name": task, **settings}, cell, hidden=hidden, seed=seed, training={"steps": steps, "batch": batch}
    )


def done(directory, of, *, seconds, training, length, steps=None, status="ok"):
    folder = directory / "runs" / of.id
    folder.mkdir(parents=True)
    content = {"spec": of.to_dict(), "status": status, "seconds": seconds, "training_seconds": training}
    content |= {"steps": of.training.steps if steps is None else steps, "training_steps": length}
    (folder / "result.json").write_text(json.dumps(content))


@pytest.fixture
def earlier(tmp_path):
    # 100 steps in 10 s of training, and 30 s of fixed costs.
    done(tmp_path, spec(length=20), seconds=40.0, training=10.0, length=20)
    return tmp_path


def test_fixed_costs_do_not_grow_with_the_steps(earlier):
    assert Timings([earlier]).seconds(spec(length=20, steps=2000)) == pytest.approx(200 + 30)


def test_training_and_fixed_costs_grow_with_the_length(earlier):
    assert Timings([earlier]).seconds(spec(length=60)) == pytest.approx(3 * 40)


def test_a_training_that_ended_early_counts_by_its_own_steps(tmp_path):
    done(tmp_path, spec(length=20, steps=1000), seconds=40.0, training=10.0, length=20, steps=100)
    assert Timings([tmp_path]).seconds(spec(length=20, steps=1000, batch=50, seed=1)) == pytest.approx(40)
    assert Timings([tmp_path]).seconds(spec(length=20, steps=500)) == pytest.approx(50 + 30)


def test_the_same_run_with_another_seed_takes_as_long(earlier):
    done(earlier, spec(length=20, seed=1), seconds=60.0, training=10.0, length=20)
    assert Timings([earlier]).seconds(spec(length=20, seed=7)) == pytest.approx(50)


@pytest.mark.parametrize(
    "other",
    [
        {"cell": "gru"},
        {"hidden": 32},
        {"batch": 10},
        {"task": "multiplication"},
        {"marks": "anywhere"},
    ],
)
def test_of_another_kind_nothing_is_known(earlier, other):
    assert Timings([earlier]).seconds(spec(**{"length": 20, **other})) is None


def test_runs_that_failed_or_recorded_no_time_say_nothing(tmp_path):
    done(tmp_path, spec(length=20), seconds=40.0, training=10.0, length=20, status="failed")
    done(tmp_path, spec(length=20, seed=1), seconds=None, training=None, length=None)
    done(tmp_path, spec(length=30, seed=1), seconds=9.0, training=None, length=None)
    timings = Timings([tmp_path])
    assert timings.count == 1
    assert timings.seconds(spec(length=20)) is None
    assert timings.seconds(spec(length=30)) == 9.0
