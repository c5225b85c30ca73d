"""Random moments of death, as scripts/kill_test.py chooses them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent.parent / "scripts" / "kill_test.py"


@pytest.mark.acceptance
def test_killed_at_random_moments_the_results_are_those_of_an_uninterrupted_run(tmp_path):
    command = [sys.executable, SCRIPT, "--moments", "12", "--out", tmp_path, "--seed", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["killed"] == 12
    assert report["faults"] == []
