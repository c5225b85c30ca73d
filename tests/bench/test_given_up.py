"""Runs that may be given up: what is stored, what is done again, and every table that lists runs or their states."""

import json
import math
from pathlib import Path

import fake_runs
import lighter
import pytest
from click.testing import CliRunner

from rnnvg import bench, load_results
from rnnvg.bench import State, grid, published
from rnnvg.bench.extras import Ladder
from rnnvg.bench.given_up import not_applied, saving
from rnnvg.bench.ladder import Climb, climbed_frame, rungs_frame
from rnnvg.bench.plan import Plan
from rnnvg.bench.store import Store
from rnnvg.cli import main
from rnnvg.errors import InputError
from rnnvg.report import terminal
from rnnvg.report.sections.ladder import ladder_shown
from rnnvg.report.tables import score_table

SETTINGS = {"steps": 20, "batch": 4, "eval_every": 10, "eval_size": 20}
SPEC = """
title = "Small"
cells = ["gru"]
seeds = 2
[task]
name = "adding"
length = 30
[model]
hidden = 4
[training]
steps = 20
batch = 4
eval_every = 10
eval_size = 20
[measure]
why = false
[[published]]
cell = "gru"
metric = "mse"
value = 0.1
source = "nobody"
reproduced = { most = 100.0 }
"""


def spec(asked=True, seed=0, task=None, cell="gru", length=30):
    """A network that has learned nothing by step 2: its loss is several times that of guessing, its horizon a few steps."""
    return bench.run_spec(
        task or {"name": "adding", "length": length},
        cell,
        hidden=4,
        seed=seed,
        training=SETTINGS | {"give_up": asked},
        measure={"why": False},
    )


def result_of(spec, status="given-up", **more):
    evidence = {"given_up": True, "step": 2, "horizon": 3, "loss": 1.5}
    return {
        "id": spec.id,
        "spec": spec.to_dict(),
        "status": status,
        "reason": "",
        "solved": False,
        "give_up": evidence,
    } | more


@pytest.fixture
def directory(tmp_path):
    """One run given up, one to its end."""
    bench.execute(spec(True, 0), tmp_path)
    bench.execute(spec(False, 1), tmp_path)
    return tmp_path


# The record and the id ----------------------------------------------------------------------------------------------------


def test_the_id_is_that_of_the_run_that_may_not_be_given_up():
    assert spec(True).id == spec(False).id
    assert "give_up" not in spec(False).to_dict()["training"]
    assert spec(True).to_dict()["training"]["give_up"] is True
    assert bench.RunSpec.model_validate(spec(True).to_dict()) == spec(True)


def test_the_record_has_the_evidence(tmp_path):
    found = bench.execute(spec(), tmp_path)
    assert (found["status"], found["solved"], found["solved_at"], found["steps"]) == ("given-up", False, None, 2)
    evidence = found["give_up"]
    assert evidence["applied"]
    assert evidence["given_up"]
    assert (evidence["step"], evidence["share"]) == (2, 0.1)
    assert evidence["score"] < evidence["threshold"]
    assert evidence["horizon"] < evidence["horizon_needed"]
    assert found["reason"] == evidence["because"]
    assert found["spec"]["training"]["give_up"] is True
    assert json.loads((tmp_path / "runs" / spec().id / "result.json").read_text()) == found


@pytest.mark.parametrize(
    "change",
    [
        {"give_up": None},
        {"status": "ok"},
        {"give_up": {"score": 5.0}},
        {"give_up": {"horizon": None}},
        {"give_up": {"step": "two"}},
        {"give_up": {"given_up": False}},
    ],
    ids=str,
)
def test_a_record_whose_evidence_says_otherwise_is_damaged(change, tmp_path):
    from rnnvg.bench.store import _checksum

    bench.execute(spec(), tmp_path)
    path = tmp_path / "runs" / spec().id / "result.json"
    content = json.loads(path.read_text())
    for key, value in change.items():
        content[key] = content[key] | value if isinstance(value, dict) else value
    content["checksum"] = _checksum(content)
    path.write_text(json.dumps(content))
    assert spec().id in Store(tmp_path).read().damaged


