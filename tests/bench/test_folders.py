"""Which folder holds which run: ids that had 8 digits, ids that agree by chance, and runs that are not done."""

import hashlib
import json
import shutil

import pandas as pd
import pytest
from fake_runs import quick, spec
from test_run import Interrupts, adding, contents

from rnnvg import bench, models
from rnnvg.bench import folders, plan, run, store, trained
from rnnvg.bench.grid import from_dict
from rnnvg.bench.record import write_off
from rnnvg.bench.spec import run_spec, short_id
from rnnvg.bench.store import Store, load_results
from rnnvg.bench.trained import weights_file
from rnnvg.errors import InputError


def with_8_digits(directory, *specs):
    """A directory as it was written when ids had 8 digits."""
    for each in specs:
        folder = (directory / "runs" / each.id).rename(directory / "runs" / short_id(each.id))
        (folder / "spec.json").unlink(missing_ok=True)
        if (folder / "result.json").exists():
            content = json.loads((folder / "result.json").read_text()) | {"id": short_id(each.id)}
            content["checksum"] = store._checksum(content)
            (folder / "result.json").write_text(json.dumps(content, indent=1) + "\n")


def never(spec, directory, on_progress=None):
    raise AssertionError("done again")


def bytes_in(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture
def older(tmp_path):
    for seed in (0, 1):
        quick(spec(seed), tmp_path / "new")
        quick(spec(seed), tmp_path / "old")
    with_8_digits(tmp_path / "old", spec(0), spec(1))
    return tmp_path


@pytest.fixture
def agreeing(monkeypatch):
    """8 digits of every hash agree, or as many as are asked for."""

    def agree(digits):
        cut = lambda text: ("0" * digits + hashlib.sha256(text.encode()).hexdigest())[:12]  # noqa: E731
        monkeypatch.setattr("rnnvg.bench.spec.short_digest", cut)

    return agree


# Ids that had 8 digits ----------------------------------------------------------------------------------------------------


def test_sub_seeds_are_those_of_the_published_results():
    made = run_spec({"name": "adding", "length": 50}, "gru", hidden=64, seed=1)
    assert made.id == "adding-T50-gru-h64-s1-deacd6f53484"
    assert made.subseed("weights") == 8988732174207973962


def test_an_older_directory_reads_as_a_newer_one(older):
    old, new = Store(older / "old"), Store(older / "new")
    assert list(old.read().results) == list(new.read().results) == sorted(spec(seed).id for seed in (0, 1))
    assert not old.read().damaged
    assert [each["id"] for each in old.results()] == list(old.read().results)
    assert old.folder(spec(0).id) == older / "old" / "runs" / short_id(spec(0).id)
    assert old.result(spec(0).id)["score"] == new.result(spec(0).id)["score"]
    pd.testing.assert_frame_equal(load_results(older / "old"), load_results(older / "new"))
    for each in (old, new):
        each.merge()
    for file in ("curves.csv", "training.csv", "horizons.csv"):
        assert (older / "old" / file).read_bytes() == (older / "new" / file).read_bytes()


def test_nothing_of_an_older_directory_is_done_again(older):
    before = bytes_in(older / "old" / "runs")
    found = bench.run_all([spec(0), spec(1)], older / "old", jobs=1, execute=never)
    assert [each["id"] for each in found] == sorted(spec(seed).id for seed in (0, 1))
    assert bytes_in(older / "old" / "runs") == before
    assert bench.execute(spec(0), older / "old")["id"] == spec(0).id
    assert quick(spec(1), older / "old")["id"] == spec(1).id
    assert bytes_in(older / "old" / "runs") == before


def test_what_is_added_to_an_older_directory_has_12_digits(older):
    quick(spec(2), older / "old")
    assert {path.name for path in (older / "old" / "runs").iterdir()} == {
        short_id(spec(0).id),
        short_id(spec(1).id),
        spec(2).id,
    }
    assert set(load_results(older / "old")["id"]) == {spec(seed).id for seed in range(3)}


def test_an_older_directory_is_exported_compared_and_merged(older):
    for name in ("old", "new"):
        bench.export(older / name, older / f"{name}-tables")
    assert bytes_in(older / "old-tables") == bytes_in(older / "new-tables")
    assert set(bench.compare(older / "old", older / "new").rows["verdict"]) == {"identical"}
    found = bench.merge([older / "old", older / "new"], older / "both")
    assert found.again == tuple(sorted(spec(seed).id for seed in (0, 1)))
    assert {path.name for path in (older / "both" / "runs").iterdir()} == set(found.again)
    assert len(load_results(older / "both")) == 2


def test_a_run_under_both_names_is_one_run(older):
    shutil.copytree(older / "new" / "runs" / spec(0).id, older / "old" / "runs" / spec(0).id)
    directory = Store(older / "old")
    assert len(load_results(older / "old")) == 2
    assert directory.folder(spec(0).id).name == spec(0).id
    # Where the newer one is damaged, the older one stands in every table, and the damaged one alone is moved.
    (older / "old" / "runs" / spec(0).id / "curve.csv").write_text("step\n")
    directory = Store(older / "old")
    assert directory.read().damaged == {spec(0).id: "curve.csv was changed after it was written"}
    assert directory.folder(spec(0).id).name == short_id(spec(0).id)
    assert len(directory.frame("curves.csv")) == 2 * 16
    bench.run_all([spec(0), spec(1)], older / "old", jobs=1, execute=never)
    assert {path.name for path in (older / "old" / "runs").iterdir()} == {short_id(spec(0).id), short_id(spec(1).id)}
    assert [path.name for path in (older / "old" / "set-aside").iterdir()] == [f"{spec(0).id}-1"]


def both_forms(directory, each):
    """One run in a folder under 12 digits and in one under 8, as somebody leaves who copies old runs beside new ones."""
    bench.execute(each, directory)
    folders = [directory / "runs" / name for name in (each.id, short_id(each.id))]
    shutil.copytree(*folders)
    return folders


def test_where_both_forms_of_a_run_are_damaged_both_are_kept(tmp_path):
    for folder in both_forms(tmp_path, adding()):
        (folder / "curve.csv").write_text(f"edited in {folder.name}\n")
    assert bench.execute(adding(), tmp_path)["status"] == "ok"
    kept = {path.read_text() for path in (tmp_path / "set-aside").glob("*/curve.csv")}
    assert kept == {f"edited in {adding().id}\n", f"edited in {short_id(adding().id)}\n"}
    assert len(load_results(tmp_path)) == 1


@pytest.mark.parametrize("older_ended", ["failed", "ok"])
def test_a_failure_under_both_names_is_done_again_and_a_sound_run_is_not(tmp_path, older_ended):
    for folder in both_forms(tmp_path, adding()):
        if folder.name == adding().id or older_ended == "failed":
            content = json.loads((folder / "result.json").read_text()) | {"status": "failed", "reason": "by hand"}
            content["checksum"] = store._checksum(content)
            (folder / "result.json").write_text(json.dumps(content, indent=1) + "\n")
    assert Store(tmp_path).result(adding().id)["status"] == "failed"
    execute = quick if older_ended == "failed" else never
    (result,) = bench.run_all([adding()], tmp_path, jobs=1, retry_failed=True, execute=execute)
    assert result["status"] == "ok"
    assert len(list((tmp_path / "set-aside").iterdir())) == (2 if older_ended == "failed" else 1)


def test_the_weights_of_a_run_under_both_names_are_those_under_12_digits(tmp_path):
    folder, _ = both_forms(tmp_path, adding())
    assert (
        weights_file(tmp_path) == weights_file(tmp_path / "runs" / adding().id[:-6]) == folder / "weights.safetensors"
    )


def test_a_folder_that_names_another_run_says_which_one_is_done_in_it(tmp_path):
    folder = tmp_path / "runs" / adding().id
    folder.mkdir(parents=True)
    (folder / "spec.json").write_text(json.dumps(spec(7).to_dict()))
    folders.begin(folder, adding())
    assert folders.stored_spec(folder) == adding()


def test_a_folder_that_cannot_be_looked_into_is_nobodys(tmp_path, monkeypatch):
    bench.execute(adding(), tmp_path)
    with_8_digits(tmp_path, adding())
    monkeypatch.setattr("os.access", lambda path, mode: False)
    assert Store(tmp_path).folder(adding().id) == tmp_path / "runs" / adding().id


def test_a_damaged_older_run_is_set_aside_and_done_under_12_digits(tmp_path):
    bench.execute(adding(), tmp_path)
    with_8_digits(tmp_path, adding())
    (tmp_path / "runs" / short_id(adding().id) / "curve.csv").write_text("step\n")
    assert Store(tmp_path).read().damaged == {short_id(adding().id): "curve.csv was changed after it was written"}
    bench.execute(adding(), tmp_path)
    assert [path.name for path in (tmp_path / "runs").iterdir()] == [adding().id]
    assert [path.name for path in (tmp_path / "set-aside").iterdir()] == [f"{short_id(adding().id)}-1"]


def test_an_older_run_that_was_interrupted_goes_on_where_it_was(tmp_path):
    bench.execute(adding(), tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        bench.execute(adding(), tmp_path / "old", Interrupts(40))
    with_8_digits(tmp_path / "old", adding())
    steps = []
    bench.execute(adding(), tmp_path / "old", lambda step, *_: steps.append(step))
    assert min(steps) > 40
    (folder,) = (tmp_path / "old" / "runs").iterdir()
    assert folder.name == short_id(adding().id)
    found = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "result.json"}
    assert found == contents(tmp_path / "whole", adding())
    assert list(Store(tmp_path / "old").read().results) == [adding().id]


def test_answers_kept_under_8_digits_are_those_of_their_runs(tmp_path):
    rows = [f"{short_id(spec(seed).id)},{delay},1,20,0.25" for seed in (0, 1) for delay in (1, 2)]
    (tmp_path / "recall.csv").write_text("\n".join([",".join(trained.COLUMNS), *rows]) + "\n")
    found = trained.answers(tmp_path, [spec(0).id, "some-other-run"])
    assert found is not None
    assert list(found["id"]) == [spec(0).id] * 2 + [short_id(spec(1).id)] * 2


def test_an_id_may_be_cut_off_within_its_digits(tmp_path):
    made = [spec(seed) for seed in (0, 1)]
    for cut in (short_id(made[1].id), made[1].id[:-11], short_id(made[1].id)[-8:], f"*-{short_id(made[1].id)[-8:]}"):
        assert plan.only(made, [cut]) == [made[1]]
    with pytest.raises(InputError, match="matches none of the 2 runs"):
        plan.only(made, ["adding-T1"])
    for each in made:
        (tmp_path / "runs" / each.id).mkdir(parents=True)
        (tmp_path / "runs" / each.id / "weights.safetensors").touch()
    whole = tmp_path / "runs" / made[0].id
    assert weights_file(tmp_path / "runs" / short_id(made[0].id)) == whole / "weights.safetensors"
    with pytest.raises(InputError, match="There is no run"):
        weights_file(tmp_path / "runs" / made[0].id[:-12])
    twin = whole.with_name(f"{short_id(made[0].id)}0000")
    twin.mkdir()
    with pytest.raises(InputError) as raised:
        weights_file(tmp_path / "runs" / short_id(made[0].id))
    assert str(raised.value) == (
        f"'{tmp_path / 'runs' / short_id(made[0].id)}' is the beginning of 2 runs; pass one of them, such as "
        f"'{min(twin, whole)}'."
    )


# Digits that agree by chance ----------------------------------------------------------------------------------------------


def test_runs_that_agree_in_8_digits_are_two_runs(tmp_path, agreeing):
    agreeing(8)
    one, other = spec(0), spec(0, lr=0.004)
    assert short_id(one.id) == short_id(other.id)
    assert one.id != other.id
    quick(one, tmp_path)
    with_8_digits(tmp_path, one)
    before = bytes_in(tmp_path / "runs" / short_id(one.id))
    assert Store(tmp_path).result(other.id) is None
    assert quick(other, tmp_path)["spec"] == other.to_dict()
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {short_id(one.id), other.id}
    assert bytes_in(tmp_path / "runs" / short_id(one.id)) == before
    results = Store(tmp_path).read().results
    assert {run: each["spec"] for run, each in results.items()} == {each.id: each.to_dict() for each in (one, other)}
    assert bench.run_all([one, other], tmp_path, jobs=1, execute=never, axes=["training.lr"]) == list(results.values())


def test_runs_that_agree_in_8_digits_are_merged_as_two(tmp_path, agreeing):
    agreeing(8)
    pair = {"a": spec(0, cell="lstm"), "b": spec(0, cell="lstm", give_up=False, lr=0.004)}
    for name, each in pair.items():
        quick(spec(1, lr=each.training.lr), tmp_path / name)
        quick(spec(1, lr=0.003), tmp_path / name)
        quick(each, tmp_path / name)
        with_8_digits(tmp_path / name, each)
    bench.merge([tmp_path / "a", tmp_path / "b"], tmp_path / "c")
    assert {each.id for each in pair.values()} < set(Store(tmp_path / "c").read().results)


def test_runs_that_agree_in_every_digit_are_refused_and_never_taken_for_each_other(tmp_path, agreeing):
    agreeing(12)
    one, other = adding(), adding(training=adding().training.model_copy(update={"lr": 0.004}).model_dump())
    assert one.id == other.id
    said = f"Two runs with different settings are named {one.id} by chance. Change a setting of one of them, such as its seed."
    result = bench.execute(one, tmp_path)
    before = bytes_in(tmp_path)
    refused = [
        lambda: bench.execute(other, tmp_path),
        lambda: quick(other, tmp_path),
        lambda: write_off(other, tmp_path, "bad luck"),
        lambda: other.is_done_by(result),
        lambda: bench.run_all([one, other], tmp_path / "b", jobs=1),
        lambda: bench.run_all([one], tmp_path / "c", jobs=1, follow=lambda results: [other], execute=never),
    ]
    shutil.copytree(tmp_path, tmp_path / "c")
    for each in refused:
        with pytest.raises(InputError) as raised:
            each()
        assert str(raised.value) == said
    with pytest.raises(InputError, match=f"holds another run that is named {one.id} too. Pass another --out."):
        bench.run_all([other], tmp_path, jobs=1)
    shutil.rmtree(tmp_path / "c")
    assert bytes_in(tmp_path) == before
    assert bench.execute(one, tmp_path) == result


def test_a_benchmark_whose_runs_agree_in_every_digit_is_refused(agreeing):
    agreeing(12)
    source = {
        "cells": ["gru"],
        "seeds": 1,
        "task": {"name": "adding", "length": 10},
        "model": {"hidden": 8},
        "training": {"lr": [0.001, 0.002]},
    }
    with pytest.raises(
        InputError, match="Two runs with different settings are named adding-T10-gru-h8-s0-000000000000 by"
    ):
        from_dict(source, "two").runs()


# Runs that are not done ---------------------------------------------------------------------------------------------------


def test_a_run_under_way_says_which_one_it_is(tmp_path, agreeing):
    agreeing(12)
    with pytest.raises(KeyboardInterrupt):
        bench.execute(adding(), tmp_path, Interrupts(40))
    folder = tmp_path / "runs" / adding().id
    assert json.loads((folder / "spec.json").read_text()) == adding().to_dict()
    before = bytes_in(tmp_path)
    other = adding(measure={"sequences": 5})  # the resume file would not tell them apart
    for attempt in (lambda: bench.execute(other, tmp_path), lambda: write_off(other, tmp_path, "bad luck")):
        with pytest.raises(InputError, match="Two runs with different settings are named"):
            attempt()
    assert bytes_in(tmp_path) == before
    bench.execute(adding(), tmp_path)
    assert not (folder / "spec.json").exists()
    # The weights file is the same, byte for byte, as when ids had 8 digits.
    assert models.read_header(folder / run.WEIGHTS)["id"] == short_id(adding().id)


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"cell": "gru"}'])
def test_a_specification_that_was_cut_off_is_written_again(tmp_path, text):
    with pytest.raises(KeyboardInterrupt):
        bench.execute(adding(), tmp_path, Interrupts(40))
    path = tmp_path / "runs" / adding().id / "spec.json"
    path.write_text(text)
    with pytest.raises(KeyboardInterrupt):
        bench.execute(adding(), tmp_path, Interrupts(50))
    assert json.loads(path.read_text()) == adding().to_dict()
