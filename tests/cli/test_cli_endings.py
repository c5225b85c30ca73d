"""What ends a command besides its own end: interruptions, disks, readers that leave, and bugs."""

import errno
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from click.testing import CliRunner

from rnnvg.cli import main, options, output
from rnnvg.errors import InputError
from rnnvg.missing import finite


@pytest.fixture
def raising(monkeypatch):
    """`rnnvg tasks` raises what it is given."""

    def arrange(error):
        def fail(*arguments):
            raise error

        monkeypatch.setattr("rnnvg.cli.tasks._list", fail)
        return CliRunner().invoke(main, ["tasks"])

    return arrange


def test_misuse_is_a_sentence(raising):
    told = raising(InputError("`cell` has no 'x'."))
    assert (told.exit_code, told.stdout, told.stderr) == (2, "", "Error: `cell` has no 'x'.\n")


def test_an_interruption_names_the_command_that_goes_on(raising):
    told = raising(KeyboardInterrupt())
    assert told.exit_code == 130
    assert told.stderr == "Interrupted; what is done is kept. To go on: rnnvg tasks\n"


def test_the_command_is_quoted_for_a_shell(rnnvg, monkeypatch):
    def stop(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("rnnvg.cli.report.rendered", stop)
    told = rnnvg("report", "my results", "--quiet")
    assert told.stderr == "Interrupted; what is done is kept. To go on: rnnvg report 'my results' --quiet\n"


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device", "runs/x/weights"),
            "'runs/x/weights' cannot be used: no space is left. Free some, or pass another path.",
        ),
        (
            OSError(errno.ENOSPC, "No space left on device"),
            "The output cannot be used: no space is left. Free some, or pass another path.",
        ),
        (
            PermissionError(errno.EACCES, "Permission denied", "/root/x"),
            "'/root/x' cannot be used: permission denied. Pass another path.",
        ),
        (OSError(errno.EROFS, "Read-only", "/x"), "'/x' cannot be used: the disk is read-only. Pass another path."),
        (
            FileNotFoundError(errno.ENOENT, "No such file", "gone"),
            "'gone' cannot be used: there is no such file or folder. Pass another path.",
        ),
        (MemoryError(), "There is not enough memory for this. Pass smaller sizes, or fewer of them at a time."),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
            "There is not enough memory for this. Pass smaller sizes, or fewer of them at a time.",
        ),
    ],
)
def test_what_the_machine_lacks_is_a_sentence(raising, error, sentence):
    told = raising(error)
    assert (told.exit_code, told.stdout, told.stderr) == (2, "", f"Error: {sentence}\n")


@pytest.mark.parametrize(
    "error", [RuntimeError("a bug"), KeyError("a bug"), OSError(errno.EBADF, "a bug"), ValueError("a bug")]
)
def test_a_bug_is_not_hidden(raising, error):
    assert raising(error).exception is error


def test_a_reader_that_leaves_ends_it_quietly(raising):
    told = raising(BrokenPipeError(errno.EPIPE, "Broken pipe"))
    assert (told.exit_code, told.output) == (0, "")


def test_warnings_are_lines_without_code(rnnvg, monkeypatch):
    def warn(*arguments):
        with warnings.catch_warnings(action="default"):
            warnings.warn("The resume file was damaged.", RuntimeWarning, stacklevel=2)

    monkeypatch.setattr("rnnvg.cli.tasks._list", warn)
    assert rnnvg("tasks").stderr == "Warning: The resume file was damaged.\n"


def test_letters_that_an_encoding_lacks_are_replaced(monkeypatch):
    monkeypatch.setattr("rnnvg.cli.tasks._list", lambda: output.result("1 \u2026 2"))
    told = CliRunner(charset="latin-1").invoke(main, ["tasks"])
    assert (told.exit_code, told.stdout_bytes) == (0, b"1 ? 2\n")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("100", 100),
        ("-2", -2),
        ("0.5", 0.5),
        ("5,10", [5, 10]),
        ("anywhere", "anywhere"),
        ("none", None),
        ("True", True),
    ],
)
def test_values_of_settings(text, value):
    assert options.SETTING.convert(f"name={text}", None, None) == ("name", value)


def test_json_has_no_numbers_that_json_does_not_know():
    import numpy as np

    given = {"a": float("nan"), "b": [float("inf"), np.int64(3)], "c": np.array([1.5, -np.inf]), "d": True, "e": None}
    assert finite(given) == {"a": None, "b": [None, 3], "c": [1.5, None], "d": True, "e": None}


@pytest.mark.skipif(sys.platform == "win32", reason="no limits of address space")
@pytest.mark.parametrize(
    ("command", "mebibytes"),
    [("profile --length 5", 200), ("train", 700), ("compare", 60), ("bench run chrono-copy-small", 1500)],
)
def test_a_limit_of_address_space_that_leaves_no_room_is_a_sentence_at_once(tmp_path, command, mebibytes):
    import resource

    done = subprocess.run(
        [sys.executable, "-m", "rnnvg", *command.split()],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=60,
        check=False,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent.parent)},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (mebibytes << 20, mebibytes << 20)),
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert (
        f"Error: A process may have {mebibytes} MiB of address space here (`ulimit -v`), and this needs about "
        in done.stderr
    )
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.glob("runs/*/runs"))


def test_a_library_that_met_a_lack_of_memory_and_says_something_else_is_understood(raising):
    error = ImportError("Unable to import required dependency numpy.")
    error.__cause__ = MemoryError()
    assert raising(error).stderr.startswith("Error: There is not enough memory for this.")
