"""What a run is: its id, its sub-seeds, and what is refused."""

import hashlib
import json

import pytest
from fake_runs import spec

from rnnvg.bench.spec import RunSpec, run_spec
from rnnvg.errors import InputError


def test_the_id_is_readable_and_ends_in_the_hash_of_the_whole_specification():
    made = run_spec({"name": "adding", "length": 50}, "lstm", hidden=64)
    canonical = json.dumps(made.to_dict(), sort_keys=True, separators=(",", ":"))
    assert made.id == f"adding-T50-lstm-h64-s0-{hashlib.sha256(canonical.encode()).hexdigest()[:12]}"
    assert run_spec("copy", "gru", hidden=8, layers=2, init="orthogonal", seed=3).id.startswith(
        "copy-D20-gru-h8-l2-orthogonal-s3-"
    )


def test_defaults_that_are_spelled_out_give_the_same_run():
    told = run_spec(
        {"name": "adding", "length": 50, "marks": "one-in-each-half"}, "rnn", hidden=8, training={"steps": 2000}
    )
    assert told == run_spec("adding", "rnn", hidden=8)
    assert told.id == run_spec("adding", "rnn", hidden=8).id


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"hidden": 9},
        {"cell": "gru"},
        {"training": {"steps": 5, "lr": 0.004}},
        {"measure": {"sequences": 16}},
        {"task": {"name": "adding", "length": 11, "marks": "anywhere"}},
    ],
)
def test_every_setting_is_in_the_id(change):
    base = spec()
    assert RunSpec.model_validate({**base.to_dict(), **change}).id != base.id


def test_a_specification_survives_json():
    made = run_spec("adding", "lstm", hidden=8, training={"checkpoints": [0, 5]}, measure={"wrt": ["cell"]})
    assert RunSpec.model_validate(json.loads(made.canonical)) == made


def test_subseeds_differ_by_purpose_and_run_and_stay_the_same():
    one, other = spec(seed=0), spec(seed=1)
    seeds = {each.subseed(purpose) for each in (one, other) for purpose in ("weights", "batches", "probe")}
    assert len(seeds) == 6
    assert all(0 <= seed < 2**63 for seed in seeds)
    expected = int.from_bytes(hashlib.sha256(f"{one.id[:-4]}/weights".encode()).digest()[:8], "big") // 2
    assert one.subseed("weights") == expected


def test_settings_that_came_later_leave_older_ids_alone():
    plain = run_spec("adding", "lstm", hidden=64)
    assert plain.id == "adding-T50-lstm-h64-s0-aed2b3fbac2f"  # as before there were any
    assert not {"gain", "constraint", "paired"} & set(plain.to_dict())
    later = {"gain": 1.5, "constraint": "orthogonal", "paired": True}
    training = {"warmup": 5, "omega": 1.0, "flossing": 3}
    made = [run_spec("adding", "rnn", hidden=8, **{name: value}) for name, value in later.items()]
    made += [run_spec("adding", "rnn", hidden=8, training={name: value}) for name, value in training.items()]
    assert len({spec.id for spec in made}) == len(made)
    assert all(RunSpec.model_validate(spec.to_dict()) == spec for spec in made)


def test_paired_runs_of_one_seed_draw_the_same():
    one, other = (run_spec("adding", cell, hidden=8, seed=3, paired=True) for cell in ("rnn", "leaky"))
    assert one.id != other.id
    assert one.subseed("weights") == other.subseed("weights") != one.subseed("batches")
    assert one.subseed("weights") != run_spec("adding", "rnn", hidden=8, seed=4, paired=True).subseed("weights")
    apart = [run_spec("adding", cell, hidden=8, seed=3).subseed("weights") for cell in ("rnn", "leaky")]
    assert apart[0] != apart[1]


def test_paths_in_ids_are_reduced_to_what_every_file_system_takes():
    task = {"name": "next-word", "text": "/data/my texts/War & Peace.txt"}
    made = RunSpec.model_validate({"task": task, "cell": "rnn", "hidden": 8})
    assert made.id.startswith("next-word-War-Peace-txt-rnn-h8-s0-")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"cell": "lsmt"},
            "`cell` has no 'lsmt'. Did you mean 'lstm'? "
            "Pass one of: rnn, rnn-relu, lstm, gru, leaky, residual, layer-norm, mingru, lru, lem, attention, tcn.",
        ),
        ({"hidden": 0}, "`hidden` must be at least 1; got 0."),
        ({"hidden": 8.0}, "`hidden` must be a whole number; got 8.0."),
        ({"seed": -1}, "`seed` must be at least 0; got -1."),
        ({"seed": True}, "`seed` must be a whole number; got True."),
        ({"training": {"lr": float("nan")}}, "`training.lr` must be a finite number; got nan."),
        ({"training": {"clip": 0}}, "`training.clip` must be above 0; got 0."),
        (
            {"training": {"optimizer": "adma"}},
            "`training.optimizer` has no 'adma'. Did you mean 'adam'? Pass one of: adam, rmsprop, sgd.",
        ),
        ({"measure": {"wrt": []}}, "`measure.wrt` must have at least 1 value; got []."),
        ({"measure": 3}, "`measure` must be a table; got 3."),
        ({"layer": 2}, "`layer` is not known. Did you mean 'layers'? Known here: schema, task, cell, hidden, layers, "),
    ],
)
def test_what_is_wrong_is_said_in_one_line(fields, message):
    with pytest.raises(InputError) as caught:
        run_spec("adding", **{"cell": "rnn", "hidden": 8, **fields})
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_all_faults_of_a_specification_come_at_once():
    with pytest.raises(InputError) as caught:
        run_spec("adding", "rnn", hidden=0, seed="x", training={"steps": 0})
    assert len(str(caught.value).splitlines()) == 3


def test_a_task_that_does_not_exist():
    with pytest.raises(InputError, match=r"`task` has no 'addng'. Did you mean 'adding'\?"):
        run_spec("addng", "rnn", hidden=8)
