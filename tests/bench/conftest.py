"""What several tests of sweeps start."""

import json
import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

# What another process needs to import rnnvg and the stand-ins.
PATH = os.pathsep.join(map(str, (Path(__file__).parent.parent.parent, Path(__file__).parent)))


@pytest.fixture
def dask_cluster(tmp_path):
    """A scheduler and two workers as a user starts them, on loopback: its address and the processes."""
    file = tmp_path / "scheduler.json"
    dask = [sys.executable, "-m", "dask"]
    environment = os.environ | {"PYTHONPATH": PATH}
    commands = [["scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard"]]
    commands += [["worker", "--host", "127.0.0.1", "--nthreads", "1", "--no-dashboard"]] * 2
    with open(tmp_path / "log", "w") as log:
        processes = [
            subprocess.Popen([*dask, *command, "--scheduler-file", file], stdout=log, stderr=log, env=environment)
            for command in commands
        ]
    try:
        yield _address(file), processes
    finally:
        for process in processes:
            process.kill()
            process.wait()


def _address(file):
    """What a scheduler says of itself, when it has written all of its file: it does so in place."""
    until = time.monotonic() + 120
    while time.monotonic() < until:
        with suppress(OSError, ValueError):
            return json.loads(file.read_text())["address"]
        time.sleep(0.05)
    raise TimeoutError("the scheduler did not start")
