"""The command line as a process of its own: pipes, signals and terminals."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

RNNVG = Path(sys.executable).with_name("rnnvg")
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals, pipes and terminals of a Unix")


def run(*arguments, **options):
    return subprocess.run([RNNVG, *map(str, arguments)], capture_output=True, text=True, timeout=120, **options)


def shell(line, cwd):
    environment = {**os.environ, "PATH": f"{RNNVG.parent}:{os.environ['PATH']}"}
    return subprocess.run(["bash", "-c", line], capture_output=True, text=True, cwd=cwd, env=environment, timeout=120)


def on_a_terminal(*arguments, columns=80, **environment):
    """What `rnnvg` writes where stdout and stderr are a terminal, and its exit status."""
    import fcntl
    import pty
    import struct
    import termios

    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    started = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS")}
    process = subprocess.Popen(
        [RNNVG, *map(str, arguments)], stdin=its, stdout=its, stderr=its, env={**started, **environment}
    )
    os.close(its)
    written = b""
    while True:
        try:
            piece = os.read(ours, 65536)
        except OSError:  # Linux's way to say that the other end is closed
            break
        if not piece:
            break
        written += piece
    os.close(ours)
    return written.decode(), process.wait(timeout=60)


def test_exit_status_and_streams(tmp_path):
    done = run("--help", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "compare" in done.stdout
    bad = run("compare", "--jobs", 0, cwd=tmp_path)
    assert (bad.returncode, bad.stdout) == (2, "")
    assert bad.stderr == "Error: `--jobs` must be a whole number of at least 1; got 0.\n"


def test_into_head(tmp_path):
    done = shell("rnnvg --help | head -1; echo ${PIPESTATUS[0]}", tmp_path)
    assert (done.stdout, done.stderr) == ("Usage: rnnvg [OPTIONS] COMMAND [ARGS]...\n0\n", "")


def test_a_reader_that_is_gone(tmp_path):
    # The other end is closed before the first word is written.
    done = shell("rnnvg --help | true; echo ${PIPESTATUS[0]}", tmp_path)
    assert (done.stdout, done.stderr) == ("0\n", "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_output_to_a_full_disk(tmp_path):
    done = shell("rnnvg --version > /dev/full; echo $?", tmp_path)
    assert done.stdout == "2\n"
    assert done.stderr == "Error: The output cannot be used: no space is left. Free some, or pass another path.\n"


def test_colour_on_a_terminal_and_none_with_no_color():
    coloured, status = on_a_terminal("compar")
    assert status == 2
    assert coloured.startswith("\x1b[31mError: \x1b[0mrnnvg has no command")
    plain, status = on_a_terminal("compar", NO_COLOR="1")
    assert status == 2
    assert plain.startswith("Error: rnnvg has no command")
    assert "\x1b" not in plain
    assert on_a_terminal("compar", NO_COLOR="")[0] == coloured


def test_a_bar_on_a_terminal_alone(tmp_path):
    command = ["train", "--length", 6, "--hidden", 4, "--steps", 30, "--out", tmp_path / "out"]
    shown, status = on_a_terminal(*command, columns=80)
    assert status == 0
    bars = [line for line in shown.replace("\n", "\r").split("\r") if "%|" in line]
    assert bars
    assert "30/30" in bars[-1]
    assert max(map(len, bars)) <= 80


def test_ctrl_c_in_the_middle_of_a_comparison_names_the_command_that_goes_on(compared):
    told = compared.interrupted
    command = " ".join(["rnnvg", *told.args[1:]])
    assert (told.returncode, told.stdout) == (130, "")
    assert told.stderr.splitlines()[-1] == f"Interrupted; what is done is kept. To go on: {command}"
    assert "Traceback" not in told.stderr
    assert len(compared.kept) in (1, 2)


def test_the_same_command_finishes_what_was_interrupted(compared):
    results = {path: path.stat().st_mtime_ns for path in compared.directory.glob("runs/*/result.json")}
    assert len(results) == 3
    assert compared.kept.items() <= results.items()


def test_no_bar_in_a_pipe(compared):
    assert "%|" not in compared.finished.stderr


def test_workers_never_see_ctrl_c(tmp_path):
    # In a fresh process, whose first worker is the first process that it starts.
    script = tmp_path / "mask.py"
    script.write_text(
        "import signal\n"
        "from rnnvg.bench.cluster import local_workers\n"
        "def blocked():\n"
        "    return signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, [])\n"
        "if __name__ == '__main__':\n"
        "    with local_workers(2) as client:\n"
        "        print(sorted(client.run(blocked).values()), blocked())\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=200, check=True)
    assert done.stdout == "[True, True] False\n"