def test_a_run_that_is_kept_has_the_same_files_in_every_byte(tmp_path, monkeypatch):
    monkeypatch.setattr("rnnvg.training.give_up.THRESHOLD", -1e9)
    plain, kept = (bench.execute(spec(asked), tmp_path / str(asked)) for asked in (False, True))
    assert (plain["status"], kept["status"]) == ("ok", "ok")
    assert plain["files"] == kept["files"]
    assert plain["give_up"] is None
    assert not kept["give_up"]["given_up"]


def test_a_run_that_the_rule_does_not_hold_for_goes_on_and_says_why(tmp_path):
    found = bench.execute(spec(task={"name": "parity", "length": 8}), tmp_path)
    assert found["status"] == "ok"
    assert not found["give_up"]["applied"]
    assert found["give_up"]["because"].startswith("the study of its rule has no task parity")


# What is done again -------------------------------------------------------------------------------------------------------


def test_execute_does_it_again_where_it_may_not_be_given_up(tmp_path):
    first = bench.execute(spec(True), tmp_path)
    assert bench.execute(spec(True), tmp_path) == first
    whole = bench.execute(spec(False), tmp_path)
    assert (whole["status"], whole["steps"]) == ("ok", 20)
    assert bench.execute(spec(True), tmp_path) == whole
    assert [path.name for path in (tmp_path / "set-aside").iterdir()] == [f"{first['id']}-1"]
    assert whole["files"] == bench.execute(spec(False), tmp_path / "apart")["files"]


@pytest.mark.acceptance  # starts workers three times
def test_a_sweep_does_them_again_with_two_workers_as_with_one(tmp_path):
    notes, found = [], {}
    for jobs in (1, 2):
        place = tmp_path / str(jobs)
        asked = [spec(True, seed) for seed in range(3)]
        found[jobs] = bench.run_all(asked, place, jobs=jobs)
        assert [each["status"] for each in found[jobs]] == ["given-up"] * 3
        assert bench.run_all(asked, place, jobs=jobs) == found[jobs]  # not done again with it
    for name in ("curves.csv", "training.csv", "horizons.csv"):
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes()
    assert [each["give_up"] for each in found[1]] == [each["give_up"] for each in found[2]]
    plain = [spec(False, seed) for seed in range(3)]
    done = bench.run_all(plain, tmp_path / "1", jobs=1, observer=lambda event: notes.append(event.text))
    assert [each["status"] for each in done] == ["ok"] * 3
    assert f"{done[0]['id']} and 2 more were given up and are done again, to the end." in notes
    assert len(list((tmp_path / "1" / "set-aside").iterdir())) == 3


def test_of_a_directory_that_others_write_a_run_that_was_given_up_meanwhile_is_done_to_its_end(tmp_path):
    from rnnvg.bench.sweep import Sweep

    bench.execute(spec(True), tmp_path)
    with lighter.client_here() as client:
        Sweep(client, Store(tmp_path), [spec(False)], lambda event: None).run()
    (found,) = Store(tmp_path).results()
    assert (found["status"], found["steps"]) == ("ok", 20)


def test_directories_with_and_without_it_go_together(tmp_path):
    bench.execute(spec(True, 0), tmp_path)
    Store(tmp_path).check_settings([spec(False, 1)])
    with pytest.raises(InputError, match=r"training\.lr"):
        Store(tmp_path).check_settings(
            [spec(True, 1).model_copy(update={"training": bench.Training(**SETTINGS, lr=0.1)})]
        )


# Benchmark files ----------------------------------------------------------------------------------------------------------


