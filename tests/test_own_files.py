"""A path that a user names is never written over, moved or deleted unless the project's own mark is found in the file."""

import errno
import json
import os
import re
import stat
import threading

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import nn

import rnnvg
from rnnvg import bench, files, models, tasks, training
from rnnvg.cli import main
from rnnvg.errors import InputError
from rnnvg.report.sections import COMPARISON
from rnnvg.text.agreement import Agreement
from rnnvg.text.vocabulary import Vocabulary

ADDING = tasks.make("adding", length=6)
FOREIGN = {
    "notes": b"my notes\n1,2,3\n",
    "binary": bytes(range(256)) * 8,
    "a picture of another program": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
    + bytes(40)
    + b"tEXtSoftware\0Matplotlib version3.9",
    "a table of somebody else": b"id,score,when\n1,0.5,today\n",
    "a page of somebody else": b"<!doctype html>\n<html><head><title>rnnvg</title></head>rnnvg wrote nothing here</html>\n",
    "an archive of numpy": b"PK\x03\x04" + bytes(26) + b"log_norm.npy" + bytes(99),
}


def profile():
    torch.manual_seed(0)
    return rnnvg.gradient_profile(nn.RNN(1, 2), torch.ones(4, 1, 1))


def command(*arguments):
    done = CliRunner().invoke(main, [str(each) for each in arguments])
    if done.exit_code == 2:
        raise InputError(done.stderr)
    assert done.exit_code == 0, done.stderr
    return done


def fit(path, at=20):
    torch.manual_seed(0)
    model = models.build(ADDING, "rnn", hidden=3)
    generator = torch.Generator().manual_seed(0)

    def stop(step, *_):
        if step == at:
            raise KeyboardInterrupt

    try:
        training.fit(model, ADDING, steps=40, batch=2, eval_size=4, generator=generator, resume=path, on_progress=stop)
    except KeyboardInterrupt:
        assert at == 20


