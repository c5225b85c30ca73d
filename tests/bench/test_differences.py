"""Two directories compared: what is planted is found, noise is not, and nothing is said of one pair."""

import math

import fake_runs
import numpy as np
import pytest
from fake_runs import spec

from rnnvg.bench import differences, tables
from rnnvg.bench.differences import compare
from rnnvg.bench.record import record
from rnnvg.bench.store import Store
from rnnvg.errors import InputError


def publish(directory, each, mse, last=10, censored=False, solved=True, versions=None):
    outcome, files = fake_runs.outcome_of(each)
    row = (5, "state", 0.1, last, None if censored else last + 1, censored, -0.1, None, "ok")
    files["horizons.csv"] = tables.to_csv([row], tables.HORIZON)
    outcome |= {"score": {"mse": mse, "loss": mse}, "solved": solved}
    made = record(each, outcome)
    Store(directory).publish(made | {"versions": made["versions"] | (versions or {})}, files)


def rows(found):
    return {row.what: row for row in found.rows.itertuples()}


def test_a_planted_difference_is_found_with_its_interval(tmp_path):
    a = np.array([0.10, 0.12, 0.08, 0.11, 0.09, 0.13])
    factor = np.array([0.5, 0.52, 0.49, 0.51, 0.5, 0.48])
    for seed, (one, other) in enumerate(zip(a, a * factor, strict=True)):
        publish(tmp_path / "a", spec(seed), one)
        publish(tmp_path / "b", spec(seed, lr=0.001), other)
    found = compare(tmp_path / "a", tmp_path / "b")
    assert found.settings == {"lr": ("0.005", "0.001")}
    row = rows(found)["mse"]
    assert (row.verdict, row.kind, row.pairs) == ("differs", "ratio", 6)
    assert row.p == pytest.approx(2 / 2**6)  # all six the same way
    assert (row.change, row.low, row.high) == pytest.approx((0.5, 0.48, 0.52))
    assert rows(found)["horizon 0.1"].verdict == "identical"
    assert rows(found)["solved"].verdict == "identical"


def test_noise_is_no_difference(tmp_path):
    noisy = [(0.1, 0.3), (0.3, 0.1), (0.2, 0.21), (0.25, 0.2), (0.2, 0.22), (0.21, 0.2)]
    for seed, (one, other) in enumerate(noisy):
        publish(tmp_path / "a", spec(seed), one, last=10 + seed)
        publish(tmp_path / "b", spec(seed), other, last=15 - seed)
    verdicts = {row.what: row.verdict for row in compare(tmp_path / "a", tmp_path / "b").rows.itertuples()}
    assert verdicts == {"solved": "identical", "mse": "within noise", "horizon 0.1": "within noise"}


def test_two_pairs_of_whole_numbers_are_no_certainty(tmp_path):
    for seed in range(2):
        publish(tmp_path / "a", spec(seed), 0.1, last=10)
        publish(tmp_path / "b", spec(seed), 0.1, last=20)
    row = rows(compare(tmp_path / "a", tmp_path / "b"))["horizon 0.1"]
    assert (row.change, row.low, row.high, row.p) == pytest.approx((2, 2, 2, 0.5))
    assert row.verdict == "too few pairs"


def test_solved_fractions_by_the_pairs_that_disagree(tmp_path):
    for seed in range(12):
        publish(tmp_path / "a", spec(seed), 0.1, solved=seed >= 10)
        publish(tmp_path / "b", spec(seed), 0.1, solved=True)
    row = rows(compare(tmp_path / "a", tmp_path / "b"))["solved"]
    assert (row.a, row.b, row.change) == (2, 12, 10)
    assert row.p == pytest.approx(2 * 0.5**10)
    assert row.verdict == "differs"


def test_censored_horizons_go_through_their_order(tmp_path):
    for seed in range(8):
        publish(tmp_path / "a", spec(seed), 0.1, last=20)
        publish(tmp_path / "b", spec(seed), 0.1, last=40, censored=True)
    row = rows(compare(tmp_path / "a", tmp_path / "b"))["horizon 0.1"]
    assert (row.kind, row.change, row.verdict) == ("signs", 8, "differs")
    assert row.p == pytest.approx(2 * 0.5**8)
    # Two that both lie beyond what was seen have no order.
    for seed in range(3):
        publish(tmp_path / "c", spec(seed), 0.1, last=30, censored=True)
    row = rows(compare(tmp_path / "b", tmp_path / "c"))["horizon 0.1"]
    assert row.change == 0


def test_one_pair_says_nothing_about_noise_and_versions_are_named(tmp_path):
    publish(tmp_path / "a", spec(0), 0.1, versions={"torch": "1.0"})
    publish(tmp_path / "a", spec(1), 0.1, versions={"torch": "1.0"})
    publish(tmp_path / "b", spec(0), 0.2, versions={"torch": "2.0"})
    found = compare(tmp_path / "a", tmp_path / "b")
    assert rows(found)["mse"].verdict == "one pair"
    assert found.versions == {"torch": ("1.0", "2.0")}
    assert found.unpaired == {"A": 1, "B": 0}
    assert found.sentence().endswith(f"Runs without a partner: 1 in {tmp_path / 'a'}, 0 in {tmp_path / 'b'}.")


@pytest.mark.parametrize(
    ("folders", "names"),
    [
        (("runs/sums", "runs/other"), ("sums", "other")),
        (("old/sums", "new/sums"), ("old/sums", "new/sums")),
        (("sums", "new/sums"), ("sums", "new/sums")),
        (("sums", "./sums"), ("A", "B")),
    ],
)
def test_the_table_and_the_sentence_name_the_directories(tmp_path, monkeypatch, folders, names):
    monkeypatch.chdir(tmp_path)
    for folder in {each.removeprefix("./") for each in folders}:
        publish(folder, spec(0), 0.1)
    found = compare(*folders)
    shown = found.shown()
    assert tuple(shown.columns[4:6]) == names
    assert shown.columns[6] == f"{names[1]} against {names[0]}"
    assert shown.columns.is_unique
    assert found.sentence().startswith(f"{folders[1]} against {folders[0]}, ")


def test_networks_that_differ_within_a_directory_are_kept_apart(tmp_path):
    for length in (10, 20):
        for seed in range(2):
            publish(tmp_path / "a", spec(seed, length=length), 0.1)
            publish(tmp_path / "b", spec(seed, length=length), 0.1)
    found = compare(tmp_path / "a", tmp_path / "b")
    assert set(found.rows["network"]) == {"lstm length 10", "lstm length 20"}
    assert found.settings == {}


def test_what_shares_nothing_cannot_be_compared(tmp_path):
    publish(tmp_path / "a", spec(0), 0.1)
    publish(tmp_path / "b", spec(0, cell="gru"), 0.1)
    with pytest.raises(InputError, match=r"has a partner in .* share no task, cell, seed and settings\. Pass two"):
        compare(tmp_path / "a", tmp_path / "b")


def test_holm():
    # Holm 1979: sorted p times n, n - 1, ..., never falling.
    found = differences._holm(np.array([0.01, math.nan, 0.04, 0.03]))
    np.testing.assert_allclose(found, [0.03, math.nan, 0.06, 0.06])
