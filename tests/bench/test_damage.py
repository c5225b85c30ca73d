"""Files that were edited, cut or never ours: a sentence, quickly, and no traceback. Drawn with a fixed seed."""

import errno
import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest
from click.testing import CliRunner
from tampering import tamper

from rnnvg import bench
from rnnvg.bench import grid, run, trained
from rnnvg.bench.claims import claimed
from rnnvg.bench.published import beside_published, published_table
from rnnvg.cli import main
from rnnvg.depth.kept import Kept
from rnnvg.errors import InputError
from rnnvg.faults import MachineError
from rnnvg.text import mapped
from rnnvg.text.vocabulary import Vocabulary

SPEC = """title = "small"
cells = ["rnn", "lstm"]
seeds = 2
[task]
name = "adding"
length = [6, 8]
[model]
hidden = 2
[training]
steps = 2
batch = 2
eval_size = 4
[measure]
sequences = 2
"""
HUGE = "9" * 5000
# What is put in the place of a value of a specification.
VALUES = [
    HUGE, "-" + HUGE, "1e999", "nan", "-inf", "0", "-1", "1.5", "true", '""', '"x"', "[]", "[[]]", "{}",
    "[" * 5000 + "]" * 5000, "[1, 1]", "1000000000000", "10_000_000", "[" + "1," * 100_000 + "]", '"' + "y" * 100_000 + '"',
    "1979-05-27",
    "{a={b={c=1}}}",
    "9223372036854775808", '["cell"]', "[true, 1]",
]  # fmt: skip


def spoiled(choose):
    """A specification with one fault, or a few."""
    lines = SPEC.splitlines()
    for _ in range(choose.randint(1, 2)):
        kind, at = (
            choose.choice(["value", "cut", "key", "twice", "noise", "deep", "bytes"]),
            choose.randrange(len(lines)),
        )
        if kind == "value" and "=" in lines[at]:
            lines[at] = f"{lines[at].split('=')[0]}= {choose.choice(VALUES)}"
        elif kind == "cut":
            lines[at] = lines[at][: choose.randrange(len(lines[at]) + 1)]
        elif kind == "key":
            lines.insert(
                at, f"{choose.choice(['layers', 'nonsense', 'name', 'wrt', 'k' * 5000])} = {choose.choice(VALUES)}"
            )
        elif kind == "twice":
            lines.insert(at, lines[at])
        elif kind == "deep":
            lines.insert(at, ".".join("a" * choose.choice([1, 20, 30_000])) + " = 1")
        else:
            lines.insert(at, "".join(chr(choose.randrange(1, 300)) for _ in range(40)))
    return "\n".join(lines).encode()


def check_specs(folder, n):
    choose, path, slowest = random.Random(16), folder / "s.toml", 0.0
    refused = 0
    for number in range(n):
        content = spoiled(choose)
        path.write_bytes(content)
        start = time.process_time()
        done = CliRunner().invoke(main, ["bench", "run", str(path), "--dry-run", "--out", str(folder / "out")])
        slowest = max(slowest, time.process_time() - start)
        assert done.exit_code in (0, 2), (number, content[:2000], done.exception)
        assert done.exception is None or isinstance(done.exception, SystemExit), (number, content[:2000])
        assert len(done.stderr) < 20_000, number
        refused += done.exit_code == 2
    assert refused > n / 2
    assert not (folder / "out").exists()
    return slowest


def test_malformed_specifications_are_refused_in_words(tmp_path):
    check_specs(tmp_path, 40)


def specs_and_peak(folder, n):
    """Seconds of the slowest, and the most memory, bytes, that this process has had, everything that it imports included."""
    return check_specs(folder, n), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (
        1 if sys.platform == "darwin" else 1024
    )