QUICK = ["--length", "6", "--hidden", "2", "--cell", "rnn", "-q"]
# Everything that writes a file at a path that a user names.
WRITERS = {
    "GradientProfile.save": ("p.npz", lambda path: profile().save(path)),
    "models.save": ("w.safetensors", lambda path: models.save(models.build(ADDING, "rnn", hidden=2), path)),
    "training.fit(resume=)": ("r.safetensors", fit),
    "Vocabulary.save": ("v.json", lambda path: Vocabulary(["a", "b"]).save(path)),
    "Agreement.write": ("t.txt", lambda path: Agreement(4).write(path, 50)),
    "profile --csv": ("c.csv", lambda path: command("profile", *QUICK, "--sequences", 2, "--csv", path)),
    "profile --figure .png": ("f.png", lambda path: command("profile", *QUICK, "--sequences", 2, "--figure", path)),
    "profile --figure .svg": ("f.svg", lambda path: command("profile", *QUICK, "--sequences", 2, "--figure", path)),
    "profile --figure .pdf": ("f.pdf", lambda path: command("profile", *QUICK, "--sequences", 2, "--figure", path)),
    "lyapunov --csv": ("c.csv", lambda path: command("lyapunov", *QUICK, "--csv", path)),
    "lyapunov --figure": ("f.svg", lambda path: command("lyapunov", *QUICK, "--figure", path)),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_a_foreign_file_is_refused_and_left(tmp_path, writer):
    name, write = WRITERS[writer]
    path = tmp_path / name
    for kind, content in FOREIGN.items():
        path.write_bytes(content)
        with pytest.raises(InputError, match=re.escape(f"{str(path)!r} is there already and is no file of this kind")):
            write(path)
        assert path.read_bytes() == content, kind
    path.unlink()
    path.mkdir()
    (path / "notes").write_text("mine")
    with pytest.raises(InputError, match="is a folder"):
        write(path)
    assert (path / "notes").read_text() == "mine"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("writer", WRITERS)
def test_links_pipes_and_devices_are_not_written_through_or_replaced(tmp_path, writer):
    name, write = WRITERS[writer]
    path, other = tmp_path / name, tmp_path / "other"
    other.write_bytes(b"mine")
    path.symlink_to(other)
    with pytest.raises(InputError, match="is there already and is no file of this kind"):
        write(path)
    assert path.is_symlink()
    assert other.read_bytes() == b"mine"
    other.unlink()
    with pytest.raises(InputError, match="is a link that leads nowhere"):
        write(path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(InputError, match="is not a regular file"):
        write(path)
    assert stat.S_ISFIFO(path.stat().st_mode)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("writer", [each for each in WRITERS if each != "training.fit(resume=)"])
def test_the_same_again_and_a_damaged_file_of_ours_are_written_over(tmp_path, writer):
    name, write = WRITERS[writer]
    path = tmp_path / name
    write(path)
    first = path.read_bytes()
    write(path)
    if writer != "Agreement.write":  # a text has no mark: only the very same one is known again
        path.write_bytes(first[: max(200, len(first) // 2)] if name.endswith(("npz", "safetensors")) else first[:-3])
        write(path)
        assert len(path.read_bytes()) >= len(first) - 3
    link = tmp_path / f"link{path.suffix}"
    link.symlink_to(path)
    write(link)
    assert link.is_symlink()
    assert sorted(each.name for each in tmp_path.iterdir()) == sorted([name, link.name])


def test_a_resume_file_is_gone_on_from_and_then_removed(tmp_path):
    path = tmp_path / "r.safetensors"
    fit(path)
    assert path.exists()
    fit(path, at=99)
    assert list(tmp_path.iterdir()) == []


def test_an_empty_file_is_free_and_a_missing_folder_and_a_full_disk_are_sentences(tmp_path, monkeypatch):
    path = tmp_path / "p.npz"
    path.touch()
    profile().save(path)
    before = path.read_bytes()
    with pytest.raises(InputError, match=r"no such file or folder. Pass another path\."):
        profile().save(tmp_path / "missing" / "p.npz")

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(InputError) as raised:
        profile().save(path)
    assert str(raised.value) == (
        f"`path` {str(path)!r} cannot be written: no space is left. Free some, or pass another path."
    )
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    place = tmp_path_factory.mktemp("results") / "out"
    training_ = {"steps": 2, "batch": 2, "eval_size": 4, "checkpoints": (0, 2)}
    for seed in range(2):
        spec = bench.run_spec(
            {"name": "adding", "length": 6}, "rnn", hidden=2, seed=seed, training=training_, measure={"sequences": 2}
        )
        bench.execute(spec, place)
    bench.Store(place).merge()
    return place


def test_a_set_of_tables_is_written_whole_or_not_at_all(results, tmp_path):
    out = tmp_path / "export"
    paths = bench.export(results, out)
    before = {path.name: path.read_bytes() for path in paths}
    bench.export(results, out)
    for name in before:
        (out / name).write_bytes(FOREIGN["a table of somebody else"])
        for other in before.keys() - {name}:
            (out / other).unlink()
        with pytest.raises(InputError, match=re.escape(f"{str(out / name)!r} is there already")):
            bench.export(results, out)
        assert {path.name for path in out.iterdir()} == {name}
        (out / name).unlink()
        bench.export(results, out)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


@pytest.mark.parametrize("name", ["curves.csv", "training.csv", "horizons.csv"])
def test_tables_of_a_results_directory_are_looked_at_before_anything_is_trained(tmp_path, name):
    (tmp_path / name).write_bytes(FOREIGN["a table of somebody else"])
    spec = bench.run_spec({"name": "adding", "length": 6}, "rnn", hidden=2)
    for run in (
        lambda: bench.execute(spec, tmp_path),
        lambda: bench.run_all([spec], tmp_path),
        lambda: command("train", "--task", "adding", *QUICK, "--out", tmp_path),
    ):
        with pytest.raises(InputError, match="is there already and is no file of this kind"):
            run()
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_bytes() == FOREIGN["a table of somebody else"]


def test_a_report_knows_its_own_files_and_leaves_those_of_others(results, request):
    command("report", results)
    written = [path for path in results.rglob("*") if path.is_file() and "runs" not in path.parts[-3:]]
    first = {path: path.read_bytes() for path in written}
    command("report", results)
    assert {path: path.read_bytes() for path in written} == first
    drawn = [path for path in first if path.suffix in (".svg", ".png", ".html") or path.parent.name == "tables"]
    assert {path.suffix for path in drawn} == {".svg", ".png", ".html", ".csv"}
    request.getfixturevalue("one_figure")
    shown = [path for path in drawn if path.parent.name != "figures" or path.stem == COMPARISON[0].name]
    for path in [next(each for each in shown if each.suffix == suffix) for suffix in (".svg", ".png", ".html", ".csv")]:
        path.write_bytes(FOREIGN["notes"])
        with pytest.raises(InputError, match=re.escape(f"{str(path)!r} is there already")):
            command("report", results)
        assert path.read_bytes() == FOREIGN["notes"]
        path.write_bytes(first[path])


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "--out", ""],
        ["compare", "--out", ""],
        ["bench", "run", "chrono-copy-small", "--out", ""],
        ["bench", "status", ""],
        ["report", ""],
        ["advise", "--out", ""],
        ["profile", "--text", ""],
        ["train", "--text", ""],
    ],
)
def test_an_empty_path_is_not_the_current_folder(arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"current (folder|one)\."):
        command(*arguments)
    assert list(tmp_path.iterdir()) == []


def test_what_is_written_is_never_writable_by_everybody(tmp_path):
    before = os.umask(0)
    try:
        files.write_whole(tmp_path / "a", "x")
        files.make_folder(tmp_path / "b" / "c")
        files.write_set(tmp_path / "d", {"e/f.csv": "x,y\n"})
        fit(tmp_path / "r.safetensors")
        spec = bench.run_spec({"name": "adding", "length": 6}, "rnn", hidden=2, training={"steps": 1, "eval_size": 4})
        bench.execute(spec, tmp_path / "out")
        bench.Store(tmp_path / "out").set_aside(spec.id)
    finally:
        os.umask(before)
    open_to_all = [path for path in tmp_path.rglob("*") if path.stat().st_mode & stat.S_IWOTH]
    assert open_to_all == []
    assert len(list(tmp_path.rglob("*"))) > 12


def test_names_of_files_under_way_cannot_be_foreseen(tmp_path, monkeypatch):
    names = []
    replace = os.replace
    monkeypatch.setattr(
        files.os, "replace", lambda source, target: names.append(source.name) or replace(source, target)
    )
    for _ in range(20):
        files.write_whole(tmp_path / "a", "x")
    assert len(set(names)) == 20
    assert all(re.fullmatch(r"\.a\.[0-9a-f]{16}\.tmp", name) for name in names)


def test_two_that_set_the_same_name_aside_keep_both(tmp_path):
    start, kept = threading.Barrier(8), []

    def aside(number):
        path = tmp_path / str(number) / "x"
        path.parent.mkdir()
        path.write_text(str(number))
        start.wait()
        kept.append(files.move_aside(path, tmp_path, ".corrupt"))

    threads = [threading.Thread(target=aside, args=(number,)) for number in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len(set(kept)) == 8
    assert sorted(path.read_text() for path in kept) == sorted(map(str, range(8)))


def test_a_mark_is_looked_for_and_not_guessed():
    assert files.mark_of(".csv", "a,b\n1,2\n").search(b"a,b\r\n")
    assert not files.mark_of(".csv", "a,b\n1,2\n").search(b"a,b,c\n")
    assert files.mark_of(".csv", "a,b,c,d,e,f,g\n").search(b"a,b,c,d,e,f,other\n")
    assert not files.mark_of(".csv", "a,b,c,d,e,f,g\n").search(b"a,b,c,d,e,x,g\n")
    assert files.mark_of(".json", json.dumps({"schema": 1})).search(b'{\n "schema": 2')
    assert not files.mark_of(".json", json.dumps({"schema": 1})).search(b'{"scheme": 1}')
    assert not np.any([mark.search(b"<svg><dc:title>mine</dc:title></svg>") for mark in files.MARKS.values()])