def test_a_file_may_ask_for_it(tmp_path):
    path = tmp_path / "small.toml"
    path.write_text(SPEC.replace("steps = 20", "steps = 20\ngive_up = true"))
    assert [each.training.give_up for each in grid.read(path).runs()] == [True, True]
    path.write_text(SPEC)
    plain = grid.read(path)
    asked = plain.change(give_up=True)
    assert [each.id for each in asked.runs()] == [each.id for each in plain.runs()]
    assert all(each.training.give_up for each in asked.runs())


@pytest.mark.parametrize(("value", "shown"), [("[true, false]", "[True, False]"), ("1", "1"), ('"yes"', "'yes'")])
def test_what_is_no_yes_or_no_is_refused(value, shown, tmp_path):
    path = tmp_path / "small.toml"
    path.write_text(SPEC.replace("eval_size = 20", f"eval_size = 20\ngive_up = {value}"))
    with pytest.raises(InputError) as caught:
        grid.read(path)
    assert str(caught.value) == f"small has 1 fault:\n  line 15, `training.give_up` must be true or false; got {shown}."


def test_a_dash_in_the_key_is_named(tmp_path):
    path = tmp_path / "small.toml"
    path.write_text(SPEC.replace("steps = 20", "steps = 20\ngive-up = true"))
    with pytest.raises(InputError, match="Did you mean 'give_up'"):
        grid.read(path)


# Tables -------------------------------------------------------------------------------------------------------------------


def test_no_score_of_it_is_among_final_ones(directory):
    frame = load_results(directory).set_index("status")
    ended, given_up = frame.loc["ok"], frame.loc["given-up"]
    for name in ("value", "score_mse", "score_loss", "horizon_0.37", "censored_0.37"):
        assert given_up[name] != given_up[name] or given_up[name] is None
        assert ended[name] == ended[name]
    assert not given_up["solved"]
    assert given_up["given_up_step"] == given_up["steps"] == 2
    stored = Store(directory).result(given_up["id"])
    assert given_up["given_up_value"] == stored["score"]["mse"]
    assert given_up["given_up_loss"] == stored["give_up"]["loss"]
    assert given_up["given_up_horizon"] == stored["give_up"]["horizon"]
    assert frame["value"].median() == ended["value"]


def test_a_table_without_such_runs_has_no_such_columns(tmp_path):
    bench.execute(spec(False), tmp_path)
    assert not [name for name in load_results(tmp_path) if name.startswith("given_up")]


def test_an_export_has_its_state(directory):
    runs, *_ = bench.export(directory, directory / "out")
    header, *rows = runs.read_text().splitlines()
    assert "given_up_step" in header
    assert sum("given-up" in row for row in rows) == 1


def test_the_state_of_a_directory_counts_it_and_says_what_was_seen(tmp_path):
    path = tmp_path / "small.toml"
    path.write_text(SPEC)
    out = tmp_path / "out"
    Plan.of(grid.read(path).change(give_up=True)).keep(out)
    done = [bench.execute(each, out) for each in grid.read(path).change(give_up=True).runs()]
    state = State.of(out)
    assert state.done == {"given-up": 2}
    assert (state.failed, state.left, state.solved) == ({}, (), 0)
    assert state.given_up == {each["id"]: each["reason"] for each in done}
    shown = CliRunner().invoke(main, ["bench", "status", str(out)]).stdout
    assert "2 of 2 runs are done (2 given-up)." in shown
    assert f"{done[0]['id']} was given up and counts as not solved: At step 2 of 20" in shown
    plain = State.of(out, Plan.of(grid.read(path)))
    assert (plain.done, len(plain.left)) == ({}, 2)


def test_a_comparison_of_directories_says_how_many(tmp_path):
    for seed in range(2):
        bench.execute(spec(True, seed), tmp_path / "a")
        bench.execute(spec(False, seed), tmp_path / "b")
    found = bench.compare(tmp_path / "a", tmp_path / "b")
    assert found.given_up == {"A": 2, "B": 0}
    assert found.unpaired == {"A": 0, "B": 0}
    assert found.rows["what"].tolist() == ["solved"]
    assert "Given up, not solved and without a final score: 2 runs in" in found.sentence()
    assert found.settings == {"give_up": ("True", "none")}


