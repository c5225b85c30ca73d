"""Ways to damage a directory of results, drawn with a fixed seed; what reads it then, in a process of its own."""

from __future__ import annotations

import importlib
import json
import os
import random
import resource
import shutil
import signal
import sys
import traceback
import warnings
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from click.testing import CliRunner

from rnnvg import bench, load_results
from rnnvg.bench import grid, store, trained
from rnnvg.cli import main
from rnnvg.errors import InputError

SPEC = """title = "small"
cells = ["rnn", "lstm"]
seeds = 2
[task]
name = "adding"
length = 6
[model]
hidden = 2
[training]
steps = 3
batch = 2
eval_size = 4
[measure]
sequences = 2
"""
KINDS = ("cut", "byte", "empty", "deep", "noise", "folder", "gone", "pipe", "json")
JSON = [None, True, -1, 1.5, 10**40, "", "x" * 5000, [], {}, [[[]]], {"a": {"b": 1}}, "\ud800", float("nan")]


def make(place: Path) -> Path:
    """A directory of four runs: three that are done, and one that was interrupted and has a claim of another machine."""
    path = place.parent / "small.toml"
    path.write_text(SPEC)
    plan = bench.Plan.of(grid.read(path))
    interrupted, *rest = plan.fixed()

    def interrupt(step: int, *_: object) -> None:
        if step == 3:
            raise KeyboardInterrupt

    with suppress(KeyboardInterrupt):
        bench.execute(interrupted, place, interrupt)
    for spec in rest:
        bench.execute(spec, place)
    bench.Store(place).merge()
    plan.keep(place)
    claim = {"token": "x", "pid": 1, "place": "elsewhere"}
    (bench.Store(place).folder(rest[0].id) / "claim.json").write_text(json.dumps(claim))
    rows = [f"{spec.id},{delay},1,20,0.25" for spec in rest for delay in (1, 2, 4)]
    (place / trained.RECALL).write_text("\n".join([",".join(trained.COLUMNS), *rows]) + "\n")
    assert {"resume.safetensors", "part-000000000.csv"} <= {path.name for path in place.rglob("*")}
    return place


def set_somewhere(content, choose):
    """One value of a JSON document, at any depth, replaced, removed or added."""
    at, key = content, None
    while isinstance(at, (dict, list)) and at:
        parent, key = at, choose.choice(list(at) if isinstance(at, dict) else range(len(at)))
        at = at[key]
        if choose.random() < 0.4:
            break
    if key is None:
        return
    kind = choose.choice(["value", "value", "remove", "add"])
    if kind == "value":
        parent[key] = choose.choice(JSON)
    elif kind == "remove":
        del parent[key]
    elif isinstance(parent, dict):
        parent["more"] = choose.choice(JSON)


def tamper(path, choose, kind=None):
    """Damages a file; in which way."""
    content = path.read_bytes()
    kind = kind or choose.choice([*KINDS, *["json"] * 3])
    if kind == "json" and path.suffix == ".json":
        document = json.loads(content)
        set_somewhere(document, choose)
        if path.name == "result.json" and isinstance(document, dict) and choose.random() < 0.8:
            document.pop("checksum", None)
            document["checksum"] = store._checksum(document)  # an edit that knows how: the types alone are wrong
        path.write_text(json.dumps(document))
    elif kind == "byte" and content:
        at = choose.randrange(len(content))
        path.write_bytes(content[:at] + bytes([content[at] ^ (1 << choose.randrange(8))]) + content[at + 1 :])
    elif kind == "cut":
        path.write_bytes(content[: choose.randrange(len(content) + 1)])
    elif kind == "deep":
        path.write_text("[" * 200_000 + "]" * 200_000)
    elif kind == "noise":
        path.write_bytes(choose.randbytes(300))
    elif kind in ("folder", "gone", "pipe"):
        path.unlink()
        if kind == "folder":
            path.mkdir()
        elif kind == "pipe":
            os.mkfifo(path)
    else:
        path.write_bytes(b"")
    return kind