@pytest.mark.acceptance
@pytest.mark.timeout(900)
def test_200_malformed_specifications_take_below_two_seconds_and_500_megabytes(tmp_path):
    # A process of its own: its peak is that of these specifications, whatever other tests have needed.
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        slowest, peak = pool.submit(specs_and_peak, tmp_path, 200).result()
    assert slowest < 2
    assert peak < 500e6


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("seeds = 2", "seeds = 1000000", "`seeds` may be at most 100000 of them."),
        ("seeds = 2", "seeds = 9223372036854775808", "`seeds` may be at most 100000 of them."),
        ("seeds = 2", "seeds = 50000", "stands for 200000 runs, and a grid has at most 10000."),
        ("[6, 8]", str(list(range(4, 4000))), "stands for 15984 runs, and a grid has at most 10000."),
        ("hidden = 2", "hidden = 2\nlayers = 10000", "`model.layers` must be at most 1000"),
        ("hidden = 2", "hidden = 100000", "need"),
        ("batch = 2", "batch = 1000000000000", "`training.batch` must be at most"),
        ("eval_size = 4", "eval_size = 10000000000000", "`training.eval_size` must be at most"),
        ("sequences = 2", 'sequences = 2\nwrt = ["cell"]', "a rnn has no cell state"),
        ("[task]", "a" + ".a" * 50_000 + " = 1\n[task]", "has a key of more than 16 parts"),
    ],
)
def test_bounds_are_counted_before_anything_is_built(tmp_path, old, new, fault):
    path = tmp_path / "s.toml"
    path.write_text(SPEC.replace(old, new))
    start = time.process_time()
    with pytest.raises(InputError) as raised:
        grid.read(path)
    assert fault in str(raised.value)
    assert time.process_time() - start < 5


def test_the_largest_size_of_a_grid_can_be_raised_and_a_byte_order_mark_is_no_text(tmp_path):
    path = tmp_path / "s.toml"
    path.write_bytes(b"\xef\xbb\xbf" + ("most_runs = 8\n" + SPEC).encode())
    assert len(grid.read(path).runs()) == 8
    path.write_text("most_runs = 7\n" + SPEC)
    with pytest.raises(InputError, match="stands for 8 runs, and a grid has at most 7"):
        grid.read(path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(InputError):
        grid.read(path)


def kept_part(folder):
    """A part of a long measurement, kept, and a way to read it."""
    made = {"a": 1.5, "b": (1, 2), "c": np.arange(4.0)}
    return (
        folder / "part.json",
        lambda: sorted(Kept(folder, {"seed": 0}, ()).get("part", lambda: made)) == ["a", "b", "c"],
    )


def kept_answers(folder):
    """The table of what networks answered."""
    path = folder / trained.RECALL
    rows = [f"run-{index},{index + 1},{index},20,0.25" for index in range(8)]
    path.write_text("\n".join([",".join(trained.COLUMNS), *rows]) + "\n")

    def read():
        found = trained.answers(folder)
        return found is None or bool((found[["delay", "right", "n", "chance"]] >= 0).all(axis=None))

    return path, read


def kept_figures(folder):
    """A table of published figures."""
    path = folder / "published.csv"
    path.write_text(beside_published([grid.read("chrono-copy")], []).to_csv(index=False))
    return path, lambda: published_table(path)["published"].dtype == np.float64


def kept_words(folder):
    path = folder / "vocabulary.json"
    Vocabulary(["<unk>", "to", "be"]).save(path)
    return path, lambda: all(isinstance(word, str) for word in Vocabulary.load(path).words)


def kept_text(folder):
    """The note beside an encoded text: where it is damaged, the text is encoded again."""
    text = folder / "text.txt"
    text.write_text("to be or not to be . " * 40)

    def read():
        settings = {"vocabulary": None, "minimum_count": 1, "tokens": "spaces"}
        found = mapped.load_mapped(text, {"all": text}, **settings)
        return [len(found.train) + len(found.valid) + len(found.test), found.vocabulary.words[1:]]

    wanted = read()
    return next((folder / "cache").glob("texts/*/made.json")), lambda: read() == wanted


PLACES = {
    "part": kept_part,
    "answers": kept_answers,
    "figures": kept_figures,
    "vocabulary": kept_words,
    "text": kept_text,
}


def check_files(kind, folder, n):
    """A file damaged in n ways: read whole, made again, or refused in a sentence; never a traceback, never a wait."""
    choose, refused, longest = random.Random(16), 0, 0
    for number in range(n):
        own = folder / str(number)
        own.mkdir()
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("RNNVG_CACHE", str(own / "cache"))
            path, read = PLACES[kind](own)
            assert read()
            what = f"{number}: {tamper(path, choose)} {path.name}"
            try:
                assert read(), what
            except InputError as error:
                refused += 1
                longest = max(longest, len(str(error)))
            except Exception as error:
                raise AssertionError(what) from error
    assert longest < 1000
    return refused


@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", PLACES)
def test_damaged_files_beside_the_runs(kind, tmp_path):
    assert check_files(kind, tmp_path, 25) > 0


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ("run,0,1,20,0.25", "at delay, line 2: '0'"),
        ("run,3,21,20,0.25", "at right, line 2"),
        ("run,3,-1,20,0.25", "at right, line 2"),
        ("run,3,1.5,20,0.25", "at right, line 2: '1.5'"),
        ("run,3,1,20,nan", "at chance, line 2: 'nan'"),
        ("run,3,1," + "9" * 400 + ",0.25", "at n, line 2"),
        ("run,3,1", "at n, line 2"),
    ],
)
def test_a_row_of_answers_that_cannot_be_is_named(tmp_path, row, fault):
    (tmp_path / trained.RECALL).write_text(",".join(trained.COLUMNS) + "\n" + row + "\n")
    with pytest.raises(InputError, match=fault):
        trained.answers(tmp_path)