def test_pairs_are_found_where_only_some_runs_might_be_given_up(directory, tmp_path):
    for seed in range(2):
        bench.execute(spec(False, seed), tmp_path / "other")
    found = bench.compare(directory, tmp_path / "other")
    assert found.unpaired == {"A": 0, "B": 0}
    assert set(found.rows["pairs"]) == {1, 2}


def test_merged_with_a_whole_run_it_is_named_and_a_kept_run_is_the_same_one(tmp_path, monkeypatch):
    bench.execute(spec(True), tmp_path / "a")
    bench.execute(spec(False), tmp_path / "b")
    with pytest.raises(InputError, match=r"given up in one of them"):
        bench.merge([tmp_path / "a", tmp_path / "b"], tmp_path / "both")
    monkeypatch.setattr("rnnvg.training.give_up.THRESHOLD", -1e9)
    bench.execute(spec(True), tmp_path / "c")
    assert bench.merge([tmp_path / "b", tmp_path / "c"], tmp_path / "same").again == (spec().id,)


def test_a_verdict_does_not_rest_on_a_prediction(tmp_path):
    path = tmp_path / "small.toml"
    path.write_text(SPEC)
    made = grid.read(path)
    one, other = made.change(give_up=True).runs()
    results = [bench.execute(one, tmp_path / "out"), bench.execute(plainly(other), tmp_path / "out")]
    (row,) = published.beside_published([made], results).itertuples()
    assert row.verdict == "not comparable"
    assert "1 of 2 runs given up at a tenth of their budget" in row.because
    assert "1 of 2 runs given up at a tenth of their budget" in row.difference
    assert row.ours == results[1]["score"]["mse"]
    assert (row.runs, row.solved) == (2, int(results[1]["solved"]))
    (row,) = published.beside_published([made], results[1:]).itertuples()
    assert row.verdict == "reproduced"


def plainly(spec):
    content = spec.to_dict()
    content["training"].pop("give_up")
    return bench.RunSpec.model_validate(content)


@pytest.mark.parametrize(("metric", "ours"), [("solved", 0.5), ("solved_at", math.inf)])
def test_of_solved_it_counts_as_one_that_is_not(metric, ours, tmp_path):
    path = tmp_path / "small.toml"
    path.write_text(SPEC.replace('metric = "mse"', f'metric = "{metric}"'))
    made = grid.read(path)
    one, other = made.runs()
    common = {"score": {}, "baseline": None, "seconds": 1.0, "steps": 2}
    results = [
        result_of(one, **common, solved_at=None),
        result_of(other, "ok", **common, solved_at=9) | {"solved": True},
    ]
    (row,) = published.beside_published([made], results).itertuples()
    assert row.ours == (ours if metric == "solved" else pytest.approx(math.inf))
    assert row.verdict == "not comparable"


def test_a_ladder_counts_it_as_not_solved_and_says_so():
    asked = fake_runs.spec(length=10, give_up=True)
    climb = Climb(asked, Ladder(setting="length", least=10, most=40), (0, 1))
    results = {}
    while runs := climb.to_do(results):
        for each in runs:
            hopeless = each.task["length"] == 20 and each.seed == 1
            status = "given-up" if hopeless else "ok"
            results[each.id] = result_of(each, status, solved=not hopeless and each.task["length"] == 10)
    rungs = rungs_frame([climb], results)
    assert rungs.set_index("length")["given_up"].to_dict()[20] == 1
    assert rungs.set_index("length")["given_up"].to_dict()[10] == 0
    shown = ladder_shown(climbed_frame([climb], results), rungs)["every length tried"].item()
    assert "20: 0/2 (1 given up)" in shown
    assert "10: 2/2," in shown
    plain = Climb(plainly(asked), climb.ladder, climb.seeds)
    again = plain.to_do(results)
    assert {each.task["length"] for each in again} == {20}


