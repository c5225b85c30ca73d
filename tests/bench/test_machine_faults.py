"""The machine's faults are never written down as a run's: a sentence, the run left to do, and the same call does it later."""

import errno
import itertools
import os
import resource
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from rnnvg import bench
from rnnvg.bench.store import Store
from rnnvg.faults import MachineError

HERE = Path(__file__).parent.parent.parent
SPEC = bench.run_spec(
    {"name": "adding", "length": 5},
    "rnn",
    hidden=3,
    training={"steps": 4, "eval_size": 10, "batch": 3, "checkpoints": [0, 4]},
    measure={"sequences": 2, "why": False},
)
DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EIO, errno.EMFILE, errno.ENFILE)


def failing(name, at, number):
    """A stand-in for a function of os that fails at its `at`-th call, and from then on."""
    original, calls = getattr(os, name), itertools.count(1)

    def call(*arguments, **options):
        if next(calls) >= at:
            raise MemoryError if number is None else OSError(number, os.strerror(number))
        return original(*arguments, **options)

    return call


def writes(directory):
    """How often a run brings a file to the disk."""
    count = itertools.count()
    with pytest.MonkeyPatch.context() as patch:
        original = os.replace
        patch.setattr(os, "replace", lambda *names: (next(count), original(*names))[1])
        bench.execute(SPEC, directory)
    return next(count)


def test_at_whichever_write_the_disk_fails_the_run_is_left_to_do(tmp_path):
    n, faults = writes(tmp_path / "whole"), itertools.cycle([*DISK, None, errno.ENOMEM])
    assert n > 8
    points = [("replace", at) for at in range(1, n + 1)] + [("fsync", at) for at in range(1, 2 * n, 5)]
    for name, at in points:
        place, number = tmp_path / f"{name}-{at}", next(faults)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, name, failing(name, at, number))
            with pytest.raises(MachineError):
                bench.execute(SPEC, place)
        # After the last move the result is there, and whole.
        assert Store(place).read().results == {} or (name, at) == ("fsync", 2 * n), (name, at, number)
        assert not list(place.rglob("*.tmp")), (name, at, number)
        assert bench.execute(SPEC, place)["status"] == "ok", (name, at, number)
        for file in ("curve.csv", "training.csv", "horizons.csv"):
            own, whole = (Store(each).folder(SPEC.id) / file for each in (place, tmp_path / "whole"))
            assert own.read_bytes() == whole.read_bytes()


SMALL = """title = "small"
cells = ["rnn"]
seeds = 1
[task]
name = "adding"
length = 5
[model]
hidden = 3
[training]
steps = 4
batch = 3
eval_size = 10
[measure]
sequences = 2
why = false
"""
# In each process of a command: makes a call of the system, or an import, fail from its n-th time on; in workers alone.
INJECT = """
import itertools, os, sys

if "--multiprocessing-fork" in sys.orig_argv:
    name, number, at = os.environ["FAULT"].split()
    calls = itertools.count(1)

    def fault():
        return MemoryError() if number == "memory" else OSError(int(number), os.strerror(int(number)))

    if name == "import":
        class Finder:
            def find_spec(self, module, *_):
                if module == "torch":
                    raise ImportError("libtorch_cpu.so: failed to map segment from shared object")
        sys.meta_path.insert(0, Finder())
    else:
        original = getattr(os, name)
        def call(*arguments, **options):
            if next(calls) >= int(at):
                raise fault()
            return original(*arguments, **options)
        setattr(os, name, call)
"""