def test_a_part_whose_value_was_changed_is_made_again(tmp_path):
    assert Kept(tmp_path, {"seed": 0}, ()).get("part", lambda: 1.5) == 1.5
    path = tmp_path / "part.json"
    path.write_text(path.read_text().replace("1.5", "2.5"))
    assert Kept(tmp_path, {"seed": 0}, ()).get("part", lambda: 1.5) == 1.5


@pytest.mark.parametrize("pid", [-1, 0, 2**70, "7", None, 1.0, True])
def test_a_claim_of_nonsense_is_nobodys(tmp_path, pid):
    (tmp_path / "claim.json").write_text(json.dumps({"token": "x", "pid": pid, "place": "here"}))
    assert claimed(tmp_path) == ""


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (MemoryError(), "There is not enough memory."),
        (
            RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"),
            "not enough memory",
        ),
        (ImportError("libtorch.so: failed to map segment from shared object"), "not enough memory"),
        (OSError(errno.EMFILE, "Too many open files", "x"), "too many files are open"),
        (OSError(errno.EFBIG, "File too large", "x"), "larger than may be written"),
    ],
)
def test_a_fault_of_the_machine_leaves_the_run_to_do(tmp_path, monkeypatch, error, sentence):
    spec = bench.run_spec({"name": "adding", "length": 6}, "rnn", hidden=2, training={"steps": 2, "eval_size": 4})
    with monkeypatch.context() as patch:
        patch.setattr(run.training, "fit", lambda *_, **__: (_ for _ in ()).throw(error))
        with pytest.raises(MachineError, match=sentence) as raised:
            bench.execute(spec, tmp_path)
    assert str(raised.value).startswith(f"{spec.id} was not done: ")
    assert bench.Store(tmp_path).result(spec.id) is None
    assert bench.execute(spec, tmp_path)["status"] == "ok"


def test_a_fault_of_the_run_is_its_own(tmp_path, monkeypatch):
    spec = bench.run_spec({"name": "adding", "length": 6}, "rnn", hidden=2, training={"steps": 2, "eval_size": 4})
    monkeypatch.setattr(run.training, "fit", lambda *_, **__: (_ for _ in ()).throw(ValueError("mine")))
    assert bench.execute(spec, tmp_path)["reason"] == "ValueError: mine"


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_request_to_end_is_an_interrupt(tmp_path, name):
    command = ["train", "--task", "adding", "--steps", "1000000", "--go-on", "--out", str(tmp_path / "out")]
    number = getattr(signal, name)
    process = subprocess.Popen(
        [sys.executable, "-m", "rnnvg", *command],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),  # nohup has hang-ups ignored
    )
    try:
        until = time.monotonic() + 120
        while not list(tmp_path.glob("out/runs/*/part-*.csv")) and time.monotonic() < until:
            time.sleep(0.1)
        process.send_signal(number)
        said = process.communicate(timeout=60)[1]
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130
    assert "Interrupted; what is done is kept. To go on: " in said
    assert "leaked" not in said
    assert list(tmp_path.glob("out/runs/*/resume.safetensors"))