class Tampering(NamedTuple):
    """One damage: of which file, of what kind, drawn from which seed."""

    number: int
    file: str
    kind: str

    def __str__(self) -> str:
        return f"{self.number}: {self.kind} {self.file}"

    @property
    def met(self) -> set[str]:
        """What a share should have met: the kind of damage and the kind of file."""
        return {self.kind, Path(self.file).name}

    def copy(self, results: Path, folder: Path) -> Path:
        """A copy of a directory with this damage."""
        place = folder / str(self.number)
        shutil.copytree(results, place)
        tamper(place / self.file, random.Random(self.number), self.kind)
        return place


def draw(results: Path, n: int, seed: int = 17) -> list[Tampering]:
    """So many different damages of a directory."""
    choose = random.Random(seed)
    files = sorted(str(path.relative_to(results)) for path in results.rglob("*") if path.is_file())
    listed = [each for each in files if each.endswith(".json")] * 2 + files
    kinds = [*KINDS, *["json"] * 3]
    return [Tampering(number, choose.choice(listed), choose.choice(kinds)) for number in range(n)]


def share(every: list[Tampering], n: int, seed: int = 16) -> list[Tampering]:
    """So many of them, in which every kind of damage and of file is met."""
    left, chosen, met = list(every), [], set()
    random.Random(seed).shuffle(left)
    while left and len(chosen) < n:
        best = max(left, key=lambda each: len(each.met - met))
        left.remove(best)
        chosen.append(best)
        met |= best.met
    assert met == set().union(*(each.met for each in every))
    return chosen


def read(place: Path, commands: list[list[str]], other: Path) -> str:
    """What goes wrong where a directory is read: a traceback; empty where nothing does.

    Args:
        commands: DIR stands for the directory and GOOD for the other one.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        try:
            load_results(place)
        except InputError:
            pass
        except Exception:
            return f"load_results\n{traceback.format_exc(limit=-4)}"
        for command in commands:
            arguments = [{"DIR": str(place), "GOOD": str(other)}.get(each, each) for each in command]
            done = CliRunner().invoke(main, arguments)
            error = done.exception
            if error is not None and not isinstance(error, SystemExit):
                return f"{command}\n{''.join(traceback.format_exception(error, limit=-4))}"
            if done.exit_code not in (0, 1, 2):
                return f"{command} ended with {done.exit_code}"
    return ""


def read_in_a_process(place: Path, commands: list[list[str]], other: Path, seconds: int) -> tuple[str, int]:
    """`read` in a child of this process, and the most memory, in bytes, that the child or one of its own has had."""
    said = place.with_suffix(".said")
    child = os.fork()
    if not child:
        signal.alarm(seconds)  # whatever hangs is ended, and found by its status
        with open(said, "w") as file:
            os.dup2(file.fileno(), 2)
            file.write(read(place, commands, other))
        os._exit(0)
    _, status, used = os.wait4(child, 0)
    text = said.read_text()
    said.unlink()
    if status:
        text = f"ended with status {status} (14: it took longer than {seconds} s)\n{text}"
    return text, used.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def read_all(results: Path, folder: Path, jobs: list[tuple[Tampering, list[list[str]]]], seconds: int):
    """What went wrong, and the most memory of one tampering; each in a process of its own."""
    for module in ("torch", "rnnvg.bench.run", "rnnvg.report.write", "rnnvg.bench.cluster"):
        importlib.import_module(module)  # once, and not in every child
    faults, most = [], (0, "")
    for damage, commands in jobs:
        place = damage.copy(results, folder)
        text, peak = read_in_a_process(place, commands, results, seconds)
        shutil.rmtree(place)
        most = max(most, (peak, str(damage)))
        faults += [f"{damage}\n{text}"] if text else []
    return faults, most, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
