"""What several tests of sweeps start."""

import json
import os
import subprocess
import sys
import time
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
    until = time.monotonic() + 120
    while not file.exists() and time.monotonic() < until:
        time.sleep(0.05)
    yield json.loads(file.read_text())["address"], processes
    for process in processes:
        process.kill()
        process.wait()
