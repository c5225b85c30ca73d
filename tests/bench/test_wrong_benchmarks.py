"""Wrong calls, benchmark files and command lines: one sentence each, and nothing written."""

import math

import pytest
import torch
from click.testing import CliRunner

from rnnvg import InputError, bench, load_results, models
from rnnvg.cli import main
from rnnvg.report import results

LSTM = {"name": "adding", "length": 5}


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """A directory with one run, and the run."""
    place = tmp_path_factory.mktemp("good") / "out"
    spec = bench.run_spec(LSTM, "rnn", hidden=3, training={"steps": 2, "batch": 2, "eval_size": 4})
    bench.execute(spec, place)
    return place, spec


CALLS = {
    "merge of a string": lambda good, spec, new: bench.merge("abc", new),
    "merge of numbers": lambda good, spec, new: bench.merge([1, 2], new),
    "merge into nothing": lambda good, spec, new: bench.merge([good, new], None),
    "export of a number": lambda good, spec, new: bench.export(3, new, "csv"),
    "a list of formats": lambda good, spec, new: bench.export(good, new, ["csv"]),
    "bytes for a folder": lambda good, spec, new: load_results(bytes(str(good), "utf-8")),
    "an endless name": lambda good, spec, new: load_results("x" * 10_000),
    "an endless name to report": lambda good, spec, new: results.read("x" * 10_000),
    "a name with a zero": lambda good, spec, new: load_results("a\0b"),
    "compare with nothing": lambda good, spec, new: bench.compare(None, good),
    "report of nothing": lambda good, spec, new: results.read(None),
    "a dict of runs": lambda good, spec, new: bench.run_all({"a": 1}, new),
    "runs as dicts": lambda good, spec, new: bench.run_all([spec.to_dict()], new),
    "a file for a directory": lambda good, spec, new: bench.run_all([spec], __file__),
    "a number as observer": lambda good, spec, new: bench.run_all([spec], good, observer=3),
    "a number to follow": lambda good, spec, new: bench.run_all([spec], good, follow=3),
    "a number to execute": lambda good, spec, new: bench.run_all([spec], good, execute=3),
    "a number as scheduler": lambda good, spec, new: bench.run_all([spec], new, scheduler=3),
    "a word as flag": lambda good, spec, new: bench.run_all([spec], good, retry_failed="yes"),
    "an axis alone": lambda good, spec, new: bench.run_all([spec], good, axes="training.lr"),
    "execute a dict": lambda good, spec, new: bench.execute(spec.to_dict(), new),
    "execute nothing": lambda good, spec, new: bench.execute(None, new),
    "execute into nothing": lambda good, spec, new: bench.execute(spec, None),
    "progress to a number": lambda good, spec, new: bench.execute(spec, new, 3),
    "no task": lambda good, spec, new: bench.run_spec(None, "rnn", hidden=3),
    "cells as a list": lambda good, spec, new: bench.run_spec(LSTM, ["rnn"], hidden=3),
    "a rate of nan": lambda good, spec, new: bench.run_spec(LSTM, "rnn", hidden=3, training={"lr": math.nan}),
    "a size as tensor": lambda good, spec, new: bench.run_spec(LSTM, "rnn", hidden=torch.tensor(3)),
    "settings as a list": lambda good, spec, new: bench.run_spec(LSTM, "rnn", hidden=3, training=[1]),
    "a length as table": lambda good, spec, new: bench.run_spec(
        {"name": "adding", "length": {"a": 1}}, "rnn", hidden=3
    ),
    "read a folder": lambda good, spec, new: bench.read(str(good)),
    "read nothing": lambda good, spec, new: bench.read(None),
    "read a number": lambda good, spec, new: bench.read(7),
    "plan of nothing": lambda good, spec, new: bench.Plan.of(None),
    "patterns as a string": lambda good, spec, new: bench.Plan.of(bench.read("tcn-adding-small"), "nothing"),
    "state of a file": lambda good, spec, new: bench.State.of(__file__),
    "state of nothing": lambda good, spec, new: bench.State.of(None),
    "state of an endless name": lambda good, spec, new: bench.State.of("x" * 10_000),
    "load a folder": lambda good, spec, new: models.load(good),
    "load nothing": lambda good, spec, new: models.load(None),
    "header of a number": lambda good, spec, new: models.read_header(3),
    "save nothing": lambda good, spec, new: models.save(None, new),
    "a store of nothing": lambda good, spec, new: bench.Store(None),
}