def test_the_report_counts_it_apart(directory):
    text = terminal.summary(directory)
    assert "1 run of 2 was given up at a tenth of the budget: not solved, and in no median." in text.replace("\n", " ")
    assert "1 given-up" in text
    (row,) = score_table(directory).to_dict("records")
    assert (row["runs"], row["ok"], row["given_up"]) == (2, 1, 1)
    ended = load_results(directory).query("status == 'ok'")["value"].item()
    assert (row["value"], row["least"], row["most"]) == (ended, ended, ended)
    page = bench_report(directory)
    assert "given-up: At step 2 of 20" in page
    assert "given up as hopeless at a tenth of the budget" in page


def bench_report(directory):
    from rnnvg import report

    return Path(report.write(directory)).read_text(encoding="utf-8")


# What is said -------------------------------------------------------------------------------------------------------------


def test_what_it_does_not_hold_for_is_said_once():
    asked = [spec(seed=seed, cell=cell) for seed in range(2) for cell in ("gru", "attention", "tcn")]
    asked += [spec(task={"name": "parity", "length": 8}, cell=cell) for cell in ("gru", "lstm")]
    state = "the rule looks at the horizon of a state, and this network has none"
    assert not_applied(asked) == [
        f"Nothing is given up of attention (2 runs), because {state}.",
        f"Nothing is given up of tcn (2 runs), because {state}.",
        "Nothing is given up of parity (2 runs), because the study of its rule has no task parity (it has adding, copy, "
        "delayed-recall, temporal-order).",
    ]
    assert not_applied([spec(False, cell="attention")]) == []


def test_the_closing_line_counts_what_was_not_done():
    ended = result_of(spec(), steps=2, training_seconds=4.0)
    assert saving([ended, ended, result_of(spec(), "ok")]) == (
        "2 of 3 runs were given up at a tenth of the budget and count as not solved; the 36 steps that were not done take at "
        "most about 72 s"
    )
    assert saving([ended, result_of(spec(), "ok")]).startswith(
        "1 of 2 runs was given up at a tenth of the budget and counts"
    )
    assert saving([result_of(spec(), "ok")]) == ""


def test_from_the_command_line_with_and_without(tmp_path, monkeypatch, one_figure, worker_here):
    monkeypatch.setenv("COLUMNS", "200")  # cells in one line each
    path, out = tmp_path / "small.toml", tmp_path / "out"
    path.write_text(SPEC)
    command = ["bench", "run", str(path), "--out", str(out), "--jobs", "1"]
    found = CliRunner().invoke(main, [*command, "--give-up"])
    assert found.exit_code == 0
    assert "given-up. At step 2 of 20 the horizon is" in found.stderr
    assert "2 of 2 runs were given up at a tenth of the budget and count as not solved" in found.stderr
    assert "0 of 2; 2 given-up" in " ".join(found.stdout.split())
    assert "not run: every run ended as given-up" in " ".join(found.stdout.split())
    ahead = json.loads(CliRunner().invoke(main, [*command, "--dry-run", "--json"]).stdout)
    assert ahead["to_do"] == 2
    found = CliRunner().invoke(main, command)
    assert found.exit_code == 0
    assert "and 1 more were given up and are done again, to the end." in found.stderr
    assert load_results(out)["status"].tolist() == ["ok", "ok"]
    ahead = json.loads(CliRunner().invoke(main, [*command, "--give-up", "--dry-run", "--json"]).stdout)
    assert ahead["to_do"] == 0


def test_compare_has_it_in_python(tmp_path, one_figure, worker_here):
    from rnnvg import compare

    asked = {"out": tmp_path, "jobs": 1, "max_steps": 20, "length": 30, "quiet": True}
    found = compare("adding", "gru", 1, give_up=True, **asked)
    assert load_results(tmp_path)["status"].tolist() == ["given-up"]
    assert "1 run of 1 was given up" in str(found)
