"""Trials are pairs; clipping is one factor; an exploding network is what it is for; causes by their numbers."""

import math

import pytest
import torch

from rnnvg import InputError
from rnnvg.advise import NAMES, REMEDIES, run_trial
from rnnvg.advise.cause import name_cause
from rnnvg.advise.remedies import chosen
from rnnvg.advise.settings import settings

ADDING = {"name": "adding", "length": 8}


def small(cell="rnn", **options):
    return settings(ADDING, cell, **{"hidden": 8, "steps": 6, "sequences": 4, **options})


def test_what_a_remedy_leaves_alone_is_the_same_in_both():
    shared = small()
    base = run_trial(shared, "none", 1)
    for name in ("smaller-lr", "warm-up", "clipping", "omega"):
        other = run_trial(shared, name, 1)
        assert other["start"] == base["start"]
        assert other["predicted"] == base["predicted"]
    assert run_trial(shared, "none", 1) | {"seconds": 0} == base | {"seconds": 0}
    assert run_trial(shared, "none", 2)["start"]["rate"] != base["start"]["rate"]
    assert base["cause"]["cause"] == "recurrent matrix"
    assert sum(base["cause"]["parts"].values()) == pytest.approx(base["cause"]["nats"])


def test_the_random_state_and_the_threads_of_the_caller_stay():
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    run_trial(small(steps=1), "leaky", 0)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("cell", ["rnn", "lstm"])
def test_clipping_at_equal_weights_changes_no_distance(cell):
    found = run_trial(small(cell, steps=1), "clipping", 0)["equal_weights"]
    assert 0 < found["factor"] <= 0.1001
    assert found["cosine"] == pytest.approx(1, abs=1e-6)
    assert found["largest_difference"] < 1e-12
    assert found["log_horizon_change"] == 0


def test_an_exploding_network_diverges_without_clipping_alone():
    shared = settings({"name": "adding", "length": 30}, hidden=16, sequences=4)
    free, clipped = (run_trial(shared, name, 0) for name in ("exploding", "exploding-clipped"))
    assert free["start"]["rate"] == pytest.approx(math.log(1e4) / 30, abs=0.01)
    assert (free["status"], clipped["status"]) == ("diverged", "ok")
    assert clipped["value"] < 1


@pytest.mark.parametrize("name", NAMES)
def test_every_remedy_runs_for_every_cell_that_it_fits(name):
    for cell in REMEDIES[name].fits:
        found = run_trial(small(cell, steps=1, hidden=4), name, 0)
        assert found["status"] == "ok"
        assert math.isfinite(found["start"]["rate"])


def test_remedies_that_do_not_fit_are_left_out_with_a_reason():
    fitting, left_out = chosen("rnn", None)
    assert [each.name for each in fitting] == [name for name in NAMES if name not in ("forget-bias", "chrono")]
    assert left_out == {
        "forget-bias": "needs a forget gate: take an LSTM first",
        "chrono": "needs gates: take an LSTM or a GRU first",
    }
    fitting, left_out = chosen("gru", ("warm-up", "clipping", "chrono"))
    assert [each.name for each in fitting] == ["chrono", "warm-up", "clipping"]
    assert left_out == {}
    with pytest.raises(InputError) as caught:
        chosen("gru", ("clipping", "leaky"))
    assert str(caught.value) == (
        "`remedies` 'leaky' is for networks without gates; got cell 'gru'. It fits: rnn, rnn-relu. Leave it out, or pass "
        "another cell."
    )


@pytest.mark.parametrize(
    ("total", "parts", "exact", "cause"),
    [
        (-50.0, {"saturation": -2.0, "matrix": -48.0}, True, "recurrent matrix"),
        (-50.0, {"saturation": -60.0, "matrix": 10.0}, True, "saturation"),
        (8.0, {"saturation": -2.0, "matrix": 10.0}, True, "explosion"),
        (-0.5, {"saturation": -0.5, "matrix": 0.0}, True, ""),
        (-30.0, {"tanh slopes 1": 1.0, "forget gate open": 28.0}, False, "gates"),
        (-30.0, {"tanh slopes 1": 29.0, "forget gate open": math.nan}, False, "saturation"),
    ],
)
def test_causes_by_their_numbers(total, parts, exact, cause):
    assert name_cause(total, parts, exact) == cause


@pytest.mark.parametrize(
    ("task", "cell", "options", "message"),
    [
        (
            "adding",
            "rmn",
            {},
            "`cell` has no 'rmn'. Did you mean 'rnn'? Pass one of: rnn, rnn-relu, lstm, gru, "
            "leaky, residual, layer-norm, mingru, lru, lem, attention, tcn.",
        ),
        ("adding", "rnn", {"hidden": 1}, "`hidden` must be a whole number of at least 2; got 1."),
        ("adding", "rnn", {"steps": 0}, "`steps` must be a whole number of at least 1; got 0."),
        ("adding", "rnn", {"threshold": 1.5}, "`threshold` must be a number strictly between 0 and 1; got 1.5."),
        ("adding", "rnn", {"wrt": "cell"}, "`wrt` has no 'cell'. Pass one of: state, input."),
        (
            {"name": "next-word", "text": "agreement"},
            "rnn",
            {},
            "`task` 'next-word' is a text without a known distance; pass adding, copy or another task of one.",
        ),
    ],
)
def test_bad_settings(task, cell, options, message):
    with pytest.raises(InputError) as caught:
        settings(task, cell, **options)
    assert str(caught.value) == message
