"""The progress bar on a terminal, in a pipe, and quiet; and what importing this room costs."""

import io
import subprocess
import sys

import pytest

from rnnvg import bench
from rnnvg.bench.events import Event, ProgressBar

RUN = "adding-T50-lstm-h64-s0-1a2b3c4d"
EVENTS = [
    Event("plan", total=4, done=1),
    Event("start", RUN, pid=7),
    Event("progress", RUN, step=500, steps=2000, loss=0.1234),
]


class Terminal(io.StringIO):
    def isatty(self):
        return True


def shown(file, events, **options):
    with ProgressBar(file=file, **options) as bar:
        for event in events:
            bar(event)
        numbers = bar.bar.n, bar.bar.total
    return file.getvalue(), numbers


def test_a_terminal_shows_how_much_is_done_and_what_is_running(monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    text, numbers = shown(Terminal(), EVENTS, names={RUN: "adding lstm s0"})
    assert numbers == (1.25, 4)
    assert "1/4 runs" in text
    assert "adding lstm s0 25%" in text
    assert "31%" in text
    text, numbers = shown(Terminal(), [*EVENTS, Event("done", RUN, status="ok")])
    assert numbers == (2, 4)
    assert "adding" not in text.rpartition("\r")[2]


def test_a_run_that_is_tried_again_begins_at_nothing(monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    text, numbers = shown(Terminal(), [*EVENTS, Event("again", RUN)])
    assert numbers == (1, 4)
    assert f"{RUN}: its worker process died; the run is tried again." in text


def test_a_run_that_is_silent_is_said_to_be(monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    now = 100.0
    monkeypatch.setattr("rnnvg.bench.events.time", type("Clock", (), {"monotonic": staticmethod(lambda: now)}))
    file = Terminal()
    with ProgressBar(file=file) as bar:
        for event in EVENTS:
            bar(event)
        now = 129.0
        bar(Event("beat"))
        assert "silent" not in file.getvalue()
        now = 145.0
        bar(Event("beat"))
    assert "25% (silent for 45 s)" in file.getvalue()


def test_runs_that_follow_make_the_bar_longer(monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    _, numbers = shown(Terminal(), [*EVENTS, Event("done", RUN, status="ok"), Event("plan", total=9, done=2)])
    assert numbers == (2, 9)


@pytest.mark.parametrize("options", [{}, {"quiet": True}])
def test_a_pipe_gets_no_bar_but_what_has_to_be_said(options):
    text, _ = shown(
        io.StringIO(), [*EVENTS, Event("note", text="Mind this."), Event("done", RUN, status="failed", text="Why.")], **options
    )  # fmt: skip
    assert text == f"Mind this.\n{RUN}: failed. Why.\n"


def test_quiet_shows_no_bar_on_a_terminal():
    assert shown(Terminal(), EVENTS, quiet=True)[0] == ""


def test_reading_results_and_names_takes_neither_torch_nor_dask():
    code = (
        "import sys; from rnnvg import bench, load_results; bench.Store, bench.names(), bench.RunSpec, bench.run_all\n"
        "print(sorted({'torch', 'distributed', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_every_public_name_is_there():
    assert all(getattr(bench, name) is not None for name in bench.__all__)
    with pytest.raises(AttributeError, match=r"rnnvg\.bench.* attribute.* '?runall"):
        _ = bench.runall