def command(folder, *, fault=None, limit=None, out=None):
    """A benchmark of one run, by the command line: exit status and what it said on stderr."""
    (folder / "small.toml").write_text(SMALL)
    environment = os.environ | {"PYTHONPATH": str(HERE), "PYTHONDONTWRITEBYTECODE": "1"}
    if fault is not None:
        (folder / "inject").mkdir(exist_ok=True)
        (folder / "inject" / "sitecustomize.py").write_text(INJECT)
        environment |= {"FAULT": fault, "PYTHONPATH": f"{folder / 'inject'}{os.pathsep}{HERE}"}
    arguments = ["bench", "run", str(folder / "small.toml"), "--jobs", "1", "-q", "--out", str(out or folder / "out")]
    return subprocess.Popen(
        [sys.executable, "-m", "rnnvg", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=folder,
        preexec_fn=(lambda: resource.setrlimit(*limit)) if limit else None,
    )


def ended(process, seconds=240):
    with process:
        said = process.communicate(timeout=seconds)[1]
    return process.returncode, said


def check_left_to_do(status, said, sentence, out):
    """What a fault of the machine comes to."""
    assert "Traceback" not in said, said
    assert status in (1, 2), said
    assert len(said.splitlines()) == 1, said
    assert said.startswith("Error: ")
    assert sentence in said
    assert Store(out).read().results == {}
    assert not list(out.rglob("claim.json"))


CASES = {
    "a file-size limit": ({"limit": (resource.RLIMIT_FSIZE, (1500, 1500))}, "takes no file as large as is needed"),
    "few open files": ({"limit": (resource.RLIMIT_NOFILE, (28, 28))}, "too many files are open"),
    "a full disk at fsync": ({"fault": f"fsync {errno.ENOSPC} 3"}, "has no space left"),
    "a full disk at rename": ({"fault": f"replace {errno.ENOSPC} 4"}, "has no space left"),
    "a quota": ({"fault": f"fsync {errno.EDQUOT} 2"}, "is over its quota"),
    "no permission": ({"fault": f"replace {errno.EACCES} 3"}, "permission denied"),
    "open files in a worker": ({"fault": f"replace {errno.EMFILE} 2"}, "too many files are open"),
    "no memory": ({"fault": "replace memory 2"}, "not enough memory"),
    "no memory for an import": ({"fault": "import memory 1"}, "not enough memory"),
}


@pytest.mark.acceptance
@pytest.mark.timeout(600)
@pytest.mark.parametrize("case", CASES)
def test_a_command_under_a_fault_of_the_machine_says_so_and_does_it_later(tmp_path, case):
    how, sentence = CASES[case]
    check_left_to_do(*ended(command(tmp_path, **how)), sentence, tmp_path / "out")
    status, said = ended(command(tmp_path))
    assert (status, said) == (0, "")
    assert [result["status"] for result in Store(tmp_path / "out").results()] == ["ok"]


@contextmanager
def small_disk(folder, size):
    """A disk of its own in memory; the test is skipped where this user may mount none."""
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("no disk may be mounted here")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=False)


@pytest.mark.acceptance
@pytest.mark.timeout(600)
@pytest.mark.parametrize("fault", ["full", "read-only"])
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root may mount a disk")
def test_a_disk_that_fills_or_becomes_read_only_in_the_middle(tmp_path, fault):
    disk = tmp_path / "disk"
    with small_disk(disk, "8m"):
        out = disk / "out"
        # Many steps: there is a middle.
        slow = SMALL.replace("steps = 4", "steps = 20000\ncheckpoints = [0, 3000, 6000, 9000, 20000]")
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(globals(), "SMALL", slow)
            process = command(tmp_path, out=out)
            until = time.monotonic() + 120
            while not list(out.glob("runs/*/part-000000000.csv")) and time.monotonic() < until:
                time.sleep(0.02)
            if fault == "full":
                with open(disk / "filler", "wb", buffering=0) as file:
                    with suppress(OSError):
                        while True:
                            file.write(b"\0" * 4096)
            else:
                until = time.monotonic() + 20
                while subprocess.run(["mount", "-o", "remount,ro", disk], capture_output=True).returncode:
                    assert time.monotonic() < until
            status, said = ended(process)
            sentence = "has no space left" if fault == "full" else "is on a read-only disk"
            assert "Traceback" not in said, said
            assert sentence in said
            assert (status, len(said.splitlines())) == (2, 1), said
            assert Store(out).read().results == {}
            if fault == "full":
                (disk / "filler").unlink()
            else:
                subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
            assert ended(command(tmp_path, out=out)) == (0, "")
        assert [result["status"] for result in Store(out).results()] == ["ok"]
