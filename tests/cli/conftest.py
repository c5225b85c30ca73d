import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from rnnvg.cli import main

RNNVG = Path(sys.executable).with_name("rnnvg")
# Networks that learn nothing in two steps; everything else of a comparison is as always.
TINY = ["compare", "--tasks", "adding", "--cells", "rnn,lstm,gru", "--seeds", "1", "--max-steps", "2", "--jobs", "1"]


def call(*arguments):
    return CliRunner().invoke(main, [str(each) for each in arguments])


@pytest.fixture
def rnnvg(tmp_path, monkeypatch):
    """Calls the command line in an empty folder; the result has exit_code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.delenv("COLUMNS", raising=False)
    return call


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """One process runs all tests of the comparison, which takes as long as hundreds of others (`--dist loadgroup`)."""
    for item in items:
        if "compared" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.xdist_group("comparison"))


@dataclasses.dataclass
class Compared:
    """A comparison that was interrupted by Ctrl-C, and the same command again, which finished it.

    Attributes:
        directory: its results.
        interrupted, finished: both processes.
        kept: path of each result.json after the interruption -> its time.
    """

    directory: Path
    interrupted: subprocess.CompletedProcess
    finished: subprocess.CompletedProcess
    kept: dict


@pytest.fixture(scope="session")
def compared(tmp_path_factory):
    directory = tmp_path_factory.mktemp("compared") / "out"
    command = [str(RNNVG), *TINY, "--out", str(directory)]
    environment = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS")}
    first = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True
    )
    until = time.monotonic() + 200
    while not list(directory.glob("runs/*/result.json")):
        assert first.poll() is None, first.communicate()
        assert time.monotonic() < until
        time.sleep(0.01)
    # A terminal sends it to every process of the group.
    os.killpg(first.pid, signal.SIGINT)
    stdout, stderr = first.communicate(timeout=100)
    interrupted = subprocess.CompletedProcess(command, first.returncode, stdout, stderr)
    kept = {path: path.stat().st_mtime_ns for path in directory.glob("runs/*/result.json")}
    finished = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=200, check=False)
    assert finished.returncode == 0, finished.stderr
    return Compared(directory, interrupted, finished, kept)


@pytest.fixture
def no_drawing(monkeypatch):
    """The report is named and not written: drawing takes seconds."""
    monkeypatch.setattr("rnnvg.report.write", lambda results: results.directory / "report.html")


@pytest.fixture
def tiny_disk(tmp_path):
    """A disk of 100 KiB."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=100k", "tmpfs", str(place)]
    try:
        mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip("mounting a disk takes more rights")
    yield place
    subprocess.run(["umount", place], check=True)
