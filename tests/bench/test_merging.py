"""Two people's directories in one: every run once, what differs named, and theirs as they were."""

import fake_runs
import pytest
from click.testing import CliRunner
from fake_runs import spec

from rnnvg.bench import grid, merge
from rnnvg.bench.plan import Plan, kept
from rnnvg.bench.record import record
from rnnvg.bench.store import Store
from rnnvg.cli import main
from rnnvg.errors import InputError


def publish(directory, each, versions=None, numbers=None, **machine):
    outcome, files = fake_runs.outcome_of(numbers or each)
    made = record(each, outcome | machine)
    return Store(directory).publish(made | {"versions": made["versions"] | (versions or {})}, files)


def everything(directory):
    return {path: path.read_bytes() for path in sorted(directory.rglob("*")) if path.is_file()}


@pytest.fixture
def two(tmp_path):
    for seed in (0, 1):
        publish(tmp_path / "a", spec(seed), seconds=1.0)
    for seed in (1, 2):
        publish(tmp_path / "b", spec(seed), seconds=2.0)
    return tmp_path


def test_each_run_once_and_theirs_as_they_were(two):
    before = everything(two)
    found = merge([two / "a", two / "b"], two / "c")
    ids = [spec(seed).id for seed in range(3)]
    assert found.runs == {str(two / "a"): tuple(sorted(ids[:2])), str(two / "b"): (ids[2],)}
    assert found.again == (ids[1],)
    assert not found.aside
    made = Store(two / "c")
    assert sorted(made.read().results) == sorted(ids)
    assert not made.read().damaged
    assert made.result(ids[1])["seconds"] == 1.0  # the first one's
    assert set(made.frame("horizons.csv")["seed"]) == {0, 1, 2}
    assert (two / "c" / "curves.csv").read_text().count("\n") > 3
    assert everything(two / "a") | everything(two / "b") == before
    assert not list(two.glob(".*"))


def test_runs_that_differ_under_one_id_are_named_and_kept(two):
    run = spec(1).id
    publish(two / "d", spec(1), versions={"torch": "2.1.0"}, numbers=spec(7))
    ours = Store(two / "a").result(run)["versions"]["torch"]
    what = f"torch {ours} and 2.1.0, other bytes in curve.csv, horizons.csv, training.csv"
    with pytest.raises(InputError) as error:
        merge([two / "a", two / "d"], two / "c")
    assert str(error.value) == (
        f"The directories hold 1 run that differs under one id: {run} ({what}). Pass --first (first=True) to take those of "
        f"{str(two / 'a')!r}, or of the first that has them, and keep the others in set-aside."
    )
    assert not (two / "c").exists()
    found = merge([two / "a", two / "d"], two / "c", first=True)
    assert found.aside == {run: what}
    assert Store(two / "c").result(run)["versions"]["torch"] == ours
    aside = two / "c" / "set-aside" / f"{run}-1"
    theirs = two / "d" / "runs" / run
    assert {path.name: content for path, content in everything(aside).items()} == {
        path.name: content for path, content in everything(theirs).items()
    }


def test_damaged_runs_are_skipped_and_named(two):
    broken = Store(two / "b").folder(spec(2).id)
    (broken / "curve.csv").write_text("nothing")
    found = merge([two / "a", two / "b"], two / "c")
    assert found.damaged == {str(broken): "curve.csv was changed after it was written"}
    assert sorted(Store(two / "c").read().results) == sorted(spec(seed).id for seed in (0, 1))


def test_what_does_not_belong_together(two):
    def refused(message, *places, out="c"):
        before = everything(two)
        with pytest.raises(InputError) as error:
            merge([two / place for place in places], two / out)
        assert str(error.value) == message
        assert everything(two) == before

    publish(two / "slow", spec(0, lr=0.001))
    refused(
        f"{str(two / 'a')!r} and {str(two / 'slow')!r} hold results of adding with training.lr = 0.005 and 0.001, which are "
        f"not repetitions of each other. Compare them: rnnvg bench compare {two / 'a'} {two / 'slow'}",
        "a",
        "slow",
    )
    refused(f"{str(two / 'no')!r} does not exist. Pass directories that rnnvg wrote.", "a", "no")
    refused("Pass two or more different directories to merge.", "a", "a")
    refused("Pass two or more different directories to merge.", "a")
    refused(f"`out` {str(two / 'slow')!r} is there already. Pass the name of a new directory.", "a", "b", out="slow")
    refused(
        f"`out` {str(two / 'a' / 'c')!r} lies in {str(two / 'a')!r}, which is left as it is. Pass another --out.",
        "a",
        "b",
        out="a/c",
    )
    (two / "empty").mkdir()
    refused(f"{str(two / 'empty')!r} holds no results. Pass directories that rnnvg wrote.", "a", "empty")


def test_benchmarks_go_along(two):
    plan = Plan.of(grid.read("chrono-copy-small"))
    plan.keep(two / "a")
    plan.keep(two / "b")
    merge([two / "a", two / "b"], two / "c")
    assert [each.name for each in kept(two / "c").grids] == ["chrono-copy-small"]


def test_an_interrupted_merge_leaves_nothing(two, monkeypatch):
    monkeypatch.setattr(Store, "merge", lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        merge([two / "a", two / "b"], two / "c")
    assert sorted(path.name for path in two.iterdir()) == ["a", "b"]


def test_the_command(two):
    result = CliRunner().invoke(main, ["bench", "merge", str(two / "a"), str(two / "b"), "--out", str(two / "c")])
    assert result.exit_code == 0, result.output
    assert result.output.splitlines() == [
        f"3 runs in {two / 'c'}",
        f"  2 of {two / 'a'}",
        f"  1 of {two / 'b'}",
        "1 were there more than once with the same numbers; each was taken once.",
        f"To see them: rnnvg report {two / 'c'}",
    ]
    again = CliRunner().invoke(main, ["bench", "merge", str(two / "a"), str(two / "b"), "--out", str(two / "c")])
    assert again.exit_code == 2
    assert "is there already" in again.output