@pytest.mark.parametrize("call", CALLS)
def test_a_wrong_call_is_one_sentence_and_nothing_is_written(good, tmp_path, call):
    place, spec = good
    before = {path: path.stat().st_mtime_ns for path in place.rglob("*")}
    with pytest.raises(InputError) as raised:
        CALLS[call](place, spec, tmp_path / "new")
    assert 10 < len(str(raised.value)) < 700
    assert not (tmp_path / "new").exists()
    assert {path: path.stat().st_mtime_ns for path in place.rglob("*")} == before


COMMANDS = [
    "bench status GOOD/nope", "bench status GOOD", "bench resume GOOD", "bench compare GOOD /dev/null",
    "bench merge GOOD GOOD --out NEW", "bench merge GOOD --out NEW", "bench merge GOOD NEW --out GOOD", "bench verdicts GOOD",
    "bench verdicts /dev/null", "bench export GOOD --format xlsx", "bench export GOOD --out /dev/null", "bench run /dev/zero",
    "bench run /dev/null.toml", "bench run GOOD", "bench run tcn-adding-small --set steps=1e9 --dry-run",
    "bench run tcn-adding-small --set =3 --dry-run", "bench run tcn-adding-small --set a.b.c=3 --dry-run",
    "bench run tcn-adding-small --shard 0/0 --dry-run", "bench run tcn-adding-small --shard 3/2 --dry-run",
    "bench run tcn-adding-small --only [ --dry-run", "bench run tcn-adding-small --seeds 999999 --dry-run",
    "bench run tcn-adding-small --jobs 999999999999999999999999999999 --dry-run", "report /dev", "report /proc/self/fd",
    "report GOOD --functional", "profile --weights /dev/zero", "profile --weights NEW", "train --length 5 --steps 0 --out NEW",
    "train --length 5 --out /dev/null/x --steps 2", "train --length 5 --out GOOD/curves.csv/x --hidden 999999999",
]  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_a_wrong_command_is_one_sentence_and_nothing_is_written(good, tmp_path, command, monkeypatch):
    place, _ = good
    monkeypatch.chdir(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in place.rglob("*")}
    words = [word.replace("GOOD", str(place)).replace("NEW", str(tmp_path / "new")) for word in command.split()]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 2, done.output
    assert isinstance(done.exception, SystemExit)
    assert done.stdout == ""
    assert len(done.stderr) < 6000
    assert list(tmp_path.iterdir()) == []
    assert {path: path.stat().st_mtime_ns for path in place.rglob("*")} == before


FILES = {
    "3,000 tables": "[[task]]\n" * 3000,
    "a table in a table": "a = " + "{b = " * 300 + "1" + "}" * 300,
    "a zero": "\x00",
    "a date": "title = 1979-05-27T07:32:00Z\ncells = ['rnn']\n[task]\nname = 'adding'",
    "a cell of the system": "cells = ['os:system']\n[task]\nname = 'adding'\n[model]\nhidden = 3",
    "a cell above": "cells = ['..:x']\n[task]\nname = 'adding'\n[model]\nhidden = 3",
    "a task of the system": "cells = ['rnn']\n[task]\nname = 'os:getcwd'\n[model]\nhidden = 3",
    "two names": "cells = ['rnn']\n[task]\nname = ['adding', 'copy']\n[model]\nhidden = 3",
    "no length": "cells = ['rnn']\n[task]\nname = 'adding'\nlength = []\n[model]\nhidden = 3",
    "a device as text": "cells = ['rnn']\n[task]\nname = 'next-word'\ntext = '/dev/zero'\n[model]\nhidden = 3",
    "ends of lines": "\r\r\r",
    "a comment of a megabyte": "# " + "x" * 10**6,
    "measures without end": "cells = ['rnn']\n[task]\nname = 'adding'\n[model]\nhidden = 3\n[measure]\nsequences = 9000000000",
}


@pytest.mark.parametrize("file", FILES)
def test_a_wrong_file_is_refused_in_words(tmp_path, file):
    (tmp_path / "s.toml").write_text(FILES[file])
    done = CliRunner().invoke(
        main, ["bench", "run", str(tmp_path / "s.toml"), "--dry-run", "--out", str(tmp_path / "out")]
    )
    assert done.exit_code == 2
    assert isinstance(done.exception, SystemExit)
    assert len(done.stderr) < 6000
    assert not (tmp_path / "out").exists()
