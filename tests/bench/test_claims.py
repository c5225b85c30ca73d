"""Claims: one owner a run, the dead are taken over, and nobody's clock is believed."""

import json
import os
import subprocess
import sys

import pytest

from rnnvg.bench import claims
from rnnvg.bench.claims import Claims


@pytest.fixture
def clock(monkeypatch):
    """This process's own clock, to be set."""

    class Clock:
        now = 0.0

        def monotonic(self):
            return self.now

    clock = Clock()
    monkeypatch.setattr(claims, "time", clock)
    return clock


def elsewhere(folder, pid=1):
    """Makes the claim in `folder` one of another machine."""
    path = folder / "claim.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"place": "another machine", "pid": pid}))


def test_one_owner(tmp_path):
    one, other = Claims("one"), Claims("other")
    assert one.take(tmp_path)
    assert not other.take(tmp_path)
    other.drop(tmp_path)
    assert not other.take(tmp_path)
    one.drop_all()
    assert other.take(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["claim.json"]


def test_a_process_that_is_gone_loses_its_claim_at_once(tmp_path):
    code = "import sys, pathlib; from rnnvg.bench.claims import Claims; Claims('gone').take(pathlib.Path(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", code, tmp_path], check=True)
    assert json.loads((tmp_path / "claim.json").read_text())["token"] == "gone"
    assert Claims("next").take(tmp_path)


def test_another_machine_s_claim_is_dead_when_it_does_not_change(tmp_path, clock):
    Claims("far").take(tmp_path)
    elsewhere(tmp_path)
    near = Claims("near", patience=100)
    assert not near.take(tmp_path)
    clock.now = 99
    assert not near.take(tmp_path)
    # A sign of life, from a machine whose clock has gone back to 1970.
    os.utime(tmp_path / "claim.json", (0, 0))
    clock.now = 150
    assert not near.take(tmp_path)
    clock.now = 249
    assert not near.take(tmp_path)
    clock.now = 250
    assert near.take(tmp_path)


def test_an_empty_claim_is_waited_for_and_then_dead(tmp_path, clock):
    (tmp_path / "claim.json").touch()
    near = Claims("near", patience=10)
    assert not near.take(tmp_path)
    clock.now = 10
    assert near.take(tmp_path)


def test_the_owner_shows_that_it_is_alive(tmp_path, clock):
    one = Claims("one")
    one.take(tmp_path)
    path = tmp_path / "claim.json"
    os.utime(path, (0, 0))
    one.beat()
    assert path.stat().st_mtime == 0
    clock.now = claims.BEAT
    one.beat()
    assert path.stat().st_mtime > 0


def test_an_owner_that_was_taken_over_leaves_the_new_claim_alone(tmp_path, clock):
    slow, quick = Claims("slow"), Claims("quick", patience=10)
    slow.take(tmp_path)
    elsewhere(tmp_path)
    quick.take(tmp_path)
    clock.now = 10
    assert quick.take(tmp_path)
    slow.drop_all()
    assert json.loads((tmp_path / "claim.json").read_text())["token"] == "quick"
